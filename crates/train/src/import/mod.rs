//! Weights from other programs: safetensors files, and PyTorch's state dicts.

pub mod pickle;
pub mod pytorch;
