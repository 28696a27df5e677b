//! The number format in which the operands of a product are packed and multiplied. Sums are f32 in either.
//!
//! The micro-kernel goes through K in steps, one element of 32 bits of A and of B each: an f32, or two bf16 of neighbouring k. So
//! a product in bf16 is one in f32 with half the steps and [`Simd::dot`] in the place of the multiply-add. Where K is odd, the
//! last step's second product is that of two zeros.
//!
//! Error bound: a bf16 has 8 bits, so rounding both operands changes a product by at most 2·2⁻⁸ + 2⁻¹⁶ of it. The product of two
//! bf16 has 16 bits and is exact in f32; the sum errs by its additions, as in f32. All levels give the same bits, but that
//! `vdpbf16ps` takes subnormal numbers, those below 2⁻¹²⁶, for zero.

use super::super::simd::{Level, Simd, bf16};
use alexnet_ops::Precision;

/// Instruction set and number format of products.
#[derive(Clone, Copy)]
pub struct Products {
    pub level: Level,
    /// [`Precision::Bf16`] or [`Precision::Fp32`].
    pub precision: Precision,
}

impl Products {
    /// Elements of K per step.
    pub fn per_step(self) -> usize {
        match self.precision {
            Precision::Bf16 => Bf16::PER_STEP,
            _ => Fp32::PER_STEP,
        }
    }
    /// Steps of K.
    pub fn steps(self, k: usize) -> usize {
        k.div_ceil(self.per_step())
    }
}

/// A number format of operands.
///
/// # Safety
/// As for [`Simd`].
pub trait Operand: Copy {
    /// Elements of K per step.
    const PER_STEP: usize;

    /// An element as it is stored between operators.
    type Stored;

    /// Steps of K.
    fn steps(k: usize) -> usize {
        k.div_ceil(Self::PER_STEP)
    }
    /// c plus a step's products.
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V;
    /// One step of the `left` elements of K from `at(0)` on.
    fn step(left: usize, at: impl Fn(usize) -> f32) -> f32;
    /// One step for LANES adjacent floats, `stride` from those of the next k.
    unsafe fn across<S: Simd>(p: *const f32, stride: usize) -> S::V;
    /// Stores LANES elements; see [`Simd::store_bf16`].
    unsafe fn store<S: Simd>(p: *mut Self::Stored, v: S::V);
    /// A micro-panel of steps from one of `rows` stored rows, each the elements of one k, two vectors wide: pairs them in `to`,
    /// or returns `from` where a row is a step.
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32;
    /// LANES steps for LANES rows of floats adjacent along K, stored as [`Simd::transpose`] does.
    unsafe fn transpose<S: Simd>(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);
}

/// f32.
#[derive(Clone, Copy)]
pub struct Fp32;

// Each function relies on the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Operand for Fp32 {
    const PER_STEP: usize = 1;
    type Stored = f32;

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::fma(a, b, c) }
    }
    #[inline(always)]
    fn step(_left: usize, at: impl Fn(usize) -> f32) -> f32 {
        at(0)
    }
    #[inline(always)]
    unsafe fn across<S: Simd>(p: *const f32, _stride: usize) -> S::V {
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        unsafe { S::store(p, v) }
    }
    #[inline(always)]
    unsafe fn pair_rows<S: Simd>(from: *const f32, _rows: usize, _to: *mut f32) -> *const f32 {
        from
    }
    #[inline(always)]
    unsafe fn transpose<S: Simd>(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        unsafe { S::transpose(from, stride, to, to_stride) }
    }
}

/// Two bf16, of k in the lower half of the element and of k + 1 in the upper one.
#[derive(Clone, Copy)]
pub struct Bf16;

// Each function relies on the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Operand for Bf16 {
    const PER_STEP: usize = 2;
    type Stored = u16;

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        unsafe { S::dot(a, b, c) }
    }
    #[inline(always)]
    fn step(left: usize, at: impl Fn(usize) -> f32) -> f32 {
        bf16::pair(at(0), if left > 1 { at(1) } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn across<S: Simd>(p: *const f32, stride: usize) -> S::V {
        unsafe { S::pair(S::load(p), S::load(p.add(stride))) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut u16, v: S::V) {
        unsafe { S::store_bf16(p, v) }
    }
    #[inline(always)]
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32 {
        const ZEROS: [u16; 32] = [0; 32];
        let (from, width) = (from.cast::<u16>(), 2 * S::LANES);
        unsafe {
            for row in (0..rows).step_by(2) {
                let low = from.add(row * width);
                let high = if row + 1 < rows { low.add(width) } else { ZEROS.as_ptr() };
                let [first, second] = S::interleave(low, high);
                S::store(to.add(row / 2 * width), first);
                S::store(to.add(row / 2 * width + S::LANES), second);
            }
        }
        to
    }
    #[inline(always)]
    unsafe fn transpose<S: Simd>(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // LANES is at most 16.
        let mut rows = [0.0f32; 256];
        unsafe {
            for i in 0..S::LANES {
                S::store(rows.as_mut_ptr().add(i * S::LANES), S::neighbours(from.add(i * stride)));
            }
            S::transpose(rows.as_ptr(), S::LANES, to, to_stride);
        }
    }
}
