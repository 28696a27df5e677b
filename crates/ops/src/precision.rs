//! Number formats, and the scaling of the loss that binary16 needs.

/// How activations are stored and multiplied. Sums, losses, gradients of parameters and the optimizer's weights are f32
/// at every precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32, multiplied as f32.
    #[default]
    Fp32,
    /// Stored in the four bytes of an f32, rounded to tf32 as the tensor cores read it (sm_80).
    Tf32,
    /// IEEE binary16.
    Fp16,
    /// bfloat16 (tensor cores from sm_80).
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 4] = [Precision::Fp32, Precision::Tf32, Precision::Fp16, Precision::Bf16];

    /// The number format of activations.
    pub const fn storage(self) -> Number {
        match self {
            Precision::Fp32 => Number::F32,
            Precision::Tf32 => Number::Tf32,
            Precision::Fp16 => Number::F16,
            Precision::Bf16 => Number::Bf16,
        }
    }
}

/// Element type of an array on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// `float`.
    F32,
    /// A float whose lower 13 bits are zero, see [`Tf32`].
    Tf32,
    /// `double`.
    F64,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a float.
    Bf16,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 32 bits.
    U32,
}

impl Number {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Number::F64 => 8,
            Number::F32 | Number::Tf32 | Number::U32 => 4,
            Number::F16 | Number::Bf16 => 2,
            Number::U8 => 1,
        }
    }
}

/// A tf32: an f32 with 10 bits of mantissa, the others zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Tf32(f32);

impl Tf32 {
    /// Rounds to the nearest, ties away from zero, as PTX's `cvt.rna.tf32`.
    pub fn from_f32(x: f32) -> Self {
        // A carry into the exponent is right; a NaN would carry into the sign.
        let rounded = if x.is_nan() { 0x7fff_e000 } else { (x.to_bits() + 0x1000) & !0x1fff };
        Self(f32::from_bits(rounded))
    }
    /// The same number.
    pub const fn to_f32(self) -> f32 {
        self.0
    }
}

/// State of the loss scaling, as in `torch.amp.GradScaler`. The default is a scale of 1: no scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaler {
    /// Factor of the loss, a power of two.
    pub scale: f32,
    /// Steps since the scale last changed.
    pub good_steps: u32,
    /// Steps skipped because a gradient was not finite.
    pub skipped: u32,
}

impl Default for Scaler {
    fn default() -> Self {
        Self { scale: 1.0, good_steps: 0, skipped: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Tf32;

    #[test]
    fn tf32_is_the_nearest() {
        let round = |x: f32| Tf32::from_f32(x).to_f32();
        let ulp = 1.0 / 1024.0;
        for (x, expected) in [
            (1.0, 1.0),
            (1.0 + 0.49 * ulp, 1.0),
            (1.0 + 0.5 * ulp, 1.0 + ulp),
            (-1.0 - 0.5 * ulp, -1.0 - ulp),
            (-0.0, -0.0),
            (2.0 - 0.4 * ulp, 2.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(round(x).to_bits(), expected.to_bits(), "{x}");
        }
        assert!([0x7f80_0001, 0x7fff_ffff, 0xffff_ffff].iter().all(|&bits| round(f32::from_bits(bits)).is_nan()));
        for bits in (0..0x7f80_0000u32).step_by(12_347) {
            let x = f32::from_bits(bits);
            let y = round(x);
            assert_eq!(y.to_bits() & 0x1fff, 0);
            assert!((y - x).abs() <= x * ulp / 2.0 || x < f32::MIN_POSITIVE || y.is_infinite(), "{x}");
        }
    }
}
