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

/// Channels that are transposed at once: whole vectors of their windows at any level, and few enough for the first-level cache.
const CHANNELS: usize = 16;
/// Floats of scratch memory that [`product`] needs.
pub const LOCAL: usize = 9 * CHANNELS * 16 + POSITIONS * 16;

dispatch! {
    /// Those filters' columns of M, from V and from the weights `w`, for `tiles` tiles.
    ///
    /// # Safety
    /// The arrays have their sizes; `local` has [`LOCAL`] floats.
    pub unsafe fn product(z: &Sizes, filters: Filters, tiles: usize, w: *const f32, vm: [*mut f32; 2], local: *mut f32) = product_body
}
#[inline(always)]
unsafe fn product_body<S: Simd>(
    z: &Sizes,
    Filters { group, first, len }: Filters,
    tiles: usize,
    w: *const f32,
    [v, m]: [*mut f32; 2],
    local: *mut f32,
) {
    // SAFETY: the filters exist; M has whole micro-panels of columns.
    unsafe {
        let v = v.add(z.v_of(0, group));
        for k in (first..first + len).step_by(S::LANES) {
            let w = w.add((group * z.size.filters + k) * 9 * z.size.channels);
            let m = m.add(z.m_of(0, group, 0) + offset::<S>(z.capacity, 0, k));
            vector::<S>(z, S::LANES.min(first + len - k), tiles, w, v, m, local);
        }
    }
}

/// The columns of `lanes` filters, whose weights begin at `w`.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn vector<S: Simd>(
    z: &Sizes,
    lanes: usize,
    tiles: usize,
    w: *const f32,
    v: *const f32,
    m: *mut f32,
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
            windows_of::<S>(lanes, w.add(9 * first), len, 9 * channels, windows);
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

/// `columns` numbers of each of `lanes` rows of length `len`, transposed to vectors; prefetches the next ones.
#[inline(always)]
unsafe fn windows_of<S: Simd>(lanes: usize, w: *const f32, len: usize, columns: usize, to: *mut f32) {
    // SAFETY: the rows exist; `to` has room for a vector per column.
    unsafe {
        let mut j = 0;
        if lanes == S::LANES {
            while j + S::LANES <= columns {
                for i in 0..lanes {
                    S::prefetch(w.wrapping_add(i * len + j + columns));
                }
                S::transpose(w.add(j), len, to.add(j * S::LANES), S::LANES);
                j += S::LANES;
            }
        }
        for j in j..columns {
            for i in 0..lanes {
                *to.add(j * S::LANES + i) = *w.add(i * len + j);
            }
        }
    }
}
