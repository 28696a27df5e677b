//! Copies of 2D and 3D regions.

use super::copy::{device, either, host, later, now};
use super::ffi::{In, api};
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::structs::{Copy2D, Copy3D, Side2D, Side3D};
use super::table::Handle;
use super::work::{Copy, End};

const HOST: u32 = 1;
const DEVICE: u32 = 2;
const UNIFIED: u32 = 4;

fn flat_side(side: Side2D) -> Side3D {
    let Side2D { x_bytes, y, memory, host, device, array, pitch } = side;
    Side3D { x_bytes, y, z: 0, lod: 0, memory, host, device, array, reserved: 0, pitch, height: 0 }
}

/// One end of a copy, with its row and plane pitch in bytes.
fn end_of(driver: &Driver, side: Side3D, [width, height, depth]: [usize; 3]) -> DriverResult<(End, [usize; 2])> {
    let bad = CuResult::INVALID_VALUE;
    if side.lod != 0 {
        return Err(bad);
    }
    // A pitch or height of 0 means contiguous rows or planes.
    let pitch = if side.pitch == 0 { side.x_bytes.checked_add(width).ok_or(bad)? } else { side.pitch };
    let rows = if side.height == 0 { side.y.checked_add(height).ok_or(bad)? } else { side.height };
    if (side.x_bytes + width > pitch && height > 1) || (side.y + height > rows && depth > 1) {
        return Err(bad);
    }
    let plane = pitch.checked_mul(rows).ok_or(bad)?;
    let start = |z: usize, y: usize| -> Option<usize> {
        z.checked_mul(plane)?.checked_add(y.checked_mul(pitch)?)?.checked_add(side.x_bytes)
    };
    let first = start(side.z, side.y).ok_or(bad)?;
    let last = start(side.z + depth - 1, side.y + height - 1).ok_or(bad)?;
    let span = (last - first).checked_add(width).ok_or(bad)? as u64;
    let end = match side.memory {
        HOST => host(driver, side.host.checked_add(first).filter(|_| side.host != 0).ok_or(bad)?)?,
        DEVICE => device(driver, side.device.checked_add(first as u64).ok_or(bad)?, span)?,
        UNIFIED => either(driver, side.device.checked_add(first as u64).ok_or(bad)?, span)?,
        // Arrays: there are none.
        3 => return Err(CuResult::INVALID_HANDLE),
        _ => return Err(bad),
    };
    Ok((end, [pitch, plane]))
}

/// The described copy; `None` if it is empty.
pub(super) fn copy_of(driver: &Driver, shape: &Copy3D) -> DriverResult<Option<Copy>> {
    let size = [shape.width_bytes, shape.height, shape.depth];
    if size.contains(&0) {
        return Ok(None);
    }
    let (to, to_pitch) = end_of(driver, shape.to, size)?;
    let (from, from_pitch) = end_of(driver, shape.from, size)?;
    let [width, height, depth] = size;
    Ok(Some(Copy { to, from, width, height, depth, to_pitch, from_pitch }))
}

fn copy_of_2d(driver: &Driver, shape: In<Copy2D>) -> DriverResult<Option<Copy>> {
    let Copy2D { from, to, width_bytes, height } = shape.get()?;
    let (from, to) = (flat_side(from), flat_side(to));
    copy_of(driver, &Copy3D { from, to, width_bytes, height, depth: 1 })
}

fn in_stream(driver: &'static Driver, handle: Handle, copy: DriverResult<Option<Copy>>) -> DriverResult {
    let stream = stream::named(driver, handle)?;
    stream.context()?.check_error()?;
    match copy? {
        Some(copy) => later(driver, &stream, copy),
        None => Ok(()),
    }
}

api! {
    /// Copies a rectangle.
    fn cuMemcpy2D_v2[driver, context](shape: In<Copy2D>) {
        copy_of_2d(driver, shape)?.map_or(Ok(()), |copy| now(driver, context, copy))
    }

    /// Copies a rectangle with any pitch.
    fn cuMemcpy2DUnaligned_v2[driver, context](shape: In<Copy2D>) {
        copy_of_2d(driver, shape)?.map_or(Ok(()), |copy| now(driver, context, copy))
    }

    /// Copies a rectangle in stream order.
    fn cuMemcpy2DAsync_v2[driver](shape: In<Copy2D>, stream: Handle) {
        in_stream(driver, stream, copy_of_2d(driver, shape))
    }

    /// Copies a box.
    fn cuMemcpy3D_v2[driver, context](shape: In<Copy3D>) {
        copy_of(driver, &shape.get()?)?.map_or(Ok(()), |copy| now(driver, context, copy))
    }

    /// Copies a box in stream order.
    fn cuMemcpy3DAsync_v2[driver](shape: In<Copy3D>, stream: Handle) {
        in_stream(driver, stream, copy_of(driver, &shape.get()?))
    }

    /// Copies a box between two contexts.
    fn cuMemcpy3DPeer[driver, context](shape: In<Copy3D>) {
        copy_of(driver, &shape.get()?)?.map_or(Ok(()), |copy| now(driver, context, copy))
    }

    /// Copies a box between two contexts in stream order.
    fn cuMemcpy3DPeerAsync[driver](shape: In<Copy3D>, stream: Handle) {
        in_stream(driver, stream, copy_of(driver, &shape.get()?))
    }
}
