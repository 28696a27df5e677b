//! Copies of bytes.

use super::context::{self, Context};
use super::ffi::api;
use super::memory;
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::table::Handle;
use super::work::{Copy, End, Work};
use crate::memory::Kind;
use std::sync::Arc;

/// Whether an address is pageable memory of the client: neither registered nor managed.
fn pageable(driver: &Driver, end: &End) -> bool {
    let End::Host(address) = end else { return false };
    driver.engine.memory().lookup(*address as u64).is_none_or(|info| info.freed)
}

/// The host end of a copy; an error for an address of device memory.
pub(super) fn host(driver: &Driver, address: usize) -> DriverResult<End> {
    let info = driver.engine.memory().lookup(address as u64).filter(|info| !info.freed);
    let device = info.is_some_and(|info| matches!(info.kind, Kind::Device | Kind::Global | Kind::Const));
    if address == 0 || device {
        return Err(CuResult::INVALID_VALUE);
    }
    Ok(End::Host(address))
}

/// The device end of a copy, within one allocation.
pub(super) fn device(driver: &Driver, address: u64, bytes: u64) -> DriverResult<End> {
    memory::range(driver, address, bytes)?;
    Ok(End::Device(address))
}

/// The end at an address of either side (unified addressing).
pub(super) fn either(driver: &Driver, address: u64, bytes: u64) -> DriverResult<End> {
    match driver.engine.memory().lookup(address) {
        Some(_) => device(driver, address, bytes),
        None if address == 0 => Err(CuResult::INVALID_VALUE),
        None => Ok(End::Host(address as usize)),
    }
}

/// Copies and waits.
pub(super) fn now(driver: &'static Driver, context: &Arc<Context>, copy: Copy) -> DriverResult {
    driver.forbid_during_capture()?;
    let stream = context.legacy();
    if let Some(fence) = stream.add(driver, Work::Copy(Arc::new(copy)))? {
        fence.wait();
        context::host_waited(fence.time());
    }
    context.sync_error()
}

/// Copies in stream order. As with the real driver, pageable memory is read before the call
/// returns, and a copy into pageable memory is synchronous.
pub(super) fn later(driver: &'static Driver, stream: &Arc<Stream>, mut copy: Copy) -> DriverResult {
    let context = stream.context()?;
    context.check_error()?;
    let waits = pageable(driver, &copy.to);
    let capturing = stream.capture().is_some();
    let idle = || stream.last().is_done() && context.implied(stream).iter().all(|fence| fence.is_done());
    if !capturing && !waits && !idle() && pageable(driver, &copy.from) {
        stage(&mut copy);
    }
    let fence = stream.add(driver, Work::Copy(Arc::new(copy)))?;
    if let (Some(fence), true) = (fence, waits) {
        fence.wait();
        context::host_waited(fence.time());
        return context.sync_error();
    }
    Ok(())
}

/// Reads the source now, for a copy that runs after the client may have changed it.
fn stage(copy: &mut Copy) {
    let End::Host(address) = copy.from else { return };
    let last_plane = copy.depth.saturating_sub(1) * copy.from_pitch[1];
    let last_row = copy.height.saturating_sub(1) * copy.from_pitch[0];
    let bytes = last_plane + last_row + copy.width;
    // SAFETY: the client promises the rows and, by the pitch, that they lie in one object.
    let data = unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }.to_vec();
    copy.from = End::Staged(Arc::new(data));
}

/// Queues a flat copy in a stream that the client names.
fn in_stream(
    driver: &'static Driver,
    handle: Handle,
    bytes: usize,
    ends: impl FnOnce() -> DriverResult<(End, End)>,
) -> DriverResult {
    let stream = stream::named(driver, handle)?;
    stream.context()?.check_error()?;
    if bytes == 0 {
        return Ok(());
    }
    let (to, from) = ends()?;
    later(driver, &stream, Copy::flat(to, from, bytes))
}

fn at_once(
    driver: &'static Driver,
    context: &Arc<Context>,
    bytes: usize,
    ends: impl FnOnce() -> DriverResult<(End, End)>,
) -> DriverResult {
    if bytes == 0 {
        return driver.forbid_during_capture();
    }
    let (to, from) = ends()?;
    now(driver, context, Copy::flat(to, from, bytes))
}

api! {
    /// Copies from the host to the device.
    fn cuMemcpyHtoD_v2[driver, context](to: u64, from: usize, bytes: usize) {
        at_once(driver, context, bytes, || {
            Ok((device(driver, to, bytes as u64)?, host(driver, from)?))
        })
    }

    /// Copies from the device to the host.
    fn cuMemcpyDtoH_v2[driver, context](to: usize, from: u64, bytes: usize) {
        at_once(driver, context, bytes, || {
            Ok((host(driver, to)?, device(driver, from, bytes as u64)?))
        })
    }

    /// Copies on the device.
    fn cuMemcpyDtoD_v2[driver, context](to: u64, from: u64, bytes: usize) {
        at_once(driver, context, bytes, || {
            Ok((device(driver, to, bytes as u64)?, device(driver, from, bytes as u64)?))
        })
    }

    /// Copies between addresses of either side.
    fn cuMemcpy[driver, context](to: u64, from: u64, bytes: usize) {
        at_once(driver, context, bytes, || {
            Ok((either(driver, to, bytes as u64)?, either(driver, from, bytes as u64)?))
        })
    }

    /// Copies from the host to the device in stream order.
    fn cuMemcpyHtoDAsync_v2[driver](to: u64, from: usize, bytes: usize, stream: Handle) {
        in_stream(driver, stream, bytes, || {
            Ok((device(driver, to, bytes as u64)?, host(driver, from)?))
        })
    }

    /// Copies from the device to the host in stream order.
    fn cuMemcpyDtoHAsync_v2[driver](to: usize, from: u64, bytes: usize, stream: Handle) {
        in_stream(driver, stream, bytes, || {
            Ok((host(driver, to)?, device(driver, from, bytes as u64)?))
        })
    }

    /// Copies on the device in stream order.
    fn cuMemcpyDtoDAsync_v2[driver](to: u64, from: u64, bytes: usize, stream: Handle) {
        in_stream(driver, stream, bytes, || {
            Ok((device(driver, to, bytes as u64)?, device(driver, from, bytes as u64)?))
        })
    }

    /// Copies between addresses of either side in stream order.
    fn cuMemcpyAsync[driver](to: u64, from: u64, bytes: usize, stream: Handle) {
        in_stream(driver, stream, bytes, || {
            Ok((either(driver, to, bytes as u64)?, either(driver, from, bytes as u64)?))
        })
    }

    /// Copies between the memories of two contexts.
    fn cuMemcpyPeer[driver, context](
        to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize,
    ) {
        context::named(driver, to_context)?.check_error()?;
        context::named(driver, from_context)?.check_error()?;
        at_once(driver, context, bytes, || {
            Ok((device(driver, to, bytes as u64)?, device(driver, from, bytes as u64)?))
        })
    }

    /// Copies between the memories of two contexts in stream order.
    fn cuMemcpyPeerAsync[driver](
        to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize, stream: Handle,
    ) {
        context::named(driver, to_context)?.check_error()?;
        context::named(driver, from_context)?.check_error()?;
        in_stream(driver, stream, bytes, || {
            Ok((device(driver, to, bytes as u64)?, device(driver, from, bytes as u64)?))
        })
    }
}
