//! Functions: their attributes and what a launch of them may use.

use super::ffi::{Out, api};
use super::module::Loaded;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::{Handle, lock};
use crate::launch::Kernel;
use crate::profile::Profile;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// A kernel that a client has a handle of.
#[derive(Debug)]
pub(super) struct Function {
    pub context_handle: Handle,
    pub device: u32,
    /// Keeps the module's program alive for queued work.
    pub module: Arc<Loaded>,
    pub kernel: Arc<Kernel>,
    pub name: CString,
    settings: Arc<Settings>,
}

/// The attributes of a function that a client can set.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Dynamic shared memory that a launch may use, in bytes; more than the default after opting in.
    dynamic_shared: Mutex<Option<u32>>,
    carveout: Mutex<Option<i32>>,
    cache: AtomicU32,
}

impl Function {
    /// A function of a module.
    pub fn new(module: Arc<Loaded>, kernel: Arc<Kernel>) -> Function {
        Function {
            context_handle: module.context_handle,
            device: module.device,
            name: CString::new(kernel.name.clone()).unwrap_or_default(),
            settings: module.settings(&kernel.name),
            module,
            kernel,
        }
    }

    /// Threads that a block of the function may have, as the kernel declares.
    pub fn max_threads(&self) -> u32 {
        self.kernel.max_threads.min(Profile::MAX_THREADS_PER_BLOCK)
    }

    /// Registers per thread: an estimate, within what the kernel and the loading program allow.
    pub fn registers(&self) -> u32 {
        self.kernel.registers.min(self.module.max_registers).clamp(1, Profile::MAX_REGISTERS_PER_THREAD)
    }

    /// Dynamic shared memory that a launch of the function may use.
    pub fn max_dynamic_shared(&self, profile: &Profile) -> u32 {
        lock(&self.settings.dynamic_shared)
            .unwrap_or_else(|| profile.shared_per_block.saturating_sub(self.kernel.static_shared))
    }

    /// An attribute of the function.
    pub fn attribute(&self, profile: &Profile, attribute: u32) -> DriverResult<i32> {
        let kernel = &self.kernel;
        Ok(match attribute {
            0 => self.max_threads() as i32,
            1 => kernel.static_shared as i32,
            2 => kernel.const_bytes as i32,
            3 => kernel.local_bytes as i32,
            4 => self.registers() as i32,
            // As the driver answers: the architecture that the PTX is for, not the version of its text.
            5 => kernel.target as i32,
            6 => profile.sm() as i32,
            7 => 0,
            8 => self.max_dynamic_shared(profile) as i32,
            9 => lock(&self.settings.carveout).unwrap_or(-1),
            // Clusters: none.
            10..=15 => 0,
            _ => return Err(CuResult::INVALID_VALUE),
        })
    }

    /// Sets an attribute of the function.
    pub fn set_attribute(&self, profile: &Profile, attribute: u32, value: i32) -> DriverResult {
        match attribute {
            8 => {
                let most = profile.shared_per_block_optin.saturating_sub(self.kernel.static_shared);
                let value = u32::try_from(value).map_err(|_| CuResult::INVALID_VALUE)?;
                if value > most {
                    return Err(CuResult::INVALID_VALUE);
                }
                *lock(&self.settings.dynamic_shared) = Some(value);
                Ok(())
            }
            9 if (-1..=100).contains(&value) => {
                *lock(&self.settings.carveout) = Some(value);
                Ok(())
            }
            // Clusters: only none at all.
            11..=15 if value == 0 => Ok(()),
            11..=15 => Err(CuResult::NOT_SUPPORTED),
            _ => Err(CuResult::INVALID_VALUE),
        }
    }

    /// Sets the preferred split between cache and shared memory.
    pub fn set_cache(&self, config: u32) -> DriverResult {
        if config > 3 {
            return Err(CuResult::INVALID_VALUE);
        }
        self.settings.cache.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// Offset and size of a parameter.
    pub fn parameter(&self, index: usize) -> DriverResult<(usize, usize)> {
        let parameter = self.kernel.params.get(index).ok_or(CuResult::INVALID_VALUE)?;
        Ok((parameter.offset, parameter.size))
    }
}

/// The settings of a module's functions by name: every handle of a function shares them.
#[derive(Debug, Default)]
pub(super) struct AllSettings(Mutex<HashMap<String, Arc<Settings>>>);

impl AllSettings {
    /// The settings of a function.
    pub fn of(&self, name: &str) -> Arc<Settings> {
        lock(&self.0).entry(name.to_owned()).or_default().clone()
    }
}

/// The function of a handle; null and unknown ones are invalid handles. A kernel of a library
/// is converted to its function in the current context, as in CUDA.
pub(super) fn named(driver: &Driver, handle: Handle) -> DriverResult<Arc<Function>> {
    if let Some(function) = driver.functions.find(handle) {
        return Ok(function);
    }
    match driver.kernels.find(handle) {
        Some(kernel) => kernel.function(driver).map(|(_, function)| function),
        None => Err(CuResult::INVALID_HANDLE),
    }
}

api! {
    /// An attribute of a function.
    fn cuFuncGetAttribute[driver, _context](out: Out<c_int>, attribute: c_uint, function: Handle) {
        out.required()?;
        let function = named(driver, function)?;
        out.set(function.attribute(driver.profile(function.device), attribute)?)
    }

    /// Sets an attribute of a function; more dynamic shared memory is the one that matters.
    fn cuFuncSetAttribute[driver, _context](function: Handle, attribute: c_uint, value: c_int) {
        let function = named(driver, function)?;
        function.set_attribute(driver.profile(function.device), attribute, value)
    }

    /// Sets the preferred split between cache and shared memory; a hint without effect.
    fn cuFuncSetCacheConfig[driver, _context](function: Handle, config: c_uint) {
        named(driver, function)?.set_cache(config)
    }

    /// Sets the width of shared memory's banks; without effect since Volta.
    fn cuFuncSetSharedMemConfig[driver, _context](function: Handle, config: c_uint) {
        named(driver, function)?;
        if config > 2 { Err(CuResult::INVALID_VALUE) } else { Ok(()) }
    }

    /// The module of a function.
    fn cuFuncGetModule[driver, _context](out: Out<Handle>, function: Handle) {
        out.required()?;
        out.set(named(driver, function)?.module.handle)
    }

    /// The name of a function.
    fn cuFuncGetName[driver](out: Out<*const c_char>, function: Handle) {
        out.required()?;
        // Valid as long as the module: the table holds the function until then.
        out.set(named(driver, function)?.name.as_ptr())
    }

    /// Offset and size of a function's parameter.
    fn cuFuncGetParamInfo[driver](
        function: Handle, index: usize, offset: Out<usize>, size: Out<usize>,
    ) {
        offset.required()?;
        let (at, bytes) = named(driver, function)?.parameter(index)?;
        size.set_if(bytes);
        offset.set(at)
    }

    /// Whether a function is loaded: all are.
    fn cuFuncIsLoaded[driver](out: Out<c_uint>, function: Handle) {
        out.required()?;
        named(driver, function)?;
        out.set(1)
    }

    /// Loads a function: all are loaded.
    fn cuFuncLoad[driver](function: Handle) {
        named(driver, function).map(|_| ())
    }
}
