//! Ownership: allocations with their context and pool, and what is freed with a context.

use super::context::Context;
use super::result::{CuResult, DriverResult};
use super::state::{Driver, Owner};
use super::table::{Handle, lock};
use crate::memory::Kind;

/// Allocates memory of a kind for a context, up to the device's memory size.
pub(super) fn allocate(
    driver: &Driver,
    kind: Kind,
    context: &Context,
    pool: Handle,
    bytes: u64,
    label: &str,
) -> DriverResult<u64> {
    let memory = driver.engine.memory();
    let room = driver.profile(context.device).memory_bytes;
    // One lock around check and allocation, so that two threads cannot both take the rest.
    let mut owners = lock(&driver.owners);
    let on_device = !matches!(kind, Kind::Pinned);
    if on_device && bytes.saturating_add(memory.used(context.device)) > room {
        return Err(CuResult::OUT_OF_MEMORY);
    }
    let address = memory.allocate(kind, context.device, bytes, 512, label).map_err(|_| CuResult::OUT_OF_MEMORY)?;
    owners.insert(address, Owner { context_handle: context.handle, pool, bytes });
    if let Some(pool) = driver.pools.find(pool) {
        pool.grow(bytes);
    }
    Ok(address)
}

/// Frees an allocation of `allocate`.
pub(super) fn release(driver: &Driver, address: u64) -> DriverResult {
    let owner = lock(&driver.owners).remove(&address).ok_or(CuResult::INVALID_VALUE)?;
    driver.engine.memory().free(address).map_err(|_| CuResult::INVALID_VALUE)?;
    if let Some(pool) = driver.pools.find(owner.pool) {
        pool.shrink(owner.bytes);
    }
    Ok(())
}

/// Frees everything created on a context that is being destroyed.
pub(super) fn forget_context(driver: &Driver, context: &Context) {
    let mine = |handle: Handle| handle == context.handle;
    for stream in driver.streams.retain(|stream| !mine(stream.context_handle)) {
        driver.captures.abandon(driver, &stream);
    }
    driver.events.retain(|event| !mine(event.context_handle));
    driver.functions.retain(|function| !mine(function.context_handle));
    for module in driver.modules.retain(|module| !mine(module.context_handle)) {
        module.unload(driver);
    }
    let left: Vec<u64> = lock(&driver.owners)
        .iter()
        .filter(|(_, owner)| mine(owner.context_handle))
        .map(|(address, _)| *address)
        .collect();
    for address in left {
        if let Some(info) = driver.engine.memory().lookup(address) {
            driver.report.leaked(info);
        }
        // Cannot fail: found above, and only this thread destroys the context.
        let _ = release(driver, address);
    }
    for address in driver.host_memory.forget_context(context.handle) {
        let _ = driver.engine.memory().free(address);
    }
}
