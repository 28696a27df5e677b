//! Devices: count, names, sizes and identifiers.

use super::attribute;
use super::ffi::{Out, Text, api};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::structs::{DeviceProperties, Uuid};
use crate::profile::Profile;
use std::ffi::{c_char, c_int, c_uint};

/// Stores a NUL-terminated string, truncated to the client's buffer.
fn set_text(out: Out<c_char>, room: c_int, text: &str) -> DriverResult {
    out.required()?;
    let room = usize::try_from(room).ok().filter(|room| *room > 0).ok_or(CuResult::INVALID_VALUE)?;
    let count = text.len().min(room - 1);
    for (index, byte) in text.bytes().take(count).enumerate() {
        out.at(index).set_if(byte as c_char);
    }
    out.at(count).set(0)
}

/// The bus address of a device, as `domain:bus:device.function`.
fn bus_id(ordinal: u32) -> String {
    format!("0000:{:02X}:00.0", ordinal + 1)
}

fn uuid(driver: &Driver, out: Out<Uuid>, device: c_int) -> DriverResult {
    let device = driver.device(device)?;
    let mut bytes = *b"warpcheck gpu\0\0\0";
    bytes[14] = device.ordinal as u8;
    bytes[15] = device.profile.sm() as u8;
    out.set(Uuid(bytes))
}

api! {
    /// The device of an ordinal; a device is its ordinal.
    fn cuDeviceGet[driver](out: Out<c_int>, ordinal: c_int) {
        out.required()?;
        out.set(driver.device(ordinal)?.ordinal as c_int)
    }

    /// Number of devices.
    fn cuDeviceGetCount[driver](out: Out<c_int>) {
        out.set(driver.devices.len() as c_int)
    }

    /// The name of a device.
    fn cuDeviceGetName[driver](out: Out<c_char>, room: c_int, device: c_int) {
        set_text(out, room, &driver.device(device)?.profile.name)
    }

    /// The device's UUID.
    fn cuDeviceGetUuid[driver](out: Out<Uuid>, device: c_int) {
        uuid(driver, out, device)
    }

    /// The device's UUID.
    fn cuDeviceGetUuid_v2[driver](out: Out<Uuid>, device: c_int) {
        uuid(driver, out, device)
    }

    /// The memory of a device in bytes.
    fn cuDeviceTotalMem_v2[driver](out: Out<usize>, device: c_int) {
        out.set(driver.device(device)?.profile.memory_bytes as usize)
    }

    /// An attribute of a device.
    fn cuDeviceGetAttribute[driver](out: Out<c_int>, attribute: c_uint, device: c_int) {
        out.required()?;
        let device = driver.device(device)?;
        out.set(attribute::of(&device.profile, device.ordinal, attribute)?)
    }

    /// The compute capability of a device.
    fn cuDeviceComputeCapability[driver](major: Out<c_int>, minor: Out<c_int>, device: c_int) {
        let profile = &driver.device(device)?.profile;
        major.set(profile.major as c_int)?;
        minor.set(profile.minor as c_int)
    }

    /// The properties of a device, in CUDA 1's structure.
    fn cuDeviceGetProperties[driver](out: Out<DeviceProperties>, device: c_int) {
        let profile = &driver.device(device)?.profile;
        out.set(DeviceProperties {
            max_threads_per_block: Profile::MAX_THREADS_PER_BLOCK as c_int,
            max_threads_dim: Profile::MAX_BLOCK.map(|extent| extent as c_int),
            max_grid_size: Profile::MAX_GRID.map(|extent| extent as c_int),
            shared_mem_per_block: profile.shared_per_block as c_int,
            total_constant_memory: Profile::CONSTANT_BYTES as c_int,
            simd_width: 32,
            mem_pitch: c_int::MAX,
            regs_per_block: profile.registers_per_block as c_int,
            clock_rate: profile.clock_khz as c_int,
            texture_align: 512,
        })
    }

    /// The device at an address of the bus.
    fn cuDeviceGetByPCIBusId[driver](out: Out<c_int>, bus: Text) {
        out.required()?;
        let bus = bus.get()?.to_ascii_uppercase();
        let whole = if bus.matches(':').count() == 1 { format!("0000:{bus}") } else { bus };
        let whole = if whole.contains('.') { whole } else { format!("{whole}.0") };
        let found = driver.devices.iter().find(|device| bus_id(device.ordinal) == whole);
        out.set(found.ok_or(CuResult::INVALID_DEVICE)?.ordinal as c_int)
    }

    /// The address of a device on the bus.
    fn cuDeviceGetPCIBusId[driver](out: Out<c_char>, room: c_int, device: c_int) {
        set_text(out, room, &bus_id(driver.device(device)?.ordinal))
    }

    /// Whether a device supports execution affinity: none does.
    fn cuDeviceGetExecAffinitySupport[driver](out: Out<c_int>, _kind: c_uint, device: c_int) {
        driver.device(device)?;
        out.set(0)
    }

    /// The greatest linear texture: as every device since Volta has it.
    fn cuDeviceGetTexture1DLinearMaxWidth[driver](
        out: Out<usize>, _format: c_uint, _channels: c_uint, device: c_int,
    ) {
        driver.device(device)?;
        out.set(1 << 27)
    }
}
