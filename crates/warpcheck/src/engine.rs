//! The seam between the driver API and the machine: modules, kernels, launches and what comes of them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    count::Counters,
    exec::grid,
    finding::Finding,
    memory::Space,
    profile::Profile,
    ptx::{self, program::Program},
};

/// What a launch is watched for, and how it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Report out-of-bounds, misaligned, freed, null and read-only accesses.
    pub mem: bool,
    /// Report reads of bytes that were never written.
    pub init: bool,
    /// Report races.
    pub race: bool,
    /// Report barrier faults, deadlocks and endless loops.
    pub sync: bool,
    /// Count.
    pub count: bool,
    /// Permute the order of warps and blocks by this seed.
    pub schedule: Option<u64>,
    /// Host threads; 0 is one for each core.
    pub threads: usize,
    /// Instructions that one warp may run before the launch is given up.
    pub budget: u64,
}

impl Default for Options {
    /// No checks, no counters, all cores, a budget of 2³⁶ instructions a warp.
    fn default() -> Self {
        Options {
            mem: false,
            init: false,
            race: false,
            sync: false,
            count: false,
            schedule: None,
            threads: 0,
            budget: 1 << 36,
        }
    }
}

impl Options {
    /// All checks, no counters.
    pub fn checked() -> Self {
        Options { mem: true, init: true, race: true, sync: true, ..Options::default() }
    }
}

/// Why a launch failed, as the driver has codes for it.
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
    /// `CUDA_ERROR_LAUNCH_TIMEOUT`: the budget is spent, or nobody can run on.
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
    /// Estimated registers a thread.
    pub registers: u32,
    /// Bytes of shared memory that it declares.
    pub static_shared: u32,
    /// Bytes of local memory a thread.
    pub local_bytes: u32,
    /// Bytes of constants of its module.
    pub const_bytes: u32,
    /// Most threads a block (`.maxntid`), 1024 where it does not say.
    pub max_threads: u32,
    /// Exactly these threads a block (`.reqntid`).
    pub required_threads: Option<[u32; 3]>,
    /// The target of the PTX: 80 for `sm_80`.
    pub target: u32,
    /// The version of PTX: 88 for 8.8.
    pub ptx_version: u32,
    pub(crate) program: Arc<Program>,
}

/// Loaded PTX.
#[derive(Debug)]
pub struct Module {
    kernels: BTreeMap<String, Arc<Kernel>>,
    globals: BTreeMap<String, (u64, u64)>,
}

impl Module {
    /// The kernel of this name.
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.get(name).cloned()
    }

    /// All kernels, by name.
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.values()
    }

    /// Address and bytes of a module's variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }
}

/// A launch.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// What to run.
    pub kernel: &'a Kernel,
    /// On which device.
    pub device: u32,
    /// What that device is.
    pub profile: &'a Profile,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads a block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameter block, laid out as [`Kernel::params`] says.
    pub params: &'a [u8],
}

/// What came of a launch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why it failed.
    pub error: Option<Fault>,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// What it did, when asked.
    pub counters: Option<Counters>,
    /// What `printf` printed, in the order of blocks.
    pub printed: String,
}

/// The machine: one a process, its devices in one address space.
#[derive(Debug, Default)]
pub struct Engine {
    space: Space,
}

impl Engine {
    /// A machine without memory or modules.
    pub fn new() -> Engine {
        Engine::default()
    }

    /// The address space.
    pub fn memory(&self) -> &Space {
        &self.space
    }

    /// Loads PTX text for a device: its variables get memory, its functions become programs.
    pub fn load(&self, device: u32, profile: &Profile, image: &[u8]) -> Result<Arc<Module>, ptx::Error> {
        let ptx::load::Loaded { kernels, globals } = ptx::load::load(&self.space, device, profile.sm(), image)?;
        Ok(Arc::new(Module { kernels, globals }))
    }

    /// Frees a module's variables.
    pub fn unload(&self, module: &Module) {
        for (address, _) in module.globals.values() {
            // Freed already by a caller that confused it with an allocation: nothing is left to do.
            let _ = self.space.free(*address);
        }
    }

    /// Runs a kernel to its end.
    pub fn launch(&self, launch: &Launch, options: &Options) -> Outcome {
        grid::run(&self.space, launch, options)
    }
}

#[cfg(test)]
mod tests;
