//! Exact arithmetic on any binary floating-point format, rounded once.
//!
//! Every operation computes the infinitely precise result (as an integer significand, with everything below it
//! collapsed into its last bit) and rounds it once. The faster paths are tested against this definition, which is also the path
//! for directed rounding, for which a CPU would have to change its control word.

use super::Rounding;

/// A binary floating-point format: how its bits are split, and whether it has infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Width of the exponent field.
    pub exponent_bits: u32,
    /// Width of the fraction field (the significand without its hidden bit).
    pub fraction_bits: u32,
    /// Whether the format has infinities; e4m3 has none, and one NaN pattern per sign.
    pub infinities: bool,
}

impl Format {
    /// `.f16`, IEEE 754 binary16.
    pub const F16: Format = Format::ieee(5, 10);
    /// `.bf16`: the exponent of `.f32` and 7 bits of fraction.
    pub const BF16: Format = Format::ieee(8, 7);
    /// `.tf32`: the exponent of `.f32` and 10 bits of fraction. The register holds it in the upper 19 bits.
    pub const TF32: Format = Format::ieee(8, 10);
    /// `.f32`, IEEE 754 binary32.
    pub const F32: Format = Format::ieee(8, 23);
    /// `.f64`, IEEE 754 binary64.
    pub const F64: Format = Format::ieee(11, 52);
    /// `.e5m2`.
    pub const E5M2: Format = Format::ieee(5, 2);
    /// `.e4m3`: no infinities, NaN is `0x7f` with either sign.
    pub const E4M3: Format = Format { exponent_bits: 4, fraction_bits: 3, infinities: false };

    const fn ieee(exponent_bits: u32, fraction_bits: u32) -> Format {
        Format { exponent_bits, fraction_bits, infinities: true }
    }

    /// Width of the format in bits.
    pub const fn width(self) -> u32 {
        1 + self.exponent_bits + self.fraction_bits
    }

    const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// The exponent of the last place of a subnormal number.
    const fn lowest(self) -> i32 {
        1 - self.bias() - self.fraction_bits as i32
    }

    const fn sign(self, negative: bool) -> u64 {
        (negative as u64) << (self.width() - 1)
    }

    /// The bits of +infinity, or of the first pattern beyond the largest finite number.
    const fn beyond(self) -> u64 {
        let all = ((1u64 << self.exponent_bits) - 1) << self.fraction_bits;
        if self.infinities { all } else { all | ((1 << self.fraction_bits) - 1) }
    }

    /// PTX's canonical NaN: every bit but the sign.
    pub const fn nan(self) -> u64 {
        (1 << (self.width() - 1)) - 1
    }

    /// Infinity of the given sign; the largest finite number where the format has none.
    pub const fn infinity(self, negative: bool) -> u64 {
        self.sign(negative) | if self.infinities { self.beyond() } else { self.beyond() - 1 }
    }

    /// The largest finite number of the given sign.
    pub const fn largest(self, negative: bool) -> u64 {
        self.sign(negative) | (self.beyond() - 1)
    }
}

/// A number taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Not a number.
    Nan,
    /// Infinity; the flag says negative.
    Infinity(bool),
    /// Zero; the flag says negative.
    Zero(bool),
    /// ±significand × 2^exponent, the significand not zero.
    Finite {
        /// Whether the number is below zero.
        negative: bool,
        /// Power of two of the significand's last bit.
        exponent: i32,
        /// The significand as an integer.
        significand: u64,
    },
}

/// Takes a number apart.
pub fn unpack(format: Format, bits: u64) -> Value {
    let negative = bits >> (format.width() - 1) & 1 == 1;
    let magnitude = bits & format.nan();
    let beyond = format.beyond();
    if magnitude == 0 {
        return Value::Zero(negative);
    }
    if magnitude >= beyond {
        return if format.infinities && magnitude == beyond { Value::Infinity(negative) } else { Value::Nan };
    }
    let field = (magnitude >> format.fraction_bits) as i32;
    let fraction = magnitude & ((1 << format.fraction_bits) - 1);
    let (significand, place) =
        if field == 0 { (fraction, 0) } else { (fraction | 1 << format.fraction_bits, field - 1) };
    Value::Finite { negative, exponent: format.lowest() + place, significand }
}

/// Whether a result whose discarded part compares to half a unit as `rest` moves away from zero.
fn away(mode: Rounding, negative: bool, odd: bool, rest: std::cmp::Ordering, exact: bool) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match mode {
        Rounding::Nearest => rest == Greater || rest == Equal && odd,
        Rounding::NearestAway => rest != Less,
        Rounding::Zero => false,
        Rounding::Down => negative && !exact,
        Rounding::Up => !negative && !exact,
    }
}

/// Splits `significand` at bit `shift`: the part kept, how the rest compares to half a unit, whether the rest is zero.
fn split(significand: u128, shift: u32) -> (u128, std::cmp::Ordering, bool) {
    if shift > 128 {
        return (0, std::cmp::Ordering::Less, significand == 0);
    }
    if shift == 0 {
        return (significand, std::cmp::Ordering::Less, true);
    }
    let half = 1u128 << (shift - 1);
    let kept = if shift == 128 { 0 } else { significand >> shift };
    let rest = if shift == 128 { significand } else { significand & ((half << 1).wrapping_sub(1)) };
    (kept, rest.cmp(&half), rest == 0)
}

/// Rounds ±significand × 2^exponent to `format`. A significand that is not exact has its last bit set for what was
/// lost, and at least two bits below the format's last place.
pub fn round(format: Format, negative: bool, significand: u128, exponent: i32, mode: Rounding) -> u64 {
    let sign = format.sign(negative);
    if significand == 0 {
        return sign;
    }
    let top = 127 - significand.leading_zeros() as i32 + exponent;
    let place = (top - format.fraction_bits as i32).max(format.lowest());
    let shift = place - exponent;
    let kept = if shift <= 0 {
        significand << -shift
    } else {
        let (kept, rest, exact) = split(significand, shift as u32);
        kept + u128::from(away(mode, negative, kept & 1 == 1, rest, exact))
    };
    // The hidden bit of a normal number adds one to the exponent field, and a carry out of the significand another.
    let field = (place - format.lowest()) as u128;
    let magnitude = (field << format.fraction_bits) + kept;
    if magnitude < u128::from(format.beyond()) {
        return sign | magnitude as u64;
    }
    let to_infinity = match mode {
        Rounding::Nearest | Rounding::NearestAway => true,
        Rounding::Zero => false,
        Rounding::Down => negative,
        Rounding::Up => !negative,
    };
    if to_infinity { format.infinity(negative) } else { format.largest(negative) }
}

/// Converts between formats. NaN becomes the canonical NaN of `to`, with the sign dropped.
pub fn convert(from: Format, to: Format, bits: u64, mode: Rounding) -> u64 {
    match unpack(from, bits) {
        Value::Nan => to.nan(),
        Value::Infinity(negative) => to.infinity(negative),
        Value::Zero(negative) => to.sign(negative),
        Value::Finite { negative, exponent, significand } => {
            round(to, negative, u128::from(significand), exponent, mode)
        }
    }
}

/// a × b + c, rounded once.
pub fn fma(format: Format, a: u64, b: u64, c: u64, mode: Rounding) -> u64 {
    let (a, b, c) = (unpack(format, a), unpack(format, b), unpack(format, c));
    let product_negative = |x: &Value| match *x {
        Value::Infinity(n) | Value::Zero(n) | Value::Finite { negative: n, .. } => n,
        Value::Nan => false,
    };
    let negative = product_negative(&a) ^ product_negative(&b);
    let product = match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => return format.nan(),
        (Value::Infinity(_), Value::Zero(_)) | (Value::Zero(_), Value::Infinity(_)) => return format.nan(),
        (Value::Infinity(_), _) | (_, Value::Infinity(_)) => {
            return match c {
                Value::Nan => format.nan(),
                Value::Infinity(other) if other != negative => format.nan(),
                _ => format.infinity(negative),
            };
        }
        (Value::Zero(_), _) | (_, Value::Zero(_)) => None,
        (Value::Finite { exponent: ea, significand: sa, .. }, Value::Finite { exponent: eb, significand: sb, .. }) => {
            Some((u128::from(sa) * u128::from(sb), ea + eb))
        }
    };
    match (product, c) {
        (_, Value::Nan) => format.nan(),
        (_, Value::Infinity(n)) => format.infinity(n),
        (None, Value::Zero(n)) => format.sign(if n == negative { n } else { mode == Rounding::Down }),
        (None, Value::Finite { negative, exponent, significand }) => {
            round(format, negative, u128::from(significand), exponent, mode)
        }
        (Some((significand, exponent)), Value::Zero(_)) => round(format, negative, significand, exponent, mode),
        (Some((sp, ep)), Value::Finite { negative: nc, exponent: ec, significand: sc }) => {
            add_exact(format, (negative, sp, ep), (nc, u128::from(sc), ec), mode)
        }
    }
}

/// Sum of two non-zero exact numbers of at most 106 significant bits.
fn add_exact(format: Format, x: (bool, u128, i32), y: (bool, u128, i32), mode: Rounding) -> u64 {
    // Both with the top bit at 125: one bit of head room, and at least 20 zero bits below the last significant one, so
    // that an alignment by one bit, where cancellation may be total, loses nothing.
    let normal = |(negative, significand, exponent): (bool, u128, i32)| {
        let shift = significand.leading_zeros() as i32 - 2;
        (negative, significand << shift, exponent - shift)
    };
    let (mut x, mut y) = (normal(x), normal(y));
    if x.2 < y.2 {
        std::mem::swap(&mut x, &mut y);
    }
    let distance = (x.2 - y.2) as u32;
    let aligned =
        if distance >= 127 { 1 } else { (y.1 >> distance) | u128::from(y.1 & ((1u128 << distance) - 1) != 0) };
    let (negative, sum) = if x.0 == y.0 {
        (x.0, x.1 + aligned)
    } else if x.1 >= aligned {
        (x.0, x.1 - aligned)
    } else {
        (y.0, aligned - x.1)
    };
    if sum == 0 {
        return format.sign(mode == Rounding::Down);
    }
    round(format, negative, sum, x.2, mode)
}

/// a + b, rounded once.
pub fn add(format: Format, a: u64, b: u64, mode: Rounding) -> u64 {
    let one = (format.bias() as u64) << format.fraction_bits;
    fma(format, a, one, b, mode)
}

/// a × b, rounded once.
pub fn mul(format: Format, a: u64, b: u64, mode: Rounding) -> u64 {
    // Adding a zero of the product's sign changes nothing.
    let zero = (a ^ b) & format.sign(true);
    fma(format, a, b, zero, mode)
}

/// a ÷ b, rounded once.
pub fn div(format: Format, a: u64, b: u64, mode: Rounding) -> u64 {
    let negative = (a ^ b) & format.sign(true) != 0;
    match (unpack(format, a), unpack(format, b)) {
        (Value::Nan, _) | (_, Value::Nan) => format.nan(),
        (Value::Infinity(_), Value::Infinity(_)) | (Value::Zero(_), Value::Zero(_)) => format.nan(),
        (Value::Infinity(_), _) | (_, Value::Zero(_)) => format.infinity(negative),
        (Value::Zero(_), _) | (_, Value::Infinity(_)) => format.sign(negative),
        (Value::Finite { exponent: ea, significand: sa, .. }, Value::Finite { exponent: eb, significand: sb, .. }) => {
            let (la, lb) = (sa.leading_zeros(), sb.leading_zeros());
            let (sa, sb) = (u128::from(sa << la) << 64, u128::from(sb << lb));
            let quotient = (sa / sb) | u128::from(sa % sb != 0);
            round(format, negative, quotient, ea - la as i32 - 64 - (eb - lb as i32), mode)
        }
    }
}

/// The square root, rounded once.
pub fn sqrt(format: Format, a: u64, mode: Rounding) -> u64 {
    match unpack(format, a) {
        Value::Nan | Value::Infinity(true) | Value::Finite { negative: true, .. } => format.nan(),
        Value::Infinity(false) => format.infinity(false),
        Value::Zero(negative) => format.sign(negative),
        Value::Finite { exponent, significand, .. } => {
            let shift = significand.leading_zeros() as i32 + 62;
            let shift = shift - ((exponent - shift) & 1);
            let radicand = u128::from(significand) << shift;
            let root = radicand.isqrt();
            round(format, false, root | u128::from(root * root != radicand), (exponent - shift) / 2, mode)
        }
    }
}

/// The number as an integer, rounded by `mode`, clamped to `low..=high`; `nan` for NaN.
pub fn to_integer(format: Format, bits: u64, mode: Rounding, low: i128, high: i128, nan: i128) -> i128 {
    match unpack(format, bits) {
        Value::Nan => nan,
        Value::Infinity(true) => low,
        Value::Infinity(false) => high,
        Value::Zero(_) => 0,
        Value::Finite { negative, exponent, significand } => {
            let magnitude = if exponent > 64 {
                i128::MAX
            } else if exponent >= 0 {
                i128::from(significand).saturating_mul(1 << exponent)
            } else {
                let (kept, rest, exact) = split(u128::from(significand), -exponent as u32);
                kept as i128 + i128::from(away(mode, negative, kept & 1 == 1, rest, exact))
            };
            (if negative { -magnitude } else { magnitude }).clamp(low, high)
        }
    }
}

/// An integer as a number, rounded once.
pub fn from_integer(format: Format, value: i128, mode: Rounding) -> u64 {
    round(format, value < 0, value.unsigned_abs(), 0, mode)
}
