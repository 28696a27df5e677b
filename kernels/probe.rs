//! Checks one by one what the kernels need of a machine: the driver, its devices, the cache folder.

use std::fs;
use std::path::PathBuf;

use cudarc::driver::CudaContext;

use crate::error::{Error, Result};
use crate::{OLDEST, cache, device_count, driver_version};

/// Name, compute capability and memory of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The driver's name for it, such as `NVIDIA H100 PCIe`.
    pub name: String,
    /// Ten times its compute capability.
    pub sm: u32,
    /// Free memory, in bytes.
    pub free: u64,
    /// Total memory, in bytes.
    pub total: u64,
}

/// Queries GPU number `ordinal`.
///
/// # Errors
/// [`Error::DeviceTooOld`] below compute capability 7.0; a failing driver call.
pub fn device_info(ordinal: usize) -> Result<DeviceInfo> {
    let fail = |call: &'static str| move |error| Error::driver(call, error);
    let context = CudaContext::new(ordinal).map_err(fail("cuDevicePrimaryCtxRetain"))?;
    let (major, minor) = context.compute_capability().map_err(fail("cuDeviceGetAttribute"))?;
    let name = context.name().map_err(fail("cuDeviceGetName"))?;
    let (free, total) = context.mem_get_info().map_err(fail("cuMemGetInfo"))?;
    let sm = (major * 10 + minor) as u32;
    if sm < OLDEST {
        return Err(Error::DeviceTooOld { device: name, sm });
    }
    Ok(DeviceInfo { name, sm, free: free as u64, total: total as u64 })
}

/// The CUDA version that the driver supports (12.4 is 12040), and its GPUs.
///
/// # Errors
/// No driver, a driver that is too old, or no GPU.
pub fn driver() -> Result<(i32, Vec<Result<DeviceInfo>>)> {
    let count = device_count()?;
    Ok((driver_version()?, (0..count).map(device_info).collect()))
}

/// Whether the loaded driver is warpcheck, which runs kernels on the CPU: its timings say nothing about a GPU.
pub fn is_warpcheck() -> bool {
    // SAFETY: loads the driver that is in use already; the symbol is only looked up.
    unsafe { libloading::Library::new("libcuda.so") }
        .is_ok_and(|driver| unsafe { driver.get::<*const ()>(b"warpcheck_findings_count") }.is_ok())
}

/// The folder of compiled kernels, the number of kernels in it and their size in bytes.
///
/// # Errors
/// [`Error::Cache`] if the folder cannot be created or written; kernels are then compiled at each start.
pub fn kernel_cache() -> Result<(PathBuf, usize, u64)> {
    let folder = cache::folder()?;
    let at = |e: std::io::Error| Error::Cache {
        path: folder.clone(),
        reason: format!("{e}; kernels are compiled at each start: make the folder writable, or set ALEXNET_CACHE"),
    };
    fs::create_dir_all(&folder).map_err(at)?;
    tempfile::tempfile_in(&folder).map_err(at)?;
    let (mut entries, mut bytes) = (0, 0);
    for entry in fs::read_dir(&folder).map_err(at)?.flatten() {
        if let Ok(image) = fs::metadata(entry.path().join("image")) {
            entries += 1;
            bytes += image.len();
        }
    }
    Ok((folder, entries, bytes))
}
