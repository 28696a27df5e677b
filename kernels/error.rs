//! Errors of the driver, the compiler and the launchers.

use std::path::{Path, PathBuf};

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with the operator, file or call that failed.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The NVIDIA driver is not installed.
    #[error("no NVIDIA driver: libcuda.so is not on the loader's path")]
    NoDriver,
    /// The driver is older than CUDA 12.
    #[error(
        "the NVIDIA driver supports CUDA {}.{}, at least {}.{} is needed; update the driver (525 or newer)",
        found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10
    )]
    DriverTooOld {
        /// CUDA version of the driver, from `cuDriverGetVersion` (12.4 is 12040).
        found: i32,
        /// The oldest version that works.
        needed: i32,
    },
    /// The driver finds no GPU.
    #[error("the NVIDIA driver finds no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// No GPU has this number.
    #[error("there is no device cuda:{asked}: the driver has {count}, cuda:0 to cuda:{}", count - 1)]
    Ordinal {
        /// The requested number.
        asked: usize,
        /// The number of GPUs, at least 1.
        count: usize,
    },
    /// The GPU is older than Volta.
    #[error("{device} has compute capability {}.{}, at least 7.0 is needed", sm / 10, sm % 10)]
    DeviceTooOld {
        /// Its name.
        device: String,
        /// Ten times its compute capability.
        sm: u32,
    },
    /// NVRTC, the run-time compiler, was not found, or all that were found cannot be used.
    #[error(
        "no NVRTC, the compiler of the kernels; {}looked in {tried}; install it, or set ALEXNET_NVRTC to the folder that \
         holds libnvrtc.so.12 or .13", passed_over.iter().map(|error| format!("passed over {error}; ")).collect::<String>()
    )]
    NoNvrtc {
        /// Why each library that was found cannot be used.
        passed_over: Vec<Error>,
        /// The places searched.
        tried: String,
    },
    /// A file of NVRTC cannot be used.
    #[error("{}: {reason}", path.display())]
    Nvrtc {
        /// The library.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// NVRTC cannot be downloaded.
    #[error("cannot fetch NVRTC: {0}")]
    Fetch(String),
    /// NCCL was not found, or all that were found cannot be used.
    #[error(
        "no NCCL, the library for communication between GPUs; {}looked in {tried}; install it (pip install nvidia-nccl-cu12 or \
         nvidia-nccl-cu13), or set ALEXNET_NCCL to the folder that holds libnccl.so.2",
        passed_over.iter().map(|error| format!("passed over {error}; ")).collect::<String>()
    )]
    NoNccl {
        /// Why each library that was found cannot be used.
        passed_over: Vec<Error>,
        /// The places searched.
        tried: String,
    },
    /// A file of NCCL cannot be used.
    #[error("{}: {reason}", path.display())]
    Nccl {
        /// The library.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Communication between the GPUs of several ranks failed.
    #[error("{engine}: {call}: {message}")]
    Communication {
        /// What moves the bytes, such as `NCCL 2.28.3`.
        engine: String,
        /// The function.
        call: &'static str,
        /// What it says.
        message: String,
    },
    /// The ranks of the job cannot be reached.
    #[error(transparent)]
    Ranks(#[from] alexnet_ranks::Error),
    /// A kernel does not compile.
    #[error("kernels/{unit}.cu does not compile for {target}:\n{log}")]
    Compile {
        /// File name without extension.
        unit: String,
        /// The architecture.
        target: String,
        /// NVRTC's log.
        log: String,
    },
    /// A file of the cache cannot be read or written.
    #[error("{}: {reason}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
    /// An environment variable has an invalid value.
    #[error("{name} is `{value}`, expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// The valid values.
        expected: &'static str,
    },
    /// An array is too short, or the GPU's memory is full.
    #[error(transparent)]
    Operator(#[from] alexnet_ops::Error),
    /// An argument of an operator is too large, of the wrong type or otherwise invalid.
    #[error("{operator}: {argument} {reason}")]
    Argument {
        /// Name of the operator.
        operator: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// The reason, completing the sentence that the argument's name begins.
        reason: String,
    },
    /// A driver call failed.
    #[error("{call}: {name}{}{text}", if text.is_empty() { "" } else { ": " })]
    Driver {
        /// The call or action, such as `launch of relu_forward`.
        call: String,
        /// The error's name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// The driver's description.
        text: String,
    },
}

impl Error {
    /// For `map_err`: a failure to read or write `path` of the cache.
    pub(crate) fn cache(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |e| Self::Cache { path: path.to_owned(), reason: e.to_string() }
    }

    /// The error of the driver call `call`.
    pub(crate) fn driver(call: impl Into<String>, error: cudarc::driver::DriverError) -> Self {
        let text = error.error_string().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
        Self::Driver { call: call.into(), name: format!("{:?}", error.0), text }
    }

    /// The same for a call that may also return the error of a kernel launched earlier.
    pub(crate) fn driver_later(call: &str, error: cudarc::driver::DriverError, sync: bool) -> Self {
        use cudarc::driver::sys::CUresult as E;
        let of_a_kernel = matches!(
            error.0,
            E::CUDA_ERROR_ASSERT
                | E::CUDA_ERROR_HARDWARE_STACK_ERROR
                | E::CUDA_ERROR_ILLEGAL_ADDRESS
                | E::CUDA_ERROR_ILLEGAL_INSTRUCTION
                | E::CUDA_ERROR_INVALID_ADDRESS_SPACE
                | E::CUDA_ERROR_INVALID_PC
                | E::CUDA_ERROR_LAUNCH_FAILED
                | E::CUDA_ERROR_LAUNCH_TIMEOUT
                | E::CUDA_ERROR_MISALIGNED_ADDRESS
        );
        match of_a_kernel && !sync {
            true => Self::driver(format!("a kernel launched before the {call} (ALEXNET_SYNC=1 tells which)"), error),
            false => Self::driver(call, error),
        }
    }
}
