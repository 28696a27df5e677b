//! Opens the device that `--device` names.

use std::path::Path;
use std::sync::Arc;

use alexnet_core::device::cpu::Cpu;
use alexnet_core::device::cuda::{self, Cuda};

use crate::print::notice;
use crate::run::Result;
use crate::run::config::{DeviceKind, Precision};

/// An open device of either kind.
pub enum AnyDevice {
    /// The processor.
    Cpu(Arc<Cpu>),
    /// A GPU.
    Cuda(Arc<Cuda>),
}

/// Opens the device for fp32; see [`open_with`].
///
/// # Errors
/// As [`open_with`].
pub fn open(kind: DeviceKind, threads: usize) -> Result<AnyDevice> {
    open_with(kind, threads, Precision::Fp32)
}

/// Opens the device, and sets the size of rayon's global thread pool. With fp32, [`DeviceKind::Auto`] takes the CPU if no
/// GPU can be used, and prints the reason unless the machine has no NVIDIA driver.
///
/// # Errors
/// The threads cannot be started; the GPU named is missing, or its driver or NVRTC is.
pub fn open_with(kind: DeviceKind, threads: usize, precision: Precision) -> Result<AnyDevice> {
    // Fails only if the pool exists already.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let cuda = |ordinal| -> Result<AnyDevice> {
        let precision = match precision {
            Precision::Fp32 => cuda::Precision::Fp32,
            Precision::Tf32 => cuda::Precision::Tf32,
            Precision::Fp16 => cuda::Precision::Fp16,
            Precision::Bf16 => cuda::Precision::Bf16,
        };
        Ok(AnyDevice::Cuda(Arc::new(Cuda::new(ordinal, precision)?)))
    };
    match kind {
        DeviceKind::Cpu => Ok(AnyDevice::Cpu(Arc::new(Cpu::new(threads)?))),
        DeviceKind::Cuda(ordinal) => cuda(ordinal),
        // Other precisions need a GPU.
        DeviceKind::Auto if precision != Precision::Fp32 => cuda(0),
        DeviceKind::Auto => cuda(0).or_else(|reason| {
            // Where there is no NVIDIA GPU, "device   cpu" says enough.
            let absent = matches!(cuda::probe::driver(), Err(cuda::DriverError::NoDriver));
            if !absent || Path::new("/dev/nvidia0").exists() {
                notice(&format!("using the CPU: {reason}"));
            }
            Ok(AnyDevice::Cpu(Arc::new(Cpu::new(threads)?)))
        }),
    }
}
