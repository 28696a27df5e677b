//! NVRTC, NVIDIA's run-time compiler: found in the user's cache folder, else fetched by pip, once.
//!
//! It needs no GPU and no driver. `WARPCHECK_NVRTC` may name a folder that has `libnvrtc.so.12` already.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::OnceLock;

use libloading::Library;
use sha2::{Digest, Sha256};

const VERSION: &str = "12.9.86";
/// Of the wheel for Linux on x86-64.
const SHA256: &str = "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4";
const LIBRARY: &str = "libnvrtc.so.12";

/// The folder that holds NVRTC's libraries, made on first use. The error says what to do.
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
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked), "unpack NVRTC's wheel")?;
    // Renamed whole: a folder of that name is always complete.
    fs::rename(unpacked.join("nvidia/cuda_nvrtc/lib"), &ready).map_err(at("cannot put NVRTC at", &ready))?;
    drop(lock);
    Ok(ready)
}

fn fetch(into: &Path) -> Result<PathBuf, String> {
    let package = format!("nvidia-cuda-nvrtc-cu12=={VERSION}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--quiet", "--dest"]).arg(into).arg(&package);
    run(&mut pip, "fetch NVRTC")?;
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

type Program = *mut std::ffi::c_void;

/// The functions of NVRTC that a compilation takes.
struct Nvrtc {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
}

fn nvrtc() -> &'static Nvrtc {
    static NVRTC: OnceLock<Nvrtc> = OnceLock::new();
    NVRTC.get_or_init(|| {
        let path = folder().unwrap_or_else(|e| panic!("{e}")).join(LIBRARY);
        // SAFETY: the library's initialisers are NVIDIA's, its bytes were verified; the types of the functions are those
        // of nvrtc.h. It stays loaded until the process ends.
        unsafe {
            let library = Library::new(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let library: &'static Library = Box::leak(Box::new(library));
            macro_rules! function {
                ($name:literal) => {
                    *library.get($name).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
                };
            }
            Nvrtc {
                create: function!(b"nvrtcCreateProgram"),
                compile: function!(b"nvrtcCompileProgram"),
                log_size: function!(b"nvrtcGetProgramLogSize"),
                log: function!(b"nvrtcGetProgramLog"),
                ptx_size: function!(b"nvrtcGetPTXSize"),
                ptx: function!(b"nvrtcGetPTX"),
                destroy: function!(b"nvrtcDestroyProgram"),
            }
        }
    })
}

/// PTX of CUDA C for `compute_<arch>`, with line information. The error is NVRTC's log.
pub fn try_compile(source: &str, arch: u32, options: &[&str]) -> Result<String, String> {
    let nvrtc = nvrtc();
    let source = CString::new(source).map_err(|e| e.to_string())?;
    let options: Vec<CString> = [format!("--gpu-architecture=compute_{arch}"), "-lineinfo".into()]
        .into_iter()
        .chain(options.iter().map(|o| o.to_string()))
        .map(|o| CString::new(o).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
    let mut program: Program = ptr::null_mut();
    // SAFETY: all strings end with NUL and outlive the calls; buffers have the size that NVRTC asked for.
    unsafe {
        let created = (nvrtc.create)(&mut program, source.as_ptr(), c"test.cu".as_ptr(), 0, ptr::null(), ptr::null());
        if created != 0 {
            return Err(format!("nvrtcCreateProgram: {created}"));
        }
        let compiled = (nvrtc.compile)(program, options.len() as c_int, options.as_ptr());
        let (size, get) = if compiled == 0 { (nvrtc.ptx_size, nvrtc.ptx) } else { (nvrtc.log_size, nvrtc.log) };
        let mut bytes = 0;
        size(program, &mut bytes);
        let mut text = vec![0u8; bytes.max(1)];
        get(program, text.as_mut_ptr().cast());
        (nvrtc.destroy)(&mut program);
        let text = CStr::from_bytes_until_nul(&text).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
        if compiled == 0 { Ok(text) } else { Err(text) }
    }
}

/// PTX of CUDA C for `compute_<arch>`, with line information.
pub fn compile(source: &str, arch: u32, options: &[&str]) -> String {
    try_compile(source, arch, options).unwrap_or_else(|log| panic!("NVRTC, compute_{arch}:\n{log}\n{source}"))
}
