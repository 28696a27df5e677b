//! M = V·U of few tiles, without U: it is computed from the weights on the way, vector by vector, and multiplied at once. U has four
//! times the bytes of the weights, which are what a product with few rows waits for.
//!
//! The bits are those of [`forward_product`](super::products::forward_product) with a U that was stored: the same transformation,
//! and the same multiply-adds in the order of the channels. Multiply-adds and additions per weight vector: about 100 for the
//! transformation and 36 per tile.

use super::tiles::{Filters, offset};
use super::transform::{Transform, Weight};
use super::{POSITIONS, Sizes};
use crate::device::cpu::simd::portable::Scalar;
use crate::device::cpu::simd::{Simd, dispatch};
use crate::device::cpu::weights::Values;
use std::ops::Range;

/// Channels that are transposed at once: whole vectors of their windows at any level, and few enough for the first-level cache.
const CHANNELS: usize = 16;
/// Floats of scratch memory that [`product`] needs.
pub const LOCAL: usize = 9 * CHANNELS * 16 + POSITIONS * 16;

dispatch! {
    /// Those filters' columns of M, from V and from the weights `w`, for `tiles` tiles.
    ///
    /// # Safety
    /// The arrays have their sizes; `local` has [`LOCAL`] floats.
    pub unsafe fn product(z: &Sizes, filters: Filters, tiles: usize, w: Values, vm: [*mut f32; 2], local: *mut f32) = product_body
}
#[inline(always)]
unsafe fn product_body<S: Simd>(
    z: &Sizes,
    Filters { group, first, len }: Filters,
    tiles: usize,
    w: Values,
    [v, m]: [*mut f32; 2],
    local: *mut f32,
) {
    // SAFETY: the filters exist; M has whole micro-panels of columns.
    unsafe {
        let v = v.add(z.v_of(0, group));
        for k in (first..first + len).step_by(S::LANES) {
            let m = m.add(z.m_of(0, group, 0) + offset::<S>(z.capacity, 0, k));
            let rows = [group * z.size.filters + k, S::LANES.min(first + len - k)];
            vector::<S>(z, rows, tiles, w, [v, m], local);
        }
    }
}

/// The columns of `lanes` filters from filter `k` on.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn vector<S: Simd>(
    z: &Sizes,
    [k, lanes]: [usize; 2],
    tiles: usize,
    w: Values,
    [v, m]: [*mut f32; 2],
    local: *mut f32,
) {
    let (panel, len) = (2 * S::LANES, 9 * z.size.channels);
    let (windows, u) = (local, local.wrapping_add(9 * CHANNELS * S::LANES));
    // SAFETY: see the caller; a vector of M has its place in each position and tile; what is prefetched is not read.
    unsafe {
        for p in 0..POSITIONS {
            for t in 0..tiles {
                S::store(m.add(p * z.m_stride + t * panel), S::splat(0.0));
            }
        }
        for first in (0..z.size.channels).step_by(CHANNELS) {
            let channels = CHANNELS.min(z.size.channels - first);
            w.vectors::<S>(len, k, lanes, 9 * first..9 * (first + channels), windows);
            if tiles == 1 && lanes == S::LANES {
                one_tile::<S>(z, first..first + channels, windows, v, m);
                continue;
            }
            for c in 0..channels {
                let x = v.add(offset::<S>(z.capacity, 0, first + c));
                let g = windows.add(9 * c * S::LANES);
                if lanes == S::LANES {
                    let [a, b, c] = columns::<S>(g, S::LANES);
                    // Written out: indices that are no constants would put the vectors into memory.
                    macro_rules! rows {
                        ($($row:literal)*) => {$(
                            let u = <Weight as Transform<S, 3, 6>>::of([a[$row], b[$row], c[$row]]);
                            multiply::<S>(z, tiles, $row, &u, x, m);
                        )*};
                    }
                    rows!(0 1 2 3 4 5);
                    continue;
                }
                // Filters that do not fill a vector are transformed one by one, as in a U that is stored.
                for lane in 0..lanes {
                    let [a, b, c] = columns::<Scalar>(g.add(lane), S::LANES);
                    for row in 0..6 {
                        let all = <Weight as Transform<Scalar, 3, 6>>::of([a[row], b[row], c[row]]);
                        for (i, one) in all.into_iter().enumerate() {
                            *u.add((6 * row + i) * S::LANES + lane) = one;
                        }
                    }
                }
                for row in 0..6 {
                    let mut all = [S::splat(0.0); 6];
                    for (i, one) in all.iter_mut().enumerate() {
                        *one = S::load(u.add((6 * row + i) * S::LANES));
                    }
                    multiply::<S>(z, tiles, row, &all, x, m);
                }
            }
        }
    }
}

/// Adds the products of some channels and one tile to M: twice half of the positions, whose sums stay in registers.
///
/// # Safety
/// As for [`product`]: `v` is at the tile's row of V, `m` at the vector; `g` has the channels' windows.
#[inline(always)]
unsafe fn one_tile<S: Simd>(z: &Sizes, channels: Range<usize>, g: *const f32, v: *const f32, m: *mut f32) {
    macro_rules! rows {
        ($($row:literal)*) => {
            let mut sums = [[S::splat(0.0); 6]; 3];
            $(
                for i in 0..6 {
                    sums[$row % 3][i] = S::load(m.add((6 * $row + i) * z.m_stride));
                }
            )*
            for (i, channel) in channels.clone().enumerate() {
                let x = v.add(offset::<S>(z.capacity, 0, channel));
                let [a, b, c] = columns::<S>(g.add(9 * i * S::LANES), S::LANES);
                $(
                    let u = <Weight as Transform<S, 3, 6>>::of([a[$row], b[$row], c[$row]]);
                    for i in 0..6 {
                        let sum = &mut sums[$row % 3][i];
                        *sum = S::fma(S::splat(*x.add((6 * $row + i) * z.v_stride)), u[i], *sum);
                    }
                )*
            }
            $(
                for i in 0..6 {
                    S::store(m.add((6 * $row + i) * z.m_stride), sums[$row % 3][i]);
                }
            )*
        };
    }
    // SAFETY: see the caller.
    unsafe {
        rows!(0 1 2);
        rows!(3 4 5);
    }
}

/// Adds the products of one channel and one row of positions to M.
///
/// # Safety
/// As for [`product`]: `x` is at the channel of V, `m` at the vector.
#[inline(always)]
unsafe fn multiply<S: Simd>(z: &Sizes, tiles: usize, row: usize, u: &[S::V; 6], x: *const f32, m: *mut f32) {
    // SAFETY: see the caller.
    unsafe {
        for t in 0..tiles {
            for (i, &u) in u.iter().enumerate() {
                let (p, at) = (6 * row + i, t * 2 * S::LANES);
                let m = m.add(p * z.m_stride + at);
                S::store(m, S::fma(S::splat(*x.add(p * z.v_stride + at)), u, S::load(m)));
            }
        }
    }
}

/// The columns of a channel's windows, transformed; element (r, s) of them is at (3·r + s)·`stride`.
///
/// # Safety
/// There are nine vectors.
#[inline(always)]
unsafe fn columns<S: Simd>(g: *const f32, stride: usize) -> [[S::V; 6]; 3] {
    macro_rules! column {
        ($s:literal) => {{
            let [g0, g1, g2] = [g.add($s * stride), g.add((3 + $s) * stride), g.add((6 + $s) * stride)];
            <Weight as Transform<S, 3, 6>>::of([S::load(g0), S::load(g1), S::load(g2)])
        }};
    }
    // SAFETY: see the caller.
    unsafe { [column!(0), column!(1), column!(2)] }
}
