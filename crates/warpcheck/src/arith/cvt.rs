//! `cvt`: between every pair of scalar types, and the packed forms.

use super::Rounding;
use super::float;
use super::half::{self, Fp8};
use super::soft::{self, Format};

/// A scalar type that `cvt` reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `.u8`
    U8,
    /// `.u16`
    U16,
    /// `.u32`
    U32,
    /// `.u64`
    U64,
    /// `.s8`
    S8,
    /// `.s16`
    S16,
    /// `.s32`
    S32,
    /// `.s64`
    S64,
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.f32`
    F32,
    /// `.f64`
    F64,
}

impl Type {
    /// Every type.
    pub const ALL: [Type; 12] = [
        Type::U8,
        Type::U16,
        Type::U32,
        Type::U64,
        Type::S8,
        Type::S16,
        Type::S32,
        Type::S64,
        Type::F16,
        Type::Bf16,
        Type::F32,
        Type::F64,
    ];

    /// Width in bits.
    pub const fn width(self) -> u32 {
        match self {
            Type::U8 | Type::S8 => 8,
            Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 16,
            Type::U32 | Type::S32 | Type::F32 => 32,
            Type::U64 | Type::S64 | Type::F64 => 64,
        }
    }

    /// Whether it is a signed integer.
    pub const fn signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    /// How a floating-point type's bits are split; `None` for an integer.
    pub const fn format(self) -> Option<Format> {
        match self {
            Type::F16 => Some(Format::F16),
            Type::Bf16 => Some(Format::BF16),
            Type::F32 => Some(Format::F32),
            Type::F64 => Some(Format::F64),
            _ => None,
        }
    }

    const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.width())
    }

    /// The integer that the low bits of a register hold.
    #[inline(always)]
    pub fn integer(self, bits: u64) -> i128 {
        let shift = 64 - self.width();
        if self.signed() { i128::from((bits << shift) as i64 >> shift) } else { i128::from(bits << shift >> shift) }
    }

    /// The smallest integer.
    pub const fn low(self) -> i128 {
        if self.signed() { -(1 << (self.width() - 1)) } else { 0 }
    }

    /// The largest integer.
    pub const fn high(self) -> i128 {
        if self.signed() { (1 << (self.width() - 1)) - 1 } else { (1 << self.width()) - 1 }
    }
}

/// The modifiers of a `cvt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Modifiers {
    /// `.rn/.rz/.rm/.rp`, or `.rni/.rzi/.rmi/.rpi`.
    pub rounding: Rounding,
    /// Whether the rounding is one to an integral number: between floating-point types of the same size.
    pub integral: bool,
    /// `.ftz`: subnormal `.f32` inputs and results become zero.
    pub ftz: bool,
    /// `.sat`: the result clamped to the range of an integer type, or to [0, 1].
    pub sat: bool,
}

/// `cvt.to.from`: the low bits of `bits` converted; the result is zero-extended to 64 bits.
///
/// Floating point to integer clamps to the destination's range; NaN gives zero if the source is not `.f64` and the
/// destination neither `.s64` nor `.u64`, otherwise the destination's top bit alone (for a `.u8`, `.u16` from `.f64`
/// that bit of the destination too).
pub fn convert(to: Type, from: Type, bits: u64, modifiers: Modifiers) -> u64 {
    let Modifiers { rounding, integral, ftz, sat } = modifiers;
    let mut bits = bits & from.mask();
    if ftz && from == Type::F32 {
        bits = u64::from(float::flush_f32(f32::from_bits(bits as u32)).to_bits());
    }
    match (from.format(), to.format()) {
        (None, None) => {
            let value = from.integer(bits);
            let value = if sat { value.clamp(to.low(), to.high()) } else { value };
            value as u64 & to.mask()
        }
        (Some(format), None) => {
            let nan = if from != Type::F64 && to.width() < 64 { 0 } else { 1i128 << (to.width() - 1) };
            soft::to_integer(format, bits, rounding, to.low(), to.high(), nan) as u64 & to.mask()
        }
        (None, Some(format)) => {
            let result = soft::from_integer(format, from.integer(bits), rounding);
            finish(to, result, ftz, sat)
        }
        (Some(source), Some(format)) => {
            let result = match (integral, soft::unpack(source, bits)) {
                (true, soft::Value::Finite { negative, exponent, .. }) if exponent < 0 => {
                    let whole = soft::to_integer(source, bits, rounding, i128::MIN, i128::MAX, 0);
                    let sign = if negative { 1 << (format.width() - 1) } else { 0 };
                    soft::from_integer(format, whole.abs(), Rounding::Nearest) | sign
                }
                _ => soft::convert(source, format, bits, rounding),
            };
            finish(to, result, ftz, sat)
        }
    }
}

/// Flushing and saturation of a floating-point result.
fn finish(to: Type, mut bits: u64, ftz: bool, sat: bool) -> u64 {
    if ftz && to == Type::F32 {
        bits = u64::from(float::flush_f32(f32::from_bits(bits as u32)).to_bits());
    }
    if !sat {
        return bits;
    }
    match to {
        Type::F16 => u64::from(half::saturate_f16(bits as u16)),
        Type::Bf16 => match bits as u16 {
            // NaN and everything negative.
            b if b & 0x7fff > 0x7f80 || b & 0x8000 != 0 => 0,
            b => u64::from(b.min(0x3f80)),
        },
        Type::F32 => u64::from(float::saturate_f32(f32::from_bits(bits as u32)).to_bits()),
        Type::F64 => float::saturate_f64(f64::from_bits(bits)).to_bits(),
        _ => bits,
    }
}

/// `cvt.rn/rz{.relu}.f16x2.f32 d, a, b`: **a** becomes the upper half, **b** the lower.
#[inline]
pub fn f16x2_from_f32(a: f32, b: f32, mode: Rounding, relu: bool) -> u32 {
    let one = |x| {
        let bits = half::f16_from_f32_rounded(x, mode);
        if relu { half::relu_f16(bits) } else { bits }
    };
    u32::from(one(a)) << 16 | u32::from(one(b))
}

/// `cvt.rn/rz{.relu}.bf16x2.f32 d, a, b`: **a** becomes the upper half, **b** the lower.
#[inline]
pub fn bf16x2_from_f32(a: f32, b: f32, mode: Rounding, relu: bool) -> u32 {
    let one = |x| {
        let bits = half::bf16_from_f32_rounded(x, mode);
        if relu { half::relu_bf16(bits) } else { bits }
    };
    u32::from(one(a)) << 16 | u32::from(one(b))
}

/// `cvt.rn.satfinite{.relu}.e4m3x2.f32 d, a, b` and `.e5m2x2`: **a** becomes the upper byte, **b** the lower.
pub fn fp8x2_from_f32(format: Fp8, a: f32, b: f32, relu: bool) -> u16 {
    let one = |x: f32| {
        let bits = format.from_f32(x);
        // NaN, 0x7f here, is not negative.
        if relu && bits & 0x80 != 0 { 0 } else { bits }
    };
    u16::from(one(a)) << 8 | u16::from(one(b))
}

/// `cvt.rn.satfinite{.relu}.e4m3x2.f16x2` and `.e5m2x2`.
pub fn fp8x2_from_f16x2(format: Fp8, a: u32, relu: bool) -> u16 {
    fp8x2_from_f32(format, half::f16_to_f32((a >> 16) as u16), half::f16_to_f32(a as u16), relu)
}

/// `cvt.rn{.relu}.f16x2.e4m3x2` and `.e5m2x2`: exact.
pub fn f16x2_from_fp8x2(format: Fp8, a: u16, relu: bool) -> u32 {
    let one = |bits: u8| {
        let half = format.to_f16(bits);
        if relu { half::relu_f16(half) } else { half }
    };
    u32::from(one((a >> 8) as u8)) << 16 | u32::from(one(a as u8))
}
