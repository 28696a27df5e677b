//! `.f16`, `.bf16`, `.tf32` and the 8-bit formats: conversions from and to `.f32`, and arithmetic.
//!
//! Subnormal numbers are supported throughout; `.ftz` flushes them, [`flush_f16`] to a zero of the same sign.

use super::Rounding;
use super::soft::{self, Format};

/// PTX's canonical NaN of `.f16` and of `.bf16`.
pub const NAN: u16 = 0x7fff;

/// `cvt.f32.f16`: exact. NaN gives `0x7fffffff`.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    // Moved into place, the exponent is off by 127 − 15: a multiplication puts it right, subnormal numbers included.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let value = if magnitude == 0x7c00 { 0x7f80_0000 } else { scaled.to_bits() };
    f32::from_bits(if magnitude > 0x7c00 { 0x7fff_ffff } else { sign | value })
}

/// `cvt.rn.f16.f32`. NaN gives `0x7fff`.
#[inline(always)]
pub fn f16_from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    // Below the normal numbers of f16: adding ½ lets the addition itself round to a multiple of 2⁻²⁴.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let odd = magnitude >> 13 & 1;
    let normal = magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + odd) >> 13;
    let value = if magnitude < 0x3880_0000 {
        subnormal
    } else if magnitude < 0x477f_f000 {
        normal
    } else if magnitude <= 0x7f80_0000 {
        0x7c00
    } else {
        return NAN;
    };
    sign | value as u16
}

/// `cvt.rn/rz/rm/rp.f16.f32`.
#[inline]
pub fn f16_from_f32_rounded(x: f32, mode: Rounding) -> u16 {
    match mode {
        Rounding::Nearest => f16_from_f32(x),
        _ => soft::convert(Format::F32, Format::F16, u64::from(x.to_bits()), mode) as u16,
    }
}

/// `cvt.f64.f16`: exact.
#[inline]
pub fn f16_to_f64(bits: u16) -> f64 {
    f64::from(f16_to_f32(bits))
}

/// `cvt.rnd.f16.f64`, rounded once.
pub fn f16_from_f64(x: f64, mode: Rounding) -> u16 {
    soft::convert(Format::F64, Format::F16, x.to_bits(), mode) as u16
}

/// `cvt.f32.bf16`: exact.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// `cvt.rn.bf16.f32`. NaN gives `0x7fff`.
#[inline(always)]
pub fn bf16_from_f32(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { NAN } else { rounded as u16 }
}

/// `cvt.rn/rz/rm/rp.bf16.f32`.
#[inline]
pub fn bf16_from_f32_rounded(x: f32, mode: Rounding) -> u16 {
    match mode {
        Rounding::Nearest => bf16_from_f32(x),
        _ => soft::convert(Format::F32, Format::BF16, u64::from(x.to_bits()), mode) as u16,
    }
}

/// The `.relu` modifier of a conversion or an operation: negative results become +0, NaN the canonical NaN.
#[inline(always)]
pub fn relu(bits: u16, infinity: u16) -> u16 {
    if bits & 0x7fff > infinity {
        NAN
    } else if bits & 0x8000 != 0 {
        0
    } else {
        bits
    }
}

/// `.f16`'s `.relu`.
#[inline(always)]
pub fn relu_f16(bits: u16) -> u16 {
    relu(bits, 0x7c00)
}

/// `.bf16`'s `.relu`.
#[inline(always)]
pub fn relu_bf16(bits: u16) -> u16 {
    relu(bits, 0x7f80)
}

/// `cvt.rna.tf32.f32`, and `.rn`, `.rz` of later targets: the low 13 bits of the result are zero.
#[inline]
pub fn tf32_from_f32(x: f32, mode: Rounding) -> u32 {
    let bits = x.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return 0x7fff_ffff;
    }
    match mode {
        // An overflow of the fraction moves into the exponent, up to infinity, as it should.
        Rounding::NearestAway if bits & 0x7fff_ffff < 0x7f80_0000 => bits.wrapping_add(0x1000) & !0x1fff,
        _ => (soft::convert(Format::F32, Format::TF32, u64::from(bits), mode) as u32) << 13,
    }
}

/// The bits of a `.tf32` register that `mma` reads: hardware ignores the low 13.
#[inline(always)]
pub fn tf32_operand(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}

/// The 8-bit formats of sm_89.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fp8 {
    /// `.e4m3`: 4 bits of exponent, 3 of fraction, no infinities, NaN `0x7f`.
    E4m3,
    /// `.e5m2`: 5 bits of exponent, 2 of fraction.
    E5m2,
}

impl Fp8 {
    /// How its bits are split.
    pub const fn format(self) -> Format {
        match self {
            Fp8::E4m3 => Format::E4M3,
            Fp8::E5m2 => Format::E5M2,
        }
    }

    /// `cvt.rn.f16x2.e4m3x2` and `.e5m2x2`, one half: exact. NaN gives `0x7fff`.
    pub fn to_f16(self, bits: u8) -> u16 {
        soft::convert(self.format(), Format::F16, u64::from(bits), Rounding::Nearest) as u16
    }

    /// The number as `.f32`: exact.
    pub fn to_f32(self, bits: u8) -> f32 {
        f16_to_f32(self.to_f16(bits))
    }

    /// `cvt.rn.satfinite.e4m3x2.f32` and `.e5m2x2`, one half: beyond the largest finite number, infinity included,
    /// it is that number with the sign kept; NaN gives `0x7f`.
    pub fn from_f32(self, x: f32) -> u8 {
        let format = self.format();
        let bits = u64::from(x.to_bits());
        if x.is_nan() {
            return 0x7f;
        }
        let result = soft::convert(Format::F32, format, bits, Rounding::Nearest);
        if result & format.nan() > format.largest(false) { format.largest(x < 0.0) as u8 } else { result as u8 }
    }
}

/// `.ftz` of `.f16`: flushes a subnormal number to zero, keeping the sign.
#[inline(always)]
pub fn flush_f16(bits: u16) -> u16 {
    if bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
}

/// `.sat` of `.f16`: clamps to [0, 1], NaN to +0.
#[inline(always)]
pub fn saturate_f16(bits: u16) -> u16 {
    // NaN and everything negative, −0 included.
    if bits & 0x7fff > 0x7c00 || bits & 0x8000 != 0 { 0 } else { bits.min(0x3c00) }
}

/// `add.f16`. Double rounding through `.f32` is exact: 24 bits ≥ 2 × 11 + 2.
#[inline(always)]
pub fn add_f16(a: u16, b: u16) -> u16 {
    f16_from_f32(f16_to_f32(a) + f16_to_f32(b))
}

/// `sub.f16`.
#[inline(always)]
pub fn sub_f16(a: u16, b: u16) -> u16 {
    f16_from_f32(f16_to_f32(a) - f16_to_f32(b))
}

/// `mul.f16`: the product is exact in `.f32`.
#[inline(always)]
pub fn mul_f16(a: u16, b: u16) -> u16 {
    f16_from_f32(f16_to_f32(a) * f16_to_f32(b))
}

/// `fma.rn.f16`: a × b + c, rounded once.
#[inline(always)]
pub fn fma_f16(a: u16, b: u16, c: u16) -> u16 {
    let product = f64::from(f16_to_f32(a) * f16_to_f32(b));
    f16_from_f32(odd_f32(sum_to_odd(product, f64::from(f16_to_f32(c)))))
}

/// `add.bf16` (and `fma.rn.bf16` with 1, which is how sm_80 adds).
#[inline(always)]
pub fn add_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f32(bf16_to_f32(a) + bf16_to_f32(b))
}

/// `sub.bf16`.
#[inline(always)]
pub fn sub_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f32(bf16_to_f32(a) - bf16_to_f32(b))
}

/// `mul.bf16`: the product of 16 bits is exact in `.f64`, also where `.f32` would underflow.
#[inline(always)]
pub fn mul_bf16(a: u16, b: u16) -> u16 {
    bf16_from_f32(odd_f32(f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b))))
}

/// `fma.rn.bf16`: a × b + c, rounded once.
#[inline(always)]
pub fn fma_bf16(a: u16, b: u16, c: u16) -> u16 {
    let product = f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b));
    bf16_from_f32(odd_f32(sum_to_odd(product, f64::from(bf16_to_f32(c)))))
}

/// a + b rounded to odd: where the sum is not exact, its last bit is set, so that rounding it again to fewer bits
/// gives what rounding the exact sum would.
#[inline(always)]
pub(super) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let t = sum - a;
    let error = (a - (sum - t)) + (b - t);
    to_odd(sum, error)
}

/// `rounded` with its last bit made odd when what was lost, `error`, is not zero.
#[inline(always)]
pub(super) fn to_odd(rounded: f64, error: f64) -> f64 {
    let bits = rounded.to_bits();
    // Infinity and NaN have an error of NaN, which is not above zero.
    let lost = error.abs() > 0.0;
    if lost && bits & 1 == 0 {
        // Towards zero when the error has the other sign.
        let inward = (error < 0.0) != (rounded < 0.0);
        f64::from_bits(if inward { bits - 1 } else { bits + 1 })
    } else {
        rounded
    }
}

/// The `.f32` nearest in the sense of rounding to odd, for a number that is rounded again to 22 bits or fewer.
#[inline(always)]
fn odd_f32(x: f64) -> f32 {
    let near = x as f32;
    let error = x - f64::from(near);
    let bits = near.to_bits();
    let lost = error.abs() > 0.0;
    if near.is_infinite() && x.is_finite() {
        return f32::MAX.copysign(near);
    }
    if lost && bits & 1 == 0 {
        let inward = (error < 0.0) != (x < 0.0);
        f32::from_bits(if inward { bits - 1 } else { bits + 1 })
    } else {
        near
    }
}

/// `neg.f16`, `neg.bf16`. With `.ftz` flush first.
#[inline(always)]
pub fn neg(bits: u16) -> u16 {
    bits ^ 0x8000
}

/// `abs.f16`, `abs.bf16`.
#[inline(always)]
pub fn abs(bits: u16) -> u16 {
    bits & 0x7fff
}

/// `min`/`max` of `.f16` and `.bf16`: the number where one input is NaN (the canonical NaN with `.NaN`, or where both
/// are); +0 above −0. With `xorsign` (`.xorsign.abs`) of the magnitudes, the sign being the product's.
#[inline(always)]
fn min_max(mut a: u16, mut b: u16, infinity: u16, larger: bool, nan: bool, xorsign: bool) -> u16 {
    let sign = (a ^ b) & 0x8000;
    if xorsign {
        a &= 0x7fff;
        b &= 0x7fff;
    }
    let (a_nan, b_nan) = (a & 0x7fff > infinity, b & 0x7fff > infinity);
    if a_nan && b_nan || nan && (a_nan || b_nan) {
        return NAN;
    }
    // Order as integers: the magnitude's bits, complemented below zero.
    let order = |x: u16| (x as i16 ^ ((x as i16 >> 15) & 0x7fff)) as i32;
    let take_a = b_nan || !a_nan && ((order(a) > order(b)) == larger);
    let result = if take_a { a } else { b };
    if xorsign { result & 0x7fff | sign } else { result }
}

/// Which of `min`/`max` and of their modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MinMax {
    /// `max` rather than `min`.
    pub larger: bool,
    /// `.NaN`: NaN wins.
    pub nan: bool,
    /// `.xorsign.abs`.
    pub xorsign: bool,
}

/// `min.f16`, `max.f16`.
#[inline(always)]
pub fn min_max_f16(a: u16, b: u16, op: MinMax) -> u16 {
    min_max(a, b, 0x7c00, op.larger, op.nan, op.xorsign)
}

/// `min.bf16`, `max.bf16`.
#[inline(always)]
pub fn min_max_bf16(a: u16, b: u16, op: MinMax) -> u16 {
    min_max(a, b, 0x7f80, op.larger, op.nan, op.xorsign)
}

/// Applies a function to both halves of an `x2` operand.
#[inline(always)]
pub fn both(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// Applies a function of three operands to both halves of an `x2` operand.
#[inline(always)]
pub fn both3(a: u32, b: u32, c: u32, f: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let low = f(a as u16, b as u16, c as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
    u32::from(low) | u32::from(high) << 16
}
