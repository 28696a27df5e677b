//! What a launch is made of and what comes of it: kernel, shape and options; fault, findings and counters.

use std::sync::Arc;

use crate::{check::overlap::Grid, count::Counters, finding::Finding, profile::Profile, program::Program};

/// Checks, counters and schedule of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchOptions {
    /// Report out-of-bounds, misaligned, freed, null and read-only accesses.
    pub mem: bool,
    /// Report reads of bytes that were never written.
    pub init: bool,
    /// Report races.
    pub race: bool,
    /// Report barrier faults, deadlocks and endless loops.
    pub sync: bool,
    /// Report also what CUDA allows and what is often a mistake: barriers and member masks of threads that have exited.
    pub strict: bool,
    /// Count.
    pub count: bool,
    /// Permute the order of warps and blocks by this seed.
    pub schedule: Option<u64>,
    /// Host threads; 0 is one for each core.
    pub threads: usize,
    /// Instructions per warp after which the launch is aborted, if it has taken so many seconds as well.
    pub budget: u64,
    /// Seconds before which no launch is aborted.
    pub seconds: u64,
}

impl Default for LaunchOptions {
    /// No checks, no counters, all cores, a budget of 2²⁴ instructions per warp and 5 seconds.
    fn default() -> Self {
        LaunchOptions {
            mem: false,
            init: false,
            race: false,
            sync: false,
            strict: false,
            count: false,
            schedule: None,
            threads: 0,
            budget: 1 << 24,
            seconds: 5,
        }
    }
}

impl LaunchOptions {
    /// All checks, no counters.
    pub fn checked() -> Self {
        LaunchOptions { mem: true, init: true, race: true, sync: true, ..LaunchOptions::default() }
    }
}

/// Why a launch failed: the driver's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`.
    IllegalAddress,
    /// `CUDA_ERROR_MISALIGNED_ADDRESS`.
    MisalignedAddress,
    /// `CUDA_ERROR_ILLEGAL_INSTRUCTION`.
    IllegalInstruction,
    /// `CUDA_ERROR_INVALID_ADDRESS_SPACE`.
    InvalidAddressSpace,
    /// `CUDA_ERROR_INVALID_PC`.
    InvalidPc,
    /// `CUDA_ERROR_ASSERT`.
    Assert,
    /// `CUDA_ERROR_LAUNCH_TIMEOUT`: the budget is spent, or a deadlock.
    LaunchTimeout,
    /// `CUDA_ERROR_LAUNCH_FAILED`: a `trap` among others.
    LaunchFailed,
    /// `CUDA_ERROR_HARDWARE_STACK_ERROR`.
    HardwareStackError,
    /// `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`: the host has no memory for the launch.
    OutOfResources,
}

/// One parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Offset in the parameter block.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Alignment.
    pub align: usize,
}

/// A kernel of a loaded module.
#[derive(Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters in order.
    pub params: Vec<Param>,
    /// Length of the parameter block.
    pub param_bytes: usize,
    /// Estimated registers per thread.
    pub registers: u32,
    /// Bytes of shared memory that it declares.
    pub static_shared: u32,
    /// Bytes of local memory per thread.
    pub local_bytes: u32,
    /// Bytes of constants of its module.
    pub const_bytes: u32,
    /// Maximum threads per block (`.maxntid`, default 1024).
    pub max_threads: u32,
    /// The required block shape (`.reqntid`).
    pub required_threads: Option<[u32; 3]>,
    /// The target of the PTX: 80 for `sm_80`.
    pub target: u32,
    /// The version of PTX: 88 for 8.8.
    pub ptx_version: u32,
    pub(crate) program: Arc<Program>,
}

/// A launch.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The kernel to run.
    pub kernel: &'a Kernel,
    /// On which device.
    pub device: u32,
    /// The device's profile.
    pub profile: &'a Profile,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameter block, laid out as [`Kernel::params`] says.
    pub params: &'a [u8],
}

/// The outcome of a launch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why it failed.
    pub error: Option<Fault>,
    /// The findings of the checks.
    pub findings: Vec<Finding>,
    /// The counters, if enabled.
    pub counters: Option<Counters>,
    /// What `printf` printed, in the order of blocks.
    pub printed: String,
    /// The launch, for those that may overlap it; with the race check.
    pub grid: Option<Arc<Grid>>,
}
