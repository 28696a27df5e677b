//! Memory pools and allocation in stream order.
//!
//! An allocation exists from the call on; a free happens in stream order,
//! so that an unordered use in another stream is detected. Freed memory returns to the device at once:
//! a pool reserves what it has in use.

use super::ffi::{In, Out, api};
use super::ownership;
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::structs::{AccessDescriptor, Location, PoolProperties};
use super::table::{Handle, lock};
use super::work::Work;
use crate::memory::Kind;
use std::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex};

/// One pool.
#[derive(Debug)]
pub(super) struct Pool {
    device: u32,
    default: bool,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// The three reuse policies and the release threshold, as the client set them.
    reuse: [c_int; 3],
    threshold: u64,
    used: u64,
    high: u64,
    /// High watermark of reserved bytes since it was last reset.
    reserved_high: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(device: u32, default: bool) -> Pool {
        let state = PoolState { reuse: [1; 3], ..PoolState::default() };
        Pool { device, default, state: Mutex::new(state) }
    }

    /// Bytes were allocated.
    pub fn grow(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.used += bytes;
        state.high = state.high.max(state.used);
        state.reserved_high = state.reserved_high.max(state.used);
    }

    /// Bytes were freed.
    pub fn shrink(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.used = state.used.saturating_sub(bytes);
    }
}

fn allocate(driver: &'static Driver, out: Out<u64>, bytes: usize, pool: Handle, stream: &Arc<Stream>) -> DriverResult {
    out.required()?;
    if bytes == 0 {
        return Err(CuResult::INVALID_VALUE);
    }
    let context = stream.context()?;
    context.check_error()?;
    let known = driver.pools.get(pool)?;
    if known.device != context.device {
        return Err(CuResult::INVALID_VALUE);
    }
    let bytes = bytes as u64;
    let address = ownership::allocate(driver, Kind::Device, &context, pool, bytes, "cuMemAllocAsync")?;
    if let Some(capture) = stream.capture() {
        capture.own(address);
        stream.add(driver, Work::Allocate)?;
    }
    out.set(address)
}

fn free(driver: &'static Driver, address: u64, stream: &Arc<Stream>) -> DriverResult {
    if address == 0 {
        return Ok(());
    }
    let context = stream.context()?;
    if !lock(&driver.owners).contains_key(&address) {
        driver.report.note(&format!("cuMemFreeAsync of {address:#x}, which is not allocated"));
        return Err(CuResult::INVALID_VALUE);
    }
    if context.error() != CuResult::SUCCESS {
        // The context is broken, so the free will not run; the memory must not count as a leak.
        ownership::release(driver, address)?;
        return context.check_error();
    }
    stream.add(driver, Work::Free(address)).map(|_| ())
}

fn attribute_of(pool: &Pool, attribute: u32, value: Out<u8>) -> DriverResult {
    value.required()?;
    let state = lock(&pool.state);
    let long = |number: u64| value.set_list(&number.to_le_bytes(), 8);
    match attribute {
        1..=3 => value.set_list(&state.reuse[attribute as usize - 1].to_le_bytes(), 4),
        4 => long(state.threshold),
        5 | 7 => long(state.used),
        6 => long(state.reserved_high),
        8 => long(state.high),
        _ => return Err(CuResult::INVALID_VALUE),
    };
    Ok(())
}

fn set_attribute(pool: &Pool, attribute: u32, value: In<u8>) -> DriverResult {
    let mut state = lock(&pool.state);
    let long = || -> DriverResult<u64> {
        let bytes = value.list(8)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    match attribute {
        1..=3 => {
            let bytes = value.list(4)?;
            state.reuse[attribute as usize - 1] = c_int::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        4 => state.threshold = long()?,
        // High watermarks can only be reset to the current use.
        6 if long()? == 0 => state.reserved_high = state.used,
        8 if long()? == 0 => state.high = state.used,
        _ => return Err(CuResult::INVALID_VALUE),
    }
    Ok(())
}

api! {
    /// Allocates memory in stream order from the device's pool.
    fn cuMemAllocAsync[driver](out: Out<u64>, bytes: usize, stream: Handle) {
        let stream = stream::named(driver, stream)?;
        let pool = *lock(&driver.devices[stream.device as usize].pool);
        allocate(driver, out, bytes, pool, &stream)
    }

    /// Allocates memory in stream order from a pool.
    fn cuMemAllocFromPoolAsync[driver](
        out: Out<u64>, bytes: usize, pool: Handle, stream: Handle,
    ) {
        allocate(driver, out, bytes, pool, &stream::named(driver, stream)?)
    }

    /// Frees memory in stream order.
    fn cuMemFreeAsync[driver](address: u64, stream: Handle) {
        free(driver, address, &stream::named(driver, stream)?)
    }

    /// Creates a pool on a device.
    fn cuMemPoolCreate[driver](out: Out<Handle>, properties: In<PoolProperties>) {
        out.required()?;
        let properties = properties.get()?;
        if properties.allocation != 1 {
            return Err(CuResult::INVALID_VALUE);
        }
        if properties.handles != 0 || properties.location.kind != 1 {
            return Err(CuResult::NOT_SUPPORTED);
        }
        let device = driver.device(properties.location.id)?.ordinal;
        out.set(driver.pools.add(Pool::new(device, false)))
    }

    /// Destroys a pool; what was allocated from it stays until it is freed.
    fn cuMemPoolDestroy[driver](handle: Handle) {
        if driver.pools.get(handle)?.default {
            return Err(CuResult::INVALID_VALUE);
        }
        driver.pools.remove(handle)?;
        for device in &driver.devices {
            let mut current = lock(&device.pool);
            if *current == handle {
                *current = device.default_pool;
            }
        }
        Ok(())
    }

    /// Trims a pool: it holds no unused memory.
    fn cuMemPoolTrimTo[driver](pool: Handle, _keep: usize) {
        driver.pools.get(pool).map(|_| ())
    }

    /// An attribute of a pool.
    fn cuMemPoolGetAttribute[driver](pool: Handle, attribute: c_uint, value: Out<u8>) {
        attribute_of(&*driver.pools.get(pool)?, attribute, value)
    }

    /// Sets an attribute of a pool.
    fn cuMemPoolSetAttribute[driver](pool: Handle, attribute: c_uint, value: In<u8>) {
        set_attribute(&*driver.pools.get(pool)?, attribute, value)
    }

    /// Lets devices touch a pool's memory: they share one address space.
    fn cuMemPoolSetAccess[driver](pool: Handle, list: In<AccessDescriptor>, count: usize) {
        let pool = driver.pools.get(pool)?;
        for access in list.list(count)? {
            if access.location.kind != 1 {
                return Err(CuResult::INVALID_VALUE);
            }
            let device = driver.device(access.location.id)?.ordinal;
            // A pool's own device keeps its access.
            if device == pool.device && access.flags != 3 {
                return Err(CuResult::INVALID_VALUE);
            }
        }
        Ok(())
    }

    /// A device's access to a pool's memory: read and write.
    fn cuMemPoolGetAccess[driver](flags: Out<c_uint>, pool: Handle, location: Out<Location>) {
        flags.required()?;
        driver.pools.get(pool)?;
        driver.device(location.get()?.id)?;
        flags.set(3)
    }

    /// A device's default pool.
    fn cuDeviceGetDefaultMemPool[driver](out: Out<Handle>, device: c_int) {
        out.required()?;
        out.set(driver.device(device)?.default_pool)
    }

    /// A device's current pool.
    fn cuDeviceGetMemPool[driver](out: Out<Handle>, device: c_int) {
        out.required()?;
        out.set(*lock(&driver.device(device)?.pool))
    }

    /// Sets a device's current pool.
    fn cuDeviceSetMemPool[driver](device: c_int, pool: Handle) {
        let device = driver.device(device)?;
        if driver.pools.get(pool)?.device != device.ordinal {
            return Err(CuResult::INVALID_VALUE);
        }
        *lock(&device.pool) = pool;
        Ok(())
    }

    /// Memory of graphs on a device: it is counted with the pool's.
    fn cuDeviceGetGraphMemAttribute[driver](device: c_int, attribute: c_uint, value: Out<u64>) {
        driver.device(device)?;
        if attribute > 3 {
            return Err(CuResult::INVALID_VALUE);
        }
        value.set(0)
    }

    /// Sets a high watermark of graph memory: there is none.
    fn cuDeviceSetGraphMemAttribute[driver](device: c_int, attribute: c_uint, _value: In<u64>) {
        driver.device(device)?;
        if matches!(attribute, 1 | 3) { Ok(()) } else { Err(CuResult::INVALID_VALUE) }
    }

    /// Trims graph memory: there is none unused.
    fn cuDeviceGraphMemTrim[driver](device: c_int) {
        driver.device(device).map(|_| ())
    }
}
