//! Opening the device that `--device` names.

use std::sync::Arc;

use alexnet_core::device::cpu::Cpu;
use alexnet_core::device::cuda::{Cuda, Precision};

use crate::run::Result;
use crate::run::config::DeviceKind;

/// A device that was opened.
pub enum Opened {
    /// The processor.
    Cpu(Arc<Cpu>),
    /// A GPU.
    Cuda(Arc<Cuda>),
}

/// Opens the device, and sets how many threads everything else uses.
///
/// # Errors
/// The threads cannot be started; the GPU asked for is not there, or lacks its driver or compiler.
pub fn open(kind: DeviceKind, threads: usize) -> Result<Opened> {
    // Fails only if it was done before.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let cpu = || Ok(Opened::Cpu(Arc::new(Cpu::new(threads)?)));
    match kind {
        DeviceKind::Cpu => cpu(),
        DeviceKind::Cuda(ordinal) => Ok(Opened::Cuda(Arc::new(Cuda::new(ordinal, Precision::Fp32)?))),
        DeviceKind::Auto => match Cuda::new(0, Precision::Fp32) {
            Ok(cuda) => Ok(Opened::Cuda(Arc::new(cuda))),
            Err(reason) => {
                eprintln!("using the CPU: {reason}");
                cpu()
            }
        },
    }
}
