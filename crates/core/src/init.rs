//! Initial weights.

use rayon::prelude::*;

use crate::architecture::{Initial, ParameterSpec};
use crate::device::Element;
use crate::random::{Philox, normal_pair, purpose};

/// The initial values of the elements from `start`, a multiple of 4, on of parameter number `index` of the network, in
/// PyTorch's order of elements.
///
/// Element i is number i mod 4 of Philox block ⌊i/4⌋: words 0 and 1 give the first two by the Box–Muller transform, words 2
/// and 3 the others.
pub fn initial_values<E: Element>(
    philox: Philox,
    index: usize,
    parameter: &ParameterSpec,
    start: usize,
    values: &mut [E],
) {
    debug_assert!(start.is_multiple_of(4), "a block of the generator has four values");
    match parameter.initial {
        Initial::Zero => values.fill(E::zero()),
        Initial::One => values.fill(E::one()),
        Initial::Normal { deviation } => {
            values.par_chunks_mut(4).enumerate().for_each(|(block, values)| {
                let w = philox.block(purpose::INIT, index as u32, (start / 4 + block) as u64);
                let normals = normal_pair(w[0], w[1]).into_iter().chain(normal_pair(w[2], w[3]));
                for (value, normal) in values.iter_mut().zip(normals) {
                    *value = E::from_f64(normal * deviation);
                }
            });
        }
    }
}
