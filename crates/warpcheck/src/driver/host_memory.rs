//! Page-locked host memory: allocated here, or registered by the client.

use super::context::Context;
use super::ffi::{Out, api};
use super::ownership;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::{Handle, lock};
use crate::memory::Kind;
use std::collections::HashMap;
use std::ffi::c_uint;
use std::sync::Mutex;

/// The flags of a registered block, and its context.
#[derive(Debug, Clone, Copy)]
struct Block {
    flags: u32,
    registered: bool,
    context_handle: Handle,
}

/// The blocks of host memory that devices may touch, by address.
#[derive(Debug, Default)]
pub(super) struct HostMemory(Mutex<HashMap<u64, Block>>);

impl HostMemory {
    /// Removes and returns the registered blocks of a destroyed context.
    pub fn forget_context(&self, handle: Handle) -> Vec<u64> {
        let mut gone = Vec::new();
        lock(&self.0).retain(|address, block| {
            let mine = block.context_handle == handle;
            if mine && block.registered {
                gone.push(*address);
            }
            !mine
        });
        gone
    }
}

fn allocate(driver: &Driver, context: &Context, out: Out<usize>, bytes: usize, flags: u32) -> DriverResult {
    out.required()?;
    driver.forbid_during_capture()?;
    if bytes == 0 || flags > 7 {
        return Err(CuResult::INVALID_VALUE);
    }
    let address = ownership::allocate(driver, Kind::Pinned, context, 0, bytes as u64, "cuMemHostAlloc")?;
    let block = Block { flags, registered: false, context_handle: context.handle };
    lock(&driver.host_memory.0).insert(address, block);
    out.set(address as usize)
}

/// The start of the block that holds an address of the host.
fn block_of(driver: &Driver, address: u64) -> DriverResult<u64> {
    let info = driver.engine.memory().lookup(address).filter(|info| !info.freed);
    info.filter(|info| matches!(info.kind, Kind::Pinned | Kind::Registered | Kind::Managed))
        .map(|info| info.base)
        .ok_or(CuResult::INVALID_VALUE)
}

api! {
    /// Allocates page-locked host memory, which the device sees at the same address.
    fn cuMemHostAlloc[driver, context](out: Out<usize>, bytes: usize, flags: c_uint) {
        allocate(driver, context, out, bytes, flags)
    }

    /// Allocates page-locked host memory.
    fn cuMemAllocHost_v2[driver, context](out: Out<usize>, bytes: usize) {
        allocate(driver, context, out, bytes, 0)
    }

    /// Frees page-locked host memory; in a broken context too.
    fn cuMemFreeHost[driver](address: usize) {
        driver.forbid_during_capture()?;
        let address = address as u64;
        let block = lock(&driver.host_memory.0).get(&address).copied();
        let block = block.filter(|block| !block.registered).ok_or(CuResult::INVALID_VALUE)?;
        let context = driver.contexts.find(block.context_handle);
        let health = context.map_or(Ok(()), |context| context.wait_all());
        lock(&driver.host_memory.0).remove(&address);
        ownership::release(driver, address)?;
        health
    }

    /// The device's address of page-locked host memory: the same.
    fn cuMemHostGetDevicePointer_v2[driver, _context](
        out: Out<u64>, address: usize, flags: c_uint,
    ) {
        out.required()?;
        if flags != 0 || address == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        block_of(driver, address as u64)?;
        out.set(address as u64)
    }

    /// The flags that page-locked host memory was allocated with.
    fn cuMemHostGetFlags[driver](out: Out<c_uint>, address: usize) {
        out.required()?;
        let base = block_of(driver, address as u64)?;
        let block = lock(&driver.host_memory.0).get(&base).copied();
        // The device sees all of it.
        out.set(block.ok_or(CuResult::INVALID_VALUE)?.flags | 2)
    }

    /// Registers the client's memory with the devices.
    fn cuMemHostRegister_v2[driver, context](address: usize, bytes: usize, flags: c_uint) {
        driver.forbid_during_capture()?;
        if address == 0 || bytes == 0 || flags > 15 {
            return Err(CuResult::INVALID_VALUE);
        }
        // SAFETY: the client promises that the memory stays until it is unregistered.
        let registered = unsafe {
            driver.engine.memory().register(address as u64, bytes as u64, "cuMemHostRegister")
        };
        registered.map_err(|_| CuResult::HOST_MEMORY_ALREADY_REGISTERED)?;
        let block = Block { flags, registered: true, context_handle: context.handle };
        lock(&driver.host_memory.0).insert(address as u64, block);
        Ok(())
    }

    /// Unregisters the client's memory.
    fn cuMemHostUnregister[driver](address: usize) {
        driver.forbid_during_capture()?;
        if address == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        let address = address as u64;
        let block = lock(&driver.host_memory.0).get(&address).copied();
        let block = block.filter(|block| block.registered);
        let block = block.ok_or(CuResult::HOST_MEMORY_NOT_REGISTERED)?;
        let context = driver.contexts.find(block.context_handle);
        let health = context.map_or(Ok(()), |context| context.wait_all());
        lock(&driver.host_memory.0).remove(&address);
        driver.engine.memory().free(address).map_err(|_| CuResult::INVALID_VALUE)?;
        health
    }
}
