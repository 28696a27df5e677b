//! A network on a device: memory allocated once for a batch size, then one training step and one inference for all devices.

use std::sync::Arc;

use alexnet_ops::expect_labels;

use crate::architecture::{Architecture, MemoryPlan};
use crate::device::{CHUNK, Device, Element, Parameter, Updates};
use crate::init::initial_values;
use crate::random::Philox;
use crate::{Error, Result};

mod average;
mod batch;
mod job;
mod joint;
mod pass;
mod plan;
mod sharding;
pub mod shards;
mod snapshot;
mod step;
mod sync_batch_norm;

use batch::BatchState;
use pass::Handled;
use plan::{Plan, PlannedLayer};
use sharding::Sharding;
pub use shards::{Piece, Shards, Slot};
pub use step::Images;
use step::{CaptureState, StepKey};

/// Sums over images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Sum of the cross-entropy losses, each as at the time of its step.
    pub loss: f64,
    /// Images whose largest logit was the label's.
    pub correct: u64,
}

/// Where a micro-batch stands in the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroBatch {
    /// Generator of the run.
    pub philox: Philox,
    /// The optimizer's step, from 0: keys the dropout masks.
    pub step: u32,
    /// Images of the same step that come before, wherever they are computed.
    pub first_image: usize,
    /// Images of the whole step, whose mean is the loss.
    pub step_images: usize,
    /// Where its gradients go.
    pub slot: Slot,
    /// Label smoothing ε.
    pub smoothing: f64,
}

/// A phase of a step, for [`Network::step_with_profiler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A layer's forward pass, by its index in the architecture. A ReLU or a dropout that is computed with the layer before
    /// it has none of its own.
    Forward(usize),
    /// The loss and its gradient.
    Loss,
    /// A layer's backward pass, with the update of its weight on a device that [updates in the pass](Updates::InPass). A dropout
    /// that is computed with the layer after it has none of its own.
    Backward(usize),
    /// The update of all other parameters, with the gradients of weights on a device that [updates after the
    /// pass](Updates::AfterPass).
    Update,
}

impl MicroBatch {
    /// A step that is one batch.
    pub const fn whole(philox: Philox, step: u32, images: usize, smoothing: f64) -> Self {
        let slot = Slot { number: 0, accumulate: false, array: 0, sums: 0, complete: false };
        Self { philox, step, first_image: 0, step_images: images, slot, smoothing }
    }
}

/// A network on a device.
///
/// ```
/// use std::sync::Arc;
///
/// use alexnet_core::network::{MicroBatch, Network};
/// use alexnet_core::random::Philox;
/// use alexnet_core::{Architecture, Cpu, LayerKind, LayerSpec, Sgd};
///
/// # fn main() -> alexnet_core::Result<()> {
/// let kinds = [LayerKind::Flatten, LayerKind::Linear { outputs: 16 }, LayerKind::Relu, LayerKind::Linear { outputs: 2 }];
/// let layers = kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind });
/// let architecture =
///     Architecture { name: "mlp".into(), image_size: 4, channels: 1, classes: 2, layers: layers.collect() };
///
/// let (batch, philox) = (8, Philox::new(1));
/// let mut network = Network::new(Arc::new(Cpu::new(0)?), architecture, batch, true)?;
/// network.initialise(philox)?;
///
/// // Dark and bright images, (N, H, W, C).
/// let labels: Vec<u32> = (0..8).map(|i| i % 2).collect();
/// let images: Vec<f32> = labels.iter().flat_map(|&label| [label as f32 - 0.5; 4 * 4]).collect();
/// let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: false };
/// for step in 0..100 {
///     network.load(&images, &labels)?;
///     network.step(&MicroBatch::whole(philox, step, batch, 0.0), Some(&sgd))?;
/// }
///
/// network.predict(&images)?;
/// let mut logits = [0.0; 8 * 2];
/// network.read_logits(&mut logits)?;
/// assert!(logits.chunks(2).zip(labels).all(|(logits, label)| (logits[1] > logits[0]) == (label == 1)));
/// # Ok(())
/// # }
/// ```
pub struct Network<D: Device> {
    // Before the device that they were captured on, and the arrays whose addresses they hold.
    graphs: Vec<(StepKey, CaptureState<D::Graph>)>,
    use_cuda_graph: bool,
    device: Arc<D>,
    architecture: Architecture,
    max_batch: usize,
    plan: MemoryPlan,
    layers: Vec<PlannedLayer>,
    parameters: Vec<Parameter<D::Buffer>>,
    /// What steps of several shards need.
    sharding: Option<Sharding<D>>,
    /// What the backward pass has done with the gradient of each parameter.
    handled: Vec<Handled>,
    /// Whether the averages are in the place of the weights.
    averaged: bool,
    /// What is computed of the micro-batch at hand.
    batch: BatchState<D>,
    /// What each batch norm's forward pass leaves for its backward pass.
    statistics: Vec<D::Buffer>,
    /// Sums of losses and of correct predictions, and what comes on top of them.
    sums: D::Totals,
    earlier: Metrics,
    /// Which images of an epoch are loaded, and the way of a batch's own to the device; none until one is used.
    draws: Option<D::Labels>,
    uploads: Option<D::Uploads>,
    /// The weight of each class in the loss; none: all 1.
    class_weights: Option<D::Buffer>,
}

impl<D: Device> Network<D> {
    /// Plans and allocates for batches of up to `max_batch` images. Without `training` there is no memory for gradients and
    /// [`Network::step`] fails. All parameters are zero until [`Network::initialise`].
    ///
    /// # Errors
    /// A layer without output, a layer that contradicts its input, two layers of one name, too little memory.
    pub fn new(device: Arc<D>, architecture: Architecture, max_batch: usize, training: bool) -> Result<Self> {
        if max_batch == 0 {
            return Err(Error::Batch { found: 0, planned: 1 });
        }
        let traced = architecture.trace()?;
        let mut memory = architecture.memory(max_batch, device.storage(), training)?;
        let operations: Vec<_> = traced.iter().map(|layer| layer.operation(max_batch)).collect();
        memory.workspace = device.prepare(&operations, training)?;
        let parameters = Self::allocate_parameters(&device, &architecture, training)?;
        let keeps = D::UPDATES == Updates::AfterPass;
        let plan = Plan::new(traced, architecture.image_len(), training, keeps);
        Ok(Self {
            graphs: Vec::new(),
            use_cuda_graph: false,
            handled: vec![Handled::Stored; parameters.len()],
            parameters,
            sharding: None,
            averaged: false,
            batch: BatchState::new(&*device, &plan, max_batch)?,
            statistics: plan.statistics.iter().map(|channels| device.zeros(2 * channels)).collect::<Result<_>>()?,
            sums: device.totals()?,
            earlier: Metrics::default(),
            draws: None,
            uploads: None,
            class_weights: None,
            device,
            architecture,
            max_batch,
            plan: memory,
            layers: plan.layers,
        })
    }

    fn allocate_parameters(
        device: &D,
        architecture: &Architecture,
        training: bool,
    ) -> Result<Vec<Parameter<D::Buffer>>> {
        let allocate = |spec: crate::architecture::ParameterSpec| {
            let gradients = || (training && !spec.statistic).then(|| device.gradients(&spec.shape)).transpose();
            let (gradient, momentum) = (gradients()?, gradients()?);
            let value = match (spec.statistic, training) {
                (true, _) => device.zeros(spec.len())?,
                (false, true) => device.weights(&spec.shape)?,
                (false, false) => device.inference_weights(&spec.shape)?,
            };
            Ok(Parameter { name: spec.name, shape: spec.shape, value, gradient, momentum, average: None, rate: 1.0 })
        };
        architecture.parameters()?.into_iter().map(allocate).collect()
    }

    /// The device it is on.
    pub fn device(&self) -> &D {
        &self.device
    }
    /// The same, to make another network on it.
    pub fn shared_device(&self) -> Arc<D> {
        self.device.clone()
    }
    /// The layers it was made from.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }
    /// Images of the largest batch.
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }
    /// The bytes it takes.
    pub fn memory_plan(&self) -> MemoryPlan {
        self.plan
    }
    /// Whether it was made for training.
    pub const fn trains(&self) -> bool {
        !self.batch.gradients.is_empty()
    }
    /// The parameters, in the order of the layers.
    pub fn parameters(&self) -> &[Parameter<D::Buffer>] {
        &self.parameters
    }
    /// Stops training the layers for whose name `frozen` is true: they keep their parameters and need no gradients, and
    /// neither do the layers before the first that is trained. A frozen batch norm normalises by its running statistics,
    /// which stay as they are. Call it before [`Network::shard`], which it undoes.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) {
        // They hold the addresses of the arrays that are freed here.
        self.graphs.clear();
        self.drop_sharding();
        let element = size_of::<D::Element>() as u64;
        for parameter in &mut self.parameters {
            if frozen(parameter.layer()) && parameter.gradient.take().is_some() && parameter.momentum.take().is_some() {
                let bytes = parameter.len() as u64 * element;
                self.plan.gradients -= bytes;
                self.plan.momentum -= bytes;
            }
        }
    }
    /// Sets the factor of the learning rate of every layer by its name; 1 until then.
    pub fn set_rates(&mut self, rate: impl Fn(&str) -> f64) {
        // A graph holds the factors; the optimizer's learning rate it reads from memory.
        self.graphs.clear();
        self.parameters.iter_mut().for_each(|parameter| parameter.rate = rate(parameter.layer()));
    }
    /// Sets the weight of each class in the loss of [`Network::step`], see [`SoftmaxCrossEntropy`]; all are 1 until then.
    ///
    /// # Errors
    /// Not one weight per class; the device's.
    ///
    /// [`SoftmaxCrossEntropy`]: crate::arguments::SoftmaxCrossEntropy
    pub fn set_class_weights(&mut self, weights: &[D::Element]) -> Result<()> {
        equal("class weights", weights.len(), self.architecture.classes)?;
        self.graphs.clear();
        let mut to = self.device.zeros(weights.len())?;
        self.device.write(weights, &mut to)?;
        self.class_weights = Some(to);
        Ok(())
    }
    /// The device and the parameters, to write them through [`Memory::write`](crate::device::Memory::write).
    pub fn device_and_parameters(&mut self) -> (&D, &mut [Parameter<D::Buffer>]) {
        // The caller may exchange arrays, and a graph holds addresses.
        self.graphs.clear();
        (&self.device, &mut self.parameters)
    }

    /// Sets the initial weights of this seed, see [`initial_values`].
    ///
    /// # Errors
    /// The device's.
    pub fn initialise(&mut self, philox: Philox) -> Result<()> {
        let mut values = Vec::new();
        for (index, spec) in self.architecture.parameters()?.iter().enumerate() {
            for start in (0..spec.len()).step_by(CHUNK) {
                values.resize(CHUNK.min(spec.len() - start), D::Element::from_f64(0.0));
                initial_values(philox, index, spec, start, &mut values);
                self.device.write_at(&values, &mut self.parameters[index].value, start)?;
            }
        }
        Ok(())
    }

    /// Copies the logits (N, classes) of the last forward pass.
    ///
    /// # Errors
    /// More logits asked for than the network holds; the device's.
    pub fn read_logits(&self, to: &mut [D::Element]) -> Result<()> {
        self.device.read(&self.batch.activations[self.batch.activations.len() - 1], to)
    }

    /// Copies the output (N, H, W, C) of a layer in the last forward pass, by the layer's index in the architecture. A layer
    /// that works in place overwrites the output of the layer before it: a convolution with a ReLU after it gives the
    /// ReLU's output.
    ///
    /// # Errors
    /// No such layer; more asked for than the network holds; the device's.
    pub fn read_output(&self, layer: usize, to: &mut [D::Element]) -> Result<()> {
        let planned = self.layers.iter().rev().find(|planned| planned.index as usize <= layer);
        let buffer = planned
            .filter(|_| layer < self.architecture.layers.len())
            .map(|planned| &self.batch.activations[planned.input + usize::from(!planned.layer.in_place())]);
        let Some(buffer) = buffer else {
            return Err(Error::Layer { layer: layer.to_string(), reason: "there is no such layer".into() });
        };
        self.device.read(buffer, to)
    }

    /// The name of the first layer whose output for the first `n` images of the last forward pass has a NaN or an infinity.
    /// A layer that works in place counts as the one before it.
    ///
    /// # Errors
    /// More images than the network holds; the device's.
    pub fn first_not_finite(&self, n: usize) -> Result<Option<&str>> {
        let mut values = Vec::new();
        for planned in self.layers.iter().filter(|planned| !planned.layer.in_place()) {
            let len = n * planned.layer.output.len();
            for start in (0..len).step_by(CHUNK) {
                values.resize(CHUNK.min(len - start), D::Element::from_f64(0.0));
                self.device.read_at(&self.batch.activations[planned.input + 1], start, &mut values)?;
                if !values.iter().all(|value| value.to_f64().is_finite()) {
                    return Ok(Some(&planned.layer.spec.name));
                }
            }
        }
        Ok(None)
    }

    fn images_in(&self, images: &[D::Element]) -> Result<usize> {
        let image = self.architecture.image_len();
        let n = self.check_batch(images.len().div_ceil(image))?;
        equal("images", images.len(), n * image)?;
        Ok(n)
    }

    fn check_batch(&self, n: usize) -> Result<usize> {
        if n == 0 || n > self.max_batch {
            return Err(Error::Batch { found: n, planned: self.max_batch });
        }
        Ok(n)
    }

    fn check_labels(&self, labels: &[u32], n: usize) -> Result<()> {
        equal("labels", labels.len(), n)?;
        Ok(expect_labels(labels, self.architecture.classes)?)
    }
}

/// Whether the network's `argument` has the length `expected`.
fn equal(argument: &'static str, found: usize, expected: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(alexnet_ops::Error::Length { operator: "network", argument, found, expected }.into()),
    }
}
