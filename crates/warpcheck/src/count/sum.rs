//! Adding up counters: over warps, blocks, launches and processes.

use super::{Classes, Counters, Global, Shared};

/// Adds every field named; a field left out is an error of the compiler.
macro_rules! sum {
    ($type:ident: $($number:ident)* $(; $($part:ident)*)?) => {
        impl $type {
            /// Adds another's counts to these.
            pub fn add(&mut self, other: &$type) {
                let $type { $($number,)* $($($part,)*)? } = other;
                $(self.$number += $number;)*
                $($(self.$part.add($part);)*)?
            }
        }
    };
}

sum!(Counters: warp_instructions issued lane_instructions flops_f32 flops_f64 flops_f16 flops_tensor flops_tf32
    unique_bytes_read resident_bytes_read unique_bytes_written shared_atomics global_atomics barriers blocks warps;
    classes global_load global_store global_atomic shared_load shared_store);
sum!(Classes: integer f32 f64 f16 special conversion tensor data_movement load store atomic
    control synchronisation);
sum!(Global: requests sectors ideal_sectors lines single l2_sectors bytes);
sum!(Shared: requests wavefronts ideal_wavefronts single bytes);
