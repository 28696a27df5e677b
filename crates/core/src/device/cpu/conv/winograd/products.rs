//! The matrix products of one position and group, on arrays stored as micro-panels. V, Y, Z and M have room for
//! [`Sizes::capacity`] rows, the distance between their micro-panels; U and dU have one row per channel.

use super::Sizes;
use crate::device::cpu::gemm::tile::{PackedA, Prefetch, panel};
use crate::device::cpu::gemm::{MatMut, MatRef, pack};
use crate::device::cpu::simd::{Simd, dispatch};
use std::ops::Range;

/// A with one row per tile.
#[inline(always)]
fn packed_tiles<S: Simd>(start: *const f32, capacity: usize) -> PackedA {
    let width = 2 * S::LANES;
    let jump = (capacity * width).saturating_sub(width);
    PackedA { start, row_major: true, rows: usize::MAX, panel_stride: 0, column_stride: 1, jump }
}

dispatch! {
    /// M = V·U: `size` \[tiles, columns\] of M from V (tiles × C) and those columns of U.
    ///
    /// # Safety
    /// The arrays have the stated sizes.
    pub unsafe fn forward_product(z: &Sizes, size: [usize; 2], v: *const f32, u: *const f32, m: *mut f32) = forward_body
}
#[inline(always)]
unsafe fn forward_body<S: Simd>(z: &Sizes, [tiles, columns]: [usize; 2], v: *const f32, u: *const f32, m: *mut f32) {
    // SAFETY: passed on to the caller; the padding of U's last micro-panel makes columns that nobody reads.
    unsafe {
        let (width, channels) = (2 * S::LANES, z.size.channels);
        let packed = packed_tiles::<S>(v, z.capacity);
        for j in (0..columns).step_by(width) {
            let m = MatMut { start: m.add(j * z.capacity), stride: width, accumulate: false };
            panel::<S>([tiles, width, channels], &packed, u.add(j * channels), m, &Prefetch::NONE, 0);
        }
    }
}

dispatch! {
    /// Z = Y·Uᵀ: `columns` of Z (tiles × C) from Y (tiles × K) and U, whose channels are first packed into `buffer`.
    ///
    /// # Safety
    /// The arrays have the stated sizes, `buffer` that of a micro-panel with K rows.
    pub unsafe fn data_product(z: &Sizes, tiles: usize, columns: Range<usize>, yu: [*const f32; 2], dz: *mut f32, buffer: *mut f32) = data_body
}
#[inline(always)]
unsafe fn data_body<S: Simd>(
    z: &Sizes,
    tiles: usize,
    columns: Range<usize>,
    [y, u]: [*const f32; 2],
    dz: *mut f32,
    buffer: *mut f32,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let (width, channels, filters) = (2 * S::LANES, z.size.channels, z.size.filters);
        let packed = packed_tiles::<S>(y, z.capacity);
        for c in columns.step_by(width) {
            for k in (0..filters).step_by(width) {
                let from = MatRef { start: u.add(k * channels + c * width), stride: width, row_major: false };
                pack::pack_whole_b::<S>(from, width.min(filters - k), width.min(channels - c), buffer.add(k * width));
            }
            let dz = MatMut { start: dz.add(c * z.capacity), stride: width, accumulate: false };
            panel::<S>([tiles, width, filters], &packed, buffer, dz, &Prefetch::NONE, 0);
        }
    }
}

dispatch! {
    /// dU = Vᵀ·Y, or dU += Vᵀ·Y: `size` \[tiles, columns\] of dU (C × columns) from V (tiles × C) and those columns of Y.
    ///
    /// # Safety
    /// The arrays have the stated sizes.
    pub unsafe fn weight_product(z: &Sizes, size: [usize; 2], v: *const f32, y: *const f32, du: *mut f32, accumulate: bool) = weight_body
}
#[inline(always)]
unsafe fn weight_body<S: Simd>(
    z: &Sizes,
    [tiles, columns]: [usize; 2],
    v: *const f32,
    y: *const f32,
    du: *mut f32,
    accumulate: bool,
) {
    // SAFETY: passed on to the caller; the padding of Y's last micro-panel makes columns that nobody reads.
    unsafe {
        let (width, channels) = (2 * S::LANES, z.size.channels);
        let panel_stride = z.capacity * width;
        let packed = PackedA { start: v, row_major: false, rows: width, panel_stride, column_stride: width, jump: 0 };
        for j in (0..columns).step_by(width) {
            let du = MatMut { start: du.add(j * channels), stride: width, accumulate };
            panel::<S>([channels, width, tiles], &packed, y.add(j * z.capacity), du, &Prefetch::NONE, 0);
        }
    }
}
