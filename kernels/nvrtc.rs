//! Finds, downloads and calls NVRTC, NVIDIA's run-time compiler.
//!
//! NVRTC needs no GPU, driver or CUDA toolkit. [`search`] says where it is searched for.
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
use std::ptr;

use crate::error::{Error, Result};
use crate::{HEADERS, Unit, library};

mod fetch;
mod search;

pub use fetch::{VERSION, fetch};
pub use search::{Device, Found, search};

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
    /// The PTX that a cubin was made from, with a terminating NUL: that of the same architecture's [`Code::Ptx`]. Empty for PTX.
    pub ptx: Vec<u8>,
    /// Warnings, and the output of ptxas that the options ask for.
    pub log: String,
}

/// Why this version of NVRTC, whose oldest architecture is `oldest`, does not work for a device.
fn unsuitable((major, minor): (i32, i32), oldest: u32, Device { sm, driver }: Device) -> Option<String> {
    let capability = |sm: u32| format!("{}.{}", sm / 10, sm % 10);
    let problem = if oldest > sm {
        format!("compiles for compute capability {} and newer, the GPU has {}", capability(oldest), capability(sm))
    } else if major > driver / 1000 {
        format!("needs a driver for CUDA {major}, this one is for {}.{}", driver / 1000, driver % 1000 / 10)
    } else {
        return None;
    };
    Some(format!("NVRTC {major}.{minor} {problem}"))
}

type Program = *mut c_void;

/// The loaded compiler.
pub struct Nvrtc {
    path: PathBuf,
    version: (i32, i32),
    /// Version and contents of its files: identifies the compiler's build in cache keys.
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
    /// Finds NVRTC for no particular device; see [`search`].
    ///
    /// # Errors
    /// As [`search`].
    pub fn find() -> Result<&'static Self> {
        search(None).map(|found| found.nvrtc)
    }

    /// Loads the library at `path`; a bare file name is searched for on the loader's path.
    ///
    /// # Errors
    /// [`Error::Nvrtc`] if it cannot be loaded, is damaged, lacks a function or the library of its built-in functions, or is
    /// older than 12.0.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Nvrtc { path: path.to_owned(), reason };
        let bare = path.parent().is_some_and(|folder| folder.as_os_str().is_empty());
        if !bare {
            library::check(path).map_err(fail)?;
        }
        let library = library::open(path).map_err(fail)?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types are those of nvrtc.h, unchanged since version 11.2.
                *unsafe { library.get($name) }.map_err(|e| fail(library::reason(&e)))?
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
        let file = if bare { library::mapped(version as usize) } else { Some(path.to_owned()) };
        let file = file.ok_or_else(|| fail("cannot tell which file was loaded".into()))?;
        // NVRTC loads this library by its bare name when it first compiles. It is loaded here by its path: the loader's path
        // could give another build, or, for some versions, the current folder.
        let name = format!("libnvrtc-builtins.so.{major}.{minor}");
        let beside = [Some(file.clone()), file.canonicalize().ok()].into_iter().flatten();
        let builtins = beside.map(|file| file.with_file_name(&name)).find(|file| file.is_file());
        let builtins = builtins.ok_or_else(|| fail(format!("{name} is not beside it")))?;
        library::check(&builtins).and_then(|()| library::open(&builtins)).map_err(|e| fail(format!("{name}: {e}")))?;
        let unreadable = |e: std::io::Error| fail(e.to_string());
        let build = library::build(&file, 4096).map_err(unreadable)?;
        let build_of_builtins = library::build(&builtins, u64::MAX).map_err(unreadable)?;
        Ok(Self {
            path: file,
            version: (major, minor),
            identity: format!("nvrtc {major}.{minor} {build} {build_of_builtins}"),
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

    /// The file it was loaded from.
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

    /// Why it does not work for a device, if so.
    fn unsuitable(&self, device: Device) -> Option<String> {
        unsuitable(self.version, self.architectures.iter().copied().min().unwrap_or(0), device)
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
        let ptx = program.get(self.ptx_size, self.ptx)?;
        let (image, ptx) = match target.code {
            Code::Cubin => (program.get(self.cubin_size, self.cubin)?, ptx),
            Code::Ptx => (ptx, Vec::new()),
        };
        Ok(Compiled { image, ptx, log })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_too_new_for_the_gpu_or_its_driver() {
        let unsuitable = |version, oldest, sm, driver| unsuitable(version, oldest, Device { sm, driver });
        assert_eq!(unsuitable((12, 9), 50, 70, 12_000), None);
        assert_eq!(unsuitable((13, 0), 75, 90, 13_010), None);
        let volta = unsuitable((13, 0), 75, 70, 13_000).unwrap();
        assert_eq!(volta, "NVRTC 13.0 compiles for compute capability 7.5 and newer, the GPU has 7.0");
        let driver = unsuitable((13, 0), 75, 90, 12_040).unwrap();
        assert_eq!(driver, "NVRTC 13.0 needs a driver for CUDA 13, this one is for 12.4");
    }
}
