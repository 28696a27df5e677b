//! Matrix product C (M×N) = A (M×K) · B (K×N), the work of convolutions and linear layers.
//!
//! Layout: C by rows; A and B by rows or by columns ([`View`]). One call is one thread's work; the
//! operators cut their products into calls by sizes that depend on the shape only.
//!
//! How it runs fast: an inner tile of ROWS×2 vectors of C stays in registers ([`tile`]), and reads A and B in the order in
//! which they lie. They are copied for that ([`pack`]) unless they were made so: A in blocks of ROWS rows, B in panels of
//! two vectors.
//! - [`gemm`] copies both, in pieces that stay in the second-level cache.
//! - [`stream`] has A copied before and copies B on the way, which lies in memory and is needed once: a linear layer's
//!   weights.
//! - [`outer`] has both copied before; what it makes is used once: a linear layer's gradient.
//! - Winograd's convolution calls [`tile::panel`] itself, for its operands are made in that order.
//!
//! Every element of C is the sum over K in order, in runs that are added in order and whose length depends on K and B's
//! order only: the bits do not depend on where a call's M and N begin and end.
//!
//! Floating-point operations: 2·M·N·K. Bytes at least: 4·(M·K + K·N + M·N).

pub mod pack;
pub mod tile;

use super::simd::{Simd, dispatch};
use tile::Ahead;

/// Columns of whole panels at any level.
pub const COLUMNS: usize = 32;
/// Products summed in registers before C is touched, in [`gemm`].
const KC: usize = 128;
/// Rows of A copied at once; a multiple of every level's ROWS.
const MC: usize = 384;
/// Columns of B copied at once; a multiple of two vectors.
const NC: usize = 512;
/// Numbers of scratch memory that [`gemm`] needs.
pub const BUFFER: usize = pack::blocks_len(MC, KC) + pack::panels_len(KC, NC);

/// A matrix in memory: `stride` numbers lie between its rows or, if not `by_rows`, between its columns.
#[derive(Clone, Copy)]
pub struct View {
    /// Element (0, 0).
    pub start: *const f32,
    /// Distance of neighbouring rows or columns.
    pub stride: usize,
    /// Whether the elements of a row are neighbours, else those of a column.
    pub by_rows: bool,
}

// SAFETY: as for the pointer's slice, which its user answers for.
unsafe impl Sync for View {}

impl View {
    /// Neighbours along a row.
    pub fn rows(start: *const f32, stride: usize) -> Self {
        Self { start, stride, by_rows: true }
    }
    /// Neighbours along a column.
    pub fn columns(start: *const f32, stride: usize) -> Self {
        Self { start, stride, by_rows: false }
    }
    /// Where (i, j) lies, or would lie: what is asked for ahead may be outside.
    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> *const f32 {
        self.start.wrapping_add(if self.by_rows { i * self.stride + j } else { j * self.stride + i })
    }
    #[inline(always)]
    fn part(&self, i: usize, j: usize) -> Self {
        Self { start: self.at(i, j), ..*self }
    }
}

dispatch! {
    /// C = A·B, or C += A·B if `add`; rows of C are `ldc` apart.
    ///
    /// # Safety
    /// `a` is m×k, `b` k×n, `c` m×n, all in bounds; `buffer` has [`BUFFER`] numbers; none overlaps `c` or `buffer`.
    pub unsafe fn gemm(m: usize, n: usize, k: usize, a: View, b: View, c: *mut f32, ldc: usize, add: bool, buffer: *mut f32) = product
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn product<S: Simd>(
    m: usize,
    n: usize,
    k: usize,
    a: View,
    b: View,
    c: *mut f32,
    ldc: usize,
    add: bool,
    buffer: *mut f32,
) {
    // SAFETY: all offsets stay inside the matrices and the buffer, see `BUFFER`.
    unsafe {
        if k == 0 && !add {
            for i in 0..m {
                std::slice::from_raw_parts_mut(c.add(i * ldc), n).fill(0.0);
            }
        }
        let (pa, pb) = (buffer, buffer.add(pack::blocks_len(MC, KC)));
        let runs = k.div_ceil(KC).max(1);
        let kc_most = k.div_ceil(runs).max(1);
        // A that fits whole is copied once.
        let whole = runs == 1 && m <= MC;
        if whole {
            pack::all_blocks::<S>(a, m, k, pa);
        }
        for n0 in (0..n).step_by(NC) {
            let nc = NC.min(n - n0);
            for k0 in (0..k).step_by(kc_most) {
                let kc = kc_most.min(k - k0);
                pack::panels::<S>(b.part(k0, n0), kc, nc, pb);
                for m0 in (0..m).step_by(MC) {
                    let mc = MC.min(m - m0);
                    if !whole {
                        pack::all_blocks::<S>(a.part(m0, k0), mc, kc, pa);
                    }
                    let left = pack::blocks::<S>(pa, kc);
                    for j in (0..nc).step_by(2 * S::LANES) {
                        let (c, columns, b) = (c.add(m0 * ldc + n0 + j), (nc - j).min(2 * S::LANES), pb.add(j * kc));
                        let add = add || k0 > 0;
                        tile::panel::<S>(mc, columns, kc, &left, b, c, ldc, add, &Ahead::NOTHING, 0);
                    }
                }
            }
        }
    }
}

/// Columns that [`stream`] does at once.
const GROUP: usize = 2 * COLUMNS;

/// Products summed in registers before C is touched, in [`stream`]: B by columns is transposed, and then a line's 16 numbers
/// come in one piece.
const fn run(by_rows: bool) -> usize {
    if by_rows { 256 } else { 512 }
}

/// Numbers of scratch memory that [`stream`] needs.
pub const fn stream_buffer(m: usize) -> usize {
    pack::panels_len(run(false), GROUP) + m * GROUP
}

dispatch! {
    /// C = A·B, where A (m×k) was copied as blocks; rows of C are `ldc` apart.
    ///
    /// # Safety
    /// A, B and C have the stated sizes; `buffer` has [`stream_buffer`]`(m)` numbers.
    pub unsafe fn stream(m: usize, n: usize, k: usize, a: *const f32, b: View, c: *mut f32, ldc: usize, buffer: *mut f32) = stream_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn stream_body<S: Simd>(
    m: usize,
    n: usize,
    k: usize,
    a: *const f32,
    b: View,
    c: *mut f32,
    ldc: usize,
    buffer: *mut f32,
) {
    // SAFETY: all offsets stay inside the matrices and the buffer; what is asked for ahead is not read.
    unsafe {
        let panel = 2 * S::LANES;
        let most = run(b.by_rows);
        let (pb, sums) = (buffer, buffer.add(pack::panels_len(run(false), GROUP)));
        for n0 in (0..n).step_by(GROUP) {
            let nc = GROUP.min(n - n0);
            for k0 in (0..k.max(1)).step_by(most) {
                let kc = most.min(k - k0);
                pack::panels::<S>(b.part(k0, n0), kc, nc, pb);
                let next = if k0 + kc < k { b.at(k0 + kc, n0) } else { b.at(0, n0 + GROUP) };
                let ahead = match b.by_rows {
                    true => Ahead { start: next, tiles: GROUP / 16, tile: 16, step: b.stride, jump: 0, other: 0 },
                    // A panel's width of lines is a row's part of a run.
                    false => {
                        let jump = b.stride.wrapping_sub(panel * 16);
                        Ahead { start: next, tiles: GROUP / 16, tile: 16 * b.stride, step: 16, jump, other: 0 }
                    }
                };
                let left = pack::blocks::<S>(a.add(k0 * S::ROWS), k);
                let mut done = 0;
                for j in (0..nc).step_by(panel) {
                    let (b, sums) = (pb.add(j * kc), sums.add(j * m));
                    done += tile::panel::<S>(m, panel, kc, &left, b, sums, panel, k0 > 0, &ahead, done);
                }
            }
            for j in (0..nc).step_by(panel) {
                for i in 0..m {
                    let columns = panel.min(nc - j);
                    let (from, to) = (sums.add(j * m + i * panel), c.add(i * ldc + n0 + j));
                    to.copy_from_nonoverlapping(from, columns);
                }
            }
        }
    }
}

dispatch! {
    /// C = A·B, or C += A·B if `add`, where A (m×k) was copied as blocks and B (k×n) as panels; rows `first`.. of C, `rows` of
    /// them, which begin and end with blocks. `c` is the first of these rows.
    ///
    /// # Safety
    /// A, B and C have the stated sizes.
    pub unsafe fn outer(first: usize, rows: usize, n: usize, k: usize, a: *const f32, b: *const f32, c: *mut f32, ldc: usize, add: bool, ahead: &Ahead) = outer_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn outer_body<S: Simd>(
    first: usize,
    rows: usize,
    n: usize,
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
    ahead: &Ahead,
) {
    // SAFETY: all offsets stay inside the matrices.
    unsafe {
        let panel = 2 * S::LANES;
        let mut left = pack::blocks::<S>(a, k);
        left.start = a.add(first / S::ROWS * left.block);
        let mut done = 0;
        for j in (0..n).step_by(panel) {
            let (columns, b, c) = (panel.min(n - j), b.add(j * k), c.add(j));
            done += tile::panel::<S>(rows, columns, k, &left, b, c, ldc, add, ahead, done);
        }
    }
}
