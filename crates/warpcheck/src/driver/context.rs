//! Contexts: creating and destroying them, the current one of a thread, their limits and flags.

use super::ffi::{In, Out, api};
use super::ownership;
use super::queue::{Fence, Stream};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::{Handle, Table, lock, next_id};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::ThreadId;

thread_local! {
    /// The thread's stack of contexts; the last one is current.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    /// The thread's modelled time in ns: it advances when the thread waits for a device.
    static HOST_TIME: Cell<f64> = const { Cell::new(0.0) };
}

/// The flags that a context may have (`CU_CTX_FLAGS_MASK`).
pub(super) const FLAGS: u32 = 0xff;

/// The limits, by `CUlimit`, as a device starts with them.
const LIMITS: [usize; 7] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

/// One context: a device and the objects created on it.
#[derive(Debug)]
pub(super) struct Context {
    pub handle: Handle,
    pub id: u64,
    pub device: u32,
    pub primary: bool,
    pub flags: AtomicU32,
    /// The error that broke the context, and the same once it has been returned to the client.
    error: AtomicU32,
    shown: AtomicU32,
    destroyed: AtomicBool,
    limits: Mutex<[usize; 7]>,
    cache: AtomicU32,
    shared_config: AtomicU32,
    /// The contexts whose memory this one may touch.
    pub peers: Mutex<HashSet<Handle>>,
    legacy: OnceLock<Arc<Stream>>,
    per_thread: Mutex<HashMap<ThreadId, Arc<Stream>>>,
    /// All streams, the default ones too.
    streams: Mutex<Vec<Weak<Stream>>>,
    me: Weak<Context>,
}

impl Context {
    /// A new context on a device, entered into the driver's table.
    pub fn create(driver: &Driver, device: u32, primary: bool, flags: u32) -> Arc<Context> {
        let handle = Table::<Context>::reserve();
        let context = Arc::new_cyclic(|me| Context {
            handle,
            id: next_id(),
            device,
            primary,
            flags: AtomicU32::new(flags),
            error: AtomicU32::new(0),
            shown: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
            limits: Mutex::new(LIMITS),
            cache: AtomicU32::new(0),
            shared_config: AtomicU32::new(1),
            peers: Mutex::default(),
            legacy: OnceLock::new(),
            per_thread: Mutex::default(),
            streams: Mutex::default(),
            me: me.clone(),
        });
        driver.contexts.enter(handle, context.clone());
        context
    }

    /// Destroys a context: waits for its work, then frees everything created on it.
    pub fn destroy(&self, driver: &Driver) {
        let _ = self.wait_all();
        self.destroyed.store(true, Ordering::Release);
        for stream in self.streams() {
            stream.close();
        }
        lock(&self.per_thread).clear();
        let _ = driver.contexts.remove(self.handle);
        ownership::forget_context(driver, self);
    }

    /// An error if the context is destroyed, or its error has been returned to the client. A fault of work
    /// that nobody has waited for is not returned yet, as on a device that still runs it.
    pub fn check_error(&self) -> DriverResult {
        if self.destroyed.load(Ordering::Acquire) {
            return Err(CuResult::CONTEXT_IS_DESTROYED);
        }
        match self.shown.load(Ordering::Acquire) {
            0 => Ok(()),
            code => Err(CuResult(code)),
        }
    }

    /// For calls that wait or query: returns the error that broke the context; from now on every call does.
    pub fn sync_error(&self) -> DriverResult {
        self.shown.store(self.error.load(Ordering::Acquire), Ordering::Release);
        self.check_error()
    }

    /// The error that broke the context, returned yet or not; success if there is none.
    pub fn error(&self) -> CuResult {
        CuResult(self.error.load(Ordering::Acquire))
    }

    /// Breaks the context; the first error stays.
    pub fn fail(&self, code: CuResult) {
        // A second error changes nothing.
        let _ = self.error.compare_exchange(0, code.0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The stream that a client means: null and 1 are the legacy default, 2 the thread's own.
    pub fn stream(&self, driver: &Driver, handle: Handle) -> DriverResult<Arc<Stream>> {
        match handle {
            0 | 1 => Ok(self.legacy()),
            2 => Ok(self.per_thread()),
            _ => driver.streams.get(handle),
        }
    }

    /// As `stream`, and the stream must belong to this context.
    pub fn own_stream(&self, driver: &Driver, handle: Handle) -> DriverResult<Arc<Stream>> {
        let stream = self.stream(driver, handle)?;
        if stream.context_handle != self.handle {
            return Err(CuResult::INVALID_HANDLE);
        }
        Ok(stream)
    }

    /// The legacy default stream.
    pub fn legacy(&self) -> Arc<Stream> {
        self.legacy
            .get_or_init(|| {
                let stream = Stream::new(1, self.me.clone(), self.handle, self.device, 0, 0);
                self.enlist(&stream);
                stream
            })
            .clone()
    }

    fn per_thread(&self) -> Arc<Stream> {
        let mut streams = lock(&self.per_thread);
        streams
            .entry(std::thread::current().id())
            .or_insert_with(|| {
                let stream = Stream::new(2, self.me.clone(), self.handle, self.device, 0, 0);
                self.enlist(&stream);
                stream
            })
            .clone()
    }

    /// Adds a stream to those that the context waits for.
    pub fn enlist(&self, stream: &Arc<Stream>) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    /// All streams of the context.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams).iter().filter_map(Weak::upgrade).collect()
    }

    /// What an operation on `stream` has to wait for besides the stream itself: the legacy stream
    /// waits for every blocking stream, and every blocking stream for the legacy one.
    pub fn implied(&self, stream: &Stream) -> Vec<Arc<Fence>> {
        if stream.is_legacy() {
            self.streams()
                .iter()
                .filter(|other| other.id != stream.id && other.is_blocking())
                .map(|other| other.last())
                .collect()
        } else if stream.is_blocking() {
            self.legacy.get().map(|legacy| legacy.last()).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    /// Waits for all work of the context; returns the error that broke it.
    pub fn wait_all(&self) -> DriverResult {
        let mut time = 0.0f64;
        for stream in self.streams() {
            let fence = stream.last();
            fence.wait();
            time = time.max(fence.time());
        }
        host_waited(time);
        self.sync_error()
    }
}

/// The calling thread has waited until this modelled time.
pub(super) fn host_waited(time: f64) {
    HOST_TIME.set(HOST_TIME.get().max(time));
}

/// Modelled time of the calling thread: what it submits does not begin before it.
pub(super) fn host_time() -> f64 {
    HOST_TIME.get()
}

/// The thread's current context; without one an invalid-context error.
pub(super) fn current(driver: &Driver) -> DriverResult<Arc<Context>> {
    let handle = current_handle().ok_or(CuResult::INVALID_CONTEXT)?;
    driver.contexts.find(handle).ok_or(CuResult::CONTEXT_IS_DESTROYED)
}

fn current_handle() -> Option<Handle> {
    STACK.with_borrow(|stack| stack.last().copied())
}

/// The context of a handle that the client passes; null means the current one.
pub(super) fn named(driver: &Driver, handle: Handle) -> DriverResult<Arc<Context>> {
    match handle {
        0 => current(driver),
        _ => driver.contexts.find(handle).ok_or(CuResult::INVALID_CONTEXT),
    }
}

/// The flags of a context, checked: at most one way of scheduling, nothing unknown.
pub(super) fn checked_flags(flags: u32) -> DriverResult<u32> {
    let scheduling = flags & 0x7;
    if flags & !FLAGS != 0 || !matches!(scheduling, 0 | 1 | 2 | 4) {
        return Err(CuResult::INVALID_VALUE);
    }
    Ok(flags)
}

fn create(driver: &Driver, out: Out<Handle>, flags: u32, device: c_int) -> DriverResult {
    out.required()?;
    let flags = checked_flags(flags)?;
    let device = driver.device(device)?.ordinal;
    let context = Context::create(driver, device, false, flags);
    STACK.with_borrow_mut(|stack| stack.push(context.handle));
    out.set(context.handle)
}

api! {
    /// Creates a context and makes it current.
    fn cuCtxCreate_v2[driver](out: Out<Handle>, flags: c_uint, device: c_int) {
        create(driver, out, flags, device)
    }

    /// Creates a context; an execution affinity is not supported.
    fn cuCtxCreate_v3[driver](
        out: Out<Handle>, affinity: In<u8>, count: c_int, flags: c_uint, device: c_int,
    ) {
        if count > 0 && !affinity.is_null() {
            return Err(CuResult::UNSUPPORTED_EXEC_AFFINITY);
        }
        create(driver, out, flags, device)
    }

    /// Creates a context; parameters (an affinity, graphics) are not supported.
    fn cuCtxCreate_v4[driver](
        out: Out<Handle>, parameters: In<[usize; 3]>, flags: c_uint, device: c_int,
    ) {
        if !parameters.is_null() {
            let [_, affinities, graphics] = parameters.get()?;
            if graphics != 0 {
                return Err(CuResult::NOT_SUPPORTED);
            }
            if affinities as u32 != 0 {
                return Err(CuResult::UNSUPPORTED_EXEC_AFFINITY);
            }
        }
        create(driver, out, flags, device)
    }

    /// Destroys a context with everything created on it.
    fn cuCtxDestroy_v2[driver](handle: Handle) {
        if handle == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        let context = driver.contexts.find(handle).ok_or(CuResult::INVALID_CONTEXT)?;
        if context.primary {
            return Err(CuResult::INVALID_CONTEXT);
        }
        STACK.with_borrow_mut(|stack| {
            if stack.last() == Some(&handle) {
                stack.pop();
            }
        });
        context.destroy(driver);
        Ok(())
    }

    /// The thread's current context, null if there is none.
    fn cuCtxGetCurrent[_driver](out: Out<Handle>) {
        out.set(current_handle().unwrap_or(0))
    }

    /// Replaces the current context; null removes it.
    fn cuCtxSetCurrent[driver](handle: Handle) {
        if handle != 0 && driver.contexts.find(handle).is_none() {
            return Err(CuResult::INVALID_CONTEXT);
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if handle != 0 {
                stack.push(handle);
            }
        });
        Ok(())
    }

    /// Puts a context onto the thread's stack.
    fn cuCtxPushCurrent_v2[driver](handle: Handle) {
        if handle == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        driver.contexts.find(handle).ok_or(CuResult::INVALID_CONTEXT)?;
        STACK.with_borrow_mut(|stack| stack.push(handle));
        Ok(())
    }

    /// Takes the current context off the thread's stack.
    fn cuCtxPopCurrent_v2[_driver](out: Out<Handle>) {
        let handle = STACK.with_borrow_mut(Vec::pop).ok_or(CuResult::INVALID_CONTEXT)?;
        out.set_if(handle);
        Ok(())
    }

    /// The device of the current context.
    fn cuCtxGetDevice[driver](out: Out<c_int>) {
        out.set(current(driver)?.device as c_int)
    }

    /// A number that no other context of the process has.
    fn cuCtxGetId[driver](handle: Handle, out: Out<u64>) {
        out.set(named(driver, handle)?.id)
    }

    /// The version of the API that a context was made for.
    fn cuCtxGetApiVersion[driver](handle: Handle, out: Out<c_uint>) {
        named(driver, handle)?;
        out.set(3020)
    }

    /// The flags of the current context.
    fn cuCtxGetFlags[driver](out: Out<c_uint>) {
        out.set(current(driver)?.flags.load(Ordering::Relaxed))
    }

    /// Sets the flags of the current context.
    fn cuCtxSetFlags[_driver, context](flags: c_uint) {
        context.flags.store(checked_flags(flags)?, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for all work of the current context.
    fn cuCtxSynchronize[driver, context]() {
        driver.forbid_during_capture()?;
        driver.captures.refuse_context(context)?;
        context.wait_all()
    }

    /// A limit of the current context.
    fn cuCtxGetLimit[_driver, context](out: Out<usize>, limit: c_uint) {
        out.required()?;
        match lock(&context.limits).get(limit as usize) {
            Some(value) => out.set(*value),
            None if limit < 10 => Err(CuResult::UNSUPPORTED_LIMIT),
            None => Err(CuResult::INVALID_VALUE),
        }
    }

    /// Sets a limit of the current context.
    fn cuCtxSetLimit[_driver, context](limit: c_uint, value: usize) {
        match lock(&context.limits).get_mut(limit as usize) {
            Some(place) => *place = value,
            None if limit < 10 => return Err(CuResult::UNSUPPORTED_LIMIT),
            None => return Err(CuResult::INVALID_VALUE),
        }
        Ok(())
    }

    /// The preferred split between cache and shared memory.
    fn cuCtxGetCacheConfig[_driver, context](out: Out<c_uint>) {
        out.set(context.cache.load(Ordering::Relaxed))
    }

    /// Sets the preferred split between cache and shared memory; a hint without effect.
    fn cuCtxSetCacheConfig[_driver, context](config: c_uint) {
        if config > 3 {
            return Err(CuResult::INVALID_VALUE);
        }
        context.cache.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// The width of shared memory's banks: four bytes.
    fn cuCtxGetSharedMemConfig[_driver, context](out: Out<c_uint>) {
        out.set(context.shared_config.load(Ordering::Relaxed))
    }

    /// Sets the width of shared memory's banks; without effect since Volta.
    fn cuCtxSetSharedMemConfig[_driver, context](config: c_uint) {
        if config > 2 {
            return Err(CuResult::INVALID_VALUE);
        }
        context.shared_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// The range of stream priorities: 0 is the least, −5 the greatest.
    fn cuCtxGetStreamPriorityRange[_driver, _context](least: Out<c_int>, greatest: Out<c_int>) {
        least.set_if(0);
        greatest.set_if(-5);
        Ok(())
    }

    /// Resets the persisting lines of L2: there are none.
    fn cuCtxResetPersistingL2Cache[_driver, _context]() {
        Ok(())
    }

    /// Affinity of execution: not supported.
    fn cuCtxGetExecAffinity[_driver, _context](_out: Out<c_void>, _kind: c_uint) {
        Err(CuResult::UNSUPPORTED_EXEC_AFFINITY)
    }
}
