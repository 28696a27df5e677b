//! Matrix product C (M×N) = A (M×K) · B (K×N), the work of convolutions and linear layers.
//!
//! Layout: C is row-major; A and B are row-major or column-major ([`MatRef`]). One call is one thread's work; operators
//! split their products into calls by sizes that depend on the shape only.
//!
//! The micro-kernel ([`tile`]) keeps a tile of MR rows by NR columns of C in registers, where MR is [`Simd::ROWS`] and NR
//! two vectors. It reads A and B in the order in which they lie in memory, so both are packed ([`pack`]) into micro-panels:
//! A into panels of MR rows, B into panels of NR columns.
//! - [`gemm`] packs both, in pieces that stay in the second-level cache.
//! - [`gemm_stream_b`] takes A packed and packs B on the way, for a B that is in memory and needed once: the weights of a
//!   linear layer.
//! - [`gemm_few_rows`](few_rows) does X
//! - [`gemm_prepacked`] takes both packed, for the weight gradient of a linear layer.
//! - Winograd convolution calls [`tile::panel`] itself: it produces its operands as micro-panels.
//!
//! Each element of C is a sum over K in order, in runs whose length depends on K and B's layout only, added in order. So the
//! bits do not depend on where the M and N of a call begin and end.
//!
//! Operands are packed as f32 or as bf16 ([`operand`]), and K is in bf16 split where whole steps begin.
//!
//! Floating-point operations: 2·M·N·K. Minimum memory traffic in bytes: 4·(M·K + K·N + M·N).

pub mod few_rows;
pub mod operand;
pub mod pack;
pub mod tile;
#[cfg(target_arch = "x86_64")]
pub mod tiles;

use super::simd::{Simd, dispatch};
use super::weights::{Number, Panels, PanelsOf};
use operand::{Element, Fp32, Operand};
use std::ops::Range;
use tile::{PackedA, Prefetch};

/// Columns that are whole micro-panels at any level.
pub const COLUMNS: usize = 32;
/// The largest [`Operand::KC`].
const MAX_KC: usize = 256;
/// Rows of A packed at once; a multiple of every level's ROWS.
const MC: usize = 384;
/// Columns of B packed at once; a multiple of two vectors.
const NC: usize = 512;
/// Floats of scratch memory that [`gemm`] needs.
pub const BUFFER: usize = pack::packed_a_len(MC, MAX_KC) + pack::packed_b_len(MAX_KC, NC);

/// A matrix that is read.
#[derive(Clone, Copy)]
pub struct MatRef {
    /// Element (0, 0).
    pub start: *const f32,
    /// Distance between rows (row-major) or between columns (column-major).
    pub stride: usize,
    /// Whether the elements of a row are adjacent; otherwise those of a column are.
    pub row_major: bool,
}

// SAFETY: as for the slice the pointer is from, which whoever reads the matrix guarantees.
unsafe impl Sync for MatRef {}

impl MatRef {
    /// Row-major, from the start of `values`.
    pub fn row_major(values: &[f32], stride: usize) -> Self {
        Self { start: values.as_ptr(), stride, row_major: true }
    }
    /// Column-major, from the start of `values`.
    pub fn column_major(values: &[f32], stride: usize) -> Self {
        Self { start: values.as_ptr(), stride, row_major: false }
    }
    /// Address of (i, j), which may be outside: prefetches go there.
    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> *const f32 {
        self.start.wrapping_add(if self.row_major { i * self.stride + j } else { j * self.stride + i })
    }
    /// The matrix from (i, j) on.
    #[inline(always)]
    fn from(&self, i: usize, j: usize) -> Self {
        Self { start: self.at(i, j), ..*self }
    }
}

/// A row-major matrix that is written.
#[derive(Clone, Copy)]
pub struct MatMut {
    /// Element (0, 0).
    pub start: *mut f32,
    /// Distance between rows.
    pub stride: usize,
    /// Whether products are added to what is there.
    pub accumulate: bool,
}

impl MatMut {
    /// The matrix from (i, j) on.
    #[inline(always)]
    unsafe fn from(&self, i: usize, j: usize) -> Self {
        // SAFETY: the caller has an element (i, j).
        Self { start: unsafe { self.start.add(i * self.stride + j) }, ..*self }
    }
}

dispatch! {
    /// C = A·B of `size` \[M, N, K\], or C += A·B.
    ///
    /// # Safety
    /// `a` is M×K, `b` K×N, `c` M×N, all in bounds; `buffer` has [`BUFFER`] floats; neither `c` nor `buffer` overlaps another.
    pub unsafe fn gemm(size: [usize; 3], a: MatRef, b: MatRef, c: MatMut, buffer: *mut f32) = product gemm_body
}

#[inline(always)]
unsafe fn gemm_body<S: Simd, O: Operand>([m, n, k]: [usize; 3], a: MatRef, b: MatRef, c: MatMut, buffer: *mut f32) {
    // SAFETY: all offsets stay inside the matrices and the buffer, see `BUFFER`.
    unsafe {
        if k == 0 && !c.accumulate {
            for i in 0..m {
                std::slice::from_raw_parts_mut(c.start.add(i * c.stride), n).fill(0.0);
            }
        }
        let (pa, pb) = (buffer, buffer.add(pack::packed_a_len(MC, MAX_KC)));
        let runs = O::steps(k).div_ceil(O::KC).max(1);
        let max_kc = k.div_ceil(O::BLOCK).div_ceil(runs).max(1) * O::BLOCK;
        // An A that fits whole is packed once.
        let whole = runs == 1 && m <= MC;
        if whole {
            pack::pack_whole_a::<S, O>(a, m, k, pa);
        }
        for n0 in (0..n).step_by(NC) {
            let nc = NC.min(n - n0);
            for k0 in (0..k).step_by(max_kc) {
                let kc = max_kc.min(k - k0);
                O::pack_whole_b::<S>(b.from(k0, n0), kc, nc, pb);
                for m0 in (0..m).step_by(MC) {
                    let mc = MC.min(m - m0);
                    if !whole {
                        pack::pack_whole_a::<S, O>(a.from(m0, k0), mc, kc, pa);
                    }
                    let steps = O::steps(kc);
                    let packed = O::packed::<S>(pa, steps);
                    for j in (0..nc).step_by(2 * S::LANES) {
                        let (columns, b) = ((nc - j).min(2 * S::LANES), pb.add(j * steps));
                        let c = MatMut { accumulate: c.accumulate || k0 > 0, ..c.from(m0, n0 + j) };
                        O::panel::<S>([mc, columns, steps], &packed, b, c, &Prefetch::NONE, 0);
                    }
                }
            }
        }
    }
}

/// Columns of B that [`gemm_stream_b`] packs at once, and the most it is called with.
const GROUP: usize = 2 * COLUMNS;
pub const STREAM_COLUMNS: usize = 256;

/// The most steps of K summed in registers before C is updated, in [`gemm_stream_b`]. Column-major B is transposed: longer runs read
/// more adjacent cache lines of each column.
const STREAM_STEPS: usize = 512;
const fn run_len(row_major: bool) -> usize {
    if row_major { 256 } else { STREAM_STEPS }
}

/// Floats of scratch memory that [`gemm_stream_b`] needs.
pub const fn stream_buffer(m: usize) -> usize {
    pack::packed_b_len(STREAM_STEPS, GROUP) + m.next_multiple_of(16) * STREAM_COLUMNS
}

/// B of a product that packs it on the way.
trait Streamed: Copy {
    /// Steps of K summed in registers before C is updated.
    fn run_len(self) -> usize;
    /// Packs `kc` × `nc` elements from (`k`, `n`) on.
    unsafe fn pack<S: Simd, E: Element>(self, k: usize, n: usize, kc: usize, nc: usize, to: *mut f32);
    /// The cache lines of a group from (`k`, `n`) on, which need not exist, for tiles of 256 or 512 steps.
    fn ahead<S: Simd, E: Element>(self, k: usize, n: usize) -> Prefetch;
}

impl Streamed for MatRef {
    fn run_len(self) -> usize {
        run_len(self.row_major)
    }
    #[inline(always)]
    unsafe fn pack<S: Simd, E: Element>(self, k: usize, n: usize, kc: usize, nc: usize, to: *mut f32) {
        // SAFETY: passed on to the caller.
        unsafe { pack::pack_whole_b::<S, E>(self.from(k, n), kc, nc, to) }
    }
    #[inline(always)]
    fn ahead<S: Simd, E: Element>(self, k: usize, n: usize) -> Prefetch {
        // Lines that a step of a tile prefetches are in the rows, or the next ones in the columns, of its two numbers.
        let (start, tiles, second) = (self.at(k, n), GROUP / 16, E::PER_STEP - 1);
        if self.row_major {
            let step = self.stride * E::PER_STEP;
            return Prefetch { start, tiles, tile_stride: 16, step, jump: 0, second: second * self.stride };
        }
        // A column's part of a run is as many lines as a panel is wide, or as two are.
        let step = 16 * E::PER_STEP;
        let jump = self.stride.wrapping_sub(2 * S::LANES * step);
        Prefetch { start, tiles, tile_stride: 16 * self.stride, step, jump, second: second * 16 }
    }
}

impl<T: Number> Streamed for PanelsOf<'_, T> {
    fn run_len(self) -> usize {
        run_len(false)
    }
    #[inline(always)]
    unsafe fn pack<S: Simd, E: Element>(self, k: usize, n: usize, kc: usize, nc: usize, to: *mut f32) {
        let panel = 2 * S::LANES;
        // SAFETY: the columns are padded to whole panels; see the caller.
        unsafe {
            for j in (0..nc).step_by(panel) {
                let from = self.at(n + j, k);
                for p in 0..kc {
                    let (from, to) = (from.add(p * COLUMNS), to.add(j * kc + p * panel));
                    S::store(to, T::load::<S>(from));
                    S::store(to.add(S::LANES), T::load::<S>(from.add(S::LANES)));
                }
            }
        }
    }
    #[inline(always)]
    fn ahead<S: Simd, E: Element>(self, k: usize, n: usize) -> Prefetch {
        // A step of a panel is one cache line or two.
        let step = COLUMNS * size_of::<T>() / size_of::<f32>();
        let (start, tile_stride) = (self.at(n, k).cast(), self.columns * step);
        Prefetch { start, tiles: GROUP / COLUMNS, tile_stride, step, jump: 0, second: step / 2 }
    }
}

dispatch! {
    /// As [`gemm_stream_b`] in fp32, with the columns of B in panels.
    ///
    /// # Safety
    /// As for [`gemm_stream_b`].
    pub unsafe fn gemm_stream_panels(size: [usize; 3], a: *const f32, b: Panels, c: MatMut, buffer: *mut f32) = panels_body
}
#[inline(always)]
unsafe fn panels_body<S: Simd>(size: [usize; 3], a: *const f32, b: Panels, c: MatMut, buffer: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe {
        match b {
            Panels::Full(b) => stream::<S, Fp32, _>(size, a, b, c, buffer),
            Panels::Half(b) => stream::<S, Fp32, _>(size, a, b, c, buffer),
        }
    }
}

dispatch! {
    /// C = A·B of `size` \[M, N, K\] with A packed, N at most [`STREAM_COLUMNS`]; overwrites C.
    ///
    /// # Safety
    /// A, B and C have the stated sizes; `buffer` has [`stream_buffer`]`(M)` floats.
    pub unsafe fn gemm_stream_b(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut, buffer: *mut f32) = product matrix_body
}
#[inline(always)]
unsafe fn matrix_body<S: Simd, O: Operand>(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut, buffer: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { O::stream::<S>(size, a, b, c, buffer) }
}

#[inline(always)]
unsafe fn stream<S: Simd, E: Element, B: Streamed>(
    [m, n, k]: [usize; 3],
    a: *const f32,
    b: B,
    c: MatMut,
    buffer: *mut f32,
) {
    // SAFETY: all offsets stay inside the matrices and the buffer; prefetched addresses are not read.
    unsafe {
        let panel = 2 * S::LANES;
        let max_kc = b.run_len() * E::PER_STEP;
        let (pb, sums) = (buffer, buffer.add(pack::packed_b_len(STREAM_STEPS, GROUP)));
        // A run of A stays in the second-level cache for all columns.
        for k0 in (0..k.max(1)).step_by(max_kc) {
            let kc = max_kc.min(k - k0);
            let steps = E::steps(kc);
            let mut packed = PackedA::new::<S>(a, E::steps(k));
            packed.start = a.add(k0 / E::PER_STEP * S::ROWS);
            for n0 in (0..n).step_by(GROUP) {
                let nc = GROUP.min(n - n0);
                b.pack::<S, E>(k0, n0, kc, nc, pb);
                let [next_k, next_n] = match n0 + nc < n {
                    true => [k0, n0 + GROUP],
                    false if k0 + kc < k => [k0 + kc, 0],
                    false => [0, n],
                };
                let prefetch = b.ahead::<S, E>(next_k, next_n);
                let mut done = 0;
                for j in (0..nc).step_by(panel) {
                    let sums = MatMut { start: sums.add((n0 + j) * m), stride: panel, accumulate: k0 > 0 };
                    done += tile::panel::<S, E>([m, panel, steps], &packed, pb.add(j * steps), sums, &prefetch, done);
                }
            }
        }
        for j in (0..n).step_by(panel) {
            for i in 0..m {
                let (from, to) = (sums.add(j * m + i * panel), c.start.add(i * c.stride + j));
                to.copy_from_nonoverlapping(from, panel.min(n - j));
            }
        }
    }
}

dispatch! {
    /// Rows `rows` of C = A·B, or of C += A·B, with `size` \[N, K\] and both A and B packed. The rows begin and end with
    /// micro-panels of A; `c` starts at the first of them.
    ///
    /// # Safety
    /// A, B and C have the stated sizes.
    pub unsafe fn gemm_prepacked(rows: Range<usize>, size: [usize; 2], a: *const f32, b: *const f32, c: MatMut, prefetch: &Prefetch) = product prepacked_body
}

#[inline(always)]
pub unsafe fn prepacked_body<S: Simd, O: Operand>(
    rows: Range<usize>,
    [n, k]: [usize; 2],
    a: *const f32,
    b: *const f32,
    c: MatMut,
    prefetch: &Prefetch,
) {
    // SAFETY: all offsets stay inside the matrices.
    unsafe {
        let panel = 2 * S::LANES;
        let steps = O::steps(k);
        let mut packed = O::packed::<S>(a, steps);
        packed.start = a.add(rows.start / O::rows::<S>() * packed.panel_stride);
        let mut done = 0;
        for j in (0..n).step_by(panel) {
            let size = [rows.len(), panel.min(n - j), steps];
            done += O::panel::<S>(size, &packed, b.add(j * steps), c.from(0, j), prefetch, done);
        }
    }
}
