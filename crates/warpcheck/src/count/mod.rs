//! Counters of a launch, by the hardware's rules.

mod sum;

mod counting;
mod l2;

pub(crate) use counting::Counting;
pub(crate) use l2::L2;
use serde::{Deserialize, Serialize};

/// The counters of a launch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Instructions that warps ran.
    pub warp_instructions: u64,
    /// Instructions of machine code that they are estimated to be.
    pub issued: u64,
    /// Active lanes, summed over warp instructions (at most 32 each).
    pub lane_instructions: u64,
    /// Warp instructions by class.
    pub classes: Classes,
    /// Floating-point operations outside the tensor cores, an FMA counting 2: f32.
    pub flops_f32: u64,
    /// The same in f64.
    pub flops_f64: u64,
    /// The same in f16 and bf16.
    pub flops_f16: u64,
    /// Operations of the tensor cores, a multiply-add counting 2.
    pub flops_tensor: u64,
    /// Those of them with tf32 inputs.
    pub flops_tf32: u64,
    /// Global loads.
    pub global_load: Global,
    /// Global stores.
    pub global_store: Global,
    /// Global atomics, one request per warp instruction.
    pub global_atomic: Global,
    /// Distinct bytes of global memory that the launch read and had not written before: compulsory traffic.
    pub unique_bytes_read: u64,
    /// Those of them that earlier launches left in the second-level cache.
    pub resident_bytes_read: u64,
    /// Distinct bytes of global memory that the launch wrote.
    pub unique_bytes_written: u64,
    /// Shared-memory loads, `ldmatrix` among them.
    pub shared_load: Shared,
    /// Shared-memory stores.
    pub shared_store: Shared,
    /// Shared-memory atomics, a lane each.
    pub shared_atomics: u64,
    /// Lanes of global atomics.
    pub global_atomics: u64,
    /// Barriers, one per waiting warp.
    pub barriers: u64,
    /// Blocks that ran.
    pub blocks: u64,
    /// Warps that ran.
    pub warps: u64,
}

/// Warp instructions by class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Integer arithmetic, logic, shifts, comparisons.
    pub integer: u64,
    /// Single-precision arithmetic.
    pub f32: u64,
    /// Double-precision arithmetic.
    pub f64: u64,
    /// Half-precision arithmetic.
    pub f16: u64,
    /// Approximations: reciprocals, roots, exponentials, sines.
    pub special: u64,
    /// Conversions.
    pub conversion: u64,
    /// `mma`.
    pub tensor: u64,
    /// Moves, selections, shuffles and votes.
    pub data_movement: u64,
    /// Loads.
    pub load: u64,
    /// Stores.
    pub store: u64,
    /// Atomics.
    pub atomic: u64,
    /// Branches, calls, exits.
    pub control: u64,
    /// Barriers and fences.
    pub synchronisation: u64,
}

/// Requests to global memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Warp instructions.
    pub requests: u64,
    /// Distinct 32-byte sectors, summed over requests.
    pub sectors: u64,
    /// The minimum: bytes / 32 per request, rounded up.
    pub ideal_sectors: u64,
    /// Distinct 128-byte lines, summed over requests.
    pub lines: u64,
    /// Requests of one line.
    pub single: u64,
    /// Sectors asked of the second-level cache: of cached loads the first per block, all others.
    pub l2_sectors: u64,
    /// Bytes accessed by lanes.
    pub bytes: u64,
}

/// Requests to shared memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Warp instructions.
    pub requests: u64,
    /// Passes over the banks.
    pub wavefronts: u64,
    /// Passes without conflicts.
    pub ideal_wavefronts: u64,
    /// Requests of one pass.
    pub single: u64,
    /// Bytes accessed by lanes.
    pub bytes: u64,
}
