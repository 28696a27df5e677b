//! Events: recorded in streams, for waiting and timing.

use super::capture::{Capture, NodeId};
use super::context;
use super::ffi::{Out, api};
use super::queue::{Fence, Stream};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::table::{Handle, lock};
use super::work::Work;
use std::ffi::c_uint;
use std::sync::{Arc, Mutex};

const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;

/// One event.
#[derive(Debug)]
pub(super) struct Event {
    pub context_handle: Handle,
    flags: u32,
    mark: Mutex<Mark>,
}

/// Where an event was last recorded.
#[derive(Debug, Clone, Default)]
enum Mark {
    /// Never: it counts as done.
    #[default]
    Never,
    /// In a stream.
    Placed(Arc<Fence>),
    /// In a capture, after these nodes.
    Captured(Arc<Capture>, Vec<NodeId>),
}

impl Event {
    /// Marks the event as complete at this time (for a graph's event node).
    pub fn mark_now(&self, time: f64) {
        *lock(&self.mark) = Mark::Placed(Fence::finished(time));
    }

    /// Returns the error that broke the event's context.
    fn sync_error(&self, driver: &Driver) -> DriverResult {
        driver.contexts.find(self.context_handle).map_or(Ok(()), |context| context.sync_error())
    }

    /// Waits for the event (a graph's node does).
    pub fn wait_inside(&self) -> DriverResult {
        if let Some(fence) = self.fence()? {
            fence.wait();
        }
        Ok(())
    }

    /// Records the event in a stream.
    fn record(self: &Arc<Self>, driver: &'static Driver, stream: &Arc<Stream>, external: bool) -> DriverResult {
        if stream.context_handle != self.context_handle {
            return Err(CuResult::INVALID_HANDLE);
        }
        if let Some(capture) = stream.capture() {
            if external {
                return capture.record(driver, stream, Work::Record(self.clone()));
            }
            let after = capture.front(stream)?;
            *lock(&self.mark) = Mark::Captured(capture, after);
            return Ok(());
        }
        if external {
            return Err(CuResult::ILLEGAL_STATE);
        }
        if let Some(fence) = stream.add(driver, Work::Nothing)? {
            *lock(&self.mark) = Mark::Placed(fence);
        }
        Ok(())
    }

    /// Makes later work of a stream wait for the event.
    pub fn hold_back(&self, driver: &'static Driver, stream: &Arc<Stream>) -> DriverResult {
        let mark = lock(&self.mark).clone();
        match (mark, stream.capture()) {
            (Mark::Never, _) => Ok(()),
            (Mark::Placed(_), Some(capture)) => {
                capture.invalidate();
                Err(CuResult::STREAM_CAPTURE_ISOLATION)
            }
            (Mark::Placed(fence), None) => {
                let context = stream.context()?;
                driver.captures.refuse_implicit(stream, &context)?;
                stream.submit(driver, &context, Work::Nothing, vec![fence]);
                Ok(())
            }
            (Mark::Captured(capture, after), None) => capture.join(stream, &after),
            (Mark::Captured(theirs, after), Some(ours)) => {
                if !Arc::ptr_eq(&theirs, &ours) {
                    ours.invalidate();
                    theirs.invalidate();
                    return Err(CuResult::STREAM_CAPTURE_MERGE);
                }
                ours.join(stream, &after)
            }
        }
    }

    /// The fence to wait for; `None` if the event was never recorded.
    fn fence(&self) -> DriverResult<Option<Arc<Fence>>> {
        match &*lock(&self.mark) {
            Mark::Never => Ok(None),
            Mark::Placed(fence) => Ok(Some(fence.clone())),
            Mark::Captured(capture, _) => {
                if !capture.is_over() {
                    capture.invalidate();
                }
                Err(CuResult::CAPTURED_EVENT)
            }
        }
    }
}

fn event_of(driver: &Driver, handle: Handle) -> DriverResult<Arc<Event>> {
    let event = driver.events.get(handle)?;
    if let Some(context) = driver.contexts.find(event.context_handle) {
        context.check_error()?;
    }
    Ok(event)
}

fn elapsed(driver: &Driver, start: Handle, end: Handle) -> DriverResult<f32> {
    let (start, end) = (event_of(driver, start)?, event_of(driver, end)?);
    if start.context_handle != end.context_handle || (start.flags | end.flags) & DISABLE_TIMING != 0 {
        return Err(CuResult::INVALID_HANDLE);
    }
    let (Some(start), Some(end)) = (start.fence()?, end.fence()?) else {
        return Err(CuResult::INVALID_HANDLE);
    };
    if !start.is_done() || !end.is_done() {
        return Err(CuResult::NOT_READY);
    }
    Ok(((end.time() - start.time()) / 1e6) as f32)
}

api! {
    /// Creates an event.
    fn cuEventCreate[driver, context](out: Out<Handle>, flags: c_uint) {
        out.required()?;
        let alone = flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0;
        if flags > 7 || alone {
            return Err(CuResult::INVALID_VALUE);
        }
        if flags & INTERPROCESS != 0 {
            return Err(CuResult::NOT_SUPPORTED);
        }
        let event = Event { context_handle: context.handle, flags, mark: Mutex::default() };
        out.set(driver.events.add(event))
    }

    /// Destroys an event; waits for it go on.
    fn cuEventDestroy_v2[driver](event: Handle) {
        driver.events.remove(event).map(|_| ())
    }

    /// Records an event in a stream.
    fn cuEventRecord[driver](event: Handle, stream: Handle) {
        let event = event_of(driver, event)?;
        event.record(driver, &stream::named(driver, stream)?, false)
    }

    /// Records an event in a stream; flag 1 makes it a node of its own in a capture.
    fn cuEventRecordWithFlags[driver](event: Handle, stream: Handle, flags: c_uint) {
        if flags > 1 {
            return Err(CuResult::INVALID_VALUE);
        }
        let event = event_of(driver, event)?;
        event.record(driver, &stream::named(driver, stream)?, flags == 1)
    }

    /// Whether the work before an event is done.
    fn cuEventQuery[driver](event: Handle) {
        let event = event_of(driver, event)?;
        let fence = event.fence()?;
        driver.forbid_during_capture()?;
        match fence {
            Some(fence) if !fence.is_done() => Err(CuResult::NOT_READY),
            _ => event.sync_error(driver),
        }
    }

    /// Waits for the work before an event.
    fn cuEventSynchronize[driver](handle: Handle) {
        let event = event_of(driver, handle)?;
        let fence = event.fence()?;
        driver.forbid_during_capture()?;
        if let Some(fence) = fence {
            fence.wait();
            context::host_waited(fence.time());
        }
        event.sync_error(driver)
    }

    /// Modelled milliseconds between two events.
    fn cuEventElapsedTime[driver](milliseconds: Out<f32>, start: Handle, end: Handle) {
        milliseconds.required()?;
        milliseconds.set(elapsed(driver, start, end)?)
    }

    /// Modelled milliseconds between two events.
    fn cuEventElapsedTime_v2[driver](milliseconds: Out<f32>, start: Handle, end: Handle) {
        milliseconds.required()?;
        milliseconds.set(elapsed(driver, start, end)?)
    }
}
