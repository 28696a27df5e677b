//! The matrix products of one position and group, on arrays stored as micro-panels. V, Y, Z and M have room for
//! [`Sizes::capacity`] rows, the distance between their micro-panels; U and dU have one row per channel.
//!
//! V, Y and U are stored as [operands](Operand). Where two of them are a step, those that are neighbours in a row are a step of a
//! product that sums over the columns; for one that sums over the rows, rows are paired first.

use super::Sizes;
use crate::device::cpu::gemm::operand::{Fp32, Operand};
use crate::device::cpu::gemm::tile::{PackedA, Prefetch, panel};
use crate::device::cpu::gemm::{MatMut, MatRef, pack};
use crate::device::cpu::simd::{Simd, dispatch};
use std::ops::Range;

/// A with one row per tile.
#[inline(always)]
fn packed_tiles<S: Simd, O: Operand>(start: *const f32, capacity: usize) -> PackedA {
    let width = 2 * S::LANES / O::PER_STEP;
    let jump = (capacity * width).saturating_sub(width);
    PackedA { start, row_major: true, rows: usize::MAX, panel_stride: 0, column_stride: 1, jump }
}

dispatch! {
    /// M = V·U: `size` \[tiles, columns\] of M from V (tiles × C) and those columns of U, whose micro-panels are paired in `buffer`.
    ///
    /// # Safety
    /// The arrays have the stated sizes, `buffer` that of a micro-panel with C rows.
    pub unsafe fn forward_product(z: &Sizes, size: [usize; 2], v: *const f32, u: *const f32, m: *mut f32, buffer: *mut f32) = product forward_body
}
#[inline(always)]
unsafe fn forward_body<S: Simd, O: Operand>(
    z: &Sizes,
    [tiles, columns]: [usize; 2],
    v: *const f32,
    u: *const f32,
    m: *mut f32,
    buffer: *mut f32,
) {
    // SAFETY: passed on to the caller; the padding of U's last micro-panel makes columns that nobody reads.
    unsafe {
        let (width, channels) = (2 * S::LANES, z.size.channels);
        let packed = packed_tiles::<S, O>(v, z.capacity);
        for j in (0..columns).step_by(width) {
            let u = u.add(j * channels / O::PER_STEP);
            // The first two tiles prefetch the next micro-panel of U.
            let steps = O::steps(channels);
            let (start, tile_stride) = (u.wrapping_add(2 * S::LANES * steps), S::LANES * steps);
            let prefetch = Prefetch { start, tiles: 2, tile_stride, step: S::LANES, jump: 0, second: 0 };
            let u = O::pair_rows::<S>(u, channels, buffer);
            let m = MatMut { start: m.add(j * z.capacity), stride: width, accumulate: false };
            panel::<S, O>([tiles, width, steps], &packed, u, m, &prefetch, 0);
        }
    }
}

dispatch! {
    /// Z = Y·Uᵀ: `columns` of Z (tiles × C) from Y (tiles × K) and U, whose channels are first packed into `buffer`.
    ///
    /// # Safety
    /// The arrays have the stated sizes, `buffer` that of a micro-panel with K rows.
    pub unsafe fn data_product(z: &Sizes, tiles: usize, columns: Range<usize>, yu: [*const f32; 2], dz: *mut f32, buffer: *mut f32) = product data_body
}
#[inline(always)]
unsafe fn data_body<S: Simd, O: Operand>(
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
        let packed = packed_tiles::<S, O>(y, z.capacity);
        // Steps in a row of a micro-panel.
        let row = width / O::PER_STEP;
        for c in columns.step_by(width) {
            for k in (0..filters).step_by(width) {
                let start = u.add(k / O::PER_STEP * channels + c * row);
                let (from, to) = (MatRef { start, stride: row, row_major: false }, buffer.add(k * row));
                // Steps are transposed as they are stored.
                let steps = O::steps(width.min(filters - k));
                pack::pack_whole_b::<S, Fp32>(from, steps, width.min(channels - c), to);
            }
            let dz = MatMut { start: dz.add(c * z.capacity), stride: width, accumulate: false };
            // Each tile prefetches the next channels of one of U's micro-panels.
            let (start, steps) = (u.wrapping_add((c + width) * row), O::steps(filters));
            let step = (width * row).div_ceil(steps.max(1)).min(16);
            let (panels, tile_stride) = (filters.div_ceil(width), row * channels);
            let prefetch = Prefetch { start, tiles: panels, tile_stride, step, jump: 0, second: 0 };
            panel::<S, O>([tiles, width, steps], &packed, buffer, dz, &prefetch, 0);
        }
    }
}

dispatch! {
    /// dU = Vᵀ·Y, or dU += Vᵀ·Y: `size` \[tiles, columns\] of dU (C × columns) from V (tiles × C) and those columns of Y, both
    /// paired in `buffer`.
    ///
    /// # Safety
    /// The arrays have the stated sizes, `buffer` that of V and of a micro-panel of Y.
    pub unsafe fn weight_product(z: &Sizes, size: [usize; 2], vy: [*const f32; 2], du: *mut f32, accumulate: bool, buffer: *mut f32) = product weight_body
}
#[inline(always)]
unsafe fn weight_body<S: Simd, O: Operand>(
    z: &Sizes,
    [tiles, columns]: [usize; 2],
    [v, y]: [*const f32; 2],
    du: *mut f32,
    accumulate: bool,
    buffer: *mut f32,
) {
    // SAFETY: passed on to the caller; the padding of Y's last micro-panel makes columns that nobody reads.
    unsafe {
        let (width, channels, steps) = (2 * S::LANES, z.size.channels, O::steps(tiles));
        let (paired, mut start) = (buffer.add(steps * width), v);
        if O::PER_STEP > 1 {
            for c in (0..channels).step_by(width) {
                O::pair_rows::<S>(v.add(c / O::PER_STEP * z.capacity), tiles, paired.add(c * steps));
            }
            start = paired;
        }
        let panel_stride = if O::PER_STEP > 1 { steps } else { z.capacity } * width;
        let packed = PackedA { start, row_major: false, rows: width, panel_stride, column_stride: width, jump: 0 };
        for j in (0..columns).step_by(width) {
            let y = O::pair_rows::<S>(y.add(j / O::PER_STEP * z.capacity), tiles, buffer);
            let du = MatMut { start: du.add(j * channels), stride: width, accumulate };
            panel::<S, O>([channels, width, steps], &packed, y, du, &Prefetch::NONE, 0);
        }
    }
}
