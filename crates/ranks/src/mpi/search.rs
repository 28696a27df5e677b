//! Searches for MPI libraries. Nothing is run for it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::abi::{Family, Loaded};
use crate::error::{Error, Result};
use crate::launcher::Kind;

/// File names of libraries: Open MPI 4 and 5, MPICH and its kin, as Debian calls MPICH, and MPI 5's interface.
const NAMES: [&str; 4] = ["libmpi.so.40", "libmpi.so.12", "libmpich.so.12", "libmpi_abi.so.1"];

/// A library that was found and can be loaded, or cannot: the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The file; a bare name if the loader found it.
    pub path: PathBuf,
    /// Name and version, such as `Open MPI 5.0.11`, or why it cannot be used.
    pub version: Result<String, String>,
}

/// All MPI libraries in the places where a launcher's library is searched; for people who want to know.
pub fn candidates() -> Vec<Candidate> {
    let places = match variable("ALEXNET_MPI") {
        Some(given) => vec![PathBuf::from(given)],
        None => files(&places(&variable, None)),
    };
    let loaded = places.into_iter().map(|path| {
        let version = Loaded::load(&path).map(|loaded| loaded.version);
        Candidate { path, version }
    });
    // The loader has no library of this name: nobody needs to know.
    loaded.filter(|one| one.path.is_absolute() || one.version.as_ref().err().is_none_or(|e| !is_absent(e))).collect()
}

/// The `mpirun` or `mpiexec` that the shell would start.
pub fn program() -> Option<PathBuf> {
    let path = variable("PATH")?;
    let folders: Vec<PathBuf> = absolute(&path).collect();
    let named = ["mpirun", "mpiexec"].iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.into_iter().find(|file| file.is_file())
}

/// Loads the MPI library of the launcher that started this process.
///
/// If `ALEXNET_MPI` names a file or a bare name, that is taken or none. Else these places are searched, and the first library
/// of the launcher's family is taken:
/// 1. `lib` beside the launcher's own `bin`: it is an ancestor of this process,
/// 2. `OPAL_PREFIX`, `MPI_HOME`, `I_MPI_ROOT`, `VIRTUAL_ENV` and `CONDA_PREFIX`, where pip and conda install,
/// 3. `lib` beside the first `mpirun` or `mpiexec` on `PATH`,
/// 4. the loader's path.
///
/// # Errors
/// [`Error::NoMpi`] with what was passed over, and why.
pub fn find(launcher: Kind) -> Result<(PathBuf, Loaded)> {
    let family = match launcher {
        Kind::OpenMpi => Some(Family::OpenMpi),
        Kind::Hydra => Some(Family::Mpich),
        Kind::Slurm | Kind::Torchrun => None,
    };
    let load = |path: &Path| {
        let loaded = Loaded::load(path)?;
        match family {
            Some(family) if family != loaded.family => {
                Err(format!("it is {}, but {launcher} started this process", loaded.version))
            }
            _ => Ok(loaded),
        }
    };
    let mut passed_over = Vec::new();
    let named = variable("ALEXNET_MPI").map(PathBuf::from);
    let is_named = named.is_some();
    for path in named.map_or_else(|| files(&places(&variable, Some(&ancestors()))), |named| vec![named]) {
        match load(&path) {
            Ok(loaded) => return Ok((path, loaded)),
            Err(reason) if !is_named && !path.is_absolute() && is_absent(&reason) => {}
            Err(reason) => passed_over.push(format!("{}: {reason}", path.display())),
        }
    }
    let family = family.map_or("MPI", Family::name);
    let named = if is_named { " (ALEXNET_MPI names it)" } else { "" };
    let passed_over =
        if passed_over.is_empty() { String::new() } else { format!("; {}{named}", passed_over.join("; ")) };
    Err(Error::NoMpi { launcher: launcher.to_string(), family, passed_over })
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether the loader found no file of that name.
fn is_absent(reason: &str) -> bool {
    reason.contains("cannot open shared object file: No such file")
}

/// The absolute ones of a list of paths: others depend on the current folder.
fn absolute(list: &OsStr) -> impl Iterator<Item = PathBuf> {
    env::split_paths(list).filter(|path| path.is_absolute())
}

/// The programs that started this process, the nearest first; at most 8. Linux only.
fn ancestors() -> Vec<PathBuf> {
    let parent = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned())
    };
    let mut found = Vec::new();
    let mut process = String::from("self");
    while let Some(next) = parent(&process).filter(|next| next != "0" && found.len() < 8) {
        // Of another user's process it cannot be read.
        found.push(fs::read_link(format!("/proc/{next}/exe")).unwrap_or_default());
        process = next;
    }
    found
}

/// The folders to search, in their order; an empty one stands for the loader's path.
fn places(variable: &dyn Fn(&str) -> Option<OsString>, ancestors: Option<&[PathBuf]>) -> Vec<PathBuf> {
    let prefix = |program: &Path| program.parent().and_then(Path::parent).map(Path::to_owned);
    let launchers =
        ["mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "prterun", "prted", "prte", "orted", "orterun"];
    let is_launcher = |path: &&PathBuf| launchers.iter().any(|name| path.file_name() == Some(OsStr::new(name)));
    let launched = ancestors.unwrap_or_default().iter().filter(is_launcher).filter_map(|path| prefix(path));
    let names = ["OPAL_PREFIX", "MPI_HOME", "I_MPI_ROOT", "VIRTUAL_ENV", "CONDA_PREFIX"];
    let named = names.iter().filter_map(|name| variable(name)).flat_map(|value| absolute(&value).collect::<Vec<_>>());
    let path = variable("PATH").unwrap_or_default();
    let programs = ["mpirun", "mpiexec"].into_iter().filter_map(|name| {
        let program = absolute(&path).map(|folder| folder.join(name)).find(|file| file.is_file())?;
        // A link leads into the installation.
        prefix(&program.canonicalize().unwrap_or(program))
    });
    let mut folders = Vec::new();
    for prefix in launched.chain(named).chain(programs) {
        for folder in ["lib", "lib64", "lib/release"].map(|folder| prefix.join(folder)) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders.push(PathBuf::new());
    folders
}

/// The libraries in these folders, each once, and the bare names for the loader.
fn files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let (mut seen, mut files) = (Vec::new(), Vec::new());
    for (folder, name) in folders.iter().flat_map(|folder| NAMES.map(|name| (folder, name))) {
        let file = folder.join(name);
        if folder.as_os_str().is_empty() {
            files.push(file);
        } else if let Some(real) = file.canonicalize().ok().filter(|real| !seen.contains(real)) {
            seen.push(real);
            files.push(file);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launchers_own_library_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let make = |file: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        };
        for file in ["hydra/lib/libmpi.so.12", "hydra/lib/libmpi_abi.so.1", "venv/lib/libmpi.so.40", "usr/bin/mpirun"] {
            make(file);
        }
        make("usr/lib64/libmpi.so.40");
        make("home/lib64/libmpich.so.12");
        std::os::unix::fs::symlink(root.path().join("venv/lib"), root.path().join("venv/lib64")).unwrap();
        let variable = |name: &str| {
            let value = match name {
                "VIRTUAL_ENV" => "{}/venv",
                "MPI_HOME" => "{}/home",
                "CONDA_PREFIX" => "relative",
                "PATH" => ".:{}/empty:{}/usr/bin",
                _ => return None,
            };
            Some(value.replace("{}", root.path().to_str().unwrap()).into())
        };
        let ancestors = ["bash", "hydra_pmi_proxy"].map(|name| root.path().join("hydra/bin").join(name));
        let found = files(&places(&variable, Some(&ancestors)));
        let found: Vec<String> =
            found.iter().map(|file| file.strip_prefix(root.path()).unwrap_or(file).display().to_string()).collect();
        let expected = [
            "hydra/lib/libmpi.so.12",
            "hydra/lib/libmpi_abi.so.1",
            "home/lib64/libmpich.so.12",
            "venv/lib/libmpi.so.40",
            "usr/lib64/libmpi.so.40",
            "libmpi.so.40",
            "libmpi.so.12",
            "libmpich.so.12",
            "libmpi_abi.so.1",
        ];
        assert_eq!(found, expected);
        assert!(!ancestors.is_empty() && !super::ancestors().is_empty());
    }
}
