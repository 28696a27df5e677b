//! A `libnccl.so.2` without GPUs, for tests of what calls NCCL: the bytes go through the host and TCP, in the order of the stream,
//! and can be captured in a graph.
//!
//! A group becomes copies to page-locked memory, a host function that exchanges messages, and copies back. As NCCL's kernels do,
//! the host function waits for all ranks, and after an error until the communicator is aborted. Ranks are processes, or threads of
//! one process with a stream each. It cannot show what only NCCL has: deadlocks of kernels, the order of connections, speed.
#![allow(non_snake_case)]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::net::TcpListener;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alexnet_ranks::tcp::Place;
use alexnet_ranks::{Ranks, Tcp};
use cudarc::driver::sys;

const SUCCESS: c_int = 0;
const UNHANDLED_CUDA_ERROR: c_int = 1;
const SYSTEM_ERROR: c_int = 2;
const INVALID_ARGUMENT: c_int = 4;
const INVALID_USAGE: c_int = 5;
const REMOTE_ERROR: c_int = 6;

/// How long ranks wait for each other.
const TIMEOUT: Duration = Duration::from_secs(600);

/// `ncclUniqueId`: the port of the first rank, in decimal.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Id([u8; 128]);

/// `ncclComm_t`.
pub struct Comm {
    tcp: Tcp,
    /// The first error.
    error: AtomicI32,
    aborted: Mutex<bool>,
    aborts: Condvar,
    /// What was enqueued: a graph may run it again, and equal groups share their memory.
    groups: Mutex<Vec<Arc<Work>>>,
}

/// A send, a receive, or both, of a group: its peer, address on the GPU, bytes.
type Message = (usize, u64, usize);

#[derive(Default)]
struct Group {
    comm: usize,
    stream: usize,
    sends: Vec<Message>,
    receives: Vec<Message>,
}

struct Work {
    comm: usize,
    group: Group,
    /// Page-locked memory, one message after another.
    out: *mut u8,
    into: *mut u8,
}

// SAFETY: the memory is accessed by the host function and the stream's copies, in the stream's order.
unsafe impl Send for Work {}
// SAFETY: as above.
unsafe impl Sync for Work {}

thread_local! {
    /// The group that is begun, and how many begins it has had.
    static GROUP: RefCell<(usize, Group)> = RefCell::default();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(count: usize, kind: c_int) -> usize {
    count
        * match kind {
            0 | 1 => 1,
            6 | 9 => 2,
            2 | 3 | 7 => 4,
            _ => 8,
        }
}

/// Runs a call to the driver.
fn driver(result: sys::CUresult) -> Result<(), c_int> {
    match result {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        error => {
            eprintln!("NCCL stand-in: {error:?}");
            Err(UNHANDLED_CUDA_ERROR)
        }
    }
}

fn status(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(SUCCESS)
}

/// Page-locked memory, also while a stream is captured, as NCCL allocates.
fn locked(bytes: usize) -> Result<*mut u8, c_int> {
    let (mut memory, mut mode) = (ptr::null_mut(), sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED);
    // SAFETY: both write where they are told to.
    unsafe {
        driver(sys::cuThreadExchangeStreamCaptureMode(&mut mode))?;
        let allocated = driver(sys::cuMemAllocHost_v2(&mut memory, bytes.max(1)));
        driver(sys::cuThreadExchangeStreamCaptureMode(&mut mode))?;
        allocated?;
        ptr::write_bytes(memory.cast::<u8>(), 0, bytes);
    }
    Ok(memory.cast())
}

/// Adds messages to the group; one outside a group is a group of its own.
fn add(comm: *mut Comm, stream: *mut c_void, add: impl FnOnce(&Comm, &mut Group)) -> c_int {
    if comm.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: made by `ncclCommInitRank`.
    let own = unsafe { &*comm };
    let status = GROUP.with_borrow_mut(|(_, group)| {
        if group.comm != 0 && (group.comm, group.stream) != (comm as usize, stream as usize) {
            return INVALID_USAGE; // NCCL can; this need not.
        }
        (group.comm, group.stream) = (comm as usize, stream as usize);
        add(own, group);
        SUCCESS
    });
    if status != SUCCESS || GROUP.with_borrow(|(depth, _)| *depth > 0) {
        return status;
    }
    enqueue(GROUP.with_borrow_mut(|(_, group)| std::mem::take(group)))
}

fn enqueue(group: Group) -> c_int {
    if group.comm == 0 {
        return SUCCESS;
    }
    // SAFETY: made by `ncclCommInitRank`.
    let comm = unsafe { &*(group.comm as *const Comm) };
    status(enqueue_on(comm, group))
}

fn enqueue_on(comm: &Comm, group: Group) -> Result<(), c_int> {
    let size = comm.tcp.size();
    if group.sends.iter().chain(&group.receives).any(|&(peer, ..)| peer >= size) {
        return Err(INVALID_ARGUMENT);
    }
    let mut groups = lock(&comm.groups);
    let equal = |work: &Work| {
        let Group { stream, sends, receives, .. } = &work.group;
        (*stream, sends, receives) == (group.stream, &group.sends, &group.receives)
    };
    let at = match groups.iter().position(|work| equal(work)) {
        Some(at) => at,
        None => {
            let total = |messages: &[Message]| messages.iter().map(|message| message.2).sum();
            let (out, into) = (locked(total(&group.sends))?, locked(total(&group.receives))?);
            groups.push(Arc::new(Work { comm: group.comm, group, out, into }));
            groups.len() - 1
        }
    };
    let work: &Work = &groups[at];
    let stream = work.group.stream as sys::CUstream;
    let mut begin = 0;
    for &(_, address, bytes) in &work.group.sends {
        // SAFETY: `out` has room for all sends, one after another.
        driver(unsafe { sys::cuMemcpyDtoHAsync_v2(work.out.add(begin).cast(), address, bytes, stream) })?;
        begin += bytes;
    }
    // SAFETY: it is kept, also for graphs.
    driver(unsafe { sys::cuLaunchHostFunc(stream, Some(exchange), ptr::from_ref(work).cast_mut().cast()) })?;
    begin = 0;
    for &(_, address, bytes) in &work.group.receives {
        // SAFETY: as above.
        driver(unsafe { sys::cuMemcpyHtoDAsync_v2(address, work.into.add(begin).cast(), bytes, stream) })?;
        begin += bytes;
    }
    Ok(())
}

/// The host function.
unsafe extern "C" fn exchange(work: *mut c_void) {
    // SAFETY: from `enqueue_on`; the communicator outlives its streams' work.
    let (work, comm) = unsafe {
        let work = &*work.cast::<Work>();
        (work, &*(work.comm as *const Comm))
    };
    let mut begin = 0;
    let mut next = |bytes| {
        begin += bytes;
        begin - bytes
    };
    let sends: Vec<(usize, &[u8])> = work
        .group
        .sends
        .iter()
        .map(|&(peer, _, bytes)| {
            // SAFETY: the copies before this function have written it.
            (peer, unsafe { std::slice::from_raw_parts(work.out.add(next(bytes)), bytes) })
        })
        .collect();
    let mut begin = 0;
    let mut receives: Vec<(usize, &mut [u8])> = Vec::new();
    for &(peer, _, bytes) in &work.group.receives {
        // SAFETY: pieces that do not overlap, which the copies after this function read.
        receives.push((peer, unsafe { std::slice::from_raw_parts_mut(work.into.add(begin), bytes) }));
        begin += bytes;
    }
    if !*lock(&comm.aborted)
        && let Err(error) = comm.tcp.exchange(&sends, &mut receives)
    {
        if !*lock(&comm.aborted) {
            eprintln!("NCCL stand-in: rank {}: {error}", comm.tcp.rank());
        }
        comm.error.store(REMOTE_ERROR, Ordering::Release);
        // A kernel of NCCL does not end either.
        let aborted = comm.aborts.wait_while(lock(&comm.aborted), |aborted| !*aborted);
        drop(aborted.unwrap_or_else(PoisonError::into_inner));
    }
}

/// # Safety
/// `version` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe { *version = 22_800 };
    SUCCESS
}

/// A static string.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetErrorString(error: c_int) -> *const c_char {
    let text = match error {
        SUCCESS => c"no error",
        UNHANDLED_CUDA_ERROR => c"unhandled cuda error",
        SYSTEM_ERROR => c"unhandled system error",
        INVALID_ARGUMENT => c"invalid argument",
        INVALID_USAGE => c"invalid usage",
        REMOTE_ERROR => c"remote process exited or there was a network error",
        _ => c"unknown result code",
    };
    text.as_ptr()
}

/// # Safety
/// `id` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetUniqueId(id: *mut Id) -> c_int {
    // A port that is free now.
    let Ok(port) = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()) else {
        return SYSTEM_ERROR;
    };
    let text = port.port().to_string();
    // SAFETY: the caller's.
    let Id(bytes) = unsafe { &mut *id };
    bytes.fill(0);
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    SUCCESS
}

/// # Safety
/// `comm` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRank(comm: *mut *mut Comm, size: c_int, id: Id, rank: c_int) -> c_int {
    let mut device = 0;
    // SAFETY: writes the integer. Without a current context NCCL fails too.
    if let Err(error) = driver(unsafe { sys::cuCtxGetDevice(&mut device) }) {
        return error;
    }
    let port = std::str::from_utf8(&id.0).ok().and_then(|text| text.trim_end_matches('\0').parse().ok());
    let (Some(port), Ok(size), Ok(rank)) = (port, usize::try_from(size), usize::try_from(rank)) else {
        return INVALID_ARGUMENT;
    };
    match Tcp::connect(("127.0.0.1", port), Place { rank, size, local_rank: rank, local_size: size }, TIMEOUT) {
        Ok(tcp) => {
            let (error, aborted, aborts) = (AtomicI32::new(SUCCESS), Mutex::new(false), Condvar::new());
            let made = Comm { tcp, error, aborted, aborts, groups: Mutex::default() };
            // SAFETY: the caller's.
            unsafe { *comm = Box::into_raw(Box::new(made)) };
            SUCCESS
        }
        Err(error) => {
            eprintln!("NCCL stand-in: {error}");
            SYSTEM_ERROR
        }
    }
}

/// # Safety
/// The communicator is one; `to` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGetAsyncError(comm: *mut Comm, to: *mut c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe { *to = (*comm).error.load(Ordering::Acquire) };
    SUCCESS
}

/// # Safety
/// The communicator is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(comm: *mut Comm) -> c_int {
    // SAFETY: the caller's. It is not freed: the host functions of a stream that goes on use it.
    let comm = unsafe { &*comm };
    *lock(&comm.aborted) = true;
    comm.aborts.notify_all();
    comm.tcp.close();
    SUCCESS
}

/// # Safety
/// The communicator is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDestroy(comm: *mut Comm) -> c_int {
    // SAFETY: the caller's. It is not freed: a graph may hold the addresses of its groups until it is destroyed.
    unsafe { &*comm }.tcp.end();
    SUCCESS
}

/// Begins a group.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGroupStart() -> c_int {
    GROUP.with_borrow_mut(|(depth, _)| *depth += 1);
    SUCCESS
}

/// Ends a group.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGroupEnd() -> c_int {
    let group = GROUP.with_borrow_mut(|(depth, group)| match depth {
        0 => None,
        1 => {
            *depth = 0;
            Some(std::mem::take(group))
        }
        _ => {
            *depth -= 1;
            Some(Group::default())
        }
    });
    group.map_or(INVALID_USAGE, enqueue)
}

/// # Safety
/// The communicator is one, and the memory exists when the stream comes to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSend(
    from: u64,
    count: usize,
    kind: c_int,
    peer: c_int,
    comm: *mut Comm,
    stream: *mut c_void,
) -> c_int {
    add(comm, stream, |_, group| group.sends.push((peer as usize, from, bytes(count, kind))))
}

/// # Safety
/// As [`ncclSend`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRecv(
    to: u64,
    count: usize,
    kind: c_int,
    peer: c_int,
    comm: *mut Comm,
    stream: *mut c_void,
) -> c_int {
    add(comm, stream, |_, group| group.receives.push((peer as usize, to, bytes(count, kind))))
}

/// # Safety
/// As [`ncclSend`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllGather(
    from: u64,
    to: u64,
    count: usize,
    kind: c_int,
    comm: *mut Comm,
    stream: *mut c_void,
) -> c_int {
    let bytes = bytes(count, kind);
    add(comm, stream, |comm, group| {
        let in_place = from == to + (comm.tcp.rank() * bytes) as u64;
        for peer in (0..comm.tcp.size()).filter(|&peer| !in_place || peer != comm.tcp.rank()) {
            group.sends.push((peer, from, bytes));
            group.receives.push((peer, to + (peer * bytes) as u64, bytes));
        }
    })
}
