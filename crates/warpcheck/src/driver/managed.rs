//! Managed memory: one address for host and devices, with hints about its location.

use super::ffi::{In, Out, api};
use super::ownership;
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::structs::Location;
use super::table::{Handle, lock};
use super::work::Work;
use crate::memory::{AllocationInfo, Kind};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{c_int, c_uint};
use std::sync::{Arc, Mutex, OnceLock};

const ON_DEVICE: u32 = 1;
const ON_HOST: u32 = 2;
const ON_NODE: u32 = 3;
const ON_THIS_NODE: u32 = 4;
/// The codes of the API's first version for the host and for "no location".
const CPU: c_int = -1;
const NOWHERE: c_int = -2;

/// The advice given for an allocation.
#[derive(Debug, Clone, Default)]
struct Advice {
    read_mostly: bool,
    preferred: Option<Location>,
    accessed_by: BTreeSet<c_int>,
    prefetched: Option<Location>,
}

/// The advice by the serial number of the allocation, which is never used again.
fn all_advice() -> &'static Mutex<HashMap<u64, Advice>> {
    static ADVICE: OnceLock<Mutex<HashMap<u64, Advice>>> = OnceLock::new();
    ADVICE.get_or_init(Mutex::default)
}

/// The managed allocation at an address.
pub(super) fn require_managed(driver: &Driver, address: u64) -> DriverResult<AllocationInfo> {
    driver
        .engine
        .memory()
        .lookup(address)
        .filter(|info| !info.freed && info.kind == Kind::Managed)
        .ok_or(CuResult::INVALID_VALUE)
}

fn managed_range(driver: &Driver, address: u64, bytes: usize) -> DriverResult<AllocationInfo> {
    let info = require_managed(driver, address)?;
    if bytes == 0 || bytes as u64 > info.base + info.size - address {
        return Err(CuResult::INVALID_VALUE);
    }
    Ok(info)
}

fn location_of(device: c_int) -> Location {
    if device == CPU { Location { kind: ON_HOST, id: 0 } } else { Location { kind: ON_DEVICE, id: device } }
}

fn check_location(driver: &Driver, location: Location) -> DriverResult {
    match location.kind {
        ON_DEVICE => driver.device(location.id).map(|_| ()),
        ON_HOST | ON_NODE | ON_THIS_NODE => Ok(()),
        _ => Err(CuResult::INVALID_VALUE),
    }
}

fn device_number(location: Option<Location>) -> c_int {
    match location {
        None => NOWHERE,
        Some(Location { kind: ON_DEVICE, id }) => id,
        Some(_) => CPU,
    }
}

fn advise(driver: &Driver, address: u64, bytes: usize, advice: u32, location: Location) -> DriverResult {
    let info = managed_range(driver, address, bytes)?;
    let mut all = lock(all_advice());
    let noted = all.entry(info.serial).or_default();
    match advice {
        1 => noted.read_mostly = true,
        2 => noted.read_mostly = false,
        3 => {
            check_location(driver, location)?;
            noted.preferred = Some(location);
        }
        4 => noted.preferred = None,
        5 | 6 => {
            check_location(driver, location)?;
            let device = device_number(Some(location));
            if advice == 5 {
                noted.accessed_by.insert(device);
            } else {
                noted.accessed_by.remove(&device);
            }
        }
        _ => return Err(CuResult::INVALID_VALUE),
    }
    Ok(())
}

fn prefetch(
    driver: &'static Driver,
    address: u64,
    bytes: usize,
    location: Location,
    stream: &Arc<Stream>,
) -> DriverResult {
    stream.context()?.check_error()?;
    let info = managed_range(driver, address, bytes)?;
    check_location(driver, location)?;
    lock(all_advice()).entry(info.serial).or_default().prefetched = Some(location);
    stream.add(driver, Work::Nothing).map(|_| ())
}

fn attribute(driver: &Driver, data: Out<u32>, size: usize, attribute: u32, address: u64, bytes: usize) -> DriverResult {
    data.required()?;
    let info = managed_range(driver, address, bytes)?;
    let noted = lock(all_advice()).get(&info.serial).cloned().unwrap_or_default();
    let kind = |location: Option<Location>| location.map_or(0, |location| location.kind);
    let id = |location: Option<Location>| location.map_or(0, |location| location.id as u32);
    let value = match attribute {
        1 => u32::from(noted.read_mostly),
        2 => device_number(noted.preferred) as u32,
        3 => {
            if size == 0 || !size.is_multiple_of(4) {
                return Err(CuResult::INVALID_VALUE);
            }
            let devices = noted.accessed_by.iter().copied().chain(std::iter::repeat(NOWHERE));
            let devices: Vec<u32> = devices.take(size / 4).map(|device| device as u32).collect();
            data.set_list(&devices, size / 4);
            return Ok(());
        }
        4 => device_number(noted.prefetched) as u32,
        5 => kind(noted.preferred),
        6 => id(noted.preferred),
        7 => kind(noted.prefetched),
        8 => id(noted.prefetched),
        _ => return Err(CuResult::INVALID_VALUE),
    };
    if size != 4 {
        return Err(CuResult::INVALID_VALUE);
    }
    data.set(value)
}

api! {
    /// Allocates memory that host and devices use at the same address.
    fn cuMemAllocManaged[driver, context](out: Out<u64>, bytes: usize, flags: c_uint) {
        out.required()?;
        driver.forbid_during_capture()?;
        if bytes == 0 || !matches!(flags, 1 | 2) {
            return Err(CuResult::INVALID_VALUE);
        }
        out.set(ownership::allocate(driver, Kind::Managed, context, 0, bytes as u64, "cuMemAllocManaged")?)
    }

    /// Moves managed memory to a device ahead of its use: kept as a hint.
    fn cuMemPrefetchAsync[driver](address: u64, bytes: usize, device: c_int, stream: Handle) {
        let stream = stream::named(driver, stream)?;
        prefetch(driver, address, bytes, location_of(device), &stream)
    }

    /// Moves managed memory to a location ahead of its use: kept as a hint.
    fn cuMemPrefetchAsync_v2[driver](
        address: u64, bytes: usize, location: Location, flags: c_uint, stream: Handle,
    ) {
        if flags != 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        let stream = stream::named(driver, stream)?;
        prefetch(driver, address, bytes, location, &stream)
    }

    /// Says how managed memory will be used: kept as a hint.
    fn cuMemAdvise[driver, _context](address: u64, bytes: usize, advice: c_uint, device: c_int) {
        advise(driver, address, bytes, advice, location_of(device))
    }

    /// Says how managed memory will be used: kept as a hint.
    fn cuMemAdvise_v2[driver, _context](
        address: u64, bytes: usize, advice: c_uint, location: Location,
    ) {
        advise(driver, address, bytes, advice, location)
    }

    /// A hint that was given for managed memory.
    fn cuMemRangeGetAttribute[driver, _context](
        data: Out<u32>, size: usize, kind: c_uint, address: u64, bytes: usize,
    ) {
        attribute(driver, data, size, kind, address, bytes)
    }

    /// Hints that were given for managed memory.
    fn cuMemRangeGetAttributes[driver, _context](
        data: In<usize>, sizes: In<usize>, kinds: In<c_uint>, count: usize,
        address: u64, bytes: usize,
    ) {
        if count == 0 {
            return Err(CuResult::INVALID_VALUE);
        }
        for index in 0..count {
            let place = Out::from_address(data.at(index)?);
            attribute(driver, place, sizes.at(index)?, kinds.at(index)?, address, bytes)?;
        }
        Ok(())
    }
}
