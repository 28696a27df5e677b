//! Control of the driver from a test: load it, set its options, read its findings and counters.
//!
//! Only `libwarpcheck.so` is the driver. This module loads it and calls its exported `warpcheck_*` functions; it shares
//! no state with the Rust code of this crate, so a test that links the crate still has one driver.
//!
//! ```no_run
//! use warpcheck::harness::Harness;
//!
//! let warpcheck = Harness::load()?;            // before the first CUDA call
//! warpcheck.set_options("check=mem,race count=1")?;
//! // … launch kernels with any CUDA client, which finds this driver …
//! warpcheck.assert_clean("my kernel");         // panics with the findings
//! for kernel in warpcheck.counters()? {
//!     println!("{}: {} launches", kernel["name"], kernel["launches"]);
//! }
//! # Ok::<(), warpcheck::harness::HarnessError>(())
//! ```

use serde_json::Value;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why the driver cannot be loaded or controlled.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The library cannot be loaded, or is another one.
    #[error("cannot load {}: {reason}; cargo builds it beside the tests of a crate with warpcheck as a dev-dependency", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// The loader's reason.
        reason: String,
    },
    /// A function of the driver returned an error; for wrong options stderr has the reason.
    #[error("{function} returned CUDA error {code}")]
    Call {
        /// The function.
        function: &'static str,
        /// Its `CUresult`.
        code: u32,
    },
    /// The driver's JSON does not parse: the library is another version.
    #[error("{function}: {error}")]
    Json {
        /// The function.
        function: &'static str,
        /// The parser's reason.
        error: serde_json::Error,
    },
}

type SetOptions = unsafe extern "C" fn(*const c_char) -> u32;
type Reset = unsafe extern "C" fn() -> u32;
type GetCount = unsafe extern "C" fn(*mut u64) -> u32;
type Free = unsafe extern "C" fn(*mut c_char) -> u32;
type GetText = unsafe extern "C" fn(*mut *mut c_char) -> u32;

/// The driver loaded in this process. Functions wait for all submitted work first. Findings and counters belong to the
/// process, so tests that read them must not run at the same time (keep the harness in a `Mutex`).
#[derive(Debug)]
pub struct Harness {
    set_options: SetOptions,
    reset: Reset,
    findings_count: GetCount,
    findings: GetText,
    counters: GetText,
    report: GetText,
    free: Free,
}

impl Harness {
    /// Loads `libwarpcheck.so` from the folder of the running test, or the folder above it (for examples), and calls
    /// `cuInit`. Call it before the first CUDA call of the process: a client that opens `libcuda.so` afterwards gets the
    /// loaded library, whose SONAME that is. The library stays loaded.
    ///
    /// # Errors
    /// [`HarnessError::Load`] if the library is not there, [`HarnessError::Call`] if `WARPCHECK_*` variables are wrong.
    pub fn load() -> Result<Harness, HarnessError> {
        let program = std::env::current_exe().unwrap_or_default();
        let mut paths = program.ancestors().skip(1).take(2).flat_map(|folder| {
            // Cargo puts the library of a dependency into `deps`, where tests lie; examples lie beside that folder.
            ["deps/libwarpcheck.so", "libwarpcheck.so"].map(|name| folder.join(name))
        });
        let path = paths.find(|path| path.exists());
        Harness::load_from(&path.unwrap_or_else(|| program.with_file_name("libwarpcheck.so")))
    }

    /// Loads the driver from a file, as [`Harness::load`] does from its usual place.
    ///
    /// # Errors
    /// As those of [`Harness::load`].
    pub fn load_from(path: &Path) -> Result<Harness, HarnessError> {
        let error = |reason| HarnessError::Load { path: path.to_owned(), reason };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| error(e.to_string()))?;
        // SAFETY: the name ends with NUL; warpcheck's library has no initialisers.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            // SAFETY: after a failed `dlopen` this is null or a string of the loader's.
            let reason = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text)) };
            return Err(error(reason.unwrap_or(c"unknown reason").to_string_lossy().into_owned()));
        }
        let symbol = |name: &CStr| {
            // SAFETY: the library is never closed; the name ends with NUL.
            let found = unsafe { libc::dlsym(library, name.as_ptr()) };
            if found.is_null() { Err(error(format!("it has no {}", name.to_string_lossy()))) } else { Ok(found) }
        };
        // SAFETY: the types are those in `driver/control.rs`, and that of `cuInit`.
        unsafe {
            let harness = Harness {
                set_options: std::mem::transmute::<*mut c_void, SetOptions>(symbol(c"warpcheck_set_options")?),
                reset: std::mem::transmute::<*mut c_void, Reset>(symbol(c"warpcheck_reset")?),
                findings_count: std::mem::transmute::<*mut c_void, GetCount>(symbol(c"warpcheck_findings_count")?),
                findings: std::mem::transmute::<*mut c_void, GetText>(symbol(c"warpcheck_findings_json")?),
                counters: std::mem::transmute::<*mut c_void, GetText>(symbol(c"warpcheck_counters_json")?),
                report: std::mem::transmute::<*mut c_void, GetText>(symbol(c"warpcheck_report_json")?),
                free: std::mem::transmute::<*mut c_void, Free>(symbol(c"warpcheck_free")?),
            };
            let init = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(u32) -> u32>(symbol(c"cuInit")?);
            check("cuInit", init(0))?;
            Ok(harness)
        }
    }

    /// Sets options: `key=value` words, as `check=mem,race count=1 schedule=7` (README, "Options": the variables' names
    /// in lower case). `profile` and `devices` are fixed by [`Harness::load`]; set their variables before it.
    ///
    /// # Errors
    /// [`HarnessError::Call`] for a wrong word, which stderr explains; then nothing has changed.
    pub fn set_options(&self, words: &str) -> Result<(), HarnessError> {
        const FUNCTION: &str = "warpcheck_set_options";
        // 1 is CUDA_ERROR_INVALID_VALUE.
        let words = CString::new(words).map_err(|_| HarnessError::Call { function: FUNCTION, code: 1 })?;
        // SAFETY: a string that ends with NUL.
        check(FUNCTION, unsafe { (self.set_options)(words.as_ptr()) })
    }

    /// Clears findings, counters, leaks and notes.
    ///
    /// # Errors
    /// [`HarnessError::Call`] if called from a host function of a stream; so for the functions below.
    pub fn reset(&self) -> Result<(), HarnessError> {
        // SAFETY: takes nothing.
        check("warpcheck_reset", unsafe { (self.reset)() })
    }

    /// Number of findings since the last reset.
    ///
    /// # Errors
    /// As those of [`Harness::reset`].
    pub fn findings_count(&self) -> Result<u64, HarnessError> {
        let mut count = 0;
        // SAFETY: the function writes the number.
        check("warpcheck_findings_count", unsafe { (self.findings_count)(&mut count) })?;
        Ok(count)
    }

    /// The findings since the last reset, one object each: `text` is what stderr shows; the other fields are its parts
    /// (`check`, `kernel`, `file`, `line`, …).
    ///
    /// # Errors
    /// As those of [`Harness::reset`].
    pub fn findings(&self) -> Result<Vec<Value>, HarnessError> {
        self.json("warpcheck_findings_json", self.findings)
    }

    /// Totals since the last reset, one object per kernel: `name`, `launches`, modelled time, `counters` (with `count=1`).
    ///
    /// # Errors
    /// As those of [`Harness::reset`].
    pub fn counters(&self) -> Result<Vec<Value>, HarnessError> {
        self.json("warpcheck_counters_json", self.counters)
    }

    /// The whole report, as in the file of `WARPCHECK_REPORT`; its leaks are the allocations that are alive now.
    ///
    /// # Errors
    /// As those of [`Harness::reset`].
    pub fn report(&self) -> Result<Value, HarnessError> {
        self.json("warpcheck_report_json", self.report)
    }

    /// Forgets the findings, so that one failed test leaves the next one alone, and panics with `what` and their texts if
    /// there are any.
    ///
    /// # Panics
    /// If there are findings.
    #[track_caller]
    pub fn assert_clean(&self, what: &str) {
        let found = self.findings_count().and_then(|count| if count == 0 { Ok(vec![]) } else { self.findings() });
        let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
        if !found.is_empty() {
            let reset = self.reset();
            let texts: Vec<_> = found.iter().filter_map(|finding| finding["text"].as_str()).collect();
            panic!(
                "{what}: {} findings\n{}{}",
                found.len(),
                texts.join("\n"),
                reset.err().map_or(String::new(), |e| e.to_string())
            );
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, function: &'static str, get: GetText) -> Result<T, HarnessError> {
        let mut text = std::ptr::null_mut();
        // SAFETY: on success the function writes a string that ends with NUL; it is copied, then freed once.
        let json = unsafe {
            check(function, get(&mut text))?;
            let json = CStr::from_ptr(text).to_string_lossy().into_owned();
            (self.free)(text);
            json
        };
        serde_json::from_str(&json).map_err(|error| HarnessError::Json { function, error })
    }
}

fn check(function: &'static str, code: u32) -> Result<(), HarnessError> {
    if code == 0 { Ok(()) } else { Err(HarnessError::Call { function, code }) }
}
