//! Matrix product C (M×N) = A (M×K) · B (K×N), the work of convolutions and linear layers.
//!
//! Layout: C by rows; A and B by rows or by columns ([`View`]). One call is one thread's work; the
//! operators cut their products into calls by sizes that depend on the shape only.
//!
//! How it runs fast: an inner tile of ROWS×2 vectors of C stays in registers for `KC` products each, so
//! that a step of K costs two loads of B, ROWS broadcasts of A and 2·ROWS multiply-adds. A and B are first
//! copied in the order in which the tile reads them: A in blocks of ROWS rows (`MC` rows of them, in the second-level
//! cache), B in panels of two vectors (`KC`×2 vectors, 16 KiB at most, which stay in the first-level cache beside a block
//! of A).
//!
//! Every element of C is the sum over K in order, in runs of at most `KC` that are added in order: the bits
//! do not depend on where a call's M and N begin and end.
//!
//! Floating-point operations: 2·M·N·K. Bytes at least: 4·(M·K + K·N + M·N).

use super::simd::{Simd, dispatch};

/// Products summed in registers before C is touched.
const KC: usize = 128;
/// Rows of A copied at once; a multiple of every level's ROWS.
const MC: usize = 384;
/// Columns of B copied at once; a multiple of two vectors.
const NC: usize = 512;
/// Room for vectors that reach over the end of a block of A.
const SLACK: usize = 64;
/// Numbers of scratch memory that [`gemm`] needs.
pub const BUFFER: usize = KC * (MC + NC) + 2 * SLACK;

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

impl View {
    /// Neighbours along a row.
    pub fn rows(start: *const f32, stride: usize) -> Self {
        Self { start, stride, by_rows: true }
    }
    /// Neighbours along a column.
    pub fn columns(start: *const f32, stride: usize) -> Self {
        Self { start, stride, by_rows: false }
    }
    #[inline(always)]
    unsafe fn at(&self, i: usize, j: usize) -> *const f32 {
        let offset = if self.by_rows { i * self.stride + j } else { j * self.stride + i };
        // SAFETY: the caller keeps (i, j) inside the matrix.
        unsafe { self.start.add(offset) }
    }
    #[inline(always)]
    unsafe fn part(&self, i: usize, j: usize) -> Self {
        // SAFETY: the caller keeps (i, j) inside the matrix.
        Self { start: unsafe { self.at(i, j) }, ..*self }
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
        let (pa, pb) = (buffer, buffer.add(KC * MC + SLACK));
        let runs = k.div_ceil(KC).max(1);
        let kc_most = k.div_ceil(runs).max(1);
        // A that fits whole is copied once.
        let whole = runs == 1 && m <= MC;
        if whole {
            pack_a::<S>(a, m, k, pa);
        }
        for n0 in (0..n).step_by(NC) {
            let nc = NC.min(n - n0);
            for k0 in (0..k).step_by(kc_most) {
                let kc = kc_most.min(k - k0);
                pack_b::<S>(b.part(k0, n0), kc, nc, pb);
                for m0 in (0..m).step_by(MC) {
                    let mc = MC.min(m - m0);
                    if !whole {
                        pack_a::<S>(a.part(m0, k0), mc, kc, pa);
                    }
                    block::<S>(mc, nc, kc, pa, pb, c.add(m0 * ldc + n0), ldc, add || k0 > 0);
                }
            }
        }
    }
}

/// The widest block of rows that `rows` still fill.
#[inline(always)]
fn width<S: Simd>(rows: usize) -> usize {
    match rows {
        r if r >= S::ROWS => S::ROWS,
        r if r >= 8 && S::ROWS > 8 => 8,
        r if r >= 4 && S::ROWS > 4 => 4,
        r if r >= 2 => 2,
        _ => 1,
    }
}

/// Copies A (m×k) as blocks of rows: block by block, column by column.
#[inline(always)]
unsafe fn pack_a<S: Simd>(a: View, m: usize, k: usize, to: *mut f32) {
    // SAFETY: `to` has room for m·k and SLACK; reads stay inside A.
    unsafe {
        let mut i = 0;
        while i < m {
            let w = width::<S>(m - i);
            let to = to.add(i * k);
            if a.by_rows {
                let mut p = 0;
                // A whole transposition reads LANES rows, which may be more than the block has.
                if m - i >= w.next_multiple_of(S::LANES) && (w < S::LANES || w.is_multiple_of(S::LANES)) {
                    while p + S::LANES <= k {
                        for j in (0..w).step_by(S::LANES) {
                            S::transpose(a.at(i + j, p), a.stride, to.add(p * w + j), w);
                        }
                        p += S::LANES;
                    }
                }
                for p in p..k {
                    for j in 0..w {
                        *to.add(p * w + j) = *a.at(i + j, p);
                    }
                }
            } else {
                match w {
                    12 => copy_columns::<12>(a.part(i, 0), k, to),
                    8 => copy_columns::<8>(a.part(i, 0), k, to),
                    6 => copy_columns::<6>(a.part(i, 0), k, to),
                    4 => copy_columns::<4>(a.part(i, 0), k, to),
                    2 => copy_columns::<2>(a.part(i, 0), k, to),
                    _ => copy_columns::<1>(a.part(i, 0), k, to),
                }
            }
            i += w;
        }
    }
}

#[inline(always)]
unsafe fn copy_columns<const W: usize>(a: View, k: usize, to: *mut f32) {
    for p in 0..k {
        // SAFETY: column p of the block has W elements, and so has its place.
        unsafe { to.add(p * W).copy_from_nonoverlapping(a.start.add(p * a.stride), W) };
    }
}

/// Copies B (k×n) as panels of two vectors: panel by panel, row by row; the last panel is filled up with zeros.
///
/// Asks for the next run's numbers meanwhile: the weights of a linear layer come from memory, in pieces too
/// short for the processor to foresee.
#[inline(always)]
unsafe fn pack_b<S: Simd>(b: View, k: usize, n: usize, to: *mut f32) {
    // SAFETY: `to` has room for k times n rounded up to whole vectors; reads stay inside B.
    unsafe {
        let panel = 2 * S::LANES;
        let whole = n / panel;
        if b.by_rows {
            for p in 0..k {
                let from = b.at(p, 0);
                for line in (0..n).step_by(16) {
                    S::prefetch(from.wrapping_add(k * b.stride + line));
                }
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
                    for v in 0..panel {
                        S::prefetch(b.at(p, j + v).wrapping_add(k));
                    }
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
            let (to, width) = (to.add(whole * panel * k), rest.next_multiple_of(S::LANES));
            for p in 0..k {
                for v in 0..width {
                    *to.add(p * width + v) = if v < rest { *b.at(p, whole * panel + v) } else { 0.0 };
                }
            }
        }
    }
}

/// C (m×n) = or += the product of copied A and copied B.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block<S: Simd>(
    m: usize,
    n: usize,
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    let panel = 2 * S::LANES;
    // SAFETY: the tiles cover C exactly once; a tile that reaches over C's edge goes by way of `edge`.
    unsafe {
        for n0 in (0..n).step_by(panel) {
            let columns = panel.min(n - n0);
            let b = b.add(n0 * k);
            let mut i = 0;
            while i < m {
                let w = width::<S>(m - i);
                let (a, c) = (a.add(i * k), c.add(i * ldc + n0));
                if columns == panel || columns == S::LANES {
                    tiles::<S>(w, columns, k, a, b, c, ldc, add);
                } else {
                    let mut edge = [0.0f32; 12 * 32];
                    let ld = columns.next_multiple_of(S::LANES);
                    tiles::<S>(w, ld, k, a, b, edge.as_mut_ptr(), ld, false);
                    for r in 0..w {
                        for j in 0..columns {
                            let (c, sum) = (c.add(r * ldc + j), edge[r * ld + j]);
                            *c = if add { *c + sum } else { sum };
                        }
                    }
                }
                i += w;
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tiles<S: Simd>(
    rows: usize,
    columns: usize,
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    // SAFETY: as for `tile`.
    unsafe {
        if columns > S::LANES {
            match rows {
                12 if S::ROWS >= 12 => tile::<S, 12, 2>(k, a, b, c, ldc, add),
                8 if S::ROWS >= 8 => tile::<S, 8, 2>(k, a, b, c, ldc, add),
                6 if S::ROWS == 6 => tile::<S, 6, 2>(k, a, b, c, ldc, add),
                4 if S::ROWS >= 4 => tile::<S, 4, 2>(k, a, b, c, ldc, add),
                2 => tile::<S, 2, 2>(k, a, b, c, ldc, add),
                _ => tile::<S, 1, 2>(k, a, b, c, ldc, add),
            }
        } else {
            match rows {
                12 if S::ROWS >= 12 => tile::<S, 12, 1>(k, a, b, c, ldc, add),
                8 if S::ROWS >= 8 => tile::<S, 8, 1>(k, a, b, c, ldc, add),
                6 if S::ROWS == 6 => tile::<S, 6, 1>(k, a, b, c, ldc, add),
                4 if S::ROWS >= 4 => tile::<S, 4, 1>(k, a, b, c, ldc, add),
                2 => tile::<S, 2, 1>(k, a, b, c, ldc, add),
                _ => tile::<S, 1, 1>(k, a, b, c, ldc, add),
            }
        }
    }
}

/// M rows by NV vectors of C, in registers.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const NV: usize>(
    k: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    // SAFETY: `a` has k·M numbers, `b` k·NV vectors, `c` M rows of NV vectors.
    unsafe {
        let mut sum = [[S::splat(0.0); NV]; M];
        let (mut a, mut b) = (a, b);
        for _ in 0..k {
            let mut vectors = [S::splat(0.0); NV];
            for (j, v) in vectors.iter_mut().enumerate() {
                *v = S::load(b.add(j * S::LANES));
            }
            for (i, sum) in sum.iter_mut().enumerate() {
                let x = S::splat(*a.add(i));
                for (sum, &v) in sum.iter_mut().zip(&vectors) {
                    *sum = S::fma(x, v, *sum);
                }
            }
            a = a.add(M);
            b = b.add(NV * S::LANES);
        }
        for (i, sum) in sum.iter().enumerate() {
            for (j, &sum) in sum.iter().enumerate() {
                let c = c.add(i * ldc + j * S::LANES);
                S::store(c, if add { S::add(S::load(c), sum) } else { sum });
            }
        }
    }
}
