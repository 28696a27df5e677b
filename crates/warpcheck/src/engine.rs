//! The interface between the driver API and the interpreter: memory, modules, launches.

use std::{collections::BTreeMap, sync::Arc};

pub use crate::check::overlap::Grid;
use crate::{
    exec::grid,
    launch::{Kernel, Launch, LaunchOptions, Outcome},
    lower,
    memory::Space,
    profile::Profile,
    ptx,
};

/// Loaded PTX.
#[derive(Debug)]
pub struct Module {
    kernels: BTreeMap<String, Arc<Kernel>>,
    globals: BTreeMap<String, (u64, u64)>,
    refused: BTreeMap<String, ptx::Error>,
}

impl Module {
    /// The kernel of this name.
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.get(name).cloned()
    }

    /// The kernels that cannot run here, by name, and why.
    pub fn refused(&self) -> &BTreeMap<String, ptx::Error> {
        &self.refused
    }

    /// All kernels that can run, by name.
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.values()
    }

    /// Address and bytes of a module's variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }
}

/// The simulated machine: one per process, all devices in one address space.
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

    /// Loads PTX text for a device: allocates its variables, lowers its kernels. It is an error if no kernel of several can run.
    pub fn load(&self, device: u32, profile: &Profile, image: &[u8]) -> Result<Arc<Module>, ptx::Error> {
        let lower::load::Loaded { kernels, globals, refused } =
            lower::load::load(&self.space, device, profile.sm(), image)?;
        Ok(Arc::new(Module { kernels, globals, refused }))
    }

    /// Frees a module's variables.
    pub fn unload(&self, module: &Module) {
        for (address, _) in module.globals.values() {
            // A caller may have freed it by mistake already.
            let _ = self.space.free(*address);
        }
    }

    /// Runs a kernel to its end.
    pub fn launch(&self, launch: &Launch, options: &LaunchOptions) -> Outcome {
        self.launch_dependent(launch, options, &[])
    }

    /// The same for a programmatic dependent of these launches: the race check takes them for still running.
    pub fn launch_dependent(&self, launch: &Launch, options: &LaunchOptions, after: &[Arc<Grid>]) -> Outcome {
        grid::run(&self.space, launch, options, after)
    }
}

#[cfg(test)]
mod tests;
