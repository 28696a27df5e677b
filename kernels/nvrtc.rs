//! Finds, downloads and calls NVRTC, NVIDIA's run-time compiler.
//!
//! NVRTC needs no GPU, driver or CUDA toolkit. It is searched for in
//! 1. the folder (or file) that `ALEXNET_NVRTC` names,
//! 2. the user's cache folder, where [`fetch`] puts version 12.9,
//! 3. the loader's path (`libnvrtc.so.12`, `.13`, `libnvrtc.so`) and `/usr/local/cuda/lib64`.
//!
//! cudarc's binding is not used: it loads by name only, `libnvrtc.so` before versioned names, so that a file chosen here could
//! be overruled by another installation; and it panics if there is none.
//!
//! ```no_run
//! use alexnet_kernels::UNITS;
//! use alexnet_kernels::nvrtc::{Code, Nvrtc};
//!
//! let nvrtc = Nvrtc::find()?;
//! let target = nvrtc.target(Code::Ptx, 80);
//! let compiled = nvrtc.compile(&UNITS[0], target, &Nvrtc::options(target, &["STORAGE=float".into()]))?;
//! println!("{}", String::from_utf8_lossy(&compiled.image));
//! # Ok::<(), alexnet_kernels::Error>(())
//! ```

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs, ptr};

use libloading::Library;
use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::error::{Error, Result};
use crate::{HEADERS, Unit};

/// The version that [`fetch`] downloads. CUDA 12 is the last that compiles for sm_70, and 12.9 compiles for sm_120 too.
pub const VERSION: &str = "12.9.86";
/// SHA-256 of its wheel for Linux on x86-64.
const SHA256: &str = "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4";
const LIBRARY: &str = "libnvrtc.so.12";

/// The kind of code that a kernel is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Machine code for exactly one architecture.
    Cubin,
    /// Text for a virtual machine, which the driver compiles (and warpcheck executes).
    Ptx,
}

impl Code {
    /// File name extension.
    pub const fn extension(self) -> &'static str {
        match self {
            Code::Cubin => "cubin",
            Code::Ptx => "ptx",
        }
    }
}

/// An architecture and the kind of code. Displays as NVRTC's option value, such as `sm_80` or `compute_80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Cubin or PTX.
    pub code: Code,
    /// Ten times the compute capability, such as 80.
    pub sm: u32,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Code::Cubin => write!(f, "sm_{}", self.sm),
            Code::Ptx => write!(f, "compute_{}", self.sm),
        }
    }
}

/// The result of a compilation.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The cubin, or PTX text with a terminating NUL.
    pub image: Vec<u8>,
    /// Warnings, and the output of ptxas that the options ask for.
    pub log: String,
}

/// Why this version of NVRTC, whose oldest architecture is `oldest`, does not work for a device and its driver.
fn unsuitable((major, minor): (i32, i32), oldest: u32, sm: u32, driver: i32) -> Option<String> {
    let capability = |sm: u32| format!("{}.{}", sm / 10, sm % 10);
    let problem = if oldest > sm {
        format!("compiles for compute capability {} and newer, the GPU has {}", capability(oldest), capability(sm))
    } else if major > driver / 1000 {
        format!("needs a driver for CUDA {major}, this one is for {}.{}", driver / 1000, driver % 1000 / 10)
    } else {
        return None;
    };
    Some(format!("NVRTC {major}.{minor} {problem}; use version {VERSION}"))
}

type Program = *mut c_void;

/// The loaded compiler.
pub struct Nvrtc {
    path: PathBuf,
    version: (i32, i32),
    /// Version and file size: identifies the compiler's build in cache keys.
    identity: String,
    architectures: Vec<u32>,
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
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    text: unsafe extern "C" fn(c_int) -> *const c_char,
}

impl std::fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvrtc").field("path", &self.path).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Nvrtc {
    /// Finds and loads NVRTC; later calls return the same one.
    ///
    /// # Errors
    /// [`Error::NoNvrtc`] if there is none, [`Error::Nvrtc`] if the file found cannot be used.
    pub fn find() -> Result<&'static Self> {
        static FOUND: OnceLock<Nvrtc> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let nvrtc = Self::search()?;
        Ok(FOUND.get_or_init(|| nvrtc))
    }

    fn search() -> Result<Self> {
        if let Some(given) = env::var_os("ALEXNET_NVRTC") {
            let given = PathBuf::from(given);
            let path = if given.is_dir() { given.join(LIBRARY) } else { given };
            return Self::load(&path).map_err(|error| match error {
                Error::Nvrtc { path, reason } => {
                    let hint = format!("ALEXNET_NVRTC names it; unset that, or set it to the folder of {LIBRARY}");
                    Error::Nvrtc { path, reason: format!("{reason} ({hint})") }
                }
                error => error,
            });
        }
        let mut tried = Vec::new();
        for folder in folders() {
            let path = folder.join(LIBRARY);
            if path.is_file() {
                return Self::load(&path);
            }
            tried.push(path.display().to_string());
        }
        for name in ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so"] {
            if let Ok(nvrtc) = Self::load(Path::new(name)) {
                return Ok(nvrtc);
            }
            tried.push(name.to_owned());
        }
        Err(Error::NoNvrtc { tried: tried.join(", ") })
    }

    /// Loads the library at `path`; a bare file name is searched for on the loader's path.
    ///
    /// # Errors
    /// [`Error::Nvrtc`] if it cannot be loaded, lacks a function, or is older than 12.0.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Nvrtc { path: path.to_owned(), reason };
        // SAFETY: runs the initialisers of NVIDIA's library, or of the file that the user named.
        let library = unsafe { Library::new(path) }.map_err(|e| fail(e.to_string()))?;
        // Never unloaded: the function pointers below have no lifetime.
        let library: &'static Library = Box::leak(Box::new(library));
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types are those of nvrtc.h, unchanged since version 11.2.
                *unsafe { library.get($name) }.map_err(|e| fail(e.to_string()))?
            };
        }
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int = function!(b"nvrtcVersion");
        let count: unsafe extern "C" fn(*mut c_int) -> c_int = function!(b"nvrtcGetNumSupportedArchs");
        let list: unsafe extern "C" fn(*mut c_int) -> c_int = function!(b"nvrtcGetSupportedArchs");
        let (mut major, mut minor, mut n) = (0, 0, 0);
        // SAFETY: both calls write the integers they are given.
        let status = unsafe { version(&mut major, &mut minor) | count(&mut n) };
        if status != 0 || major < 12 || !(1..1000).contains(&n) {
            return Err(fail(format!("NVRTC {major}.{minor} cannot be used, at least 12.0 is needed")));
        }
        let mut architectures: Vec<c_int> = vec![0; n as usize];
        // SAFETY: the array has the length that the library asked for.
        if unsafe { list(architectures.as_mut_ptr()) } != 0 {
            return Err(fail("nvrtcGetSupportedArchs failed".into()));
        }
        let bytes = fs::metadata(path).map(|file| file.len()).unwrap_or(0);
        Ok(Self {
            path: path.to_owned(),
            version: (major, minor),
            identity: format!("nvrtc {major}.{minor} {bytes}"),
            architectures: architectures.into_iter().map(|sm| sm as u32).collect(),
            create: function!(b"nvrtcCreateProgram"),
            compile: function!(b"nvrtcCompileProgram"),
            log_size: function!(b"nvrtcGetProgramLogSize"),
            log: function!(b"nvrtcGetProgramLog"),
            ptx_size: function!(b"nvrtcGetPTXSize"),
            ptx: function!(b"nvrtcGetPTX"),
            cubin_size: function!(b"nvrtcGetCUBINSize"),
            cubin: function!(b"nvrtcGetCUBIN"),
            destroy: function!(b"nvrtcDestroyProgram"),
            text: function!(b"nvrtcGetErrorString"),
        })
    }

    /// The file it was loaded from, or its name on the loader's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Major and minor version.
    pub const fn version(&self) -> (i32, i32) {
        self.version
    }
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }
    /// The architectures it compiles for, ascending; ten times the compute capability.
    pub fn architectures(&self) -> &[u32] {
        &self.architectures
    }

    /// Checks that a driver of version `driver` (from `cuDriverGetVersion`, 12.4 is 12040) can load what this compiler produces
    /// for a device of compute capability `sm`/10.
    ///
    /// # Errors
    /// [`Error::Nvrtc`] with the reason.
    pub fn suits(&self, sm: u32, driver: i32) -> Result<()> {
        let oldest = self.architectures.iter().copied().min().unwrap_or(0);
        match unsuitable(self.version, oldest, sm, driver) {
            Some(reason) => Err(Error::Nvrtc { path: self.path.clone(), reason }),
            None => Ok(()),
        }
    }

    /// The target for a device: its own architecture, or PTX for the newest older architecture if NVRTC does not know it.
    pub fn target(&self, code: Code, sm: u32) -> Target {
        if self.architectures.contains(&sm) {
            return Target { code, sm };
        }
        let sm = self.architectures.iter().copied().filter(|&known| known < sm).max();
        Target { code: Code::Ptx, sm: sm.unwrap_or(self.architectures[0]) }
    }

    /// The compiler options for a target, with a `-D` option per define (`NAME=VALUE`).
    pub fn options(target: Target, defines: &[String]) -> Vec<String> {
        let mut options = vec![
            format!("--gpu-architecture={target}"),
            "--std=c++17".into(),
            "-lineinfo".into(),
            "-default-device".into(),
        ];
        options.extend(defines.iter().map(|define| format!("-D{define}")));
        options
    }

    /// Compiles `unit`, which may include the headers of this crate.
    ///
    /// # Errors
    /// [`Error::Compile`] with NVRTC's log if the source has errors; [`Error::Nvrtc`] if NVRTC fails.
    pub fn compile(&self, unit: &Unit, target: Target, options: &[String]) -> Result<Compiled> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| Error::Argument {
                operator: "compile",
                argument: "text",
                reason: "contains a NUL".into(),
            })
        };
        let (source, name) = (text(unit.source)?, text(&format!("kernels/{}.cu", unit.name))?);
        let headers = HEADERS.map(|(name, contents)| Ok((text(name)?, text(contents)?)));
        let headers = headers.into_iter().collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
        let contents: Vec<_> = headers.iter().map(|(_, contents)| contents.as_ptr()).collect();
        let options: Vec<CString> = options.iter().map(|option| text(option)).collect::<Result<_>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = Handle { nvrtc: self, program: ptr::null_mut() };
        // SAFETY: all strings end with NUL and outlive the calls.
        let status = unsafe {
            (self.create)(
                &mut program.program,
                source.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                contents.as_ptr(),
                names.as_ptr(),
            )
        };
        if status != 0 {
            return Err(Error::Nvrtc { path: self.path.clone(), reason: self.message(status) });
        }
        // SAFETY: the program was made above; the options outlive the call.
        let status = unsafe { (self.compile)(program.program, options.len() as c_int, options.as_ptr()) };
        let log = program.get(self.log_size, self.log)?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
        if status != 0 {
            let log = if log.is_empty() { self.message(status) } else { log };
            return Err(Error::Compile { unit: unit.name.into(), target: target.to_string(), log });
        }
        let image = match target.code {
            Code::Cubin => program.get(self.cubin_size, self.cubin)?,
            Code::Ptx => program.get(self.ptx_size, self.ptx)?,
        };
        Ok(Compiled { image, log })
    }

    fn message(&self, status: c_int) -> String {
        // SAFETY: the function returns a static string for any number.
        unsafe { CStr::from_ptr((self.text)(status)) }.to_string_lossy().into_owned()
    }
}

struct Handle<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Handle<'_> {
    fn get(
        &self,
        size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
        get: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ) -> Result<Vec<u8>> {
        let mut bytes = 0;
        // SAFETY: the program is alive; the buffer has the size that NVRTC reports.
        let (status, data) = unsafe {
            let status = size(self.program, &mut bytes);
            let mut data = vec![0u8; bytes];
            (status | get(self.program, data.as_mut_ptr().cast()), data)
        };
        match status {
            0 => Ok(data),
            _ => Err(Error::Nvrtc { path: self.nvrtc.path.clone(), reason: self.nvrtc.message(status) }),
        }
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by nvrtcCreateProgram and destroyed once.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}

/// The folder for files that can be regenerated: `ALEXNET_CACHE`, or `alexnet` in the user's cache folder.
///
/// # Errors
/// [`Error::Cache`] if there is neither.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("ALEXNET_CACHE") {
        return Ok(folder.into());
    }
    dirs::cache_dir().map(|folder| folder.join("alexnet")).ok_or_else(|| Error::Cache {
        path: "~/.cache".into(),
        reason: "no cache folder: set HOME, XDG_CACHE_HOME or ALEXNET_CACHE".into(),
    })
}

/// The folders to which [`fetch`] and warpcheck's tests unpack NVRTC.
fn folders() -> Vec<PathBuf> {
    let version = format!("nvrtc-{VERSION}");
    let own = cache_folder().ok().map(|folder| folder.join(&version));
    own.into_iter().chain(dirs::cache_dir().map(|folder| folder.join("warpcheck").join(&version))).collect()
}

/// Downloads NVRTC with pip into the cache folder unless it is there; returns its folder. Linux on x86-64 only.
///
/// # Errors
/// [`Error::Fetch`] without python3, pip or network, or if the wheel has another checksum; [`Error::Cache`] if the folder cannot
/// be written.
pub fn fetch() -> Result<PathBuf> {
    if let Some(ready) = folders().into_iter().find(|folder| folder.join(LIBRARY).is_file()) {
        return Ok(ready);
    }
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).map_err(Error::cache(&cache))?;
    // One process downloads, the others wait; the lock is released with the file's handle.
    let lock = fs::File::create(cache.join("nvrtc.lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(Error::cache(&cache))?;
    let ready = cache.join(format!("nvrtc-{VERSION}"));
    if ready.join(LIBRARY).is_file() {
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
    // Renamed when complete, so a folder of that name is never partial.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_too_new_for_the_gpu_or_its_driver() {
        assert_eq!(unsuitable((12, 9), 50, 70, 12_000), None);
        assert_eq!(unsuitable((13, 0), 75, 90, 13_010), None);
        let volta = unsuitable((13, 0), 75, 70, 13_000).unwrap();
        assert!(volta.starts_with("NVRTC 13.0 compiles for compute capability 7.5 and newer, the GPU has 7.0; "));
        assert!(volta.ends_with("; use version 12.9.86"), "{volta}");
        let driver = unsuitable((13, 0), 75, 90, 12_040).unwrap();
        assert!(driver.starts_with("NVRTC 13.0 needs a driver for CUDA 13, this one is for 12.4; "), "{driver}");
    }
}
