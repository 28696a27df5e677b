//! AlexNet's operators as CUDA kernels, compiled at run time by NVRTC and launched through cudarc.
//!
//! `kernels/NAME.cu` contains the kernels of one operator, `kernels/NAME.rs` their launchers, which are methods of
//! [`Kernels`]. The first launch of a kernel compiles and loads its file; [`Kernels::load_all`] does so for all files. Compiled
//! code is cached on disk ([`cache`]).
//!
//! ```no_run
//! use alexnet_kernels::arguments::ReluForward;
//! use alexnet_kernels::{Kernels, Number, Precision};
//!
//! let kernels = Kernels::new(0, Precision::Fp32)?;
//! let mut x = kernels.zeros(Number::F32, 3)?;
//! kernels.write(&[-1.0f32, 0.5, 2.0], &mut x)?;
//! kernels.relu_forward(ReluForward { len: 3, x: &mut x })?;
//! let mut y = [0.0f32; 3];
//! kernels.read(&x, &mut y)?;
//! assert_eq!(y, [0.0, 0.5, 2.0]);
//! # Ok::<(), alexnet_kernels::Error>(())
//! ```
//!
//! `examples/own_kernel.rs` compiles and launches a kernel that is not in this crate.
//!
//! Environment variables: `ALEXNET_NVRTC` (NVRTC's file or folder; see [`nvrtc::search`]), `ALEXNET_CACHE` (folder for compiled kernels),
//! `ALEXNET_CODE` (`cubin` or `ptx`: the code given to the driver), `ALEXNET_DUMP` (`cubin` or `ptx`: also writes each file's
//! code into the folder `alexnet-dump`), `ALEXNET_NCCL` (NCCL's file or folder, or `off`; see [`nccl::search`]), `ALEXNET_SYNC=1` (waits after each
//! launch, so that an error names the kernel that caused it), `ALEXNET_PDL=0` (no programmatic dependent launch).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::nvrtc::Ptx;

mod add;
mod array;
pub mod cache;
mod error;
mod launch;
mod library;
pub mod nccl;
pub mod nvrtc;
mod places;
pub mod probe;

mod augment;
mod avgpool;
mod batchnorm;
mod conv;
mod dropout;
mod ema;
mod exchange;
mod flatten;
mod gemm;
mod graph;
mod linear;
mod lrn;
mod maxpool;
mod mix;
mod peers;
mod plan;
mod rand_augment;
mod relu;
mod sgd;
mod side;
mod softmax_cross_entropy;
mod sum;
mod table;
mod timer;
mod total;
mod turn;
mod upload;
mod watch;
mod winograd;

pub use alexnet_ops::{Number, Precision, Scaler, Tf32, arguments};
pub use array::{Array, Host, Stored};
pub use conv::FilterLayout;
pub use ema::Averages;
pub use error::{Error, Result};
pub use exchange::{Copies, Slices};
pub use gemm::{Epilogue, Gemm, Transpose};
pub use graph::Graph;
pub use peers::{MAX_RANKS, Peers};
pub use sgd::{ParameterGroup, Parameters, Tested, Update, Updated};
pub use sum::Sums;
pub use timer::Event;
pub use turn::Turn;
pub use upload::Uploads;
pub use winograd::Winograd;

use nvrtc::{Code, Nvrtc, Target};

/// A CUDA source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// File name without extension: the operator.
    pub name: &'static str,
    /// Source text.
    pub source: &'static str,
    /// SHA-256 of the headers it includes and its text; part of the key of the [`cache`].
    pub hash: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/units.rs"));

/// The macros that a file of kernels is compiled with.
pub fn defines(precision: Precision) -> Vec<String> {
    let storage = match precision {
        Precision::Fp32 => "float",
        Precision::Tf32 => "tf32",
        Precision::Fp16 => "half",
        Precision::Bf16 => "bf16",
    };
    vec![format!("STORAGE={storage}")]
}

/// A loaded kernel.
#[derive(Clone)]
struct Loaded {
    function: CudaFunction,
    /// Dynamic shared memory allowed so far, in bytes; a kernel must opt in to more than 48 KiB.
    allowed: Arc<AtomicU32>,
}

impl Loaded {
    fn allow_shared(&self, bytes: u32) -> Result<(), DriverError> {
        if bytes > self.allowed.load(Ordering::Relaxed) {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(attribute, bytes as i32)?;
            self.allowed.fetch_max(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}

struct Module {
    module: Arc<CudaModule>,
    functions: Mutex<HashMap<&'static str, Loaded>>,
}

/// A file of kernels, loaded or not.
#[derive(Default)]
struct Slot {
    module: OnceLock<Module>,
    /// Held while compiling, so that two threads do not compile the same file.
    loading: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The operators on one GPU. All launches and copies run in order on one stream, but for [`Kernels::read_copy`],
/// [`Kernels::upload`] and the second work of [`Kernels::side_by_side`].
pub struct Kernels {
    // Declared before `context`: modules are unloaded first.
    modules: Vec<Slot>,
    /// Twice [`plan::ARRIVALS`]; `None` only while it is allocated.
    arrivals: Option<Array>,
    stream: Arc<CudaStream>,
    side: side::Side,
    /// For reading copies while the other streams go on.
    copies: Arc<CudaStream>,
    turn: Arc<turn::TurnLock>,
    /// Of the exchange with other ranks.
    failure: Arc<watch::Failure>,
    watch: Mutex<Weak<watch::Watch>>,
    /// Whether launches are captured. Changes within a turn only.
    capturing: AtomicBool,
    context: Arc<CudaContext>,
    nvrtc: &'static Nvrtc,
    precision: Precision,
    winograd: Winograd,
    name: String,
    machine: plan::Machine,
    /// The kind of code the driver accepts: from `ALEXNET_CODE`, or found out with the first module.
    code: Mutex<Option<Code>>,
    dump: Option<Code>,
    sync: bool,
    /// Whether a kernel may become resident while the one ahead of it ends: programmatic dependent launch.
    overlap: bool,
    allocations: AtomicU64,
}

/// Oldest supported driver: CUDA 12, whose drivers load the cubins of every NVRTC 12.
const DRIVER: i32 = 12_000;
/// Oldest driver that captures programmatic dependent launches in graphs.
const PROGRAMMATIC_CAPTURE: i32 = 12_030;
/// Oldest supported architecture: Volta.
const OLDEST: u32 = 70;
/// Dynamic shared memory available without opting in, in bytes.
const SHARED: u32 = 48 << 10;

/// The kind of code that an environment variable names.
fn code_variable(name: &'static str) -> Result<Option<Code>> {
    match std::env::var(name).as_deref() {
        Ok("cubin") => Ok(Some(Code::Cubin)),
        Ok("ptx") => Ok(Some(Code::Ptx)),
        Ok("") | Err(std::env::VarError::NotPresent) => Ok(None),
        other => {
            let value = other.map_or_else(|_| "not UTF-8".into(), ToOwned::to_owned);
            Err(Error::Setting { name, value, expected: "cubin or ptx" })
        }
    }
}

/// CUDA version of the driver, which must be installed; 12.4 is 12040.
fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: writes the integer; may be called before cuInit.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|e| Error::driver("cuDriverGetVersion", e))?;
    Ok(version)
}

/// Number of GPUs, at least 1.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::DriverTooOld`], [`Error::NoDevice`]; [`Error::Driver`] if the driver fails to start.
pub fn device_count() -> Result<usize> {
    // SAFETY: loads NVIDIA's library. Without this check cudarc panics if there is none.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver);
    }
    let version = driver_version()?;
    if version < DRIVER {
        return Err(Error::DriverTooOld { found: version, needed: DRIVER });
    }
    match cudarc::driver::result::init() {
        Ok(()) => {}
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => return Err(Error::NoDevice),
        Err(error) => return Err(Error::driver("cuInit", error)),
    }
    match CudaContext::device_count().map_err(|e| Error::driver("cuDeviceGetCount", e))? {
        count if count > 0 => Ok(count as usize),
        _ => Err(Error::NoDevice),
    }
}

impl Kernels {
    /// Opens GPU number `ordinal`.
    ///
    /// # Errors
    /// Those of [`device_count`]; [`Error::Ordinal`], [`Error::DeviceTooOld`]; [`Error::NoNvrtc`] or [`Error::Nvrtc`] if there is
    /// no compiler for the GPU and its driver.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        let count = device_count()?;
        if ordinal >= count {
            return Err(Error::Ordinal { asked: ordinal, count });
        }
        let fail = |call: &str| {
            let call = call.to_owned();
            move |error| Error::driver(call, error)
        };
        let context = CudaContext::new(ordinal).map_err(fail("cuDevicePrimaryCtxRetain"))?;
        let name = context.name().map_err(fail("cuDeviceGetName"))?;
        let (major, minor) = context.compute_capability().map_err(fail("cuDeviceGetAttribute"))?;
        let sm = (major * 10 + minor) as u32;
        if sm < OLDEST {
            return Err(Error::DeviceTooOld { device: name, sm });
        }
        let attribute = |which| context.attribute(which).map_err(fail("cuDeviceGetAttribute"));
        let machine = plan::Machine {
            multiprocessors: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            sm,
            shared: attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)? as usize,
            number: precision.storage(),
        };
        let driver = driver_version()?;
        let nvrtc = nvrtc::search(Some(nvrtc::Device { sm, driver }))?.nvrtc;
        // SAFETY: all arrays are used on the first stream below, in order, so no events are needed to guard them; and events
        // would prevent capturing the stream. The second one reads copies, after an event of their own, as uploads have theirs;
        // work that `side_by_side` does on a third shares no array with what runs meanwhile.
        unsafe { context.disable_event_tracking() };
        let [stream, copies] = [context.new_stream(), context.new_stream()];
        let (stream, copies) = (stream.map_err(fail("cuStreamCreate"))?, copies.map_err(fail("cuStreamCreate"))?);
        let mut kernels = Self {
            modules: UNITS.iter().map(|_| Slot::default()).collect(),
            arrivals: None,
            stream,
            side: side::Side::new(&context).map_err(fail("cuStreamCreate"))?,
            copies,
            turn: Arc::default(),
            failure: Arc::default(),
            watch: Mutex::default(),
            capturing: AtomicBool::new(false),
            context,
            nvrtc,
            precision,
            winograd: Winograd::default(),
            name,
            machine,
            code: Mutex::new(code_variable("ALEXNET_CODE")?),
            dump: code_variable("ALEXNET_DUMP")?,
            sync: std::env::var_os("ALEXNET_SYNC").is_some_and(|value| value == "1"),
            overlap: sm >= 90
                && driver >= PROGRAMMATIC_CAPTURE
                && std::env::var_os("ALEXNET_PDL").is_none_or(|value| value != "0"),
            allocations: AtomicU64::new(0),
        };
        kernels.arrivals = Some(kernels.zeros(Number::U32, 2 * plan::ARRIVALS)?);
        Ok(kernels)
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Ten times its compute capability.
    pub fn sm(&self) -> u32 {
        self.machine.sm
    }
    /// The precision it was opened with.
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// What activations are stored as.
    pub fn storage(&self) -> Number {
        self.precision.storage()
    }
    /// Free and total memory of the GPU, in bytes.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let memory = self.context.mem_get_info().map_err(|e| Error::driver("cuMemGetInfo", e))?;
        Ok((memory.0 as u64, memory.1 as u64))
    }

    /// Takes the stream for the calling thread: operators that other threads call wait until the turn is dropped. A
    /// thread may hold several turns. Every operator takes one by itself; take one around operators that belong together.
    pub fn turn(&self) -> Turn<'_> {
        self.turn.take()
    }

    /// Waits for all launched kernels and copies.
    ///
    /// # Errors
    /// [`Error::Driver`], also for a kernel launched earlier; `ALEXNET_SYNC=1` tells which.
    pub fn synchronize(&self) -> Result<()> {
        let _turn = self.turn();
        self.stream.synchronize().map_err(|error| Error::driver_later("wait", error, self.sync))?;
        self.failure.check()
    }

    /// Compiles and loads every file now, so that no training step does. Compiles as many at once as there are cores.
    ///
    /// # Errors
    /// [`Error::Compile`]; [`Error::Driver`].
    pub fn load_all(&self) -> Result<()> {
        // Those that take longest first: matrix products, then by length. The last one shows which code the driver takes.
        let mut order: Vec<usize> = (0..UNITS.len()).collect();
        order.sort_by_key(|&index| {
            let source = UNITS[index].source;
            Reverse((source.contains("tile.cuh"), source.len()))
        });
        order.last().map_or(Ok(()), |&index| self.module(index).map(drop))?;
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(order.len()) {
                scope.spawn(|| {
                    while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.module(index) {
                            next.store(order.len(), Ordering::Relaxed);
                            lock(&failed).get_or_insert(error);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn function(&self, unit: &'static str, name: &'static str) -> Result<Loaded> {
        let Some(index) = UNITS.iter().position(|candidate| candidate.name == unit) else {
            return Err(Error::Argument { operator: name, argument: "unit", reason: format!("{unit} does not exist") });
        };
        let module = self.module(index)?;
        let mut functions = lock(&module.functions);
        if let Some(loaded) = functions.get(name) {
            return Ok(loaded.clone());
        }
        let function =
            module.module.load_function(name).map_err(|e| Error::driver(format!("cuModuleGetFunction {name}"), e))?;
        let loaded = Loaded { function, allowed: Arc::new(AtomicU32::new(SHARED)) };
        functions.insert(name, loaded.clone());
        Ok(loaded)
    }

    fn module(&self, index: usize) -> Result<&Module> {
        let Slot { module, loading } = &self.modules[index];
        if let Some(module) = module.get() {
            return Ok(module);
        }
        let _loading = lock(loading);
        if let Some(module) = module.get() {
            return Ok(module);
        }
        let unit = &UNITS[index];
        let known = *lock(&self.code);
        let loaded = match known {
            Some(code) => self.load(unit, code)?,
            None => {
                let (code, loaded) = match self.load(unit, Code::Cubin) {
                    // A driver that accepts PTX only, such as warpcheck, refuses machine code.
                    Err(Error::Driver { name, .. }) if REFUSALS.contains(&name.as_str()) => {
                        (Code::Ptx, self.load(unit, Code::Ptx)?)
                    }
                    other => (Code::Cubin, other?),
                };
                *lock(&self.code) = Some(code);
                loaded
            }
        };
        Ok(module.get_or_init(|| Module { module: loaded, functions: Mutex::default() }))
    }

    fn load(&self, unit: &Unit, code: Code) -> Result<Arc<CudaModule>> {
        let target = self.nvrtc.target(code, self.sm());
        let image = self.compile(unit, target)?;
        if let Some(dump) = self.dump {
            let target = self.nvrtc.target(dump, self.sm());
            let path = format!("alexnet-dump/{}-{target}.{}", unit.name, target.code.extension());
            let image = self.compile(unit, target)?;
            let written = std::fs::create_dir_all("alexnet-dump").and_then(|()| std::fs::write(&path, image));
            written.map_err(Error::cache(path.as_ref()))?;
        }
        self.context
            .load_module(Ptx::from_binary(image))
            .map_err(|e| Error::driver(format!("cuModuleLoadData of {} for {target}", unit.name), e))
    }

    fn compile(&self, unit: &Unit, target: Target) -> Result<Vec<u8>> {
        cache::compile(self.nvrtc, unit, target, &Nvrtc::options(target, &defines(self.precision)))
    }
}

/// Errors with which a driver refuses machine code.
const REFUSALS: [&str; 5] = [
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_INVALID_IMAGE",
    "CUDA_ERROR_INVALID_PTX",
    "CUDA_ERROR_INVALID_SOURCE",
    "CUDA_ERROR_NOT_SUPPORTED",
];

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, precision, .. } = self;
        f.debug_struct("Kernels").field("name", name).field("sm", &self.sm()).field("precision", precision).finish()
    }
}
