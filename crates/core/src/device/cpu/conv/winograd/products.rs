//! The matrix products of one position and group, on arrays stored as micro-panels. V, Y, Z and M have room for
//! [`Sizes::capacity`] rows, the distance between their micro-panels; U and dU have one row per channel.
//!
//! V, Y and U are stored as [operands](Operand). Where two of them are a step, those that are neighbours in a row are a step of a
//! product that sums over the columns; for one that sums over the rows, rows are paired first.

use super::Sizes;
use crate::device::cpu::gemm::MatMut;
use crate::device::cpu::gemm::operand::Operand;
use crate::device::cpu::gemm::tile::Prefetch;
use crate::device::cpu::simd::{Simd, dispatch};
use std::ops::Range;

/// Words in which `n` elements are stored.
#[inline(always)]
fn words<O: Operand>(n: usize) -> usize {
    n / O::PER_WORD
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
        let packed = O::rows_of::<S>(v, z.capacity);
        for j in (0..columns).step_by(width) {
            let u = u.add(words::<O>(j * channels));
            // For the first micro-panel, tiles prefetch V; for the others, the first two prefetch the next micro-panel of U.
            let steps = O::steps(channels);
            let (start, tile_stride) = (u.wrapping_add(2 * S::LANES * steps), S::LANES * steps);
            let prefetch = match j {
                0 => O::ahead::<S>(&packed),
                _ => Prefetch { start, tiles: 2, tile_stride, step: S::LANES, jump: 0, second: 0 },
            };
            let u = O::pair_rows::<S>(u, channels, buffer);
            let m = MatMut { start: m.add(j * z.capacity), stride: width, accumulate: false };
            O::panel::<S>([tiles, width, steps], &packed, u, m, &prefetch, 0);
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
        let packed = O::rows_of::<S>(y, z.capacity);
        let first = columns.start;
        for c in columns.step_by(width) {
            for k in (0..filters).step_by(width) {
                let size = [width.min(channels - c), width.min(filters - k)];
                let from = u.add(words::<O>(k * channels + c * width));
                O::pack_rows::<S>(from, size, buffer.add(O::steps(k) * width));
            }
            let dz = MatMut { start: dz.add(c * z.capacity), stride: width, accumulate: false };
            // For the first channels, tiles prefetch Y; for the others, each the next channels of one of U's micro-panels.
            let (row, steps) = (width / O::PER_WORD, O::steps(filters));
            let step = (width * row).div_ceil(steps.max(1)).min(16);
            let (start, tile_stride) = (u.wrapping_add((c + width) * row), row * channels);
            let panels = filters.div_ceil(width);
            let prefetch = match c == first {
                true => O::ahead::<S>(&packed),
                false => Prefetch { start, tiles: panels, tile_stride, step, jump: 0, second: 0 },
            };
            O::panel::<S>([tiles, width, steps], &packed, buffer, dz, &prefetch, 0);
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
        let packed = O::columns_of::<S>(v, z.capacity, [channels, tiles], buffer.add(steps * width));
        for j in (0..columns).step_by(width) {
            let y = O::pair_rows::<S>(y.add(words::<O>(j * z.capacity)), tiles, buffer);
            let du = MatMut { start: du.add(j * channels), stride: width, accumulate };
            let prefetch = if j == 0 { O::ahead::<S>(&packed) } else { Prefetch::NONE };
            O::panel::<S>([channels, width, steps], &packed, y, du, &prefetch, 0);
        }
    }
}
