//! Pointer attributes.

use super::ffi::{In, Out, api};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::table::lock;
use crate::memory::{AllocationInfo, Kind};
use std::ffi::c_uint;

const HOST: u64 = 1;
const DEVICE: u64 = 2;

/// The value of an attribute and its size in bytes.
fn value(driver: &Driver, info: &AllocationInfo, attribute: u32, address: u64) -> DriverResult<(u64, usize)> {
    let owner = lock(&driver.owners).get(&info.base).cloned();
    let on_host = matches!(info.kind, Kind::Pinned | Kind::Registered);
    let shared = on_host || info.kind == Kind::Managed;
    Ok(match attribute {
        1 => (owner.map_or(0, |owner| owner.context_handle) as u64, 8),
        2 => (if on_host { HOST } else { DEVICE }, 4),
        3 => (address, 8),
        // Device memory has no address on the host.
        4 if !shared => return Err(CuResult::INVALID_VALUE),
        4 => (address, 8),
        6 => (0, 4),
        7 => (info.serial, 8),
        8 => (u64::from(info.kind == Kind::Managed), 4),
        9 => (u64::from(info.device), 4),
        10 => (0, 1),
        11 => (info.base, 8),
        12 => (info.size, 8),
        13 => (1, 1),
        14 => (0, 8),
        15 => (0, 1),
        // Read and write.
        16 => (3, 4),
        17 => (owner.map_or(0, |owner| owner.pool) as u64, 8),
        18 => (info.size, 8),
        19 => (info.base, 8),
        20 => (info.serial, 8),
        21 => (0, 1),
        5 => return Err(CuResult::NOT_SUPPORTED),
        _ => return Err(CuResult::INVALID_VALUE),
    })
}

fn store(data: Out<u8>, (value, size): (u64, usize)) -> DriverResult {
    data.required()?;
    data.set_list(&value.to_le_bytes()[..size], size);
    Ok(())
}

fn holder(driver: &Driver, address: u64) -> Option<AllocationInfo> {
    driver.engine.memory().lookup(address).filter(|info| !info.freed)
}

api! {
    /// An attribute of an address.
    fn cuPointerGetAttribute[driver, _context](data: Out<u8>, attribute: c_uint, address: u64) {
        data.required()?;
        let info = holder(driver, address).ok_or(CuResult::INVALID_VALUE)?;
        store(data, value(driver, &info, attribute, address)?)
    }

    /// Attributes of an address; those of an unknown one are zero.
    fn cuPointerGetAttributes[driver, _context](
        count: c_uint, attributes: In<c_uint>, data: In<usize>, address: u64,
    ) {
        let known = holder(driver, address);
        for index in 0..count as usize {
            let (attribute, place) = (attributes.at(index)?, Out::from_address(data.at(index)?));
            let found = match &known {
                Some(info) => value(driver, info, attribute, address),
                None if attribute == 9 => Ok((u64::from(u32::MAX - 1), 4)),
                None => Ok((0, if matches!(attribute, 2 | 6 | 8 | 16) { 4 } else { 1 })),
            };
            match found {
                Ok(found) => store(place, found)?,
                // Device memory seen from the host: null.
                Err(_) if attribute == 4 => store(place, (0, 8))?,
                Err(code) => return Err(code),
            }
        }
        Ok(())
    }

    /// Sets an attribute of an address: the only one that can be set requests synchronous copies, and
    /// copies are synchronous here where it matters.
    fn cuPointerSetAttribute[driver, _context](data: In<c_uint>, attribute: c_uint, address: u64) {
        data.get()?;
        if attribute != 6 || holder(driver, address).is_none() {
            return Err(CuResult::INVALID_VALUE);
        }
        Ok(())
    }
}
