//! Opening the device that `--device` names.

use std::sync::Arc;

use alexnet_core::device::cpu::Cpu;

use crate::run::Result;
use crate::run::config::DeviceKind;

/// Opens the device, and sets how many threads everything else uses.
///
/// # Errors
/// The threads cannot be started.
pub fn open(kind: DeviceKind, threads: usize) -> Result<Arc<Cpu>> {
    // Fails only if it was done before.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    match kind {
        DeviceKind::Auto | DeviceKind::Cpu => Ok(Arc::new(Cpu::new(threads)?)),
    }
}
