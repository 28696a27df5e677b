//! Filling memory with a pattern.

use super::context::{self, Context};
use super::ffi::api;
use super::memory;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::table::Handle;
use super::work::{Fill, Work};
use std::ffi::{c_uchar, c_uint, c_ushort};
use std::sync::Arc;

/// A checked fill; `None` if it is empty.
pub(super) fn checked(driver: &Driver, fill: Fill) -> DriverResult<Option<Fill>> {
    let bad = CuResult::INVALID_VALUE;
    if fill.width == 0 || fill.height == 0 {
        return Ok(None);
    }
    let row = fill.width.checked_mul(fill.element as usize).ok_or(bad)?;
    let unaligned = |address: u64| !address.is_multiple_of(u64::from(fill.element));
    if unaligned(fill.address) || (fill.height > 1 && (fill.pitch < row || unaligned(fill.pitch as u64))) {
        return Err(bad);
    }
    let span = (fill.height - 1).checked_mul(fill.pitch).and_then(|rows| rows.checked_add(row));
    memory::range(driver, fill.address, span.ok_or(bad)? as u64)?;
    Ok(Some(fill))
}

fn later(driver: &'static Driver, handle: Handle, fill: Fill) -> DriverResult {
    let stream = stream::named(driver, handle)?;
    stream.context()?.check_error()?;
    match checked(driver, fill)? {
        Some(fill) => stream.add(driver, Work::Fill(fill)).map(|_| ()),
        None => Ok(()),
    }
}

fn now(driver: &'static Driver, context: &Arc<Context>, fill: Fill) -> DriverResult {
    driver.forbid_during_capture()?;
    let Some(fill) = checked(driver, fill)? else { return Ok(()) };
    if let Some(fence) = context.legacy().add(driver, Work::Fill(fill))? {
        fence.wait();
        context::host_waited(fence.time());
    }
    context.sync_error()
}

fn flat(address: u64, pattern: u32, element: u32, width: usize) -> Fill {
    Fill { address, pattern, element, width, height: 1, pitch: 0 }
}

fn rows(address: u64, pitch: usize, pattern: u32, element: u32, width: usize, height: usize) -> Fill {
    Fill { address, pattern, element, width, height, pitch }
}

api! {
    /// Fills with bytes.
    fn cuMemsetD8_v2[driver, context](address: u64, value: c_uchar, count: usize) {
        now(driver, context, flat(address, u32::from(value), 1, count))
    }

    /// Fills with 16-bit words.
    fn cuMemsetD16_v2[driver, context](address: u64, value: c_ushort, count: usize) {
        now(driver, context, flat(address, u32::from(value), 2, count))
    }

    /// Fills with 32-bit words.
    fn cuMemsetD32_v2[driver, context](address: u64, value: c_uint, count: usize) {
        now(driver, context, flat(address, value, 4, count))
    }

    /// Fills a rectangle with bytes.
    fn cuMemsetD2D8_v2[driver, context](
        address: u64, pitch: usize, value: c_uchar, width: usize, height: usize,
    ) {
        now(driver, context, rows(address, pitch, u32::from(value), 1, width, height))
    }

    /// Fills a rectangle with 16-bit words.
    fn cuMemsetD2D16_v2[driver, context](
        address: u64, pitch: usize, value: c_ushort, width: usize, height: usize,
    ) {
        now(driver, context, rows(address, pitch, u32::from(value), 2, width, height))
    }

    /// Fills a rectangle with 32-bit words.
    fn cuMemsetD2D32_v2[driver, context](
        address: u64, pitch: usize, value: c_uint, width: usize, height: usize,
    ) {
        now(driver, context, rows(address, pitch, value, 4, width, height))
    }

    /// Fills with bytes in stream order.
    fn cuMemsetD8Async[driver](address: u64, value: c_uchar, count: usize, stream: Handle) {
        later(driver, stream, flat(address, u32::from(value), 1, count))
    }

    /// Fills with 16-bit words in stream order.
    fn cuMemsetD16Async[driver](address: u64, value: c_ushort, count: usize, stream: Handle) {
        later(driver, stream, flat(address, u32::from(value), 2, count))
    }

    /// Fills with 32-bit words in stream order.
    fn cuMemsetD32Async[driver](address: u64, value: c_uint, count: usize, stream: Handle) {
        later(driver, stream, flat(address, value, 4, count))
    }

    /// Fills a rectangle with bytes in stream order.
    fn cuMemsetD2D8Async[driver](
        address: u64, pitch: usize, value: c_uchar, width: usize, height: usize, stream: Handle,
    ) {
        later(driver, stream, rows(address, pitch, u32::from(value), 1, width, height))
    }

    /// Fills a rectangle with 16-bit words in stream order.
    fn cuMemsetD2D16Async[driver](
        address: u64, pitch: usize, value: c_ushort, width: usize, height: usize, stream: Handle,
    ) {
        later(driver, stream, rows(address, pitch, u32::from(value), 2, width, height))
    }

    /// Fills a rectangle with 32-bit words in stream order.
    fn cuMemsetD2D32Async[driver](
        address: u64, pitch: usize, value: c_uint, width: usize, height: usize, stream: Handle,
    ) {
        later(driver, stream, rows(address, pitch, value, 4, width, height))
    }
}
