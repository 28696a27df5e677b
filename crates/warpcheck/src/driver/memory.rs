//! Device memory: allocating, freeing, asking about it.

use super::context;
use super::ffi::{Out, api};
use super::ownership;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::lock;
use crate::memory::{AllocationInfo, Kind};
use std::ffi::c_uint;

/// Pitched rows begin at multiples of this.
const PITCH: usize = 512;

/// The live allocation that contains a range; otherwise an invalid-value error,
/// with the reason on stderr.
pub(super) fn range(driver: &Driver, address: u64, bytes: u64) -> DriverResult<AllocationInfo> {
    let found = driver.engine.memory().lookup(address);
    let (what, info) = match found {
        None => ("is in no allocation".to_owned(), None),
        Some(info) if info.freed => (format!("is in memory that has been freed ({})", described(&info)), None),
        Some(info) if bytes > info.base + info.size - address => {
            (format!("runs over the end of {}", described(&info)), None)
        }
        Some(info) => (String::new(), Some(info)),
    };
    info.ok_or_else(|| {
        driver.report.note(&format!("a copy or fill of {bytes} bytes at {address:#x} {what}"));
        CuResult::INVALID_VALUE
    })
}

fn described(info: &AllocationInfo) -> String {
    format!("allocation {} of {} bytes at {:#x}", info.serial, info.size, info.base)
}

/// Frees device memory; in a broken context too, so that it does not count as a leak.
fn free(driver: &Driver, address: u64) -> DriverResult {
    if address == 0 {
        return Ok(());
    }
    let kind = driver.engine.memory().lookup(address).filter(|info| !info.freed);
    if !kind.is_some_and(|info| matches!(info.kind, Kind::Device | Kind::Managed)) {
        driver.report.note(&format!("cuMemFree of {address:#x}, which is not allocated"));
        return Err(CuResult::INVALID_VALUE);
    }
    let owner = lock(&driver.owners).get(&address).cloned().ok_or(CuResult::INVALID_VALUE)?;
    // Freeing waits for all work that might use the memory.
    let context = driver.contexts.find(owner.context_handle);
    let health = context.map_or(Ok(()), |context| context.wait_all());
    ownership::release(driver, address)?;
    health
}

api! {
    /// Allocates device memory.
    fn cuMemAlloc_v2[driver, context](out: Out<u64>, bytes: usize) {
        out.required()?;
        driver.forbid_during_capture()?;
        if bytes == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        out.set(ownership::allocate(driver, Kind::Device, context, 0, bytes as u64, "cuMemAlloc")?)
    }

    /// Allocates device memory for aligned rows.
    fn cuMemAllocPitch_v2[driver, context](
        out: Out<u64>, pitch: Out<usize>, width: usize, height: usize, element: c_uint,
    ) {
        out.required()?;
        pitch.required()?;
        driver.forbid_during_capture()?;
        if width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
            return Err(CuResult::INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(PITCH).ok_or(CuResult::INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(CuResult::OUT_OF_MEMORY)?;
        let address =
            ownership::allocate(driver, Kind::Device, context, 0, bytes as u64, "cuMemAllocPitch")?;
        pitch.set(row)?;
        out.set(address)
    }

    /// Frees device or managed memory, after all work of its context.
    fn cuMemFree_v2[driver](address: u64) {
        driver.forbid_during_capture()?;
        free(driver, address)?;
        context::current(driver)?.check_error()
    }

    /// Free and total memory of the current context's device.
    fn cuMemGetInfo_v2[driver, context](free: Out<usize>, total: Out<usize>) {
        let size = driver.profile(context.device).memory_bytes;
        let used = driver.engine.memory().used(context.device);
        free.set_if(size.saturating_sub(used) as usize);
        total.set_if(size as usize);
        Ok(())
    }

    /// Start and size of the allocation that holds an address.
    fn cuMemGetAddressRange_v2[driver, _context](
        base: Out<u64>, size: Out<usize>, address: u64,
    ) {
        let info = driver.engine.memory().lookup(address).filter(|info| !info.freed);
        let info = info.ok_or(CuResult::NOT_FOUND)?;
        base.set_if(info.base);
        size.set_if(info.size as usize);
        Ok(())
    }
}
