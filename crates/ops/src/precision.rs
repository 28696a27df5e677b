//! Number formats, and the scaling of the loss that binary16 needs.

/// How activations are stored and multiplied. Sums, losses, gradients of parameters and the optimizer's weights are f32
/// at every precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32, multiplied as f32.
    #[default]
    Fp32,
    /// Stored as f32, rounded to tf32 for the tensor cores (sm_80).
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
            Precision::Fp32 | Precision::Tf32 => Number::F32,
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
            Number::F32 | Number::U32 => 4,
            Number::F16 | Number::Bf16 => 2,
            Number::U8 => 1,
        }
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
