//! The gradients of a device's backward pass against central differences of the loss of [`Reference`].
//!
//! The differences are taken of the reference in f64, which defines what every layer computes, at the very weights and
//! images that the device has (numbers that f32 holds). In f32 a difference would be mostly rounding.
//!
//! A layer stands between a convolution and a linear layer: the gradient of the convolution's weights then passes
//! through the layer's backward pass, and its own parameters, if any, are checked too.

use std::sync::Arc;

use super::{Report, Tolerance, check};
use crate::device::{Device, Element};
use crate::network::{Metrics, MicroBatch};
use crate::random::{Philox, uniform_f32};
use crate::{Architecture, LayerKind, LayerSpec, Network, Reference, Result};

/// The names of [`case`].
pub const LAYERS: [&str; 11] = [
    "conv",
    "relu",
    "maxpool",
    "avgpool",
    "lrn",
    "batchnorm",
    "add",
    "dropout",
    "linear",
    "softmax_cross_entropy",
    "network",
];

/// What is checked: layers, and the batch that goes through them.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The layers, from an image to the logits.
    pub layers: Vec<LayerKind>,
    /// N.
    pub batch: usize,
    /// S, the side of an image.
    pub side: usize,
    /// C, its channels.
    pub channels: usize,
    /// ε.
    pub smoothing: f64,
}

const CLASSES: usize = 4;

const fn conv(filters: usize, kernel: usize, stride: usize, padding: usize, groups: usize) -> LayerKind {
    LayerKind::Conv { filters, kernel, stride, padding, groups }
}

const BATCHNORM: LayerKind = LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 };

/// The case of this name of [`LAYERS`]; a convolution has an image of 7×7, the network one of 21×21.
pub fn case(name: &str) -> Option<Case> {
    let between = |layer: &[LayerKind]| {
        let (start, end) = ([conv(6, 3, 1, 1, 1)], [LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }]);
        [&start[..], layer, &end[..]].concat()
    };
    let (layers, side, smoothing) = match name {
        "conv" => (between(&[conv(8, 3, 2, 1, 2)]), 7, 0.0),
        // After a convolution it is computed with it; after a pool it stands alone.
        "relu" => {
            let pool = LayerKind::MaxPool { kernel: 2, stride: 2, padding: 0 };
            (between(&[LayerKind::Relu, pool, LayerKind::Relu]), 6, 0.0)
        }
        "maxpool" => (between(&[LayerKind::MaxPool { kernel: 3, stride: 2, padding: 1 }]), 7, 0.0),
        "avgpool" => (between(&[LayerKind::AdaptiveAvgPool { side: 3 }]), 7, 0.0),
        "lrn" => (between(&[LayerKind::Lrn { size: 5, alpha: 0.5, beta: 0.75, k: 2.0 }]), 5, 0.0),
        // After a ReLU: before it the convolution's bias would have a gradient of zero. The second one is computed with it.
        "batchnorm" => (between(&[LayerKind::Relu, BATCHNORM, LayerKind::Relu]), 5, 0.0),
        // Around a convolution alone, and around one with a batch norm.
        "add" => {
            let kinds = [
                LayerKind::Relu,
                conv(6, 3, 1, 1, 1),
                LayerKind::Add { from: 2 },
                LayerKind::Relu,
                conv(6, 3, 1, 1, 2),
                LayerKind::Relu,
                BATCHNORM,
                LayerKind::Add { from: 5 },
                LayerKind::Relu,
            ];
            (between(&kinds), 5, 0.0)
        }
        "dropout" => (between(&[LayerKind::Dropout { rate: 0.5 }]), 5, 0.0),
        "linear" => (
            vec![
                conv(6, 3, 1, 1, 1),
                LayerKind::Flatten,
                LayerKind::Linear { outputs: 13 },
                LayerKind::Relu,
                LayerKind::Linear { outputs: CLASSES },
            ],
            5,
            0.0,
        ),
        "softmax_cross_entropy" => (vec![LayerKind::Flatten, LayerKind::Linear { outputs: CLASSES }], 3, 0.1),
        "network" => {
            let pool = LayerKind::MaxPool { kernel: 3, stride: 2, padding: 0 };
            let dropout = LayerKind::Dropout { rate: 0.5 };
            let layers = vec![
                conv(6, 5, 2, 2, 1),
                LayerKind::Relu,
                LayerKind::Lrn { size: 5, alpha: 0.1, beta: 0.75, k: 2.0 },
                pool,
                conv(8, 3, 1, 1, 2),
                LayerKind::Relu,
                conv(8, 3, 1, 1, 1),
                LayerKind::Relu,
                pool,
                LayerKind::AdaptiveAvgPool { side: 2 },
                LayerKind::Flatten,
                dropout,
                LayerKind::Linear { outputs: 16 },
                LayerKind::Relu,
                dropout,
                LayerKind::Linear { outputs: 12 },
                LayerKind::Relu,
                LayerKind::Linear { outputs: CLASSES },
            ];
            (layers, 21, 0.1)
        }
        _ => return None,
    };
    Some(Case { layers, batch: 3, side, channels: 3, smoothing })
}

/// A parameter's check.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The layer's kind and the parameter's name, such as `conv layers.0.weight`.
    pub name: String,
    /// What came of it.
    pub report: Report,
}

/// Checks up to `elements` elements of every parameter's gradient on `device`, spread evenly.
///
/// # Errors
/// Layers that do not fit each other or the image; the device's.
pub fn check_device<D: Device>(
    device: Arc<D>,
    case: &Case,
    elements: usize,
    tolerance: Tolerance,
) -> Result<Vec<Checked>> {
    let &Case { batch, side, channels, smoothing, .. } = case;
    let layers = case.layers.iter().enumerate();
    let layers = layers.map(|(i, &kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
    let architecture = Architecture { name: "gradcheck".into(), image_size: side, channels, classes: CLASSES, layers };
    let mut found = Network::new(device, architecture.clone(), batch, true)?;
    let mut defined = Network::new(Arc::new(Reference::<f64>::new()), architecture, batch, true)?;

    let philox = Philox::new(17);
    let uniform = |purpose, i: usize| f64::from(uniform_f32(philox.word(purpose, 0, i as u64))) * 2.0 - 1.0;
    for p in 0..defined.parameters().len() {
        let parameter = &mut defined.device_and_parameters().1[p];
        if parameter.gradient.is_none() {
            continue;
        }
        // Biases of zero would hide a wrong bias, and weights of 0.01 make gradients that are all noise.
        let fan = (parameter.len() / parameter.shape[0]).max(4) as f64;
        for (i, value) in parameter.value.iter_mut().enumerate() {
            *value = f64::from(((3.0 / fan).sqrt() * uniform(100 + p as u32, i)) as f32);
        }
        let values: Vec<_> = parameter.value.iter().map(|&x| D::Element::from_f64(x)).collect();
        let (device, parameters) = found.device_and_parameters();
        device.write(&values, &mut parameters[p].value)?;
    }
    let images: Vec<f64> = (0..batch * side * side * channels).map(|i| f64::from(uniform(8, i) as f32)).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|n| (3 * n + 1) % CLASSES as u32).collect();
    let micro = MicroBatch::whole(Philox::new(11), 5, batch, smoothing);

    let own: Vec<_> = images.iter().map(|&x| D::Element::from_f64(x)).collect();
    gradients(&mut found, &own, &labels, &micro)?;
    let mut checked = Vec::new();
    for p in 0..defined.parameters().len() {
        let parameter = &found.parameters()[p];
        // A running statistic has none.
        let Some(gradient) = &parameter.gradient else { continue };
        let mut analytic = vec![D::Element::from_f64(0.0); parameter.len()];
        found.device().read(gradient, &mut analytic)?;
        let analytic: Vec<f64> = analytic.into_iter().map(Element::to_f64).collect();
        let mut values = defined.parameters()[p].value.clone();
        let indices = (0..values.len()).step_by(values.len().div_ceil(elements.max(1)));
        let report = check(&mut values, &analytic, indices, tolerance, |values| {
            defined.device_and_parameters().1[p].value.copy_from_slice(values);
            gradients(&mut defined, &images, &labels, &micro).map(|metrics| metrics.loss / batch as f64)
        })?;
        defined.device_and_parameters().1[p].value.copy_from_slice(&values);
        let layer = parameter.name.split('.').nth(1).and_then(|i| i.parse::<usize>().ok());
        let kind = match layer.map(|i| case.layers[i]) {
            Some(LayerKind::Conv { .. }) => "conv",
            Some(LayerKind::BatchNorm { .. }) => "batchnorm",
            _ => "linear",
        };
        checked.push(Checked { name: format!("{kind} {}", parameter.name), report });
    }
    Ok(checked)
}

/// Leaves the gradients of a micro-batch in the network, without an update, and returns the loss and the correct predictions
/// of its images alone; the running sums of [`Network::metrics`] are lost.
///
/// # Errors
/// As [`Network::load`] and [`Network::step`].
pub fn gradients<D: Device>(
    network: &mut Network<D>,
    images: &[D::Element],
    labels: &[u32],
    micro: &MicroBatch,
) -> Result<Metrics> {
    network.set_metrics(Metrics::default())?;
    network.load(images, labels)?;
    network.step(micro, None)?;
    network.metrics()
}
