//! Export of a trained network: ONNX, TorchScript, PyTorch state dict, safetensors.

pub mod fold;
pub mod onnx;
pub mod pickle;
pub mod pytorch;
pub mod safetensors;
pub mod torchscript;

use std::borrow::Cow;

use alexnet_core::Architecture;

use crate::data::Preprocess;

/// The input of every exporter: the layers and their parameters.
pub struct Model<'a> {
    /// The layers.
    pub architecture: &'a Architecture,
    /// The names of the classes in order.
    pub classes: &'a [String],
    /// How pictures are resized and normalised.
    pub preprocess: Preprocess,
    /// The parameters in the network's order.
    pub parameters: Vec<Tensor<'a>>,
}

impl Model<'_> {
    /// The preprocessing as JSON, as every format records it.
    pub fn preprocess_json(&self) -> String {
        self.preprocess.to_json(self.architecture.image_size).to_string()
    }
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

/// Operations added around the layers of the exported graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrapping {
    /// The input is uint8 (N, H, W, 3), and the graph normalises it.
    pub preprocess: bool,
    /// The output is probabilities instead of logits.
    pub softmax: bool,
}
