//! Packs A and B into micro-panels, in the order in which the micro-kernel reads them.

use super::super::simd::{Simd, dispatch};
use super::MatRef;
use super::operand::{Element, Operand};
use super::tile::PackedA;
use std::ops::Range;

/// Floats of a packed A (M×K), K in steps of the operand, at any level.
pub const fn packed_a_len(m: usize, k: usize) -> usize {
    // A micro-panel has at most 16 rows, and LANES, at most 16, extra; where it has an extra it has at least two rows.
    (m + 16) * k + (m.div_ceil(2) + 1) * LANES
}

/// Floats of a packed B (K×N), K in steps of the operand, at any level.
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
    /// A with `k` steps as [`pack_a`] packs it.
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
    pub unsafe fn pack_a(a: MatRef, size: [usize; 2], first: usize, panels: usize, to: *mut f32) = product pack_a_body
}
#[inline(always)]
unsafe fn pack_a_body<S: Simd, O: Operand>(a: MatRef, [m, k]: [usize; 2], first: usize, panels: usize, to: *mut f32) {
    let stride = O::packed::<S>(to, O::steps(k)).panel_stride;
    for index in first..first + panels {
        let i = index * O::rows::<S>();
        if i < m {
            // SAFETY: the micro-panel has its place, and rows from i on exist.
            unsafe { O::pack_a_panel::<S>(a.from(i, 0), m - i, k, to.add(index * stride)) };
        }
    }
}

/// Packs A (M×K).
///
/// # Safety
/// As for [`pack_a`].
#[inline(always)]
pub unsafe fn pack_whole_a<S: Simd, O: Operand>(a: MatRef, m: usize, k: usize, to: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { pack_a_body::<S, O>(a, [m, k], 0, m.div_ceil(O::rows::<S>()), to) }
}

/// See [`Operand::pack_a_panel`].
///
/// # Safety
/// As for [`pack_a`].
#[inline(always)]
pub unsafe fn pack_a_panel<S: Simd, E: Element>(a: MatRef, m: usize, k: usize, to: *mut f32) {
    let rows = m.min(S::ROWS);
    let mut step = 0;
    // SAFETY: reads stay inside A; a micro-panel has room for ROWS floats per step and a vector.
    unsafe {
        // A whole vector reads LANES rows, which may be more than the micro-panel has; what it stores beyond is overwritten.
        if m >= S::ROWS.next_multiple_of(S::LANES) {
            if a.row_major {
                while (step + S::LANES) * E::PER_STEP <= k {
                    for j in (0..S::ROWS).step_by(S::LANES) {
                        E::transpose::<S>(a.at(j, step * E::PER_STEP), a.stride, to.add(step * S::ROWS + j), S::ROWS);
                    }
                    step += S::LANES;
                }
            } else {
                while (step + 1) * E::PER_STEP <= k {
                    for j in (0..S::ROWS).step_by(S::LANES) {
                        let from = a.at(j, step * E::PER_STEP);
                        S::store(to.add(step * S::ROWS + j), E::across::<S>(from, a.stride));
                    }
                    step += 1;
                }
            }
        }
        for step in step..E::steps(k) {
            let p = step * E::PER_STEP;
            for i in 0..rows {
                *to.add(step * S::ROWS + i) = E::step(k - p, |next| *a.at(i, p + next));
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
    pub unsafe fn pack_b(b: MatRef, k: usize, first: usize, columns: usize, to: *mut f32) = product pack_b_body
}
#[inline(always)]
unsafe fn pack_b_body<S: Simd, O: Operand>(b: MatRef, k: usize, first: usize, columns: usize, to: *mut f32) {
    // SAFETY: passed on to the caller.
    unsafe { O::pack_whole_b::<S>(b.from(0, first), k, columns, to.add(first * O::steps(k))) }
}

/// Packs B (K×N): micro-panels of two vectors, step by step, the last one padded with zeros.
///
/// # Safety
/// As for [`pack_b`].
#[inline(always)]
pub unsafe fn pack_whole_b<S: Simd, E: Element>(b: MatRef, k: usize, n: usize, to: *mut f32) {
    // SAFETY: `to` has room for its steps times n rounded up to whole panels; reads stay inside B.
    unsafe {
        let (panel, steps) = (2 * S::LANES, E::steps(k));
        let whole = n / panel * panel;
        let mut step = 0;
        if b.row_major {
            while (step + 1) * E::PER_STEP <= k {
                let from = b.at(step * E::PER_STEP, 0);
                for j in (0..whole).step_by(panel) {
                    let (from, to) = (from.add(j), to.add(j * steps + step * panel));
                    S::store(to, E::across::<S>(from, b.stride));
                    S::store(to.add(S::LANES), E::across::<S>(from.add(S::LANES), b.stride));
                }
                step += 1;
            }
        } else {
            let blocks = k / (S::LANES * E::PER_STEP);
            for j in (0..whole).step_by(panel) {
                for p in (0..blocks * S::LANES).step_by(S::LANES) {
                    for v in [0, S::LANES] {
                        let to = to.add(j * steps + p * panel + v);
                        E::transpose::<S>(b.at(p * E::PER_STEP, j + v), b.stride, to, panel);
                    }
                }
            }
            step = blocks * S::LANES;
        }
        // What is left of K, then the columns that do not fill a micro-panel.
        for j in (0..whole).step_by(panel) {
            pack_columns::<E>(b, k, step, j..j + panel, panel, to.add(j * steps));
        }
        if whole < n {
            pack_columns::<E>(b, k, 0, whole..n, panel, to.add(whole * steps));
        }
    }
}

/// Packs a micro-panel, `panel` columns wide, from step `first` on, padded with zeros.
///
/// # Safety
/// As for [`pack_whole_b`].
#[inline(always)]
unsafe fn pack_columns<E: Element>(
    b: MatRef,
    k: usize,
    first: usize,
    columns: Range<usize>,
    panel: usize,
    to: *mut f32,
) {
    for step in first..E::steps(k) {
        let p = step * E::PER_STEP;
        for v in 0..panel {
            let j = columns.start + v;
            // SAFETY: reads stay inside B; the micro-panel has room for every step.
            unsafe {
                let inside = j < columns.end;
                *to.add(step * panel + v) = if inside { E::step(k - p, |next| *b.at(p + next, j)) } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::operand::Products;
    use super::*;
    use crate::device::cpu::simd::{Level, bf16};
    use alexnet_ops::Precision;

    /// Numbers with every kind of rounding: ties, carries into the exponent, subnormal ones, infinities and NaN.
    fn numbers(len: usize) -> Vec<f32> {
        const KINDS: [u32; 12] = [
            0x3f80_8000,
            0x3f81_8000,
            0x3f80_7fff,
            0xbfff_ffff,
            0x7f7f_ffff,
            0x7f80_0000,
            0xff80_0001,
            0x7fff_ffff,
            0x007f_ffff,
            0x8000_0001,
            0x8000_0000,
            0x0080_0000,
        ];
        let odd = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9) >> 2 | 0x3000_0000;
        (0..len).map(|i| f32::from_bits(if i % 5 == 0 { KINDS[i / 5 % 12] } else { odd(i) })).collect()
    }

    /// The element of one step in which row or column `i` is packed.
    fn step(precision: Precision, k: usize, step: usize, at: impl Fn(usize) -> f32) -> u32 {
        match precision {
            Precision::Bf16 => {
                let high = if 2 * step + 1 < k { at(2 * step + 1) } else { 0.0 };
                bf16::pair(at(2 * step), high).to_bits()
            }
            _ => at(step).to_bits(),
        }
    }

    #[test]
    fn micro_panels_hold_every_step() {
        for level in Level::available() {
            for precision in [Precision::Fp32, Precision::Bf16] {
                if precision == Precision::Bf16 && level == Level::Avx512 && !level.multiplies_bf16() {
                    continue;
                }
                let products = Products { level, precision };
                let (lanes, height) = match level {
                    // Its micro-panels are tested with their products.
                    Level::Amx => continue,
                    Level::Portable => (8, 2),
                    Level::Neon => (4, 8),
                    Level::Avx2 => (8, 6),
                    Level::Avx512 => (16, 12),
                };
                for (len, k) in [(1, 1), (12, 33), (40, 64), (67, 131), (64, 7)] {
                    let values = numbers(len * k);
                    let steps = products.steps(k);
                    for row_major in [true, false] {
                        // A is len×k, B is k×len.
                        let a = MatRef { start: values.as_ptr(), stride: if row_major { k } else { len }, row_major };
                        let b = MatRef { row_major: !row_major, ..a };
                        let value = |i: usize, p: usize| values[if row_major { i * k + p } else { p * len + i }];
                        let mut to = vec![0.0; packed_a_len(len, steps)];
                        // SAFETY: the matrices have these sizes.
                        unsafe { pack_a(products, a, [len, k], 0, len.div_ceil(height), to.as_mut_ptr()) };
                        for (i, s) in (0..len).flat_map(|i| (0..steps).map(move |s| (i, s))) {
                            let at = i / height * (height * steps + lanes) + s * height + i % height;
                            let expected = step(precision, k, s, |p| value(i, p));
                            assert_eq!(to[at].to_bits(), expected, "A {level:?} {precision:?} {len} {k} {i} {s}");
                        }
                        let mut to = vec![0.0; packed_b_len(steps, len)];
                        // SAFETY: the matrices have these sizes.
                        unsafe { pack_b(products, b, k, 0, len, to.as_mut_ptr()) };
                        let width = 2 * lanes;
                        for (j, s) in (0..len.next_multiple_of(width)).flat_map(|j| (0..steps).map(move |s| (j, s))) {
                            let found = to[j / width * width * steps + s * width + j % width].to_bits();
                            let expected = if j < len { step(precision, k, s, |p| value(j, p)) } else { 0 };
                            assert_eq!(found, expected, "B {level:?} {precision:?} {len} {k} {j} {s}");
                        }
                    }
                }
            }
        }
    }
}
