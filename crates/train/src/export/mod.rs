//! A trained network for other programs: ONNX, TorchScript, PyTorch's state dict, safetensors.

pub mod fold;
pub mod onnx;
pub mod pickle;
pub mod pytorch;
pub mod safetensors;
pub mod torchscript;

use std::borrow::Cow;

use alexnet_core::Architecture;

/// What every format is made from: the layers and a value for each parameter, as little-endian f32.
pub struct Model<'a> {
    /// The layers.
    pub architecture: &'a Architecture,
    /// The names of the classes in order.
    pub classes: &'a [String],
    /// Name, shape and bytes of each parameter, in the network's order.
    pub parameters: Vec<Tensor<'a>>,
}

/// A parameter's value.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Name, such as `features.0.weight`.
    pub name: String,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// Little-endian f32.
    pub bytes: Cow<'a, [u8]>,
}

/// What is built into the exported network around the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrapping {
    /// The input is uint8 (N, H, W, 3), normalised within.
    pub preprocess: bool,
    /// The output is probabilities instead of logits.
    pub softmax: bool,
}
