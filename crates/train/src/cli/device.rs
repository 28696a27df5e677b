//! Opens the device that `--device` names.

use std::path::Path;
use std::sync::{Arc, Once};

use alexnet_core::device::cpu::Cpu;
#[cfg(feature = "cuda")]
use alexnet_core::device::cuda::{self, Cuda};

use crate::print::notice;
use crate::run::Result;
use crate::run::config::{self, DeviceKind, Precision};

/// An open device of either kind.
pub enum AnyDevice {
    /// The processor.
    Cpu(Arc<Cpu>),
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(Arc<Cuda>),
}

/// Opens the device for fp32; see [`open_with`].
///
/// # Errors
/// As [`open_with`].
pub fn open(kind: DeviceKind, threads: usize) -> Result<AnyDevice> {
    open_with(kind, threads, Precision::Fp32)
}

/// The threads that `--threads` asks for; says so if there are fewer cores.
pub fn cap_threads(wanted: usize) -> usize {
    static TOLD: Once = Once::new();
    let threads = config::threads(wanted);
    if threads < wanted {
        TOLD.call_once(|| notice(&format!("--threads {wanted}: this machine has {threads} cores, using {threads}")));
    }
    threads
}

/// Opens the device, and sets the size of rayon's global thread pool. With fp32, [`DeviceKind::Auto`] takes the CPU if no
/// GPU can be used, and prints the reason unless the machine has no NVIDIA driver. `threads` is as in `--threads`.
///
/// # Errors
/// The threads cannot be started; the GPU named is missing, or its driver or NVRTC is.
pub fn open_with(kind: DeviceKind, threads: usize, precision: Precision) -> Result<AnyDevice> {
    let threads = cap_threads(threads);
    // Fails only if the pool exists already.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    match kind {
        DeviceKind::Cpu => Ok(AnyDevice::Cpu(Arc::new(Cpu::new(threads)?))),
        DeviceKind::Cuda(ordinal) => gpu(ordinal, precision),
        // Other precisions need a GPU.
        DeviceKind::Auto if precision != Precision::Fp32 => gpu(0, precision),
        DeviceKind::Auto => gpu(0, precision).or_else(|reason| {
            if !no_driver() || Path::new("/dev/nvidia0").exists() {
                notice(&format!("using the CPU: {reason}"));
            }
            Ok(AnyDevice::Cpu(Arc::new(Cpu::new(threads)?)))
        }),
    }
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize, precision: Precision) -> Result<AnyDevice> {
    let precision = match precision {
        Precision::Fp32 => cuda::Precision::Fp32,
        Precision::Tf32 => cuda::Precision::Tf32,
        Precision::Fp16 => cuda::Precision::Fp16,
        Precision::Bf16 => cuda::Precision::Bf16,
    };
    Ok(AnyDevice::Cuda(Arc::new(Cuda::new(ordinal, precision)?)))
}

/// Whether the machine has no NVIDIA driver: then the line "device cpu" says enough.
#[cfg(feature = "cuda")]
fn no_driver() -> bool {
    matches!(cuda::probe::driver(), Err(cuda::DriverError::NoDriver))
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize, _: Precision) -> Result<AnyDevice> {
    Err(without_cuda(&format!("cuda:{ordinal}")).into())
}

#[cfg(not(feature = "cuda"))]
const fn no_driver() -> bool {
    true
}

/// The error of a build without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub fn without_cuda(device: &str) -> alexnet_core::Error {
    let message = "this build has no CUDA: build it with the feature `cuda`, or use --device cpu".into();
    alexnet_core::Error::Device { device: device.into(), message }
}
