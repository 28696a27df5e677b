//! Watches the exchange with other GPUs: a rank that has ended or hangs would be waited for without end.
//!
//! A kernel of NCCL runs until all ranks have done their part. So a thread looks at the communicator's state, and at events that
//! are recorded after each step: if none completes for a while although one is due, the communicator is aborted. Then the stream
//! goes on, with wrong numbers; [`Failure`] keeps them from being read.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alexnet_ranks::Ranks;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError};

use crate::error::{Error, Result};
use crate::lock;
use crate::nccl::Communicator;

/// How often the thread looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// Events that may be due at a time; of steps queued beyond, none is recorded.
const EVENTS: usize = 64;

/// The first error of the exchange. Once there is one, nothing on the GPU can be trusted.
#[derive(Debug, Default)]
pub(crate) struct Failure(Mutex<Option<Error>>);

impl Failure {
    pub fn set(&self, error: Error) {
        lock(&self.0).get_or_insert(error);
    }
    pub fn check(&self) -> Result<()> {
        lock(&self.0).clone().map_or(Ok(()), Err)
    }
}

/// The thread that watches; it ends with this.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    communicator: Arc<Communicator>,
    failure: Arc<Failure>,
    /// Whose timeout counts.
    ranks: Arc<dyn Ranks>,
    events: Mutex<Events>,
    closes: Condvar,
}

#[derive(Debug)]
struct Events {
    free: Vec<CudaEvent>,
    /// Recorded, the oldest first.
    due: VecDeque<CudaEvent>,
    /// When the last one completed, or the first one was recorded.
    since: Instant,
    closed: bool,
}

impl Watch {
    pub fn new(
        context: &Arc<CudaContext>,
        communicator: Arc<Communicator>,
        failure: Arc<Failure>,
        ranks: Arc<dyn Ranks>,
    ) -> Result<Self> {
        let events = (0..EVENTS).map(|_| context.new_event(None)).collect::<Result<_, DriverError>>();
        let free = events.map_err(|error| Error::driver("cuEventCreate", error))?;
        let events = Events { free, due: VecDeque::new(), since: Instant::now(), closed: false };
        let shared =
            Arc::new(Shared { communicator, failure, ranks, events: Mutex::new(events), closes: Condvar::new() });
        let (own, context) = (shared.clone(), context.clone());
        let watch = move || {
            // Without it no event can be queried.
            if context.bind_to_thread().is_ok() {
                own.watch();
            }
        };
        let thread = thread::Builder::new().name("nccl watch".into()).spawn(watch);
        let thread = thread.map_err(|error| {
            let engine = "NCCL".into();
            Error::Communication { engine, call: "thread", message: error.to_string() }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Expects the work that was launched on this stream.
    pub fn expect(&self, stream: &CudaStream) -> Result<(), DriverError> {
        let mut events = lock(&self.shared.events);
        let Some(event) = events.free.pop() else { return Ok(()) };
        event.record(stream)?;
        if events.due.is_empty() {
            events.since = Instant::now();
        }
        events.due.push_back(event);
        Ok(())
    }

    /// Whether all work that is expected is done within `most`.
    pub fn is_idle(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        loop {
            if lock(&self.shared.events).due.is_empty() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(INTERVAL / 10);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.shared.events).closed = true;
        self.shared.closes.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watch(&self) {
        loop {
            let events = lock(&self.events);
            let waited = self.closes.wait_timeout_while(events, INTERVAL, |events| !events.closed);
            let (mut events, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if events.closed {
                return;
            }
            // An event that cannot be queried is that of a context with an error, which the next call reports.
            while events.due.front().is_some_and(|event| !matches!(event.try_is_complete(), Ok(false))) {
                let event = events.due.pop_front();
                events.free.extend(event);
                events.since = Instant::now();
            }
            let timeout = self.ranks.timeout();
            let stalls = !events.due.is_empty() && events.since.elapsed() > timeout;
            drop(events);
            let stalled = || {
                let message = format!(
                    "no step was completed for {} s: another rank hangs or has ended (NCCL_DEBUG=INFO says more)",
                    timeout.as_secs()
                );
                let engine = format!("NCCL {}", self.communicator.nccl().version());
                Error::Communication { engine, call: "wait", message }
            };
            if let Some(error) = self.communicator.error().or_else(|| stalls.then(stalled)) {
                self.failure.set(error);
                self.communicator.abort();
                return;
            }
        }
    }
}
