//! Streams: creation, synchronisation, queries.

use super::context::{self, Context};
use super::ffi::{Out, api};
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::{Handle, Table};
use super::work::{HostFunction, Work};
use std::ffi::{c_int, c_uint};
use std::sync::Arc;

fn create(driver: &Driver, context: &Arc<Context>, out: Out<Handle>, flags: u32, priority: c_int) -> DriverResult {
    out.required()?;
    if flags > 1 {
        return Err(CuResult::INVALID_VALUE);
    }
    let handle = Table::<Stream>::reserve();
    let stream =
        Stream::new(handle, Arc::downgrade(context), context.handle, context.device, flags, priority.clamp(-5, 0));
    context.enlist(&stream);
    driver.streams.enter(handle, stream);
    out.set(handle)
}

/// The stream of a client's handle, in any context; default streams are those of the current one.
pub(super) fn named(driver: &Driver, handle: Handle) -> DriverResult<Arc<Stream>> {
    match handle {
        0..=2 => context::current(driver)?.stream(driver, handle),
        _ => driver.streams.get(handle),
    }
}

api! {
    /// Creates a stream.
    fn cuStreamCreate[driver, context](out: Out<Handle>, flags: c_uint) {
        create(driver, context, out, flags, 0)
    }

    /// Creates a stream with a priority, clamped to the device's range.
    fn cuStreamCreateWithPriority[driver, context](
        out: Out<Handle>, flags: c_uint, priority: c_int,
    ) {
        create(driver, context, out, flags, priority)
    }

    /// Destroys a stream; queued work still runs.
    fn cuStreamDestroy_v2[driver](handle: Handle) {
        if handle <= 2 {
            return Err(CuResult::INVALID_VALUE);
        }
        let stream = driver.streams.remove(handle)?;
        driver.captures.abandon(driver, &stream);
        stream.close();
        Ok(())
    }

    /// Waits for all work of a stream.
    fn cuStreamSynchronize[driver](handle: Handle) {
        let stream = named(driver, handle)?;
        let context = stream.context()?;
        context.check_error()?;
        driver.captures.refuse_wait(&stream, &context)?;
        let fence = stream.last();
        fence.wait();
        context::host_waited(fence.time());
        context.sync_error()
    }

    /// Whether all work of a stream is done.
    fn cuStreamQuery[driver](handle: Handle) {
        let stream = named(driver, handle)?;
        let context = stream.context()?;
        context.check_error()?;
        driver.captures.refuse_wait(&stream, &context)?;
        let fence = stream.last();
        if !fence.is_done() {
            return Err(CuResult::NOT_READY);
        }
        context.sync_error()
    }

    /// Makes all later work of a stream wait for an event.
    fn cuStreamWaitEvent[driver](handle: Handle, event: Handle, flags: c_uint) {
        if flags > 1 {
            return Err(CuResult::INVALID_VALUE);
        }
        let stream = named(driver, handle)?;
        stream.context()?.check_error()?;
        driver.events.get(event)?.hold_back(driver, &stream)
    }

    /// The flags that a stream was made with.
    fn cuStreamGetFlags[driver](handle: Handle, flags: Out<c_uint>) {
        flags.set(named(driver, handle)?.flags)
    }

    /// The priority that a stream was made with.
    fn cuStreamGetPriority[driver](handle: Handle, priority: Out<c_int>) {
        priority.set(named(driver, handle)?.priority)
    }

    /// A number that no other stream of the process has.
    fn cuStreamGetId[driver](handle: Handle, id: Out<u64>) {
        id.set(named(driver, handle)?.id)
    }

    /// The context of a stream.
    fn cuStreamGetCtx[driver](handle: Handle, context: Out<Handle>) {
        context.set(named(driver, handle)?.context_handle)
    }

    /// The context of a stream; there are no green contexts.
    fn cuStreamGetCtx_v2[driver](handle: Handle, context: Out<Handle>, green: Out<Handle>) {
        green.set_if(0);
        context.set(named(driver, handle)?.context_handle)
    }

    /// The device of a stream.
    fn cuStreamGetDevice[driver](handle: Handle, device: Out<c_int>) {
        device.set(named(driver, handle)?.device as c_int)
    }

    /// Copies the attributes of a stream: hints without effect.
    fn cuStreamCopyAttributes[driver](to: Handle, from: Handle) {
        named(driver, to)?;
        named(driver, from).map(|_| ())
    }

    /// Attaches managed memory to a stream: no effect, every stream has access.
    fn cuStreamAttachMemAsync[driver, context](
        handle: Handle, pointer: u64, _length: usize, flags: c_uint,
    ) {
        let stream = context.own_stream(driver, handle)?;
        if !matches!(flags, 1 | 2 | 4) {
            return Err(CuResult::INVALID_VALUE);
        }
        super::managed::require_managed(driver, pointer)?;
        stream.add(driver, Work::Nothing).map(|_| ())
    }

    /// Calls a host function in stream order.
    fn cuLaunchHostFunc[driver](
        handle: Handle, function: Option<unsafe extern "C" fn(*mut std::ffi::c_void)>, data: usize,
    ) {
        let function = function.ok_or(CuResult::INVALID_VALUE)?;
        let stream = named(driver, handle)?;
        stream.context()?.check_error()?;
        stream.add(driver, Work::Host(HostFunction::Plain { function, data })).map(|_| ())
    }

    /// Calls a host function in stream order, with the stream and its status.
    fn cuStreamAddCallback[driver](
        handle: Handle,
        function: Option<unsafe extern "C" fn(usize, CuResult, *mut std::ffi::c_void)>,
        data: usize,
        flags: c_uint,
    ) {
        let function = function.ok_or(CuResult::INVALID_VALUE)?;
        if flags != 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        let stream = named(driver, handle)?;
        stream.context()?.check_error()?;
        if let Some(capture) = stream.capture() {
            capture.invalidate();
            return Err(CuResult::STREAM_CAPTURE_UNSUPPORTED);
        }
        let callback = HostFunction::Callback { function, stream: handle, data };
        stream.add(driver, Work::Host(callback)).map(|_| ())
    }
}
