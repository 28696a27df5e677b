//! Packs A and B into micro-panels, in the order in which the micro-kernel reads them.

use super::super::simd::{Simd, dispatch};
use super::MatRef;
use super::tile::PackedA;

/// Floats of a packed A (M×K), at any level.
pub const fn packed_a_len(m: usize, k: usize) -> usize {
    // ROWS is at most 12 and LANES at most 16; panels of at least 6 rows, LANES extra each, need no more than this.
    (m + 12) * k + (m.div_ceil(2) + 1) * LANES
}

/// Floats of a packed B (K×N), at any level.
pub const fn packed_b_len(k: usize, n: usize) -> usize {
    n.next_multiple_of(2 * LANES) * k
}

/// The largest LANES of all levels.
const LANES: usize = 16;

/// Distance between micro-panels of A: a transposed block stores a whole vector even where its last column has fewer rows.
#[inline(always)]
const fn panel_stride<S: Simd>(k: usize) -> usize {
    S::ROWS * k + S::LANES
}

impl PackedA {
    /// A with `k` columns as [`pack_a`] packs it.
    #[inline(always)]
    pub fn new<S: Simd>(start: *const f32, k: usize) -> Self {
        let panel_stride = panel_stride::<S>(k);
        Self { start, row_major: false, rows: S::ROWS, panel_stride, column_stride: S::ROWS, jump: 0 }
    }
}

dispatch! {
    /// Packs `panels` micro-panels of A (`size` \[M, K\]), beginning with the one of index `first`, to their places in `to`.
    ///
    /// # Safety
    /// A and `to` have their sizes, see [`packed_a_len`].
    pub unsafe fn pack_a(a: MatRef, size: [usize; 2], first: usize, panels: usize, to: *mut f32) = pack_a_body
}
#[inline(always)]
unsafe fn pack_a_body<S: Simd>(a: MatRef, [m, k]: [usize; 2], first: usize, panels: usize, to: *mut f32) {
    for index in first..first + panels {
        let i = index * S::ROWS;
        if i < m {
            // SAFETY: the micro-panel has its place, and rows from i on exist.
            unsafe { pack_a_panel::<S>(a.from(i, 0), m - i, k, to.add(index * panel_stride::<S>(k))) };
        }
    }
}

/// Packs A (M×K).
///
/// # Safety
/// As for [`pack_a`].
#[inline(always)]
pub unsafe fn pack_whole_a<S: Simd>(a: MatRef, m: usize, k: usize, to: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { pack_a_body::<S>(a, [m, k], 0, m.div_ceil(S::ROWS), to) }
}

/// Packs the first ROWS of `m` rows, or all if there are fewer.
#[inline(always)]
unsafe fn pack_a_panel<S: Simd>(a: MatRef, m: usize, k: usize, to: *mut f32) {
    let rows = m.min(S::ROWS);
    // SAFETY: reads stay inside A; a micro-panel has room for ROWS·k floats and a vector.
    unsafe {
        if !a.row_major && rows == S::ROWS {
            for p in 0..k {
                let (from, to) = (a.at(0, p), to.add(p * S::ROWS));
                for i in 0..S::ROWS {
                    *to.add(i) = *from.add(i);
                }
            }
            return;
        }
        let mut p = 0;
        // Transposing a whole block reads LANES rows, which may be more than the micro-panel has.
        if a.row_major && m >= S::ROWS.next_multiple_of(S::LANES) {
            while p + S::LANES <= k {
                for j in (0..S::ROWS).step_by(S::LANES) {
                    S::transpose(a.at(j, p), a.stride, to.add(p * S::ROWS + j), S::ROWS);
                }
                p += S::LANES;
            }
        }
        for p in p..k {
            for i in 0..rows {
                *to.add(p * S::ROWS + i) = *a.at(i, p);
            }
        }
    }
}

dispatch! {
    /// Packs `columns` columns of B (K×N), beginning with column `first`, to their places in `to`. The last micro-panel is
    /// padded with zeros; `first` is a multiple of [`COLUMNS`](super::COLUMNS).
    ///
    /// # Safety
    /// B and `to` have their sizes, see [`packed_b_len`].
    pub unsafe fn pack_b(b: MatRef, k: usize, first: usize, columns: usize, to: *mut f32) = pack_b_body
}
#[inline(always)]
unsafe fn pack_b_body<S: Simd>(b: MatRef, k: usize, first: usize, columns: usize, to: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { pack_whole_b::<S>(b.from(0, first), k, columns, to.add(first * k)) }
}

/// Packs B (K×N): micro-panels of two vectors, row by row, the last one padded with zeros.
///
/// # Safety
/// As for [`pack_b`].
#[inline(always)]
pub unsafe fn pack_whole_b<S: Simd>(b: MatRef, k: usize, n: usize, to: *mut f32) {
    // SAFETY: `to` has room for k times n rounded up to whole panels; reads stay inside B.
    unsafe {
        let panel = 2 * S::LANES;
        let whole = n / panel;
        if b.row_major {
            for p in 0..k {
                let from = b.at(p, 0);
                for j in 0..whole {
                    let (from, to) = (from.add(j * panel), to.add(j * panel * k + p * panel));
                    S::store(to, S::load(from));
                    S::store(to.add(S::LANES), S::load(from.add(S::LANES)));
                }
            }
        } else {
            for j in (0..whole * panel).step_by(panel) {
                let to = to.add(j * k);
                let mut p = 0;
                while p + S::LANES <= k {
                    for v in [0, S::LANES] {
                        S::transpose(b.at(p, j + v), b.stride, to.add(p * panel + v), panel);
                    }
                    p += S::LANES;
                }
                for p in p..k {
                    for v in 0..panel {
                        *to.add(p * panel + v) = *b.at(p, j + v);
                    }
                }
            }
        }
        let rest = n - whole * panel;
        if rest > 0 {
            let to = to.add(whole * panel * k);
            for p in 0..k {
                for v in 0..panel {
                    *to.add(p * panel + v) = if v < rest { *b.at(p, whole * panel + v) } else { 0.0 };
                }
            }
        }
    }
}
