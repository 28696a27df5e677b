//! Searches for NVRTC.
//!
//! Nothing is run for it, Python included: to ask an interpreter for its folders would run what lies in them (`.pth` files,
//! `sitecustomize`) at every start, whereas the layout of an installation is fixed. Folders that are relative, and so depend
//! on the current one, are left out.

use std::ffi::{OsStr, OsString};
use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, iter};

use super::{Nvrtc, VERSION};
use crate::cache;
use crate::error::{Error, Result};

/// File names of NVRTC, the newest version first. Only development packages have the last one.
const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
/// Where a CUDA toolkit has its libraries.
const TOOLKIT: [&str; 3] =
    ["lib64", "lib", if cfg!(target_arch = "aarch64") { "targets/sbsa-linux/lib" } else { "targets/x86_64-linux/lib" }];
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
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let (nvrtc, passed_over) = match variable("ALEXNET_NVRTC") {
        Some(given) => named(Path::new(&given), device)?,
        None => {
            let places = places(&variable, Path::new("/usr/local"));
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

/// Folders that belong together; an empty one stands for the loader's path.
#[derive(Debug)]
struct Place {
    /// What error messages call it.
    name: String,
    folders: Vec<PathBuf>,
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

/// Where to search, in this order. `local` is `/usr/local`.
fn places(variable: &dyn Fn(&str) -> Option<OsString>, local: &Path) -> Vec<Place> {
    let fetched =
        fetched().into_iter().map(|folder| Place { name: folder.display().to_string(), folders: vec![folder] });
    let variables = ["CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "VIRTUAL_ENV"].into_iter().filter_map(|name| {
        let prefix = absolute(&variable(name)?).next()?;
        let name = format!("{name}={}", prefix.display());
        Some(Place { name, folders: [toolkit(&prefix), packages(&prefix)].concat() })
    });
    let python = variable("PATH").and_then(|path| interpreter(&path, variable("HOME").map(PathBuf::from), local));
    let toolkits = Place {
        name: format!("{}/cuda*", local.display()),
        folders: newest_first(local, "cuda").iter().flat_map(|prefix| toolkit(prefix)).collect(),
    };
    // Named, because the loader does not search for the second of two libraries of the same name.
    let libraries = variable("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = absolute(&libraries).chain(iter::once(PathBuf::new())).collect();
    let loader = Place { name: "the loader's path".into(), folders };
    fetched.chain(variables).chain(python).chain([toolkits, loader]).collect()
}

/// The packages of the first `python3` on the path.
fn interpreter(path: &OsStr, home: Option<PathBuf>, local: &Path) -> Option<Place> {
    let python = absolute(path).map(|folder| folder.join("python3")).find(|file| file.is_file())?;
    let prefix = |file: &Path| file.parent().and_then(Path::parent).map(Path::to_owned);
    let mut prefixes: Vec<PathBuf> = prefix(&python).into_iter().collect();
    if python.parent().is_some_and(|folder| folder.ends_with("shims")) {
        // pyenv's python3 is a script that starts one of these.
        prefixes.extend(prefixes.first().map(|root| newest_first(&root.join("versions"), "")).unwrap_or_default());
    }
    // A link into the interpreter's own folder; below, where pip installs without the right to write there.
    prefixes.extend(python.canonicalize().ok().as_deref().and_then(prefix));
    prefixes.extend(home.map(|home| home.join(".local")).into_iter().chain([local.to_owned()]));
    let folders = prefixes.iter().flat_map(|prefix| packages(prefix)).collect();
    Some(Place { name: format!("the packages of {}", python.display()), folders })
}

/// The absolute ones of a list of paths.
fn absolute(list: &OsStr) -> impl Iterator<Item = PathBuf> {
    env::split_paths(list).filter(|path| path.is_absolute())
}

fn toolkit(prefix: &Path) -> Vec<PathBuf> {
    TOOLKIT.iter().map(|folder| prefix.join(folder)).collect()
}

fn packages(prefix: &Path) -> Vec<PathBuf> {
    let versions = ["lib", "lib64"].into_iter().flat_map(|library| newest_first(&prefix.join(library), "python3"));
    let sites = versions.flat_map(|version| ["site-packages", "dist-packages"].map(|site| version.join(site)));
    sites.flat_map(|site| PACKAGES.map(|package| site.join(package))).collect()
}

/// The entries of a folder whose names start with `prefix`: the one without a version, then the others, the newest first.
fn newest_first(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(bool, Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            let numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
            Some((version.is_empty(), numbers.collect(), entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, _, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folders of all places but the cache, below `root`.
    fn searched(root: &Path, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(value.replace("{}", root.to_str().expect("UTF-8")).into())
        };
        let places = places(&variable, &root.join("local"));
        let folders = places.iter().skip(fetched().len()).flat_map(|place| &place.folders);
        folders.map(|folder| folder.strip_prefix(root).unwrap_or(folder).display().to_string()).collect()
    }

    #[test]
    fn places_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let make = |folder: &str| fs::create_dir_all(root.path().join(folder)).unwrap();
        assert_eq!(searched(root.path(), &[]), [""], "the loader's path alone");
        // The link first, then the newest.
        for version in ["cuda-12.4", "cuda", "cuda-9.2", "cuda-13.0", "lib"] {
            make(&format!("local/{version}"));
        }
        let toolkits = searched(root.path(), &[]);
        assert_eq!(toolkits[0], "local/cuda/lib64");
        let versions: Vec<&str> = toolkits.iter().filter_map(|folder| folder.strip_suffix("/lib64")).collect();
        assert_eq!(versions, ["local/cuda", "local/cuda-13.0", "local/cuda-12.4", "local/cuda-9.2"]);
        assert_eq!(toolkits.len(), 4 * 3 + 1);

        make("venv/lib/python3.9/site-packages");
        make("venv/lib/python3.12/site-packages");
        let found = searched(
            root.path(),
            &[
                ("VIRTUAL_ENV", "{}/venv"),
                ("CONDA_PREFIX", "{}/conda"),
                ("CUDA_PATH", "{}/path"),
                ("CUDA_HOME", "{}/home"),
                ("LD_LIBRARY_PATH", "relative::{}/libraries"),
            ],
        );
        let expected = [
            "home/lib64",
            "path/lib64",
            "conda/lib64",
            "venv/lib64",
            "venv/lib/python3.12/site-packages/nvidia/cu13/lib",
            "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib",
            "venv/lib/python3.9/site-packages/nvidia/cu13/lib",
            "local/cuda/lib64",
            "libraries",
            "",
        ];
        let places: Vec<_> = expected.iter().map(|folder| found.iter().position(|found| found == folder)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {found:?}");
        // Relative folders depend on where the program is started.
        let relative = [("CUDA_HOME", "home"), ("VIRTUAL_ENV", "."), ("PATH", ".:bin"), ("LD_LIBRARY_PATH", "lib:")];
        assert_eq!(searched(root.path(), &relative), toolkits);
    }
}
