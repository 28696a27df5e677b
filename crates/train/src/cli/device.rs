//! Opening the device that `--device` names.

use std::path::Path;
use std::sync::Arc;

use alexnet_core::device::cpu::Cpu;
use alexnet_core::device::cuda::{self, Cuda};

use crate::run::Result;
use crate::run::config::{DeviceKind, Precision};
use crate::run::progress::notice;

/// A device that was opened.
pub enum Opened {
    /// The processor.
    Cpu(Arc<Cpu>),
    /// A GPU.
    Cuda(Arc<Cuda>),
}

/// [`open_with`] fp32.
///
/// # Errors
/// As there.
pub fn open(kind: DeviceKind, threads: usize) -> Result<Opened> {
    open_with(kind, threads, Precision::Fp32)
}

/// Opens the device, and sets how many threads everything else uses.
///
/// # Errors
/// The threads cannot be started; the GPU asked for is not there, or lacks its driver or compiler.
pub fn open_with(kind: DeviceKind, threads: usize, precision: Precision) -> Result<Opened> {
    // Fails only if it was done before.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let cuda = |ordinal| -> Result<Opened> {
        let precision = match precision {
            Precision::Fp32 => cuda::Precision::Fp32,
            Precision::Tf32 => cuda::Precision::Tf32,
            Precision::Fp16 => cuda::Precision::Fp16,
            Precision::Bf16 => cuda::Precision::Bf16,
        };
        Ok(Opened::Cuda(Arc::new(Cuda::new(ordinal, precision)?)))
    };
    match kind {
        DeviceKind::Cpu => Ok(Opened::Cpu(Arc::new(Cpu::new(threads)?))),
        DeviceKind::Cuda(ordinal) => cuda(ordinal),
        // Another precision asks for a GPU.
        DeviceKind::Auto if precision != Precision::Fp32 => cuda(0),
        DeviceKind::Auto => cuda(0).or_else(|reason| {
            // Where there is no NVIDIA GPU, "device   cpu" says enough.
            let absent = matches!(cuda::probe::driver(), Err(cuda::DriverError::NoDriver));
            if !absent || Path::new("/dev/nvidia0").exists() {
                notice(&format!("using the CPU: {reason}"));
            }
            Ok(Opened::Cpu(Arc::new(Cpu::new(threads)?)))
        }),
    }
}
