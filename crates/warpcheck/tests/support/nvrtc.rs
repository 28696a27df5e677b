//! Compiles CUDA C with NVRTC, NVIDIA's run-time compiler, which pip downloads once into the user's cache folder.
//!
//! NVRTC needs no GPU and no driver. `WARPCHECK_NVRTC` names a folder that already contains `libnvrtc.so.12`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use libloading::Library;
use sha2::{Digest, Sha256};

const VERSION: &str = "12.9.86";
/// SHA-256 of the wheel for Linux on x86-64.
const SHA256: &str = "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4";
const LIBRARY: &str = "libnvrtc.so.12";

/// The folder of NVRTC's libraries, filled on first use. The error says what to do.
pub fn folder() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("WARPCHECK_NVRTC") {
        let given = PathBuf::from(given);
        return if given.join(LIBRARY).is_file() {
            Ok(given)
        } else {
            Err(format!(
                "WARPCHECK_NVRTC={} holds no {LIBRARY}: name the folder that does, or unset it",
                given.display()
            ))
        };
    }
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => return Err("neither XDG_CACHE_HOME nor HOME is set: set one, NVRTC is kept under it".into()),
    };
    let cache = cache.join("warpcheck");
    let ready = cache.join(format!("nvrtc-{VERSION}"));
    if ready.join(LIBRARY).is_file() {
        return Ok(ready);
    }
    let at = |what: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{what} {path}: {e}; NVRTC is kept there, make the folder writable")
    };
    fs::create_dir_all(&cache).map_err(at("cannot make", &cache))?;
    // One process fetches, the others wait for it; the lock goes with the file's handle.
    let lock = cache.join("nvrtc.lock");
    let lock = File::create(&lock).and_then(|f| f.lock().map(|()| f)).map_err(at("cannot lock", &lock))?;
    if ready.join(LIBRARY).is_file() {
        return Ok(ready);
    }
    let work = tempfile::tempdir_in(&cache).map_err(at("cannot make a folder in", &cache))?;
    let wheel = fetch(work.path())?;
    verify(&wheel)?;
    let unpacked = work.path().join("unpacked");
    run(
        Command::new("python3").args(["-I", "-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked),
        "unpack NVRTC's wheel",
    )?;
    // Renamed whole: a folder of that name is always complete.
    fs::rename(unpacked.join("nvidia/cuda_nvrtc/lib"), &ready).map_err(at("cannot put NVRTC at", &ready))?;
    drop(lock);
    Ok(ready)
}

fn fetch(into: &Path) -> Result<PathBuf, String> {
    let package = format!("nvidia-cuda-nvrtc-cu12=={VERSION}");
    let requirements = into.join("requirements.txt");
    fs::write(&requirements, format!("{package} --hash=sha256:{SHA256}\n"))
        .map_err(|e| format!("{}: {e}", requirements.display()))?;
    let mut pip = Command::new("python3");
    // Nothing but the interpreter, pip and this wheel: no module of the current folder, no setup.py.
    pip.args(["-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]);
    run(pip.arg("--requirement").arg(&requirements).arg("--dest").arg(into), "fetch NVRTC")?;
    let entries = fs::read_dir(into).map_err(|e| format!("{}: {e}", into.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| format!("pip download {package} left no wheel in {}", into.display()))
}

fn verify(wheel: &Path) -> Result<(), String> {
    let fault = |e: std::io::Error| format!("{}: {e}", wheel.display());
    let mut file = File::open(wheel).map_err(fault)?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk).map_err(fault)? {
            0 => break,
            n => hash.update(&chunk[..n]),
        }
    }
    let got: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if got == SHA256 {
        return Ok(());
    }
    Err(format!("{}: SHA-256 is {got}, expected {SHA256}: this is not the wheel of Linux on x86-64", wheel.display()))
}

fn run(command: &mut Command, purpose: &str) -> Result<(), String> {
    let help = format!(
        "These tests compile CUDA C with NVRTC {VERSION}. Where python3 with pip and a network are missing, run\n  \
         pip download --no-deps nvidia-cuda-nvrtc-cu12=={VERSION}\non a machine that has them, unpack the wheel (a zip \
         file) and set WARPCHECK_NVRTC to its folder nvidia/cuda_nvrtc/lib."
    );
    let output = command.output().map_err(|e| format!("cannot {purpose}: python3: {e}\n{help}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("cannot {purpose}: {}\n{}{help}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Loads the library of [`folder`], once, so that cudarc's binding uses it.
pub fn load() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        let path = folder().unwrap_or_else(|e| panic!("{e}")).join(LIBRARY);
        // cudarc looks for `libnvrtc.so` first. Cargo puts the folder of the test binaries at the front of the loader's path.
        if let Some(tests) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            // Fails where an earlier test made the link.
            let _ = std::os::unix::fs::symlink(&path, tests.join("libnvrtc.so"));
        }
        // SAFETY: NVIDIA's library, its bytes were verified. It stays loaded until the process ends, and is found by its name.
        std::mem::forget(unsafe { Library::new(&path) }.unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    });
}

/// PTX of CUDA C for `compute_<arch>`, with line information. The error is NVRTC's log.
pub fn try_compile(source: &str, arch: u32, options: &[&str]) -> Result<String, String> {
    load();
    let architecture = format!("--gpu-architecture=compute_{arch}");
    let options = [architecture.as_str(), "-lineinfo"].iter().chain(options).map(|option| option.to_string()).collect();
    let options = CompileOptions { options, name: Some("test.cu".into()), ..CompileOptions::default() };
    match compile_ptx_with_opts(source, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(CompileError::CompileError { log, .. }) => Err(log.to_string_lossy().into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// PTX of CUDA C for `compute_<arch>`, with line information.
pub fn compile(source: &str, arch: u32, options: &[&str]) -> String {
    try_compile(source, arch, options).unwrap_or_else(|log| panic!("NVRTC, compute_{arch}:\n{log}\n{source}"))
}
