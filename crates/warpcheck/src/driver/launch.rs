//! Launching kernels.

use super::clock;
use super::context::Context;
use super::ffi::{In, api};
use super::function::{self, Function};
use super::occupancy;
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::structs::LaunchConfig;
use super::table::Handle;
use super::work::{Position, Work};
use crate::launch::{Fault, Launch};
use crate::profile::Profile;
use crate::report::LaunchFacts;
use std::ffi::c_uint;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The end of the list of extra parameters, and what its keys mean.
const EXTRA_END: usize = 0;
const EXTRA_POINTER: usize = 1;
const EXTRA_SIZE: usize = 2;

/// A kernel and everything that a launch of it needs.
#[derive(Debug)]
pub(super) struct KernelLaunch {
    pub function: Arc<Function>,
    pub function_handle: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub parameters: Vec<u8>,
    /// Whether it may overlap the kernel before it in its stream.
    pub programmatic: bool,
    /// Pointers to the parameters, for queries of a graph node.
    pointers: OnceLock<Vec<usize>>,
}

impl KernelLaunch {
    /// A pointer to each parameter; they stay as long as the launch.
    pub fn pointers(&self) -> &[usize] {
        self.pointers.get_or_init(|| {
            let parameters = self.function.kernel.params.iter();
            parameters.map(|parameter| self.parameters[parameter.offset..].as_ptr() as usize).collect()
        })
    }

    /// Validates a launch, before anything runs.
    pub fn check(
        driver: &Driver,
        function_handle: Handle,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: u32,
        (values, extra): (In<*const u8>, In<usize>),
    ) -> DriverResult<KernelLaunch> {
        let function = function::named(driver, function_handle)?;
        let profile = driver.profile(function.device);
        let kernel = &function.kernel;
        if grid.contains(&0) || block.contains(&0) {
            return Err(CuResult::INVALID_VALUE);
        }
        let beyond = |extent: [u32; 3], most: [u32; 3]| extent.iter().zip(most).any(|(e, m)| *e > m);
        let threads: u64 = block.iter().map(|extent| u64::from(*extent)).product();
        if beyond(grid, Profile::MAX_GRID)
            || beyond(block, Profile::MAX_BLOCK)
            || threads > u64::from(Profile::MAX_THREADS_PER_BLOCK)
        {
            return Err(CuResult::INVALID_VALUE);
        }
        if dynamic_shared > function.max_dynamic_shared(profile) {
            return Err(CuResult::INVALID_VALUE);
        }
        if kernel.required_threads.is_some_and(|required| required != block) {
            return Err(CuResult::INVALID_VALUE);
        }
        // More threads than the kernel was compiled for. Registers are an estimate, for which no launch is refused.
        if threads > u64::from(function.max_threads()) {
            return Err(CuResult::INVALID_VALUE);
        }
        let shared = u64::from(kernel.static_shared) + u64::from(dynamic_shared);
        if shared > u64::from(profile.shared_per_block_optin) {
            return Err(CuResult::LAUNCH_OUT_OF_RESOURCES);
        }
        let parameters = parameters(kernel, values, extra)?;
        let pointers = OnceLock::new();
        Ok(KernelLaunch {
            function,
            function_handle,
            grid,
            block,
            dynamic_shared,
            parameters,
            programmatic: false,
            pointers,
        })
    }

    /// Runs the kernel at its place in a stream or graph; returns its modelled cost.
    pub fn run(&self, driver: &Driver, context: &Context, position: &mut Position<'_>) -> DriverResult<clock::Cost> {
        let options = driver.options().launch;
        let profile = driver.profile(context.device);
        let started = Instant::now();
        let mut outcome = driver.engine.launch_dependent(
            &Launch {
                kernel: &self.function.kernel,
                device: context.device,
                profile,
                grid: self.grid,
                block: self.block,
                dynamic_shared: self.dynamic_shared,
                params: &self.parameters,
            },
            &options,
            position.overlapped,
        );
        position.grid = outcome.grid.take();
        let cost = clock::kernel(profile, position.fixed, outcome.counters.as_ref(), started.elapsed());
        let error = outcome.error;
        let launch = driver.next_launch();
        let facts = LaunchFacts {
            number: launch,
            kernel: &self.function.kernel,
            grid: self.grid,
            block: self.block,
            device: context.device,
            time_ns: cost.time,
            programmatic: self.programmatic,
        };
        driver.report.launched(&facts, outcome);
        match error.map(code) {
            Some(_) if driver.options().continue_after_fault => {
                let name = &self.function.kernel.name;
                driver.report.note(&format!("kernel {name} failed; WARPCHECK_ON_FAULT=continue: its context goes on"));
                Ok(cost)
            }
            Some(code) => Err(code),
            None => Ok(cost),
        }
    }
}

/// The code of a fault.
fn code(fault: Fault) -> CuResult {
    match fault {
        Fault::IllegalAddress => CuResult::ILLEGAL_ADDRESS,
        Fault::MisalignedAddress => CuResult::MISALIGNED_ADDRESS,
        Fault::IllegalInstruction => CuResult::ILLEGAL_INSTRUCTION,
        Fault::InvalidAddressSpace => CuResult::INVALID_ADDRESS_SPACE,
        Fault::InvalidPc => CuResult::INVALID_PC,
        Fault::Assert => CuResult::ASSERT,
        Fault::LaunchTimeout => CuResult::LAUNCH_TIMEOUT,
        Fault::LaunchFailed => CuResult::LAUNCH_FAILED,
        Fault::HardwareStackError => CuResult::HARDWARE_STACK_ERROR,
        Fault::OutOfResources => CuResult::LAUNCH_OUT_OF_RESOURCES,
    }
}

/// The parameter block: from one pointer per parameter, or as a whole from the extra list.
fn parameters(kernel: &crate::launch::Kernel, values: In<*const u8>, extra: In<usize>) -> DriverResult<Vec<u8>> {
    let mut block = vec![0; kernel.param_bytes];
    if !values.is_null() && !extra.is_null() {
        return Err(CuResult::INVALID_VALUE);
    }
    if !extra.is_null() {
        let (mut address, mut size) = (0, None);
        let mut at = 0;
        loop {
            match extra.at(at)? {
                EXTRA_END => break,
                EXTRA_POINTER => address = extra.at(at + 1)?,
                EXTRA_SIZE => size = Some(In::<usize>::from_address(extra.at(at + 1)?).get()?),
                _ => return Err(CuResult::INVALID_VALUE),
            }
            at += 2;
        }
        let bytes = In::<u8>::from_address(address).list(size.ok_or(CuResult::INVALID_VALUE)?)?;
        if bytes.len() < kernel.param_bytes {
            return Err(CuResult::LAUNCH_OUT_OF_RESOURCES);
        }
        block.copy_from_slice(&bytes[..kernel.param_bytes]);
        return Ok(block);
    }
    for (index, parameter) in kernel.params.iter().enumerate() {
        let value = In::<u8>::from_address(values.at(index)? as usize).list(parameter.size)?;
        block[parameter.offset..parameter.offset + parameter.size].copy_from_slice(&value);
    }
    Ok(block)
}

/// The stream of a launch: of the function's context, which is the current one.
fn stream_of(driver: &Driver, context: &Context, handle: Handle) -> DriverResult<Arc<Stream>> {
    let stream = stream::named(driver, handle)?;
    if stream.context_handle != context.handle {
        return Err(CuResult::INVALID_HANDLE);
    }
    Ok(stream)
}

#[allow(clippy::too_many_arguments)]
fn launch(
    driver: &'static Driver,
    context: &Context,
    function: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: Handle,
    parameters: (In<*const u8>, In<usize>),
    programmatic: bool,
) -> DriverResult {
    let stream = stream_of(driver, context, stream)?;
    let mut launch = KernelLaunch::check(driver, function, grid, block, shared, parameters)?;
    // Older devices run kernels of a stream one after another.
    launch.programmatic = programmatic && driver.profile(context.device).sm() >= 90;
    if launch.function.context_handle != context.handle {
        return Err(CuResult::INVALID_HANDLE);
    }
    stream.add(driver, Work::Kernel(Arc::new(launch))).map(|_| ())
}

/// A cooperative launch is an error: blocks run one after another on each host thread, so a grid
/// barrier would never complete. The device's attribute says so.
fn refuse_cooperative(driver: &Driver) -> DriverResult {
    driver.report.note(
        "a cooperative launch is refused: blocks do not all run at once here \
         (CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH is 0)",
    );
    Err(CuResult::NOT_SUPPORTED)
}

/// Checks the attributes of `cuLaunchKernelEx`: hints are ignored, attributes that change semantics are errors. Whether the
/// launch may overlap the kernel before it.
fn check_attributes(driver: &Driver, config: &LaunchConfig) -> DriverResult<bool> {
    let attributes = In::from_address(config.attributes as usize).list(config.count as usize);
    let attributes: Vec<super::structs::LaunchAttribute> = attributes?;
    let mut programmatic = false;
    for attribute in attributes {
        match attribute.id {
            // Nothing; window, policy, preference, priority, memory domains, carve-out: hints.
            0 | 1 | 3 | 5 | 8 | 9 | 10 | 14 => {}
            2 if attribute.value[0] == 0 => {}
            2 => return refuse_cooperative(driver).map(|()| false),
            // A cluster of one block is no cluster.
            4 | 11 if attribute.value[..3].iter().all(|extent| *extent <= 1) => {}
            4 | 11 => {
                driver.report.note("a launch with clusters is refused: they are not supported");
                return Err(CuResult::NOT_SUPPORTED);
            }
            // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            6 => programmatic = attribute.value[0] != 0,
            7 | 12 | 13 => return Err(CuResult::NOT_SUPPORTED),
            _ => return Err(CuResult::INVALID_VALUE),
        }
    }
    Ok(programmatic)
}

api! {
    /// Launches a kernel.
    fn cuLaunchKernel[driver, context](
        function: Handle,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, values: In<*const u8>, extra: In<usize>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch(driver, context, function, grid, block, shared, stream, (values, extra), false)
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx[driver, context](
        config: In<LaunchConfig>, function: Handle, values: In<*const u8>, extra: In<usize>,
    ) {
        let config = config.get()?;
        let programmatic = check_attributes(driver, &config)?;
        let LaunchConfig { grid, block, shared_bytes, stream, .. } = config;
        launch(driver, context, function, grid, block, shared_bytes, stream, (values, extra), programmatic)
    }

    /// Launches a cooperative kernel: not supported.
    fn cuLaunchCooperativeKernel[driver, context](
        function: Handle,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, values: In<*const u8>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        stream_of(driver, context, stream)?;
        let none = In::from_address(0);
        let launch =
            KernelLaunch::check(driver, function, grid, block, shared, (values, none))?;
        let profile = driver.profile(context.device);
        let threads = block.iter().product();
        let at_once = occupancy::blocks_per_sm(profile, &launch.function, threads, shared as usize);
        let blocks: u64 = grid.iter().map(|extent| u64::from(*extent)).product();
        if blocks > u64::from(at_once) * u64::from(profile.sms) {
            return Err(CuResult::COOPERATIVE_LAUNCH_TOO_LARGE);
        }
        refuse_cooperative(driver)
    }
}
