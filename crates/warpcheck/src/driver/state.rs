//! The driver itself: created by `cuInit`, one per process, never dropped.

use super::capture::Captures;
use super::context::Context;
use super::event::Event;
use super::ffi::{Out, api};
use super::function::Function;
use super::graph::Graph;
use super::graph_exec::Exec;
use super::host_memory::HostMemory;
use super::library::{Library, LibraryKernel};
use super::module::Loaded;
use super::pool::Pool;
use super::primary::Primary;
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::table::{Handle, Table, lock};
use crate::engine::Engine;
use crate::options::Options;
use crate::profile::Profile;
use crate::report::Report;
use std::collections::HashMap;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

/// The version of the API: CUDA 12.9.
const VERSION: c_int = 12090;

static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub ordinal: u32,
    pub profile: Profile,
    pub primary: Mutex<Primary>,
    /// The current pool for stream-ordered allocations, and the default one.
    pub pool: Mutex<Handle>,
    pub default_pool: Handle,
}

/// The driver's data of an allocation, beside the engine's.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub context_handle: Handle,
    /// The pool that it came from, 0 if from none.
    pub pool: Handle,
    pub bytes: u64,
}

/// The driver.
#[derive(Debug)]
pub(super) struct Driver {
    pub engine: Engine,
    pub devices: Vec<Device>,
    options: RwLock<Options>,
    pub report: Report,
    pub contexts: Table<Context>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub modules: Table<Loaded>,
    pub functions: Table<Function>,
    pub libraries: Table<Library>,
    pub kernels: Table<LibraryKernel>,
    pub graphs: Table<Graph>,
    /// The graph of a node.
    pub nodes: Table<Graph>,
    pub execs: Table<Exec>,
    pub pools: Table<Pool>,
    pub captures: Captures,
    pub host_memory: HostMemory,
    pub owners: Mutex<HashMap<u64, Owner>>,
    /// Launches so far, to number them in reports.
    pub launches: AtomicU64,
}

impl Driver {
    fn new(options: Options) -> Driver {
        let pools = Table::new();
        let devices = (0..options.devices)
            .map(|ordinal| {
                let default_pool = pools.add(Pool::new(ordinal, true));
                Device {
                    ordinal,
                    profile: options.profile.clone(),
                    primary: Mutex::default(),
                    pool: Mutex::new(default_pool),
                    default_pool,
                }
            })
            .collect();
        Driver {
            engine: Engine::new(),
            devices,
            report: Report::new(&options),
            options: RwLock::new(options),
            contexts: Table::new(),
            streams: Table::new(),
            events: Table::new(),
            modules: Table::new(),
            functions: Table::new(),
            libraries: Table::new(),
            kernels: Table::new(),
            graphs: Table::new(),
            nodes: Table::new(),
            execs: Table::new(),
            pools,
            captures: Captures::default(),
            host_memory: HostMemory::default(),
            owners: Mutex::default(),
            launches: AtomicU64::new(0),
        }
    }

    /// The device of an ordinal.
    pub fn device(&self, ordinal: c_int) -> DriverResult<&Device> {
        usize::try_from(ordinal).ok().and_then(|ordinal| self.devices.get(ordinal)).ok_or(CuResult::INVALID_DEVICE)
    }

    /// The profile of an existing device.
    pub fn profile(&self, ordinal: u32) -> &Profile {
        &self.devices[ordinal as usize].profile
    }

    /// The options as they are now.
    pub fn options(&self) -> Options {
        self.options.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the options (a harness does).
    pub fn set_options(&self, options: Options) {
        self.report.set_options(&options);
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// Whether each operation waits for its end.
    pub fn launch_blocking(&self) -> bool {
        self.options.read().unwrap_or_else(PoisonError::into_inner).blocking
    }

    /// For calls that CUDA forbids during stream capture.
    pub fn forbid_during_capture(&self) -> DriverResult {
        self.captures.forbid()
    }

    /// The allocations that were never freed, as they are now.
    pub fn leaks(&self) -> Vec<crate::memory::AllocationInfo> {
        let owners = lock(&self.owners);
        let live = self.engine.memory().live();
        live.into_iter().filter(|info| owners.contains_key(&info.base)).collect()
    }

    /// The number of the next launch, from 1.
    pub fn next_launch(&self) -> u64 {
        self.launches.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The driver, after `cuInit`.
pub(super) fn driver() -> DriverResult<&'static Driver> {
    DRIVER.get().and_then(Option::as_ref).ok_or(CuResult::NOT_INITIALIZED)
}

/// Runs at the end of the process.
extern "C" fn at_exit() {
    if let Ok(driver) = driver() {
        driver.report.finish(driver.leaks());
    }
}

/// Creates the driver if there is none yet.
fn init() -> DriverResult {
    let made = DRIVER.get_or_init(|| match Options::from_environment() {
        Ok(options) => {
            // SAFETY: `at_exit` is a plain function that neither unwinds nor frees anything.
            unsafe { libc::atexit(at_exit) };
            let driver = Driver::new(options);
            for variable in Options::unknown_variables() {
                driver.report.note(&format!(
                    "warning: there is no environment variable {variable}; warpcheck's README lists them"
                ));
            }
            Some(driver)
        }
        Err(error) => {
            eprintln!("warpcheck: error: {error}");
            None
        }
    });
    match made {
        None => Err(CuResult::INVALID_VALUE),
        Some(driver) if driver.devices.is_empty() => Err(CuResult::NO_DEVICE),
        Some(_) => Ok(()),
    }
}

api! {
    /// Starts the driver; reads the environment.
    fn cuInit[](flags: c_uint) {
        if flags != 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        init()
    }

    /// The version of CUDA whose API this is.
    fn cuDriverGetVersion[](version: Out<c_int>) {
        version.set(VERSION)
    }
}
