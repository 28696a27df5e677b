//! A network as a list of layers: their shapes, parameters, operations and memory, before any is allocated.

use std::collections::HashSet;

use crate::device::Storage;
use crate::shape::{AvgPoolShape, BatchNormShape, ConvShape, FlattenShape, LinearShape, LrnShape, MaxPoolShape};
use crate::{Error, Result};

pub use crate::shape::Operation;

mod extent;

use extent::{check_shortcut, output_extent};

/// A kind of layer with its settings, in the terms of `torch.nn`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerKind {
    /// Convolution with bias.
    Conv {
        /// Number of filters.
        filters: usize,
        /// Side of the window in pixels.
        kernel: usize,
        /// Pixels between windows.
        stride: usize,
        /// Zeros on each side.
        padding: usize,
        /// Groups of channels that are convolved separately.
        groups: usize,
    },
    /// max(x, 0).
    Relu,
    /// Max pooling.
    MaxPool {
        /// Side of the window in pixels, at most 16.
        kernel: usize,
        /// Pixels between windows.
        stride: usize,
        /// Padding on each side.
        padding: usize,
    },
    /// Average pooling to `side`×`side` pixels from any size.
    AdaptiveAvgPool {
        /// Side of the output.
        side: usize,
    },
    /// Local response normalisation across channels.
    Lrn {
        /// Channels in the window.
        size: usize,
        /// α.
        alpha: f64,
        /// β.
        beta: f64,
        /// k.
        k: f64,
    },
    /// Batch normalisation of each channel.
    BatchNorm {
        /// ε.
        epsilon: f64,
        /// Weight of the batch's statistics in the new running statistics.
        momentum: f64,
    },
    /// Adds the input of layer number `from` of the architecture: the end of an identity shortcut around the layers from
    /// there to here.
    Add {
        /// The first layer that the shortcut goes around.
        from: usize,
    },
    /// Inverted dropout.
    Dropout {
        /// Probability of an element to be set to zero.
        rate: f64,
    },
    /// (H, W, C) to a row of C·H·W in PyTorch's order.
    Flatten,
    /// Fully connected, with bias.
    Linear {
        /// Number of outputs.
        outputs: usize,
    },
}

impl LayerKind {
    /// Whether the output overwrites the input.
    pub const fn in_place(&self) -> bool {
        matches!(self, Self::Relu | Self::Add { .. } | Self::Dropout { .. })
    }
}

/// A layer with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Name as in PyTorch's state dict, such as `features.0`; unique in the network.
    pub name: String,
    /// Its kind.
    pub kind: LayerKind,
}

/// Pixels and channels of one image between two layers; a row of features is 1×1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
}

impl Extent {
    /// Elements per image.
    pub const fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// Whether it has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.height == 1 && self.width == 1 {
            write!(f, "{}", self.channels)
        } else {
            write!(f, "{}×{}×{}", self.channels, self.height, self.width)
        }
    }
}

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Zeros.
    Zero,
    /// Ones.
    One,
    /// Normally distributed with mean 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

/// A parameter, before it is allocated.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Name, such as `features.0.weight`.
    pub name: String,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// Its initial values.
    pub initial: Initial,
    /// Whether it is a running statistic: stored with the network, but not trained.
    pub statistic: bool,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A layer with the extents of its input and output.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedLayer {
    /// Name and kind.
    pub spec: LayerSpec,
    /// Extent of its input.
    pub input: Extent,
    /// Extent of its output.
    pub output: Extent,
}

/// A network: layers in order, from an image to the classes' logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Name, such as `cifar`.
    pub name: String,
    /// Side of the square input images in pixels.
    pub image_size: usize,
    /// Channels of the input image.
    pub channels: usize,
    /// Number of classes: the outputs of the last layer.
    pub classes: usize,
    /// The layers.
    pub layers: Vec<LayerSpec>,
}

/// Bytes of memory that a network takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights and biases.
    pub parameters: u64,
    /// Gradients of the parameters.
    pub gradients: u64,
    /// Momentum of the parameters.
    pub momentum: u64,
    /// Moving average of the parameters, if one is kept.
    pub average: u64,
    /// Activations and their gradients for one batch.
    pub activations: u64,
    /// Workspace of the operators.
    pub workspace: u64,
    /// A copy of parameters, momentum and average, of which a checkpoint is written while training goes on.
    pub copy: u64,
}

impl MemoryPlan {
    /// The sum of all.
    pub const fn total(&self) -> u64 {
        // For a batch size beyond any memory the result is large; it must not overflow.
        let fixed = self.parameters + self.gradients + self.momentum + self.average + self.workspace + self.copy;
        fixed.saturating_add(self.activations)
    }
}

impl Architecture {
    /// The layers with the extents of their inputs and outputs.
    ///
    /// # Errors
    /// A window that does not fit ([`Error::NoOutput`]); a layer that contradicts its input; two layers of one name, whose
    /// parameters would be stored under one name.
    pub fn trace(&self) -> Result<Vec<TracedLayer>> {
        let mut names = HashSet::new();
        if let Some(twice) = self.layers.iter().find(|layer| !names.insert(&layer.name)) {
            return Err(Error::Layer { layer: twice.name.clone(), reason: "another layer has the same name".into() });
        }
        let traced = self.trace_from(self.image_size);
        match traced {
            Err(Error::NoOutput { layer, window, padding, height, width, image, .. }) => {
                let smallest = (1..1024).find(|&side| self.trace_from(side).is_ok());
                Err(Error::NoOutput { layer, window, padding, height, width, image, smallest })
            }
            other => other,
        }
    }

    fn trace_from(&self, image: usize) -> Result<Vec<TracedLayer>> {
        let mut extent = Extent { height: image, width: image, channels: self.channels };
        let mut traced = Vec::with_capacity(self.layers.len());
        for spec in &self.layers {
            let output = output_extent(spec, extent, image)?;
            if let LayerKind::Add { from } = spec.kind {
                check_shortcut(&traced, from, spec, extent)?;
            }
            traced.push(TracedLayer { spec: spec.clone(), input: extent, output });
            extent = output;
        }
        if extent != (Extent { height: 1, width: 1, channels: self.classes }) {
            let layer = self.layers.last().map_or_else(String::new, |l| l.name.clone());
            return Err(Error::Layer {
                layer,
                reason: format!("the network ends with {extent}, not with {} classes", self.classes),
            });
        }
        Ok(traced)
    }

    /// Elements of an input image.
    pub const fn image_len(&self) -> usize {
        self.image_size * self.image_size * self.channels
    }

    /// The parameters, in the order of the layers.
    ///
    /// # Errors
    /// As [`Architecture::trace`].
    pub fn parameters(&self) -> Result<Vec<ParameterSpec>> {
        Ok(self.trace()?.iter().flat_map(TracedLayer::parameters).collect())
    }

    /// Number of trained elements: all parameters but running statistics.
    ///
    /// # Errors
    /// As [`Architecture::trace`].
    pub fn parameter_count(&self) -> Result<usize> {
        Ok(self.parameters()?.iter().filter(|parameter| !parameter.statistic).map(ParameterSpec::len).sum())
    }

    /// The bytes for batches of `batch` images, with elements stored as `storage` says; `workspace` is 0.
    ///
    /// # Errors
    /// As [`Architecture::trace`].
    pub fn memory(&self, batch: usize, storage: Storage, training: bool) -> Result<MemoryPlan> {
        let traced = self.trace()?;
        let bytes = |elements: usize| elements as u64 * storage.activation as u64;
        let count = |statistic: bool| -> u64 {
            let all = traced.iter().flat_map(TracedLayer::parameters);
            all.filter(|p| p.statistic == statistic).map(|p| p.len() as u64).sum()
        };
        let gradients = if training { count(false) * storage.gradient as u64 } else { 0 };
        // A batch norm keeps as many statistics of the batch as running statistics.
        let statistics = count(true) * storage.gradient as u64;
        let image = self.image_len();
        let outputs = traced.iter().filter(|layer| !layer.in_place()).map(|layer| layer.output.len());
        let widest = outputs.clone().max().unwrap_or(0);
        let argmax: usize = traced.iter().filter(|l| l.is_maxpool()).map(|l| l.output.len()).sum();
        // Losses, correct and labels: three words per image.
        let held = bytes(image + outputs.sum::<usize>()) + 3 * storage.gradient as u64;
        let kept = traced.iter().filter(|layer| layer.is_linear()).map(|layer| layer.output.len()).sum::<usize>();
        let backward = match training {
            true => bytes(gradients_in_use(&traced) * widest) + (kept * storage.kept) as u64,
            false => 0,
        };
        Ok(MemoryPlan {
            parameters: count(false) * storage.parameter as u64 + statistics,
            gradients,
            momentum: gradients,
            average: 0,
            activations: (held + argmax as u64 + backward).saturating_mul(batch as u64).saturating_add(statistics),
            workspace: 0,
            copy: 0,
        })
    }
}

/// How many gradients of activations the backward pass holds at a time, besides those it keeps: two in turn, and a shortcut's
/// while the layers under it use those two.
pub(crate) fn gradients_in_use(traced: &[TracedLayer]) -> usize {
    if traced.iter().any(TracedLayer::is_add) { 3 } else { 2 }
}

impl TracedLayer {
    /// Whether the output overwrites the input.
    pub const fn in_place(&self) -> bool {
        self.spec.kind.in_place()
    }

    /// Whether it is the end of a shortcut.
    pub const fn is_add(&self) -> bool {
        matches!(self.spec.kind, LayerKind::Add { .. })
    }

    /// Whether it is fully connected.
    pub const fn is_linear(&self) -> bool {
        matches!(self.spec.kind, LayerKind::Linear { .. })
    }

    /// Whether it stores the positions of its largest elements.
    pub const fn is_maxpool(&self) -> bool {
        matches!(self.spec.kind, LayerKind::MaxPool { .. })
    }

    /// Its parameters: weight and bias, for the layers that have them, then running mean and variance of a batch norm.
    ///
    /// Initial weights of convolutions are Kaiming-normal by fan-out (σ² = 2 / (K·R·S)), those of linear layers have
    /// σ = 0.01.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let named = |suffix: &str, shape, initial, statistic| ParameterSpec {
            name: format!("{}.{suffix}", self.spec.name),
            shape,
            initial,
            statistic,
        };
        let (shape, deviation) = match self.spec.kind {
            LayerKind::BatchNorm { .. } => {
                let all = [
                    ("weight", Initial::One, false),
                    ("bias", Initial::Zero, false),
                    ("running_mean", Initial::Zero, true),
                    ("running_var", Initial::One, true),
                ];
                return all.map(|(name, initial, is)| named(name, vec![self.input.channels], initial, is)).into();
            }
            LayerKind::Conv { filters, kernel, groups, .. } => (
                vec![filters, self.input.channels / groups, kernel, kernel],
                (2.0 / (filters * kernel * kernel) as f64).sqrt(),
            ),
            LayerKind::Linear { outputs } => (vec![outputs, self.input.len()], 0.01),
            _ => return Vec::new(),
        };
        let bias = vec![shape[0]];
        vec![named("weight", shape, Initial::Normal { deviation }, false), named("bias", bias, Initial::Zero, false)]
    }

    /// Multiply-adds of the forward pass for one image.
    pub fn multiply_adds(&self) -> u64 {
        match self.operation(1) {
            Operation::Conv(shape) => shape.multiply_adds(),
            Operation::Linear(shape) => shape.multiply_adds(),
            _ => 0,
        }
    }

    /// The device's operator for `batch` images.
    pub fn operation(&self, batch: usize) -> Operation {
        let Extent { height, width, channels } = self.input;
        match self.spec.kind {
            LayerKind::Conv { filters, kernel, stride, padding, groups } => {
                Operation::Conv(ConvShape { batch, height, width, channels, filters, kernel, stride, padding, groups })
            }
            LayerKind::Relu => Operation::Relu { len: batch * self.output.len() },
            LayerKind::MaxPool { kernel, stride, padding } => {
                Operation::MaxPool(MaxPoolShape { batch, height, width, channels, kernel, stride, padding })
            }
            LayerKind::AdaptiveAvgPool { side } => Operation::AvgPool(AvgPoolShape {
                batch,
                height,
                width,
                channels,
                output_height: side,
                output_width: side,
            }),
            LayerKind::Lrn { size, alpha, beta, k } => {
                Operation::Lrn(LrnShape { pixels: batch * height * width, channels, size, alpha, beta, k })
            }
            LayerKind::BatchNorm { epsilon, momentum } => {
                Operation::BatchNorm(BatchNormShape { rows: batch * height * width, channels, epsilon, momentum })
            }
            LayerKind::Add { .. } => Operation::Add { len: batch * self.output.len() },
            LayerKind::Dropout { rate } => Operation::Dropout { rate },
            LayerKind::Flatten => Operation::Flatten(FlattenShape { batch, height, width, channels }),
            LayerKind::Linear { outputs } => {
                Operation::Linear(LinearShape { batch, inputs: self.input.len(), outputs })
            }
        }
    }
}

impl std::fmt::Display for LayerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let window = |f: &mut std::fmt::Formatter<'_>, kernel, stride, padding| {
            write!(f, "{kernel}×{kernel}")?;
            if stride != 1 {
                write!(f, " stride {stride}")?;
            }
            if padding != 0 {
                write!(f, " pad {padding}")?;
            }
            Ok(())
        };
        match *self {
            Self::Conv { kernel, stride, padding, groups, .. } => {
                write!(f, "conv ")?;
                window(f, kernel, stride, padding)?;
                if groups != 1 { write!(f, " groups {groups}") } else { Ok(()) }
            }
            Self::Relu => write!(f, "relu"),
            Self::MaxPool { kernel, stride, padding } => {
                write!(f, "max pool ")?;
                window(f, kernel, stride, padding)
            }
            Self::AdaptiveAvgPool { side } => write!(f, "average pool to {side}×{side}"),
            Self::Lrn { size, .. } => write!(f, "lrn {size}"),
            Self::BatchNorm { .. } => write!(f, "batch norm"),
            Self::Add { .. } => write!(f, "add"),
            Self::Dropout { rate } => write!(f, "dropout {rate}"),
            Self::Flatten => write!(f, "flatten"),
            Self::Linear { .. } => write!(f, "linear"),
        }
    }
}
