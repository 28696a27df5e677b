//! Copies of the operands in the order in which the tile reads them.

use super::super::simd::{Simd, dispatch};
use super::View;
use super::tile::Left;

/// Numbers of A (m×k) copied as blocks, at any level.
pub const fn blocks_len(m: usize, k: usize) -> usize {
    // ROWS is at most 12 and LANES at most 16, and half the rows in blocks of at least 6 are no more than this.
    (m + 12) * k + (m.div_ceil(2) + 1) * LANES
}

/// Numbers of B (k×n) copied as panels, at any level.
pub const fn panels_len(k: usize, n: usize) -> usize {
    n.next_multiple_of(2 * LANES) * k
}

/// The most LANES of all levels.
const LANES: usize = 16;

/// From a block to the next: a whole transposition writes a vector where the block's last column has fewer rows.
#[inline(always)]
const fn block<S: Simd>(k: usize) -> usize {
    S::ROWS * k + S::LANES
}

/// How the tile reads blocks of `k` columns.
#[inline(always)]
pub fn blocks<S: Simd>(start: *const f32, k: usize) -> Left {
    Left { start, across: false, height: S::ROWS, block: block::<S>(k), step: S::ROWS, jump: 0 }
}

dispatch! {
    /// Copies `blocks` blocks of ROWS rows of A (m×k) from the `first` on to their places in `to`, column by column.
    ///
    /// # Safety
    /// A and `to` have their sizes, see [`blocks_len`].
    pub unsafe fn pack_blocks(a: View, first: usize, blocks: usize, m: usize, k: usize, to: *mut f32) = some_blocks
}
#[inline(always)]
unsafe fn some_blocks<S: Simd>(a: View, first: usize, blocks: usize, m: usize, k: usize, to: *mut f32) {
    for index in first..first + blocks {
        let i = index * S::ROWS;
        if i < m {
            // SAFETY: the block has its place, and rows from i on exist.
            unsafe { one_block::<S>(a.part(i, 0), m - i, k, to.add(index * block::<S>(k))) };
        }
    }
}

/// Copies A (m×k) as blocks.
///
/// # Safety
/// As for [`pack_blocks`].
#[inline(always)]
pub unsafe fn all_blocks<S: Simd>(a: View, m: usize, k: usize, to: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { some_blocks::<S>(a, 0, m.div_ceil(S::ROWS), m, k, to) }
}

/// Copies the first ROWS of `m` rows, or all if there are fewer.
#[inline(always)]
unsafe fn one_block<S: Simd>(a: View, m: usize, k: usize, to: *mut f32) {
    let rows = m.min(S::ROWS);
    // SAFETY: reads stay inside A; a block has room for ROWS·k numbers and a vector.
    unsafe {
        if !a.by_rows && rows == S::ROWS {
            for p in 0..k {
                let (from, to) = (a.at(0, p), to.add(p * S::ROWS));
                for i in 0..S::ROWS {
                    *to.add(i) = *from.add(i);
                }
            }
            return;
        }
        let mut p = 0;
        // A whole transposition reads LANES rows, which may be more than the block has.
        if a.by_rows && m >= S::ROWS.next_multiple_of(S::LANES) {
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
    /// Copies columns `from`.. of B (k×n), `columns` of them, to their panels in `to`: panel by panel, row by row, the last one
    /// filled up with zeros. `from` is a multiple of [`COLUMNS`](super::COLUMNS).
    ///
    /// # Safety
    /// B and `to` have their sizes, see [`panels_len`].
    pub unsafe fn pack_panels(b: View, k: usize, from: usize, columns: usize, to: *mut f32) = some_panels
}
#[inline(always)]
unsafe fn some_panels<S: Simd>(b: View, k: usize, from: usize, columns: usize, to: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { panels::<S>(b.part(0, from), k, columns, to.add(from * k)) }
}

/// Copies B (k×n) as panels of two vectors, the last one filled up with zeros.
///
/// # Safety
/// As for [`pack_panels`].
#[inline(always)]
pub unsafe fn panels<S: Simd>(b: View, k: usize, n: usize, to: *mut f32) {
    // SAFETY: `to` has room for k times n rounded up to whole panels; reads stay inside B.
    unsafe {
        let panel = 2 * S::LANES;
        let whole = n / panel;
        if b.by_rows {
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
