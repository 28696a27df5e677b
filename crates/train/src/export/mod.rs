//! Export of a trained network: ONNX, torch.export, TorchScript, PyTorch state dict, safetensors.

pub mod fold;
pub mod half;
pub mod onnx;
pub mod pickle;
pub mod pt2;
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

    /// The tensors `mean` and `std` of a graph that normalises its input.
    fn preprocess_tensors(&self) -> [Tensor<'static>; 2] {
        let Preprocess { mean, std, .. } = self.preprocess;
        [("mean", mean), ("std", std)].map(|(name, values)| {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
            Tensor { name: name.into(), shape: vec![3], bytes: bytes.into() }
        })
    }
}

/// A parameter's value.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Name, such as `features.0.weight`.
    pub name: String,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// Little-endian f32, or f16 after [`half::round`].
    pub bytes: Cow<'a, [u8]>,
}

impl Tensor<'_> {
    /// Whether its values are f16: two bytes each.
    pub fn is_half(&self) -> bool {
        self.bytes.len() == 2 * self.shape.iter().product::<usize>()
    }

    /// Checks f32 values.
    ///
    /// # Errors
    /// [`Error::NotFinite`]: NaN or an infinity.
    pub fn check(&self) -> Result<(), Error> {
        let mut values = self.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        match values.find(|value| !value.is_finite()) {
            Some(value) => Err(Error::NotFinite { tensor: self.name.clone(), value }),
            None => Ok(()),
        }
    }

    /// Its class of storages in `torch`.
    fn storage(&self) -> &'static str {
        if self.is_half() { "HalfStorage" } else { "FloatStorage" }
    }
}

/// Operations added around the layers of the exported graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrapping {
    /// The input is uint8 (N, H, W, 3), and the graph normalises it.
    pub preprocess: bool,
    /// The output is probabilities instead of logits.
    pub softmax: bool,
    /// Weights and layers are fp16; input and output stay as they are.
    pub half: bool,
}

/// Why a network cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layers do not fit each other.
    #[error(transparent)]
    Core(#[from] alexnet_core::Error),
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Archive(#[from] std::io::Error),
    /// A weight is NaN or infinite.
    #[error("tensor {tensor} has the value {value}, and only finite weights are exported")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Its first such value.
        value: f32,
    },
    /// A weight is beyond the range of fp16.
    #[error("tensor {tensor} has the value {value}, and fp16 ends at 65504")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its first value that does not fit.
        value: f32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_are_not_finite_are_named() {
        let tensor = |values: &[f32]| Tensor {
            name: "features.0.bias".into(),
            shape: vec![values.len()],
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into(),
        };
        assert!(tensor(&[f32::MAX, f32::MIN, -0.0]).check().is_ok());
        for (value, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let error = tensor(&[1.0, value]).check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("tensor features.0.bias has the value {text},")), "{error}");
        }
    }
}
