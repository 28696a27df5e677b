//! AlexNet's operators as CUDA kernels, compiled at run time by NVRTC and launched through cudarc.
//!
//! A file `kernels/NAME.cu` holds the kernels of one operator, `kernels/NAME.rs` their launchers, as methods of
//! [`Kernels`]. A file is compiled and loaded at the first launch of one of its kernels, or for all at once by
//! [`Kernels::load_all`]; the compiled code is kept in the user's cache folder ([`cache`]).
//!
//! Environment: `ALEXNET_NVRTC` (where NVRTC is), `ALEXNET_CACHE` (where compiled kernels are kept), `ALEXNET_CODE`
//! (`cubin` or `ptx`: how kernels are given to the driver), `ALEXNET_DUMP` (the same: writes each into the folder
//! `alexnet-dump`), `ALEXNET_SYNC=1` (waits after each launch, so that a fault is that of the kernel it names).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::sys::{self, CUfunction_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
use cudarc::nvrtc::Ptx;

mod add;
mod array;
pub mod cache;
mod error;
mod launch;
pub mod nvrtc;
pub mod probe;

mod augment;
mod avgpool;
mod batchnorm;
mod cast;
mod conv;
mod dropout;
mod ema;
mod flatten;
mod gemm;
mod graph;
mod linear;
mod lrn;
mod maxpool;
mod mix;
mod relu;
mod sgd;
mod softmax_cross_entropy;
mod table;
mod timer;
mod total;
mod turn;

pub use alexnet_ops::{Number, Precision, Scaler};
pub use array::{Array, Host};
pub use ema::Averages;
pub use error::{Error, Result};
pub use gemm::{Epilogue, Gemm, Transpose};
pub use graph::Graph;
pub use sgd::Parameters;
pub use turn::Turn;

use nvrtc::{Code, Nvrtc, Target};

/// A file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name without extension, which is the operator's.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
    /// SHA-256 of its headers and the text.
    pub hash: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/units.rs"));

/// The macros that a file of kernels is compiled with.
pub fn defines(precision: Precision) -> Vec<String> {
    let storage = match precision {
        Precision::Fp32 | Precision::Tf32 => "float",
        Precision::Fp16 => "half",
        Precision::Bf16 => "bf16",
    };
    let mut defines = vec![format!("STORAGE={storage}")];
    if precision == Precision::Tf32 {
        defines.push("TF32=1".into());
    }
    defines
}

/// A kernel that is loaded.
#[derive(Clone)]
struct Loaded {
    function: CudaFunction,
    /// Dynamic shared memory allowed so far; beyond 48 KiB a kernel has to ask.
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

/// A GPU with the operators loaded on it, and one stream on which everything runs in order.
pub struct Kernels {
    // The functions' modules, before the context they live in.
    modules: Vec<OnceLock<Module>>,
    stream: Arc<CudaStream>,
    turn: Arc<turn::TurnLock>,
    context: Arc<CudaContext>,
    nvrtc: &'static Nvrtc,
    precision: Precision,
    name: String,
    sm: u32,
    /// What the driver takes; decided at the first module if not by `ALEXNET_CODE`.
    code: Mutex<Option<Code>>,
    dump: Option<Code>,
    sync: bool,
    allocations: AtomicU64,
}

/// The least version of the driver: that of CUDA 12, whose drivers load the cubins of every NVRTC 12.
const DRIVER: i32 = 12_000;
/// Volta.
const OLDEST: u32 = 70;
/// Dynamic shared memory that needs no asking.
const SHARED: u32 = 48 << 10;

/// An environment variable that names a kind of code.
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

/// The version of CUDA that the driver, which must be there, is for: 12.4 is 12040.
fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: writes the integer; may be called before cuInit.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|e| Error::driver("cuDriverGetVersion", e))?;
    Ok(version)
}

/// How many GPUs the driver has.
///
/// # Errors
/// No driver, one too old, or one that fails to start; [`Error::NoDevice`] if there are none.
pub fn device_count() -> Result<usize> {
    // SAFETY: the initialisers of the driver's library are NVIDIA's. Without this question cudarc panics.
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
    /// No driver, no GPU of this number, no NVRTC: all that can be missing is an error that says what to do.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        let count = device_count()?;
        if ordinal >= count {
            return Err(Error::Ordinal { asked: ordinal, count });
        }
        let nvrtc = Nvrtc::find()?;
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
        nvrtc.suits(sm, driver_version()?)?;
        // SAFETY: all arrays are used on the one stream below, in order, so that no event needs to guard them; events
        // would get in the way of capturing the stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(fail("cuStreamCreate"))?;
        Ok(Self {
            modules: UNITS.iter().map(|_| OnceLock::new()).collect(),
            stream,
            turn: Arc::default(),
            context,
            nvrtc,
            precision,
            name,
            sm,
            code: Mutex::new(code_variable("ALEXNET_CODE")?),
            dump: code_variable("ALEXNET_DUMP")?,
            sync: std::env::var_os("ALEXNET_SYNC").is_some_and(|value| value == "1"),
            allocations: AtomicU64::new(0),
        })
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Ten times its compute capability.
    pub fn sm(&self) -> u32 {
        self.sm
    }
    /// What was asked for.
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// What activations are stored as.
    pub fn storage(&self) -> Number {
        self.precision.storage()
    }
    /// The GPU's free and total memory in bytes.
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

    /// Waits for all that was launched.
    ///
    /// # Errors
    /// That of any kernel launched before; `ALEXNET_SYNC=1` tells which.
    pub fn synchronize(&self) -> Result<()> {
        let _turn = self.turn();
        self.stream.synchronize().map_err(|error| Error::driver_later("wait", error, self.sync))
    }

    /// Compiles and loads every file now, so that no step of the training has to.
    ///
    /// # Errors
    /// A kernel that does not compile; the driver's.
    pub fn load_all(&self) -> Result<()> {
        (0..UNITS.len()).try_for_each(|index| self.module(index).map(drop))
    }

    fn function(&self, unit: &'static str, name: &'static str) -> Result<Loaded> {
        let Some(index) = UNITS.iter().position(|candidate| candidate.name == unit) else {
            return Err(Error::Argument { operator: name, argument: "unit", reason: format!("{unit} does not exist") });
        };
        let module = self.module(index)?;
        let mut functions = module.functions.lock().unwrap_or_else(PoisonError::into_inner);
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
        if let Some(module) = self.modules[index].get() {
            return Ok(module);
        }
        let unit = &UNITS[index];
        // Held while compiling: two threads do not compile the same file.
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match *code {
            Some(code) => self.load(unit, code)?,
            // A driver that executes PTX only, as warpcheck does, refuses machine code.
            None => match self.load(unit, Code::Cubin) {
                Err(Error::Driver { name, .. }) if REFUSALS.contains(&name.as_str()) => {
                    let module = self.load(unit, Code::Ptx)?;
                    *code = Some(Code::Ptx);
                    module
                }
                other => {
                    let module = other?;
                    *code = Some(Code::Cubin);
                    module
                }
            },
        };
        Ok(self.modules[index].get_or_init(|| Module { module, functions: Mutex::default() }))
    }

    fn load(&self, unit: &Unit, code: Code) -> Result<Arc<CudaModule>> {
        let target = self.nvrtc.target(code, self.sm);
        let image = self.compile(unit, target)?;
        if let Some(dump) = self.dump {
            let target = self.nvrtc.target(dump, self.sm);
            let path = format!("alexnet-dump/{}-{target}.{}", unit.name, target.code.extension());
            let image = self.compile(unit, target)?;
            let written = std::fs::create_dir_all("alexnet-dump").and_then(|()| std::fs::write(&path, image));
            written.map_err(|e| Error::Cache { path: path.into(), reason: e.to_string() })?;
        }
        self.context
            .load_module(Ptx::from_binary(image))
            .map_err(|e| Error::driver(format!("cuModuleLoadData of {} for {target}", unit.name), e))
    }

    fn compile(&self, unit: &Unit, target: Target) -> Result<Vec<u8>> {
        cache::compile(self.nvrtc, unit, target, &Nvrtc::options(target, &defines(self.precision)))
    }
}

/// How a driver refuses machine code that it cannot execute.
const REFUSALS: [&str; 5] = [
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_INVALID_IMAGE",
    "CUDA_ERROR_INVALID_PTX",
    "CUDA_ERROR_INVALID_SOURCE",
    "CUDA_ERROR_NOT_SUPPORTED",
];

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, sm, precision, .. } = self;
        f.debug_struct("Kernels").field("name", name).field("sm", sm).field("precision", precision).finish()
    }
}
