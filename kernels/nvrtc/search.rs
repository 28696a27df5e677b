//! Searches for NVRTC in the [places] of NVIDIA's libraries.

use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Nvrtc, VERSION};
use crate::cache;
use crate::error::{Error, Result};
use crate::places::{self, Place};

/// File names of NVRTC, the newest version first. Only development packages have the last one.
const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
/// Where NVIDIA's Python packages have theirs.
const PACKAGES: [&str; 2] = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"];

/// A GPU and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Ten times the GPU's compute capability.
    pub sm: u32,
    /// CUDA version of the driver, from `cuDriverGetVersion` (12.4 is 12040).
    pub driver: i32,
}

/// The NVRTC to use.
#[derive(Clone, Debug)]
pub struct Found {
    /// The loaded library.
    pub nvrtc: &'static Nvrtc,
    /// Libraries that come before it and cannot be used: [`Error::Nvrtc`] with the reason of each.
    pub passed_over: Vec<Error>,
}

/// Finds and loads the NVRTC for a device; without a device, any that can be loaded. Later calls return the same one.
///
/// If the environment variable `ALEXNET_NVRTC` names a file or folder, it is taken from there or not at all. Else these places
/// are searched, and in the first that has one, the newest that compiles for the GPU and that the driver takes is used:
/// 1. the user's cache folder, where [`fetch`](super::fetch) puts version 12.9,
/// 2. `CUDA_HOME`, `CUDA_PATH`, `CONDA_PREFIX` and `VIRTUAL_ENV`: libraries (`lib64`, `lib`, `targets/x86_64-linux/lib`) and
///    Python packages (`lib/python3*/site-packages/nvidia/{cu13,cuda_nvrtc}/lib`) in them,
/// 3. the packages of the first `python3` on `PATH`, also those under `~/.local` and `/usr/local`,
/// 4. `/usr/local/cuda*`,
/// 5. the loader's path.
///
/// # Errors
/// [`Error::NoNvrtc`] if there is none that can be used, [`Error::Nvrtc`] if `ALEXNET_NVRTC` names none.
pub fn search(device: Option<Device>) -> Result<Found> {
    static EARLIER: Mutex<Vec<(Option<Device>, Found)>> = Mutex::new(Vec::new());
    let mut earlier = EARLIER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = earlier.iter().find(|(of, _)| *of == device) {
        return Ok(found.clone());
    }
    let (nvrtc, passed_over) = match places::variable("ALEXNET_NVRTC") {
        Some(given) => named(Path::new(&given), device)?,
        None => {
            let fetched = fetched().into_iter().map(Place::folder);
            let places: Vec<Place> = fetched.chain(places::installed(&PACKAGES)).collect();
            match first(&places, device) {
                (Some(nvrtc), passed_over) => (nvrtc, passed_over),
                (None, passed_over) => {
                    let tried: Vec<String> = places.into_iter().map(|place| place.name).collect();
                    return Err(Error::NoNvrtc { passed_over, tried: tried.join(", ") });
                }
            }
        }
    };
    let found = Found { nvrtc: Box::leak(Box::new(nvrtc)), passed_over };
    earlier.push((device, found.clone()));
    Ok(found)
}

/// The first library in the places that works for the device, and those before it that do not.
fn first(places: &[Place], device: Option<Device>) -> (Option<Nvrtc>, Vec<Error>) {
    let (mut seen, mut passed_over) = (Vec::new(), Vec::new());
    for place in places {
        for (name, folder) in NAMES.iter().flat_map(|name| place.folders.iter().map(move |folder| (name, folder))) {
            let bare = folder.as_os_str().is_empty();
            if !bare {
                match folder.join(name).canonicalize() {
                    Ok(file) if !seen.contains(&file) => seen.push(file),
                    // Not there, or another link to the same file.
                    _ => continue,
                }
            }
            match load(&folder.join(name), device) {
                Ok(nvrtc) => return (Some(nvrtc), passed_over),
                // The loader says so if it finds no file, and it gives a library that is loaded already if there is one.
                Err(Error::Nvrtc { path, reason })
                    if bare
                        && (reason.starts_with(&format!("{name}: cannot open shared object file"))
                            || path.canonicalize().is_ok_and(|file| seen.contains(&file))) => {}
                Err(error) => passed_over.push(error),
            }
        }
    }
    (None, passed_over)
}

fn load(path: &Path, device: Option<Device>) -> Result<Nvrtc> {
    let nvrtc = Nvrtc::load(path)?;
    match device.and_then(|device| nvrtc.unsuitable(device)) {
        Some(reason) => Err(Error::Nvrtc { path: nvrtc.path, reason }),
        None => Ok(nvrtc),
    }
}

/// The library that the user named, by its file or folder.
fn named(given: &Path, device: Option<Device>) -> Result<(Nvrtc, Vec<Error>)> {
    let given = path::absolute(given).unwrap_or_else(|_| given.to_owned());
    let found = if given.is_dir() {
        let (nvrtc, passed_over) = first(&[Place { name: String::new(), folders: vec![given.clone()] }], device);
        let reasons: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
        nvrtc.map(|nvrtc| (nvrtc, passed_over)).ok_or_else(|| match reasons.as_slice() {
            [] => format!("holds none of {}", NAMES.join(", ")),
            reasons => reasons.join("; "),
        })
    } else {
        load(&given, device).map(|nvrtc| (nvrtc, Vec::new())).map_err(|error| match error {
            Error::Nvrtc { reason, .. } => reason,
            error => error.to_string(),
        })
    };
    let hint = "ALEXNET_NVRTC names it; unset that, or set it to a folder that holds libnvrtc.so.12 or .13";
    found.map_err(|reason| Error::Nvrtc { path: given, reason: format!("{reason} ({hint})") })
}

/// The folders to which [`fetch`](super::fetch) and warpcheck's tests unpack NVRTC.
pub(super) fn fetched() -> Vec<PathBuf> {
    let version = format!("nvrtc-{VERSION}");
    let own = cache::root().ok().map(|folder| folder.join(&version));
    own.into_iter().chain(dirs::cache_dir().map(|folder| folder.join("warpcheck").join(&version))).collect()
}
