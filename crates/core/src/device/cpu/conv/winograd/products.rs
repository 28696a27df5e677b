//! The matrix products of one point and group, on arrays that lie in panels. `most` is the number of rows that V, Y, Z and
//! M have room for, the distance between their panels; U and dU have a row for each channel.

use crate::device::cpu::gemm::tile::{Ahead, Left, panel};
use crate::device::cpu::gemm::{View, pack};
use crate::device::cpu::simd::{Simd, dispatch};

/// The left matrix whose rows are tiles and whose columns lie in panels.
#[inline(always)]
fn tiles_by_columns<S: Simd>(start: *const f32, most: usize) -> Left {
    let width = 2 * S::LANES;
    Left { start, across: true, height: usize::MAX, block: 0, step: 1, jump: (most * width).saturating_sub(width) }
}

dispatch! {
    /// M = V·U: `columns` columns of M (tiles × columns) from V (tiles × channels) and their panels of U.
    ///
    /// # Safety
    /// The arrays have the stated sizes.
    pub unsafe fn forward_product(tiles: usize, columns: usize, channels: usize, most: usize, v: *const f32, u: *const f32, m: *mut f32) = forward_body
}
#[inline(always)]
unsafe fn forward_body<S: Simd>(
    tiles: usize,
    columns: usize,
    channels: usize,
    most: usize,
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    // SAFETY: passed on to the caller; what fills up the last panel of U makes columns that nobody reads.
    unsafe {
        let width = 2 * S::LANES;
        let left = tiles_by_columns::<S>(v, most);
        for j in (0..columns).step_by(width) {
            let (u, m) = (u.add(j * channels), m.add(j * most));
            panel::<S>(tiles, width, channels, &left, u, m, width, false, &Ahead::NOTHING, 0);
        }
    }
}

dispatch! {
    /// Z = Y·Uᵀ: columns `first`.. of Z (tiles × channels), `columns` of them, from Y (tiles × filters) and U of the group,
    /// whose channels are copied as panels to `buffer` first.
    ///
    /// # Safety
    /// The arrays have the stated sizes, `buffer` that of a panel as long as the filters.
    pub unsafe fn data_product(tiles: usize, first: usize, columns: usize, channels: usize, filters: usize, most: usize, y: *const f32, u: *const f32, z: *mut f32, buffer: *mut f32) = data_body
}
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn data_body<S: Simd>(
    tiles: usize,
    first: usize,
    columns: usize,
    channels: usize,
    filters: usize,
    most: usize,
    y: *const f32,
    u: *const f32,
    z: *mut f32,
    buffer: *mut f32,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let width = 2 * S::LANES;
        let left = tiles_by_columns::<S>(y, most);
        for c in (first..first + columns).step_by(width) {
            for k in (0..filters).step_by(width) {
                let from = View::columns(u.add(k * channels + c * width), width);
                pack::panels::<S>(from, width.min(filters - k), width.min(channels - c), buffer.add(k * width));
            }
            panel::<S>(tiles, width, filters, &left, buffer, z.add(c * most), width, false, &Ahead::NOTHING, 0);
        }
    }
}

dispatch! {
    /// dU = Vᵀ·Y, or dU += Vᵀ·Y if `add`: `columns` columns of dU (channels × columns) from V (tiles × channels) and their
    /// panels of Y.
    ///
    /// # Safety
    /// The arrays have the stated sizes.
    pub unsafe fn weight_product(tiles: usize, columns: usize, channels: usize, most: usize, v: *const f32, y: *const f32, du: *mut f32, add: bool) = weight_body
}
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weight_body<S: Simd>(
    tiles: usize,
    columns: usize,
    channels: usize,
    most: usize,
    v: *const f32,
    y: *const f32,
    du: *mut f32,
    add: bool,
) {
    // SAFETY: passed on to the caller; what fills up the last panel of Y makes columns that nobody reads.
    unsafe {
        let width = 2 * S::LANES;
        let left = Left { start: v, across: false, height: width, block: most * width, step: width, jump: 0 };
        for j in (0..columns).step_by(width) {
            let (y, du) = (y.add(j * most), du.add(j * channels));
            panel::<S>(channels, width, tiles, &left, y, du, width, add, &Ahead::NOTHING, 0);
        }
    }
}
