//! Finds and calls NCCL, NVIDIA's library for communication between GPUs.
//!
//! It is loaded at run time, as [`nvrtc`](crate::nvrtc) is: [`search`] says from where. Only functions that move bytes are used,
//! see [`Peers`](crate::Peers).
//!
//! cudarc's binding is not used: it never looks for `libnccl.so.2`, the only name in NVIDIA's packages, panics if it finds none, and
//! has no errors of communicators, so that a rank that has died would be waited for without end.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use cudarc::driver::{CudaContext, CudaStream};
use libloading::Library;

use crate::error::{Error, Result};
use crate::places::{self, Place};
use crate::{library, lock};

/// Its file name. Only development packages have the one without a version.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// Where NVIDIA's Python packages have it, PyTorch's among them.
const PACKAGES: [&str; 1] = ["nvidia/nccl/lib"];
/// Oldest version that is used: the first for CUDA 12.
const OLDEST: i32 = 21_602;

/// Names a communicator to its ranks.
pub type UniqueId = [u8; 128];

#[repr(C)]
#[derive(Clone, Copy)]
struct Id(UniqueId);

type Comm = *mut c_void;
type Stream = *mut c_void;

/// `ncclUint8`.
const BYTES: c_int = 1;
/// `ncclInProgress`.
const IN_PROGRESS: c_int = 7;

/// The loaded library.
pub struct Nccl {
    path: PathBuf,
    version: c_int,
    text: unsafe extern "C" fn(c_int) -> *const c_char,
    unique_id: unsafe extern "C" fn(*mut Id) -> c_int,
    init: unsafe extern "C" fn(*mut Comm, c_int, Id, c_int) -> c_int,
    async_error: unsafe extern "C" fn(Comm, *mut c_int) -> c_int,
    abort: unsafe extern "C" fn(Comm) -> c_int,
    destroy: unsafe extern "C" fn(Comm) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Comm, Stream) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int,
    all_gather: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Comm, Stream) -> c_int,
}

impl std::fmt::Debug for Nccl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nccl").field("path", &self.path).field("version", &self.version).finish_non_exhaustive()
    }
}

/// Finds and loads NCCL. Later calls return the same result.
///
/// If the environment variable `ALEXNET_NCCL` names a file or folder, it is taken from there or not at all; with `off` there is none. Else the first
/// `libnccl.so.2` that can be used in the places where [`nvrtc::search`](crate::nvrtc::search) looks: the folders that
/// `CUDA_HOME`, `CUDA_PATH`, `CONDA_PREFIX` and `VIRTUAL_ENV` name, Python packages (`site-packages/nvidia/nccl/lib`: PyTorch's),
/// `/usr/local/cuda*`, the loader's path.
///
/// # Errors
/// [`Error::NoNccl`] if there is none that can be used, [`Error::Nccl`] if `ALEXNET_NCCL` names none.
pub fn search() -> Result<Option<&'static Nccl>> {
    static FOUND: OnceLock<Result<Option<&'static Nccl>>> = OnceLock::new();
    FOUND
        .get_or_init(|| match places::variable("ALEXNET_NCCL") {
            Some(given) if given == "off" => Ok(None),
            Some(given) => named(Path::new(&given)).map(Some),
            None => first(&places::installed(&PACKAGES)).map(Some),
        })
        .clone()
}

/// The library that the user named, by its file or folder.
fn named(given: &Path) -> Result<&'static Nccl> {
    let given = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
    let found = if given.is_dir() {
        first(&[Place::folder(given.clone())]).map_err(|error| match error {
            Error::NoNccl { passed_over, .. } if passed_over.is_empty() => format!("holds no {}", NAMES[0]),
            Error::NoNccl { passed_over, .. } => {
                passed_over.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            error => error.to_string(),
        })
    } else {
        Nccl::load(&given).map_err(|error| match error {
            Error::Nccl { reason, .. } => reason,
            error => error.to_string(),
        })
    };
    let hint = "ALEXNET_NCCL names it; unset that, or set it to a folder that holds libnccl.so.2";
    found.map_err(|reason| Error::Nccl { path: given, reason: format!("{reason} ({hint})") })
}

/// The first one in the places that can be used.
fn first(places: &[Place]) -> Result<&'static Nccl> {
    let mut passed_over = Vec::new();
    for (name, folder) in places
        .iter()
        .flat_map(|place| NAMES.iter().flat_map(|name| place.folders.iter().map(move |folder| (name, folder))))
    {
        let (file, bare) = (folder.join(name), folder.as_os_str().is_empty());
        if !bare && !file.exists() {
            continue;
        }
        match Nccl::load(&file) {
            Ok(nccl) => return Ok(nccl),
            // The loader says so if it finds no file.
            Err(Error::Nccl { reason, .. }) if bare && reason.starts_with(&format!("{name}: cannot open shared")) => {}
            Err(error) => passed_over.push(error),
        }
    }
    let tried: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
    Err(Error::NoNccl { passed_over, tried: tried.join(", ") })
}

impl Nccl {
    /// Loads the library at `path`, for good; a bare file name is searched for on the loader's path.
    ///
    /// # Errors
    /// [`Error::Nccl`] if it cannot be loaded, is damaged, lacks a function, or is older than 2.16.2.
    pub fn load(path: &Path) -> Result<&'static Self> {
        let fail = |reason: String| Error::Nccl { path: path.to_owned(), reason };
        if path.parent().is_none_or(|folder| !folder.as_os_str().is_empty()) {
            library::check(path).map_err(fail)?;
        }
        let library: &'static Library = library::open(path).map_err(fail)?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the types are those of nccl.h, where these functions have not changed since they exist.
                *unsafe { library.get($name) }.map_err(|e| fail(library::reason(&e)))?
            };
        }
        let get_version: unsafe extern "C" fn(*mut c_int) -> c_int = function!(b"ncclGetVersion");
        let mut version = 0;
        // SAFETY: writes the integer.
        if unsafe { get_version(&mut version) } != 0 || version < OLDEST {
            return Err(fail(format!(
                "NCCL {} cannot be used, at least {} is needed",
                dotted(version),
                dotted(OLDEST)
            )));
        }
        let path = match path.is_absolute() {
            true => path.to_owned(),
            false => library::mapped(get_version as usize).unwrap_or_else(|| path.to_owned()),
        };
        Ok(Box::leak(Box::new(Self {
            path,
            version,
            text: function!(b"ncclGetErrorString"),
            unique_id: function!(b"ncclGetUniqueId"),
            init: function!(b"ncclCommInitRank"),
            async_error: function!(b"ncclCommGetAsyncError"),
            abort: function!(b"ncclCommAbort"),
            destroy: function!(b"ncclCommDestroy"),
            group_start: function!(b"ncclGroupStart"),
            group_end: function!(b"ncclGroupEnd"),
            send: function!(b"ncclSend"),
            receive: function!(b"ncclRecv"),
            all_gather: function!(b"ncclAllGather"),
        })))
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Its version, such as 22803 for 2.28.3.
    pub const fn code(&self) -> i32 {
        self.version
    }
    /// Its version, such as `2.28.3`.
    pub fn version(&self) -> String {
        dotted(self.version)
    }

    /// A name for a new communicator. One rank makes it, for all.
    ///
    /// # Errors
    /// [`Error::Communication`].
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut id = Id([0; 128]);
        // SAFETY: writes the 128 bytes.
        self.check("ncclGetUniqueId", unsafe { (self.unique_id)(&mut id) })?;
        Ok(id.0)
    }

    fn check(&self, call: &'static str, status: c_int) -> Result<()> {
        if status == 0 { Ok(()) } else { Err(self.error(call, status)) }
    }
    fn error(&self, call: &'static str, status: c_int) -> Error {
        // SAFETY: the function returns a static string for any number.
        let text = unsafe { (self.text)(status).as_ref().map(|text| CStr::from_ptr(text)) };
        let text = text.map_or_else(|| format!("error {status}"), |text| text.to_string_lossy().into_owned());
        let message = format!("{text} (NCCL_DEBUG=WARN says more)");
        Error::Communication { engine: format!("NCCL {}", self.version()), call, message }
    }
}

/// 2.28.3 of 22803.
pub(crate) fn dotted(version: c_int) -> String {
    // Until 2.8 a version had three digits less between.
    let major = if version < 10_000 { 1000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

/// The ranks' connection. Every rank makes the same calls in the same order.
pub(crate) struct Communicator {
    nccl: &'static Nccl,
    comm: Comm,
    context: Arc<CudaContext>,
    /// Held within calls that enqueue, so that an abort does not free what they use.
    calls: Mutex<()>,
    ended: AtomicBool,
}

// SAFETY: a communicator may be used by any thread, one at a time but for `ncclCommGetAsyncError` and `ncclCommAbort`.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Communicator").field("nccl", self.nccl).finish_non_exhaustive()
    }
}

/// How long an abort waits for a call of another thread, and a regular end for the other ranks.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

impl Communicator {
    /// Connects this rank with the others, which do the same.
    ///
    /// # Errors
    /// [`Error::Communication`], also if the others do not come within the timeout.
    pub fn new(
        nccl: &'static Nccl,
        context: &Arc<CudaContext>,
        id: UniqueId,
        rank: usize,
        size: usize,
        timeout: Duration,
    ) -> Result<Self> {
        const CALL: &str = "ncclCommInitRank";
        let fail =
            |message: String| Error::Communication { engine: format!("NCCL {}", nccl.version()), call: CALL, message };
        let (sender, receiver) = channel();
        let own = context.clone();
        // On a thread of its own, which is left behind if the call does not return: it has no deadline.
        let connect = move || {
            let bound = own.bind_to_thread().map_err(|error| Error::driver("cuCtxSetCurrent", error));
            let made = bound.and_then(|()| {
                let mut comm = ptr::null_mut();
                // SAFETY: writes the handle; the GPU's context is current.
                nccl.check(CALL, unsafe { (nccl.init)(&mut comm, size as c_int, Id(id), rank as c_int) })?;
                Ok(comm as usize)
            });
            // Without a receiver nobody waits any more.
            let _ = sender.send(made);
        };
        thread::Builder::new().name("nccl".into()).spawn(connect).map_err(|e| fail(e.to_string()))?;
        let comm = receiver.recv_timeout(timeout).unwrap_or_else(|error| {
            Err(fail(match error {
                RecvTimeoutError::Timeout => {
                    format!(
                        "the other ranks did not connect within {} s (NCCL_DEBUG=INFO says more)",
                        timeout.as_secs()
                    )
                }
                RecvTimeoutError::Disconnected => "the thread that connects has ended".into(),
            }))
        })?;
        let (context, calls) = (context.clone(), Mutex::default());
        Ok(Self { nccl, comm: comm as Comm, context, calls, ended: AtomicBool::new(false) })
    }

    pub fn nccl(&self) -> &'static Nccl {
        self.nccl
    }

    /// The locked communicator, unless it has ended.
    fn enter(&self) -> Result<MutexGuard<'_, ()>> {
        let guard = lock(&self.calls);
        if self.ended.load(Ordering::Acquire) {
            let (engine, message) = (format!("NCCL {}", self.nccl.version()), "the communicator was aborted".into());
            return Err(Error::Communication { engine, call: "ncclGroupStart", message });
        }
        self.context.bind_to_thread().map_err(|error| Error::driver("cuCtxSetCurrent", error))?;
        Ok(guard)
    }

    /// Enqueues all of a plan's transfers on a stream.
    ///
    /// # Safety
    /// The addresses are those of arrays that exist until the stream has come to what follows.
    pub unsafe fn run(&self, transfers: &[Transfer], stream: &CudaStream) -> Result<()> {
        let _guard = self.enter()?;
        let Nccl { group_start, group_end, send, receive, all_gather, .. } = *self.nccl;
        let stream: Stream = stream.cu_stream().cast();
        // SAFETY: no arguments.
        self.nccl.check("ncclGroupStart", unsafe { group_start() })?;
        let mut failed = Ok(());
        for transfer in transfers {
            // SAFETY: the caller's; the communicator has not ended, which `calls` guards.
            let (call, status) = unsafe {
                match *transfer {
                    Transfer::Send { peer, address, bytes } => {
                        ("ncclSend", send(address as _, bytes, BYTES, peer as c_int, self.comm, stream))
                    }
                    Transfer::Receive { peer, address, bytes } => {
                        ("ncclRecv", receive(address as _, bytes, BYTES, peer as c_int, self.comm, stream))
                    }
                    Transfer::Gather { address, rank, bytes } => {
                        let own = address + (rank * bytes) as u64;
                        ("ncclAllGather", all_gather(own as _, address as _, bytes, BYTES, self.comm, stream))
                    }
                }
            };
            failed = self.nccl.check(call, status);
            if failed.is_err() {
                break;
            }
        }
        // A group that was begun is ended.
        // SAFETY: no arguments.
        let ended = self.nccl.check("ncclGroupEnd", unsafe { group_end() });
        failed.and(ended)
    }

    /// The error that a transfer met, such as another rank's end.
    pub fn error(&self) -> Option<Error> {
        let _guard = match self.calls.try_lock() {
            Err(TryLockError::WouldBlock) => return None,
            guard => guard,
        };
        if self.ended.load(Ordering::Acquire) {
            return None;
        }
        let mut status = 0;
        // SAFETY: the communicator has not ended, which `calls` guards.
        let call = unsafe { (self.nccl.async_error)(self.comm, &mut status) };
        let status = if call == 0 { status } else { call };
        (status != 0 && status != IN_PROGRESS).then(|| self.nccl.error("ncclCommGetAsyncError", status))
    }

    /// Ends all transfers, so that the stream goes on. What they should have received is not there.
    pub fn abort(&self) {
        // A call of another thread may wait for a rank that has ended; then it is this that lets it return.
        let deadline = Instant::now() + GRACE;
        let _guard = loop {
            match self.calls.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                guard => break guard,
            }
        };
        if !self.ended.swap(true, Ordering::AcqRel) && self.context.bind_to_thread().is_ok() {
            // SAFETY: called once, and not after `ncclCommDestroy`. An error cannot be acted on.
            unsafe { (self.nccl.abort)(self.comm) };
        }
    }

    /// Ends it in order, after all transfers: waits a while for the other ranks.
    pub fn end(self: &Arc<Self>) {
        let (sender, receiver) = channel();
        let own = self.clone();
        let destroy = move || {
            let _guard = lock(&own.calls);
            if !own.ended.swap(true, Ordering::AcqRel) && own.context.bind_to_thread().is_ok() {
                // SAFETY: called once, and not after `ncclCommAbort`. An error cannot be acted on.
                unsafe { (own.nccl.destroy)(own.comm) };
            }
            let _ = sender.send(());
        };
        if thread::Builder::new().name("nccl".into()).spawn(destroy).is_ok() {
            // Afterwards the thread is left behind.
            let _ = receiver.recv_timeout(GRACE);
        }
    }
}

/// Bytes that move between the GPUs of two ranks, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    Send {
        peer: usize,
        address: u64,
        bytes: usize,
    },
    Receive {
        peer: usize,
        address: u64,
        bytes: usize,
    },
    /// An array of `bytes` per rank, in their order, in which this is rank `rank`.
    Gather {
        address: u64,
        rank: usize,
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_people_write_them() {
        assert_eq!([OLDEST, 22_803, 2_708].map(dotted), ["2.16.2", "2.28.3", "2.7.8"]);
    }

    #[test]
    fn what_is_no_nccl() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            |result: Result<&Nccl>| result.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "F");
        let hint = "(ALEXNET_NCCL names it; unset that, or set it to a folder that holds libnccl.so.2)";
        assert_eq!(text(named(folder.path())), format!("F: holds no libnccl.so.2 {hint}"));
        assert_eq!(
            text(named(&folder.path().join("none"))),
            format!("F/none: No such file or directory (os error 2) {hint}")
        );
        let file = folder.path().join("libnccl.so.2");
        std::fs::write(&file, "not a library").unwrap();
        let error = "F/libnccl.so.2: not a shared library for this machine (64-bit ELF)";
        assert_eq!(text(named(folder.path())), format!("F: {error} {hint}"));
        let places = [Place::folder(folder.path().to_owned())];
        assert_eq!(
            text(first(&places)),
            format!(
                "no NCCL, the library for communication between GPUs; passed over {error}; looked in F; install it (pip install nvidia-nccl-cu12 or nvidia-nccl-cu13), or set ALEXNET_NCCL to the folder that holds libnccl.so.2"
            )
        );
    }

    #[test]
    fn a_library_without_its_functions() {
        let error = Nccl::load(Path::new("libc.so.6")).unwrap_err().to_string();
        assert!(error.contains("ncclGetVersion"), "{error}");
    }
}
