//! Where libraries of NVIDIA are installed.
//!
//! Nothing is run to find them, Python included: to ask an interpreter for its folders would run what lies in them (`.pth` files,
//! `sitecustomize`) at every start, whereas the layout of an installation is fixed. Folders that are relative, and so depend
//! on the current one, are left out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, fs, iter};

/// Where a CUDA toolkit has its libraries.
const TOOLKIT: [&str; 3] =
    ["lib64", "lib", if cfg!(target_arch = "aarch64") { "targets/sbsa-linux/lib" } else { "targets/x86_64-linux/lib" }];

/// Folders that belong together; an empty one stands for the loader's path.
#[derive(Debug)]
pub(crate) struct Place {
    /// What error messages call it.
    pub name: String,
    pub folders: Vec<PathBuf>,
}

impl Place {
    /// One folder.
    pub fn folder(folder: PathBuf) -> Self {
        Self { name: folder.display().to_string(), folders: vec![folder] }
    }
}

/// An environment variable that is not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Where to search, in this order: the folders that variables name, Python's packages, CUDA's toolkits, the loader's path.
/// `packages` are folders in `site-packages`.
pub(crate) fn installed(packages: &[&str]) -> Vec<Place> {
    places(&variable, Path::new("/usr/local"), packages)
}

/// The same for other variables; `local` is `/usr/local`.
fn places(variable: &dyn Fn(&str) -> Option<OsString>, local: &Path, names: &[&str]) -> Vec<Place> {
    let variables = ["CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "VIRTUAL_ENV"].into_iter().filter_map(|name| {
        let prefix = absolute(&variable(name)?).next()?;
        let name = format!("{name}={}", prefix.display());
        Some(Place { name, folders: [toolkit(&prefix), packages(&prefix, names)].concat() })
    });
    let python =
        variable("PATH").and_then(|path| interpreter(&path, variable("HOME").map(PathBuf::from), local, names));
    let toolkits = Place {
        name: format!("{}/cuda*", local.display()),
        folders: newest_first(local, "cuda").iter().flat_map(|prefix| toolkit(prefix)).collect(),
    };
    // Named, because the loader does not search for the second of two libraries of the same name.
    let libraries = variable("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = absolute(&libraries).chain(iter::once(PathBuf::new())).collect();
    let loader = Place { name: "the loader's path".into(), folders };
    variables.chain(python).chain([toolkits, loader]).collect()
}

/// The packages of the first `python3` on the path.
fn interpreter(path: &OsStr, home: Option<PathBuf>, local: &Path, names: &[&str]) -> Option<Place> {
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
    let folders = prefixes.iter().flat_map(|prefix| packages(prefix, names)).collect();
    Some(Place { name: format!("the packages of {}", python.display()), folders })
}

/// The absolute ones of a list of paths.
fn absolute(list: &OsStr) -> impl Iterator<Item = PathBuf> {
    env::split_paths(list).filter(|path| path.is_absolute())
}

fn toolkit(prefix: &Path) -> Vec<PathBuf> {
    TOOLKIT.iter().map(|folder| prefix.join(folder)).collect()
}

fn packages(prefix: &Path, names: &[&str]) -> Vec<PathBuf> {
    let versions = ["lib", "lib64"].into_iter().flat_map(|library| newest_first(&prefix.join(library), "python3"));
    let sites = versions.flat_map(|version| ["site-packages", "dist-packages"].map(|site| version.join(site)));
    sites.flat_map(|site| names.iter().map(move |package| site.join(package))).collect()
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

    /// The folders of all places, below `root`.
    fn searched(root: &Path, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(value.replace("{}", root.to_str().expect("UTF-8")).into())
        };
        let places = places(&variable, &root.join("local"), &["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"]);
        let folders = places.iter().flat_map(|place| &place.folders);
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
