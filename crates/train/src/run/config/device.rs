//! Device and number format.

use serde::{Deserialize, Serialize};

/// The device to compute on: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

impl std::str::FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => number(text).map(Self::Cuda).ok_or_else(|| format!("`{text}` is not auto, cpu, cuda or cuda:N")),
        }
    }
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Number format of activations and products on a GPU, of products on the CPU; sums, weights and updates are always in fp32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float
    #[default]
    Fp32,
    /// float, rounded to tf32 for the tensor cores
    Tf32,
    /// IEEE half precision, the loss scaled
    Fp16,
    /// bfloat16
    Bf16,
}

/// Number format in which a network's weights are stored for inference on the CPU. Sums are in fp32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightFormat {
    /// float
    #[default]
    Fp32,
    /// IEEE half precision, each weight rounded once
    Half,
}

impl Precision {
    /// Whether the CPU computes in it.
    pub const fn is_for_cpu(self) -> bool {
        matches!(self, Self::Fp32 | Self::Bf16)
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        })
    }
}
