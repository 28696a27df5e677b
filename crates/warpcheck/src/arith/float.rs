//! `.f32` and `.f64` arithmetic: rounding, flushing, saturation, comparison.

use super::Rounding;
use super::half::sum_to_odd;
use super::soft::{self, Format};

/// PTX's canonical NaN of `.f32`.
pub const NAN_F32: f32 = f32::from_bits(0x7fff_ffff);
/// PTX's canonical NaN of `.f64`.
pub const NAN_F64: f64 = f64::from_bits(0x7fff_ffff_ffff_ffff);

/// `.ftz`: flushes a subnormal number to zero, keeping the sign.
#[inline(always)]
pub fn flush_f32(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// `.sat`: clamps to [0, 1]; NaN becomes +0, and so does −0.
#[inline(always)]
pub fn saturate_f32(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// `.sat` of `.f64`, in `cvt` alone.
#[inline(always)]
pub fn saturate_f64(x: f64) -> f64 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// Replaces NaN by the canonical NaN.
#[inline(always)]
pub fn canonical_f32(x: f32) -> f32 {
    if x.is_nan() { NAN_F32 } else { x }
}

/// Replaces NaN by the canonical NaN.
#[inline(always)]
pub fn canonical_f64(x: f64) -> f64 {
    if x.is_nan() { NAN_F64 } else { x }
}

/// `cvt.rnd.f32.f64`, rounded once; NaN is canonical.
#[inline]
pub fn f32_from_f64(x: f64, mode: Rounding) -> f32 {
    let near = x as f32;
    if mode == Rounding::Nearest || f64::from(near) == x || x.is_nan() {
        return canonical_f32(near);
    }
    f32::from_bits(soft::convert(Format::F64, Format::F32, x.to_bits(), mode) as u32)
}

/// `add.rnd.f32`. With `.rn`, NaN is what the CPU gives.
#[inline(always)]
pub fn add_f32(a: f32, b: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest {
        return a + b;
    }
    let sum = sum_to_odd(f64::from(a), f64::from(b));
    // A sum that is exactly zero is −0 downwards, unless both are +0.
    if sum == 0.0 && mode == Rounding::Down && (bits(a) | bits(b)) != 0 {
        return -0.0;
    }
    f32_from_f64(sum, mode)
}

/// `sub.rnd.f32`.
#[inline(always)]
pub fn sub_f32(a: f32, b: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest { a - b } else { add_f32(a, -b, mode) }
}

/// `mul.rnd.f32`: the product of 48 bits is exact in `.f64`.
#[inline(always)]
pub fn mul_f32(a: f32, b: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest { a * b } else { f32_from_f64(f64::from(a) * f64::from(b), mode) }
}

/// `fma.rnd.f32`: a × b + c, rounded once. With `.rn`, NaN is what the CPU gives.
#[inline(always)]
pub fn fma_f32(a: f32, b: f32, c: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest {
        return a.mul_add(b, c);
    }
    f32::from_bits(soft::fma(Format::F32, bits(a), bits(b), bits(c), mode) as u32)
}

/// `div.rnd.f32`.
#[inline(always)]
pub fn div_f32(a: f32, b: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest {
        a / b
    } else {
        f32::from_bits(soft::div(Format::F32, bits(a), bits(b), mode) as u32)
    }
}

/// `rcp.rnd.f32`.
#[inline(always)]
pub fn rcp_f32(a: f32, mode: Rounding) -> f32 {
    div_f32(1.0, a, mode)
}

/// `sqrt.rnd.f32`.
#[inline(always)]
pub fn sqrt_f32(a: f32, mode: Rounding) -> f32 {
    if mode == Rounding::Nearest {
        return a.sqrt();
    }
    f32::from_bits(soft::sqrt(Format::F32, bits(a), mode) as u32)
}

#[inline(always)]
fn bits(x: f32) -> u64 {
    u64::from(x.to_bits())
}

/// `add.rnd.f64`. NaN is what the CPU gives: PTX lets payloads of `.f64` through.
#[inline(always)]
pub fn add_f64(a: f64, b: f64, mode: Rounding) -> f64 {
    if mode == Rounding::Nearest {
        a + b
    } else {
        f64::from_bits(soft::add(Format::F64, a.to_bits(), b.to_bits(), mode))
    }
}

/// `sub.rnd.f64`.
#[inline(always)]
pub fn sub_f64(a: f64, b: f64, mode: Rounding) -> f64 {
    if mode == Rounding::Nearest { a - b } else { add_f64(a, -b, mode) }
}

/// `mul.rnd.f64`.
#[inline(always)]
pub fn mul_f64(a: f64, b: f64, mode: Rounding) -> f64 {
    if mode == Rounding::Nearest {
        a * b
    } else {
        f64::from_bits(soft::mul(Format::F64, a.to_bits(), b.to_bits(), mode))
    }
}

/// `fma.rnd.f64`, `mad.rnd.f64`.
#[inline(always)]
pub fn fma_f64(a: f64, b: f64, c: f64, mode: Rounding) -> f64 {
    if mode == Rounding::Nearest {
        return a.mul_add(b, c);
    }
    f64::from_bits(soft::fma(Format::F64, a.to_bits(), b.to_bits(), c.to_bits(), mode))
}

/// `div.rnd.f64`.
#[inline(always)]
pub fn div_f64(a: f64, b: f64, mode: Rounding) -> f64 {
    if mode == Rounding::Nearest {
        a / b
    } else {
        f64::from_bits(soft::div(Format::F64, a.to_bits(), b.to_bits(), mode))
    }
}

/// `rcp.rnd.f64`.
#[inline(always)]
pub fn rcp_f64(a: f64, mode: Rounding) -> f64 {
    div_f64(1.0, a, mode)
}

/// `sqrt.rnd.f64`.
#[inline(always)]
pub fn sqrt_f64(a: f64, mode: Rounding) -> f64 {
    if mode == Rounding::Nearest { a.sqrt() } else { f64::from_bits(soft::sqrt(Format::F64, a.to_bits(), mode)) }
}

/// `cvt.rni/rzi/rmi/rpi.f32.f32`: to an integral number, the sign of zero kept.
#[inline(always)]
pub fn integral_f32(x: f32, mode: Rounding) -> f32 {
    match mode {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::NearestAway => x.round(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// `min.f32`: the number where one input is NaN, the canonical NaN where both are; −0 below +0.
#[inline(always)]
pub fn min_f32(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        return canonical_f32(b);
    }
    // Of two zeros the one with the sign: the union of their bits.
    let zeros = a == b;
    let lesser = if b < a { b } else { a };
    if zeros { f32::from_bits(a.to_bits() | b.to_bits()) } else { lesser }
}

/// `max.f32`: the number where one input is NaN, the canonical NaN where both are; +0 above −0.
#[inline(always)]
pub fn max_f32(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        return canonical_f32(b);
    }
    let zeros = a == b;
    let greater = if b > a { b } else { a };
    if zeros { f32::from_bits(a.to_bits() & b.to_bits()) } else { greater }
}

/// `min.NaN.f32`: NaN where either input is.
#[inline(always)]
pub fn min_nan_f32(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { NAN_F32 } else { min_f32(a, b) }
}

/// `max.NaN.f32`: NaN where either input is.
#[inline(always)]
pub fn max_nan_f32(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { NAN_F32 } else { max_f32(a, b) }
}

/// `.xorsign.abs` of `min`/`max`: `result` was computed of |a| and |b|; its sign is that of a × b.
#[inline(always)]
pub fn xor_sign_f32(result: f32, a: f32, b: f32) -> f32 {
    f32::from_bits(result.to_bits() & 0x7fff_ffff | (a.to_bits() ^ b.to_bits()) & 0x8000_0000)
}

/// `min.f64`.
#[inline(always)]
pub fn min_f64(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        return canonical_f64(b);
    }
    let zeros = a == b;
    let lesser = if b < a { b } else { a };
    if zeros { f64::from_bits(a.to_bits() | b.to_bits()) } else { lesser }
}

/// `max.f64`.
#[inline(always)]
pub fn max_f64(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        return canonical_f64(b);
    }
    let zeros = a == b;
    let greater = if b > a { b } else { a };
    if zeros { f64::from_bits(a.to_bits() & b.to_bits()) } else { greater }
}

/// A property that `testp` tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Property {
    /// `.finite`: neither infinite nor NaN.
    Finite,
    /// `.infinite`.
    Infinite,
    /// `.number`: not NaN.
    Number,
    /// `.notanumber`.
    NotANumber,
    /// `.normal`: neither subnormal, infinite nor NaN; zeros count as normal.
    Normal,
    /// `.subnormal`: not zero and below the normal numbers.
    Subnormal,
}

/// `testp.op.f64`; of `.f32` through [`testp_f32`].
pub fn testp_f64(x: f64, property: Property) -> bool {
    match property {
        Property::Finite => x.is_finite(),
        Property::Infinite => x.is_infinite(),
        Property::Number => !x.is_nan(),
        Property::NotANumber => x.is_nan(),
        Property::Normal => x.is_normal() || x == 0.0,
        Property::Subnormal => x.is_subnormal(),
    }
}

/// `testp.op.f32`.
pub fn testp_f32(x: f32, property: Property) -> bool {
    match property {
        Property::Finite => x.is_finite(),
        Property::Infinite => x.is_infinite(),
        Property::Number => !x.is_nan(),
        Property::NotANumber => x.is_nan(),
        Property::Normal => x.is_normal() || x == 0.0,
        Property::Subnormal => x.is_subnormal(),
    }
}

/// `copysign.f32 d, a, b`: the magnitude of **b** with the sign of **a**.
#[inline(always)]
pub fn copysign_f32(a: f32, b: f32) -> f32 {
    b.copysign(a)
}

/// `copysign.f64 d, a, b`: the magnitude of **b** with the sign of **a**.
#[inline(always)]
pub fn copysign_f64(a: f64, b: f64) -> f64 {
    b.copysign(a)
}
