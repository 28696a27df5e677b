//! C = A·B with so few rows that the product waits for B, the weights of a linear layer on a few images: B comes in panels, which
//! are read once, from the first byte to the last, and multiplied without a copy.
//!
//! The bits are those of [`gemm_stream_b`](super::gemm_stream_b) with a column-major B: the same runs of K, each summed in order.

use super::super::simd::{Simd, dispatch};
use super::super::weights::{Number, Panels, PanelsOf};
use super::{COLUMNS, MatMut, run_len};

/// Whether [`gemm_few_rows`] multiplies matrices of `rows` rows at any level.
pub const fn suits(rows: usize) -> bool {
    matches!(rows, 1..=4 | 6 | 8)
}

/// Cache lines between what is multiplied and what is prefetched.
const AHEAD: usize = 64;

dispatch! {
    /// C = A·B of `size` \[M, N, K\], for an M that [`suits`]: A is column-major without gaps, the columns of B are rows of panels.
    /// Overwrites C.
    ///
    /// # Safety
    /// A, B and C have the stated sizes.
    pub unsafe fn gemm_few_rows(size: [usize; 3], a: *const f32, b: Panels, c: MatMut) = body
}

#[inline(always)]
unsafe fn body<S: Simd>([m, n, k]: [usize; 3], a: *const f32, b: Panels, c: MatMut) {
    macro_rules! rows {
        ($($m:literal)*) => {
            match (m, b) {
                $(
                    ($m, Panels::Full(b)) => rows::<S, f32, $m>([n, k], a, b, c),
                    ($m, Panels::Half(b)) => rows::<S, u16, $m>([n, k], a, b, c),
                )*
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
unsafe fn rows<S: Simd, T: Number, const M: usize>([n, k]: [usize; 2], a: *const f32, b: PanelsOf<T>, c: MatMut) {
    let panel = 2 * S::LANES;
    // SAFETY: see the caller; panels are padded; what is prefetched is not read.
    unsafe {
        let zero = S::splat(0.0);
        for j in (0..n).step_by(panel) {
            let mut total = [[zero; 2]; M];
            for first in (0..k).step_by(run_len(false)) {
                let mut sum = [[zero; 2]; M];
                for p in first..k.min(first + run_len(false)) {
                    let b = b.at(j, p);
                    let line = b.cast::<u8>().wrapping_add(64 * AHEAD);
                    // A step of a panel is one cache line or two.
                    S::prefetch(line.cast());
                    if COLUMNS * size_of::<T>() > 64 {
                        S::prefetch(line.wrapping_add(64).cast());
                    }
                    let (b0, b1) = (T::load::<S>(b), T::load::<S>(b.add(S::LANES)));
                    for (i, sum) in sum.iter_mut().enumerate() {
                        let x = S::splat(*a.add(p * M + i));
                        sum[0] = S::fma(x, b0, sum[0]);
                        sum[1] = S::fma(x, b1, sum[1]);
                    }
                }
                for (total, sum) in total.iter_mut().zip(&sum) {
                    for (total, &sum) in total.iter_mut().zip(sum) {
                        *total = if first > 0 { S::add(*total, sum) } else { sum };
                    }
                }
            }
            for (i, total) in total.iter().enumerate() {
                // LANES is at most 16.
                let mut row = [0.0f32; 32];
                S::store(row.as_mut_ptr(), total[0]);
                S::store(row.as_mut_ptr().add(S::LANES), total[1]);
                c.start.add(i * c.stride + j).copy_from_nonoverlapping(row.as_ptr(), panel.min(n - j));
            }
        }
    }
}
