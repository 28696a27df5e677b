//! `warpcheck install`: copies the driver into a folder, for use with `LD_LIBRARY_PATH`.

use crate::{Failure, library};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A symbol that this driver has and no other.
const OWN_SYMBOL: &[u8] = b"warpcheck_report_json";

#[derive(Debug, Args)]
pub struct Install {
    /// The folder, made if it is not there
    folder: PathBuf,
    /// Replace another driver's libcuda.so
    #[arg(long)]
    force: bool,
    /// The library to install, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

impl Install {
    pub fn execute(&self) -> Result<ExitCode, Failure> {
        let library = library::find(self.library.as_deref())?;
        std::fs::create_dir_all(&self.folder).map_err(Failure::file("make", &self.folder))?;
        let file = self.folder.join("libcuda.so");
        let link = self.folder.join("libcuda.so.1");
        if !self.force {
            for path in [&file, &link] {
                refuse_foreign(path)?;
            }
        }
        // Atomic, since a program may be loading the old one.
        let part = self.folder.join(format!("libcuda.so.{}.part", std::process::id()));
        std::fs::copy(&library, &part).map_err(Failure::file("copy the library to", &part))?;
        std::fs::rename(&part, &file).map_err(Failure::file("write", &file))?;
        let part = self.folder.join(format!("libcuda.so.1.{}.part", std::process::id()));
        std::os::unix::fs::symlink("libcuda.so", &part).map_err(Failure::file("write", &part))?;
        std::fs::rename(&part, &link).map_err(Failure::file("write", &link))?;
        let folder = self.folder.canonicalize().map_err(Failure::file("open", &self.folder))?;
        println!("{}", folder.join("libcuda.so").display());
        println!("{} -> libcuda.so", folder.join("libcuda.so.1").display());
        println!("export LD_LIBRARY_PATH={}:$LD_LIBRARY_PATH", folder.display());
        Ok(ExitCode::SUCCESS)
    }
}

fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.windows(OWN_SYMBOL.len()).any(|window| window == OWN_SYMBOL) => Ok(()),
        Ok(_) => Err(Failure::Foreign(path.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::file("read", path)(error)),
    }
}
