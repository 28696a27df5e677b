//! C = A·B with so few rows that the product waits for B: the forward pass of a linear layer on a few images.
//!
//! A block of LANES steps of K by one micro-panel of columns is transposed in the first-level cache and multiplied at once, so
//! that cache lines of B are prefetched at an even pace all the time. A is packed, its rows for one step side by side. The bits are those of
//! [`gemm_stream_b`](super::gemm_stream_b): the same runs of K, each summed in order.

use super::super::simd::{Simd, dispatch};
use super::{COLUMNS, MatMut, MatRef, run_len};
use crate::device::cpu::half::Half;

/// Whether [`gemm_few_rows`] multiplies matrices of `rows` rows at any level.
pub const fn suits(rows: usize) -> bool {
    matches!(rows, 1..=4 | 6 | 8)
}

/// B by columns.
pub trait Columns: Copy {
    /// Writes a block to `to`, `panel` floats per step: `steps` steps from `p` on of `columns` columns from `j` on, of at most LANES
    /// and 2·LANES. Columns that do not exist are 0. `k` is the number of all steps, for what is prefetched.
    ///
    /// # Safety
    /// The block is in the matrix; `to` has room for LANES steps.
    unsafe fn block<S: Simd>(self, k: usize, from: [usize; 2], size: [usize; 2], to: *mut f32);
}

/// Floats of a column between what is transposed and what is prefetched.
const AHEAD: usize = 128;

impl Columns for MatRef {
    #[inline(always)]
    unsafe fn block<S: Simd>(self, k: usize, [p, j]: [usize; 2], [steps, columns]: [usize; 2], to: *mut f32) {
        let panel = 2 * S::LANES;
        // SAFETY: see the caller; what is prefetched is not read.
        unsafe {
            if p.is_multiple_of(16) {
                // Past the end, of the columns that come next.
                let (p, j) = if p + AHEAD < k { (p + AHEAD, j) } else { (p + AHEAD - k, j + panel) };
                for i in 0..panel {
                    S::prefetch(self.at(p, j + i));
                }
            }
            if steps == S::LANES && columns == panel {
                S::transpose(self.at(p, j), self.stride, to, panel);
                S::transpose(self.at(p, j + S::LANES), self.stride, to.add(S::LANES), panel);
                return;
            }
            for step in 0..steps {
                for i in 0..panel {
                    *to.add(step * panel + i) = if i < columns { *self.at(p + step, j + i) } else { 0.0 };
                }
            }
        }
    }
}

/// Numbers in half precision between what is widened and what is prefetched.
const HALF_AHEAD: usize = 4096;

/// From a first column on that begins a panel.
impl Columns for Half<'_> {
    #[inline(always)]
    unsafe fn block<S: Simd>(self, _k: usize, [p, j]: [usize; 2], [steps, _]: [usize; 2], to: *mut f32) {
        // SAFETY: see the caller; panels are padded; what is prefetched is not read.
        unsafe {
            let from = self.values.as_ptr().add(self.index(j, p));
            for step in 0..steps {
                let (from, to) = (from.add(step * COLUMNS), to.add(step * 2 * S::LANES));
                S::prefetch(from.wrapping_add(HALF_AHEAD).cast());
                S::store(to, S::load_fp16(from));
                S::store(to.add(S::LANES), S::load_fp16(from.add(S::LANES)));
            }
        }
    }
}

dispatch! {
    /// C = A·B of `size` \[M, N, K\], for an M that [`suits`]: A and B are column-major, A without gaps. Overwrites C.
    ///
    /// # Safety
    /// A, B and C have the stated sizes.
    pub unsafe fn gemm_few_rows(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut) = body_of_columns
}
#[inline(always)]
unsafe fn body_of_columns<S: Simd>(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut) {
    // SAFETY: passed on to the caller.
    unsafe { body::<S, MatRef>(size, a, b, c) }
}

dispatch! {
    /// As [`gemm_few_rows`], with the columns of B in half precision.
    ///
    /// # Safety
    /// A, B and C have the stated sizes.
    pub unsafe fn gemm_few_rows_half(size: [usize; 3], a: *const f32, b: Half, c: MatMut) = body_of_half
}
#[inline(always)]
unsafe fn body_of_half<S: Simd>(size: [usize; 3], a: *const f32, b: Half, c: MatMut) {
    // SAFETY: passed on to the caller.
    unsafe { body::<S, Half>(size, a, b, c) }
}

#[inline(always)]
unsafe fn body<S: Simd, B: Columns>([m, n, k]: [usize; 3], a: *const f32, b: B, c: MatMut) {
    macro_rules! rows {
        ($($m:literal)*) => {
            match m {
                $($m => rows::<S, B, $m>([n, k], a, b, c),)*
                _ => {}
            }
        };
    }
    // SAFETY: passed on to the caller.
    unsafe { rows!(1 2 3 4 6 8) }
}

/// # Safety
/// As for [`gemm_few_rows`], of M rows.
#[inline(always)]
unsafe fn rows<S: Simd, B: Columns, const M: usize>([n, k]: [usize; 2], a: *const f32, b: B, c: MatMut) {
    let panel = 2 * S::LANES;
    // SAFETY: see the caller; LANES is at most 16.
    unsafe {
        let mut block = [0.0f32; 16 * 32];
        let block = block.as_mut_ptr();
        let zero = S::splat(0.0);
        for j in (0..n).step_by(panel) {
            let columns = panel.min(n - j);
            let mut total = [[zero; 2]; M];
            for first in (0..k).step_by(run_len(false)) {
                let end = k.min(first + run_len(false));
                let mut sum = [[zero; 2]; M];
                let mut p = first;
                while p < end {
                    let steps = S::LANES.min(end - p);
                    b.block::<S>(k, [p, j], [steps, columns], block);
                    for step in 0..steps {
                        let b = block.add(step * panel);
                        let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
                        for (i, sum) in sum.iter_mut().enumerate() {
                            let x = S::splat(*a.add((p + step) * M + i));
                            sum[0] = S::fma(x, b0, sum[0]);
                            sum[1] = S::fma(x, b1, sum[1]);
                        }
                    }
                    p += steps;
                }
                for (total, sum) in total.iter_mut().zip(&sum) {
                    for (total, &sum) in total.iter_mut().zip(sum) {
                        *total = if first > 0 { S::add(*total, sum) } else { sum };
                    }
                }
            }
            for (i, total) in total.iter().enumerate() {
                let mut row = [0.0f32; 32];
                S::store(row.as_mut_ptr(), total[0]);
                S::store(row.as_mut_ptr().add(S::LANES), total[1]);
                c.start.add(i * c.stride + j).copy_from_nonoverlapping(row.as_ptr(), columns);
            }
        }
    }
}
