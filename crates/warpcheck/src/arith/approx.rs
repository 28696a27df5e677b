//! The `.approx` instructions: within PTX's error bounds, and the same bits on every machine.
//!
//! They are short polynomials in `.f64` without fused operations and without a call into the platform's mathematics
//! library, whose last bits differ from CPU to CPU; without a branch where that is possible, so that a loop over lanes
//! becomes vector code. Rounded to `.f32` the results are nearly always the correctly rounded ones, far inside what PTX
//! promises (2 ulp and the like).

use super::float::{NAN_F32, NAN_F64, canonical_f32};
use super::half;

/// 2ˣ in `.f64` for |x| ≤ 1000, to about 2⁻⁴⁰.
#[inline(always)]
fn exp2_f64(x: f64) -> f64 {
    // Adding 1.5 × 2⁵² leaves the nearest integer in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let moved = x + SHIFT;
    let n = moved.to_bits() as i64;
    let f = (x - (moved - SHIFT)) * std::f64::consts::LN_2;
    // Taylor's series of eᶠ, |f| ≤ 0.347: the first term left out is below 10⁻¹³.
    let p = 1.0 / 3_628_800.0;
    let p = p * f + 1.0 / 362_880.0;
    let p = p * f + 1.0 / 40_320.0;
    let p = p * f + 1.0 / 5_040.0;
    let p = p * f + 1.0 / 720.0;
    let p = p * f + 1.0 / 120.0;
    let p = p * f + 1.0 / 24.0;
    let p = p * f + 1.0 / 6.0;
    let p = p * f + 0.5;
    let p = p * f + 1.0;
    let p = p * f + 1.0;
    f64::from_bits(p.to_bits().wrapping_add((n << 52) as u64))
}

/// `ex2.approx.f32`: 2ᵃ. With `.ftz` flush input and result.
#[inline(always)]
pub fn ex2_f32(a: f32) -> f32 {
    // Beyond these the result is infinity, or zero: clamped, the exponent's arithmetic stays in range.
    let x = f64::from(if a < 200.0 { a } else { 200.0 });
    let x = if x > -200.0 { x } else { -200.0 };
    let result = exp2_f64(x) as f32;
    if a.is_nan() { NAN_F32 } else { result }
}

/// log₂ of a positive normal `.f64`.
#[inline(always)]
fn log2_f64(x: f64) -> f64 {
    let bits = x.to_bits();
    // The significand between √½ and √2.
    let offset = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    let exponent = (offset as i64) >> 52;
    let m = f64::from_bits(bits.wrapping_sub((exponent << 52) as u64));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    // log m = 2 (s + s³/3 + s⁵/5 + …), |s| ≤ 0.172.
    let p = 1.0 / 15.0;
    let p = p * z + 1.0 / 13.0;
    let p = p * z + 1.0 / 11.0;
    let p = p * z + 1.0 / 9.0;
    let p = p * z + 1.0 / 7.0;
    let p = p * z + 1.0 / 5.0;
    let p = p * z + 1.0 / 3.0;
    let p = p * z + 1.0;
    exponent as f64 + p * s * (2.0 * std::f64::consts::LOG2_E)
}

/// `lg2.approx.f32`: log₂ a.
#[inline(always)]
pub fn lg2_f32(a: f32) -> f32 {
    let result = log2_f64(f64::from(a)) as f32;
    if a > 0.0 {
        if a == f32::INFINITY { a } else { result }
    } else if a == 0.0 {
        f32::NEG_INFINITY
    } else {
        NAN_F32
    }
}

/// The angle less the nearest multiple of π/2, and that multiple modulo 4.
#[inline(always)]
fn reduce(a: f32) -> (f64, i64) {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let x = f64::from(a);
    // Where the product below would lose the angle altogether, the remainder is taken exactly.
    let x = if x.abs() < 1e9 { x } else { x % std::f64::consts::TAU };
    let moved = x * std::f64::consts::FRAC_2_PI + SHIFT;
    let n = moved - SHIFT;
    // π/2 in two parts, the first of 33 bits, so that its product with n is exact.
    let r = x - n * 1.570_796_326_734_125_6;
    (r - n * 6.077_100_506_506_192e-11, moved.to_bits() as i64 & 3)
}

#[inline(always)]
fn sine(r: f64) -> f64 {
    let z = r * r;
    let p = -1.0 / 39_916_800.0;
    let p = p * z + 1.0 / 362_880.0;
    let p = p * z - 1.0 / 5_040.0;
    let p = p * z + 1.0 / 120.0;
    let p = p * z - 1.0 / 6.0;
    r + r * z * p
}

#[inline(always)]
fn cosine(r: f64) -> f64 {
    let z = r * r;
    let p = 1.0 / 479_001_600.0;
    let p = p * z - 1.0 / 3_628_800.0;
    let p = p * z + 1.0 / 40_320.0;
    let p = p * z - 1.0 / 720.0;
    let p = p * z + 1.0 / 24.0;
    let p = p * z - 0.5;
    1.0 + z * p
}

/// `sin.approx.f32`: infinity gives NaN, −0 gives −0.
#[inline(always)]
pub fn sin_f32(a: f32) -> f32 {
    let (r, quadrant) = reduce(a);
    let magnitude = if quadrant & 1 == 0 { sine(r) } else { cosine(r) };
    let result = if quadrant & 2 == 0 { magnitude } else { -magnitude };
    if a.is_finite() { if a == 0.0 { a } else { result as f32 } } else { NAN_F32 }
}

/// `cos.approx.f32`: infinity gives NaN.
#[inline(always)]
pub fn cos_f32(a: f32) -> f32 {
    let (r, quadrant) = reduce(a);
    let magnitude = if quadrant & 1 == 0 { cosine(r) } else { sine(r) };
    let result = if (quadrant + 1) & 2 == 0 { magnitude } else { -magnitude };
    if a.is_finite() { result as f32 } else { NAN_F32 }
}

/// `tanh.approx.f32`. PTX: relative error 2⁻¹¹; subnormal inputs are supported.
#[inline(always)]
pub fn tanh_f32(a: f32) -> f32 {
    let x = f64::from(a.abs().min(30.0));
    let e = exp2_f64(x * (2.0 * std::f64::consts::LOG2_E));
    // Below 2⁻¹², tanh x = x to the last bit of f32, and e − 1 would lose it.
    let t = if x < 2.44e-4 { x } else { (e - 1.0) / (e + 1.0) };
    if a.is_nan() { NAN_F32 } else { (t as f32).copysign(a) }
}

/// `rcp.approx.f32` (and `.ftz` with flushed input and result): 1/a.
#[inline(always)]
pub fn rcp_f32(a: f32) -> f32 {
    canonical_f32(1.0 / a)
}

/// `sqrt.approx.f32`.
#[inline(always)]
pub fn sqrt_f32(a: f32) -> f32 {
    canonical_f32(a.sqrt())
}

/// `rsqrt.approx.f32`: 1/√a; of ±0 infinity of that sign, of a negative number NaN.
#[inline(always)]
pub fn rsqrt_f32(a: f32) -> f32 {
    canonical_f32((1.0 / f64::from(a).sqrt()) as f32)
}

/// `div.approx.f32`: for 2¹²⁶ < |b| < 2¹²⁸ a finite a gives zero and infinity gives NaN, as PTX says it does.
#[inline(always)]
pub fn div_f32(a: f32, b: f32) -> f32 {
    let huge = b.abs() > f32::from_bits(0x7e80_0000) && b.is_finite();
    let quotient = a / b;
    canonical_f32(if huge { a * 0.0f32.copysign(b) } else { quotient })
}

/// `div.full.f32`: full range.
#[inline(always)]
pub fn div_full_f32(a: f32, b: f32) -> f32 {
    canonical_f32(a / b)
}

/// `rcp.approx.ftz.f64`: the low 32 bits of the input are ignored and those of the result zero; subnormal inputs are
/// zero, and results that would be.
pub fn rcp_f64(a: f64) -> f64 {
    gross(a, |x| 1.0 / x)
}

/// `rsqrt.approx.ftz.f64`, the gross approximation.
pub fn rsqrt_ftz_f64(a: f64) -> f64 {
    gross(a, |x| 1.0 / x.sqrt())
}

fn gross(a: f64, f: impl Fn(f64) -> f64) -> f64 {
    const HIGH: u64 = 0xffff_ffff_0000_0000;
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    const SIGN: u64 = 1 << 63;
    let flush = |x: f64| if x.to_bits() & EXPONENT == 0 { f64::from_bits(x.to_bits() & SIGN) } else { x };
    if a.is_nan() {
        return NAN_F64;
    }
    let result = flush(f(flush(f64::from_bits(a.to_bits() & HIGH))));
    if result.is_nan() { NAN_F64 } else { f64::from_bits(result.to_bits() & HIGH) }
}

/// `rsqrt.approx.f64`.
#[inline(always)]
pub fn rsqrt_f64(a: f64) -> f64 {
    let result = 1.0 / a.sqrt();
    if result.is_nan() { NAN_F64 } else { result }
}

/// `ex2.approx.f16`.
#[inline(always)]
pub fn ex2_f16(a: u16) -> u16 {
    half::f16_from_f32(ex2_f32(half::f16_to_f32(a)))
}

/// `ex2.approx.ftz.bf16`: subnormal inputs and results are zero.
#[inline(always)]
pub fn ex2_bf16(a: u16) -> u16 {
    let flush = |b: u16| if b & 0x7f80 == 0 { b & 0x8000 } else { b };
    flush(half::bf16_from_f32(ex2_f32(half::bf16_to_f32(flush(a)))))
}

/// `tanh.approx.f16`.
#[inline(always)]
pub fn tanh_f16(a: u16) -> u16 {
    half::f16_from_f32(tanh_f32(half::f16_to_f32(a)))
}

/// `tanh.approx.bf16`.
#[inline(always)]
pub fn tanh_bf16(a: u16) -> u16 {
    half::bf16_from_f32(tanh_f32(half::bf16_to_f32(a)))
}
