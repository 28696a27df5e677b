//! A stream's queue: when an operation runs, and how others wait for it.

use super::capture::Capture;
use super::clock;
use super::context::{self, Context};
use super::result::{CuResult, DriverResult};
use super::state::{self, Driver};
use super::table::{Handle, lock, next_id};
use super::work::{Position, Work};
use crate::engine::Grid;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// Signals the end of an operation, with its modelled time.
#[derive(Debug, Default)]
pub(super) struct Fence {
    done: AtomicBool,
    time: AtomicU64,
    lock: Mutex<()>,
    signal: Condvar,
}

impl Fence {
    /// The fence of a finished operation.
    pub fn finished(time: f64) -> Arc<Fence> {
        let fence = Fence::default();
        fence.finish(time);
        Arc::new(fence)
    }

    /// Whether the operation has finished.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// The modelled time at which it finished, in ns.
    pub fn time(&self) -> f64 {
        f64::from_bits(self.time.load(Ordering::Acquire))
    }

    /// Waits until the operation has finished.
    pub fn wait(&self) {
        let mut guard = lock(&self.lock);
        while !self.is_done() {
            guard = self.signal.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, time: f64) {
        self.time.store(time.to_bits(), Ordering::Release);
        let _guard = lock(&self.lock);
        self.done.store(true, Ordering::Release);
        self.signal.notify_all();
    }
}

/// An operation in a queue.
#[derive(Debug)]
struct Pending {
    work: Work,
    waits: Vec<Arc<Fence>>,
    fence: Arc<Fence>,
    /// Modelled time of the thread that submitted it.
    submitted: f64,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// The client's handle; 1 and 2 for the default streams.
    pub handle: Handle,
    pub id: u64,
    pub context_handle: Handle,
    pub device: u32,
    pub flags: u32,
    pub priority: i32,
    context: Weak<Context>,
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug)]
struct QueueState {
    queue: VecDeque<Pending>,
    /// An operation is running, on some thread.
    running: bool,
    /// The stream has a thread of its own.
    worker: bool,
    closed: bool,
    last: Arc<Fence>,
    /// Modelled time at which the last operation finished.
    time: f64,
    /// The last operation, if it was a kernel; events do not count.
    grid: Option<Arc<Grid>>,
    capture: Option<Arc<Capture>>,
}

impl Stream {
    /// A new stream of a context.
    pub fn new(
        handle: Handle,
        context: Weak<Context>,
        context_handle: Handle,
        device: u32,
        flags: u32,
        priority: i32,
    ) -> Arc<Stream> {
        Arc::new(Stream {
            handle,
            id: next_id(),
            context_handle,
            device,
            flags,
            priority,
            context,
            state: Mutex::new(QueueState {
                queue: VecDeque::new(),
                running: false,
                worker: false,
                closed: false,
                last: Fence::finished(0.0),
                time: 0.0,
                grid: None,
                capture: None,
            }),
            changed: Condvar::new(),
        })
    }

    /// The stream's context, unless that is gone.
    pub fn context(&self) -> DriverResult<Arc<Context>> {
        self.context.upgrade().ok_or(CuResult::CONTEXT_IS_DESTROYED)
    }

    /// Whether this is the legacy default stream.
    pub fn is_legacy(&self) -> bool {
        self.handle == 1
    }

    /// Whether the stream and the legacy default stream wait for each other.
    pub fn is_blocking(&self) -> bool {
        self.flags & 1 == 0
    }

    /// The fence of the newest operation.
    pub fn last(&self) -> Arc<Fence> {
        lock(&self.state).last.clone()
    }

    /// The capture that the stream takes part in.
    pub fn capture(&self) -> Option<Arc<Capture>> {
        lock(&self.state).capture.clone()
    }

    /// Enters or leaves a capture.
    pub fn set_capture(&self, capture: Option<Arc<Capture>>) {
        lock(&self.state).capture = capture;
    }

    /// Adds an operation: records it if the stream is capturing, otherwise runs or queues it.
    /// Returns the fence to wait for, or `None` if it was recorded.
    pub fn add(self: &Arc<Self>, driver: &'static Driver, work: Work) -> DriverResult<Option<Arc<Fence>>> {
        if let Some(capture) = self.capture() {
            capture.record(driver, self, work)?;
            return Ok(None);
        }
        let context = self.context()?;
        driver.captures.refuse_implicit(self, &context)?;
        let fence = self.submit(driver, &context, work, Vec::new());
        if driver.launch_blocking() {
            fence.wait();
            context.sync_error()?;
        }
        Ok(Some(fence))
    }

    /// Runs an operation now if nothing precedes it, otherwise queues it.
    pub fn submit(
        self: &Arc<Self>,
        driver: &'static Driver,
        context: &Arc<Context>,
        work: Work,
        mut waits: Vec<Arc<Fence>>,
    ) -> Arc<Fence> {
        waits.extend(context.implied(self));
        let fence = Arc::new(Fence::default());
        let mut state = lock(&self.state);
        state.last = fence.clone();
        let pending = Pending { work, waits, fence: fence.clone(), submitted: context::host_time() };
        let free = state.queue.is_empty() && !state.running;
        if free && !pending.work.calls_host() && pending.waits.iter().all(|fence| fence.is_done()) {
            state.running = true;
            drop(state);
            self.perform(driver, context, pending);
        } else {
            state.queue.push_back(pending);
            if !state.worker {
                state.worker = true;
                let stream = self.clone();
                let started = std::thread::Builder::new()
                    .name(format!("warpcheck stream {}", self.id))
                    .spawn(move || stream.run_worker());
                if started.is_err() {
                    // Without a thread the operations run here, one after another.
                    state.worker = false;
                    drop(state);
                    self.drain(driver, context);
                    return fence;
                }
            }
            drop(state);
        }
        self.changed.notify_all();
        fence
    }

    /// Runs an operation; the caller has set `running`.
    fn perform(&self, driver: &'static Driver, context: &Arc<Context>, pending: Pending) {
        let waits = pending.waits.iter().map(|fence| fence.time());
        let mut state = lock(&self.state);
        let begun = waits.fold(state.time.max(pending.submitted), f64::max);
        let before = match pending.work {
            Work::Nothing => None,
            _ => state.grid.take().filter(|_| pending.work.is_programmatic()),
        };
        drop(state);
        let mut position = Position { begun, fixed: clock::LAUNCH, overlapped: before.as_slice(), grid: None };
        let mut end = begun;
        let error = context.error();
        if error == CuResult::SUCCESS {
            let outcome = catch_unwind(AssertUnwindSafe(|| pending.work.run(driver, context, &mut position)));
            match outcome {
                Ok(Ok(cost)) => end += cost.time,
                Ok(Err(code)) => context.fail(code),
                Err(_) => {
                    eprintln!("warpcheck: internal error while running an operation (this is a bug of warpcheck)");
                    context.fail(CuResult::UNKNOWN);
                }
            }
        } else {
            pending.work.skip(error);
        }
        let mut state = lock(&self.state);
        state.time = end;
        if position.grid.is_some() {
            state.grid = position.grid;
        }
        state.running = false;
        drop(state);
        pending.fence.finish(end);
    }

    /// The loop of the stream's own thread.
    fn run_worker(self: Arc<Self>) {
        let Ok(driver) = state::driver() else { return };
        loop {
            let mut state = lock(&self.state);
            while (state.queue.is_empty() || state.running) && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.queue.is_empty() && state.closed {
                return;
            }
            drop(state);
            let Ok(context) = self.context() else { return };
            self.step(driver, &context);
        }
    }

    /// Runs the operation at the head of the queue, if it is not being run already.
    fn step(&self, driver: &'static Driver, context: &Arc<Context>) {
        let mut state = lock(&self.state);
        if state.running {
            return;
        }
        let Some(pending) = state.queue.pop_front() else { return };
        state.running = true;
        drop(state);
        pending.waits.iter().for_each(|fence| fence.wait());
        self.perform(driver, context, pending);
    }

    fn drain(&self, driver: &'static Driver, context: &Arc<Context>) {
        while !lock(&self.state).queue.is_empty() {
            self.step(driver, context);
        }
    }

    /// No more operations will come; the thread ends when the queue is empty.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}
