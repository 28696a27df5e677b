//! What this machine has of all that a GPU's kernels need, each part on its own.

use std::fs;
use std::path::PathBuf;

use cudarc::driver::CudaContext;

use crate::error::{Error, Result};
use crate::nvrtc::Nvrtc;
use crate::{OLDEST, cache, device_count, driver_version};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFound {
    /// Its name.
    pub name: String,
    /// Ten times its compute capability.
    pub sm: u32,
    /// Bytes free.
    pub free: u64,
    /// Bytes it has.
    pub total: u64,
}

impl DeviceFound {
    /// Looks at GPU number `ordinal`.
    ///
    /// # Errors
    /// It is older than the kernels can be compiled for; the driver's.
    pub fn look(ordinal: usize) -> Result<Self> {
        let fail = |call: &'static str| move |error| Error::driver(call, error);
        let context = CudaContext::new(ordinal).map_err(fail("cuDevicePrimaryCtxRetain"))?;
        let (major, minor) = context.compute_capability().map_err(fail("cuDeviceGetAttribute"))?;
        let name = context.name().map_err(fail("cuDeviceGetName"))?;
        let (free, total) = context.mem_get_info().map_err(fail("cuMemGetInfo"))?;
        let sm = (major * 10 + minor) as u32;
        if sm < OLDEST {
            return Err(Error::DeviceTooOld { device: name, sm });
        }
        Ok(Self { name, sm, free: free as u64, total: total as u64 })
    }
}

/// The version of CUDA that the driver supports, times 1000, and its GPUs.
///
/// # Errors
/// No driver, one too old, one without a GPU.
pub fn driver() -> Result<(i32, Vec<Result<DeviceFound>>)> {
    let count = device_count()?;
    Ok((driver_version()?, (0..count).map(DeviceFound::look).collect()))
}

/// Whether the driver in use is warpcheck, whose times are a processor's and say nothing of a GPU.
pub fn is_warpcheck() -> bool {
    // SAFETY: loads the driver that is in use already; the symbol is only looked for.
    unsafe { libloading::Library::new("libcuda.so") }
        .is_ok_and(|driver| unsafe { driver.get::<*const ()>(b"warpcheck_findings_count") }.is_ok())
}

/// The compiler.
///
/// # Errors
/// It is nowhere, or what is there is none.
pub fn nvrtc() -> Result<&'static Nvrtc> {
    Nvrtc::find()
}

/// The folder of compiled kernels, how many there are and their bytes.
///
/// # Errors
/// There is none, or it cannot be written: kernels are compiled anew at each start then.
pub fn kernel_cache() -> Result<(PathBuf, usize, u64)> {
    let folder = cache::folder()?;
    let at = |e: std::io::Error| Error::Cache {
        path: folder.clone(),
        reason: format!("{e}; kernels are compiled anew at each start: make it writable, or set ALEXNET_CACHE"),
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
