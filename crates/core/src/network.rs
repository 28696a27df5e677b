//! The network on a device: memory laid out once for a batch size, then forward, backward, update.

use std::sync::Arc;

use crate::architecture::{Architecture, LayerKind, MemoryPlan, Operation, TracedLayer, gradients_in_use};
use crate::device::{Device, Element, Parameter};
use crate::init::initial_values;
use crate::random::Philox;
use crate::shape::LossShape;
use crate::{Error, Result, Sgd};
use alexnet_ops::{Error as OpsError, expect_labels};

mod average;
mod pass;
mod step;

use step::{Known, Work};

/// Loss and hits of one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchResult {
    /// Sum of the images' losses.
    pub loss: f64,
    /// Images whose largest logit was the label's.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

/// Where a micro-batch stands in the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroBatch {
    /// Generator of the run.
    pub philox: Philox,
    /// The optimiser's step, for the dropout masks.
    pub step: u32,
    /// Images of the same step that came before.
    pub first_image: usize,
    /// Images of the whole step, whose mean is the loss.
    pub step_images: usize,
    /// Label smoothing ε.
    pub smoothing: f64,
}

/// A part of a step, for [`Network::train_observed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A layer's forward pass, by its index in the architecture; a ReLU that is computed with the
    /// layer before it has none of its own.
    Forward(usize),
    /// Loss and its gradient.
    Loss,
    /// A layer's backward pass.
    Backward(usize),
}

impl MicroBatch {
    /// A step that is one batch.
    pub const fn whole(philox: Philox, step: u32, images: usize, smoothing: f64) -> Self {
        Self { philox, step, first_image: 0, step_images: images, smoothing }
    }
}

/// One layer, planned: which parameters and which activations it touches.
#[derive(Debug)]
struct Planned {
    layer: TracedLayer,
    /// Index in the architecture.
    index: u32,
    /// The layer's weight; its bias follows.
    weight: usize,
    /// The activation it reads, and writes if it works in place; otherwise it writes the next one.
    input: usize,
    /// Its positions, for max pooling; its statistics, for batch normalisation; the activation that an addition adds.
    place: usize,
    /// A ReLU follows and is computed with this layer.
    relu: bool,
    /// The gradient of its output is zero where the output is: because of its ReLU, or if it is a max pool because of
    /// the ReLU of what it pools. A window's gradient goes to its largest number, so that the fewer numbers after the pool
    /// tell the same.
    masks: bool,
}

/// A network on a device.
pub struct Network<D: Device> {
    // Before the device that they were recorded on, and the arrays.
    recordings: Vec<(Work, Known<D::Recording>)>,
    /// Whether steps are recorded and replayed.
    replays: bool,
    device: Arc<D>,
    architecture: Architecture,
    batch: usize,
    plan: MemoryPlan,
    layers: Vec<Planned>,
    parameters: Vec<Parameter<D::Buffer>>,
    /// Those that the backward pass has updated.
    updated: Vec<bool>,
    /// The input image, then the output of every layer that does not work in place.
    activations: Vec<D::Buffer>,
    argmax: Vec<D::Bytes>,
    /// What each batch norm's forward pass leaves for its backward pass.
    statistics: Vec<D::Buffer>,
    /// Two gradients of activations, used in turn, and a third if there is a shortcut; empty in a network for inference.
    gradients: Vec<D::Buffer>,
    labels: D::Labels,
    losses: D::Buffer,
    correct: D::Buffer,
    /// Sums over the steps of [`Network::step`].
    totals: D::Totals,
    /// Places in a data set on the device; empty until one is used.
    indices: Option<D::Labels>,
    /// The second labels and λ of batches that are mixed; empty until one is.
    second: Option<(D::Labels, D::Buffer)>,
    /// Whether what is loaded is mixed.
    mixed: bool,
    /// Images that are loaded.
    loaded: usize,
    host: Vec<D::Element>,
}

impl<D: Device> Network<D> {
    /// Plans and allocates for batches of up to `batch` images; without `training` there is no
    /// memory for gradients and [`Network::train`] fails.
    ///
    /// # Errors
    /// A layer without output, a layer that contradicts its input, too little memory.
    pub fn new(device: Arc<D>, architecture: Architecture, batch: usize, training: bool) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Batch { found: 0, planned: 1 });
        }
        let traced = architecture.trace()?;
        let mut plan = architecture.memory(batch, device.storage(), training)?;
        plan.workspace =
            device.prepare(&traced.iter().map(|layer| layer.operation(batch)).collect::<Vec<_>>(), training)?;

        let mut parameters = Vec::new();
        for spec in architecture.parameters()? {
            let zeros = || device.zeros(spec.len());
            let trained = training && !spec.statistic;
            let (gradient, momentum) = if trained { (Some(zeros()?), Some(zeros()?)) } else { (None, None) };
            let value = if spec.statistic { zeros()? } else { device.weights(spec.len())? };
            parameters.push(Parameter { name: spec.name, shape: spec.shape, value, gradient, momentum, average: None });
        }
        let image = architecture.image * architecture.image * architecture.channels;
        let mut activations = vec![device.activations(batch * image)?];
        let (mut argmax, mut statistics) = (Vec::new(), Vec::new());
        let mut layers: Vec<Planned> = Vec::new();
        let (mut weight, mut widest) = (0, 0);
        let held = if training { gradients_in_use(&traced) } else { 0 };
        let begins = |layer: &TracedLayer| match layer.spec.kind {
            LayerKind::Add { from } => Some(from),
            _ => None,
        };
        let shortcuts: Vec<usize> = traced.iter().filter_map(begins).collect();
        for (index, layer) in traced.into_iter().enumerate() {
            let input = activations.len() - 1;
            if let (Operation::Relu { .. }, Some(previous)) = (layer.operation(batch), layers.last_mut())
                && matches!(
                    previous.layer.operation(batch),
                    Operation::Conv(_) | Operation::Linear(_) | Operation::BatchNorm(_) | Operation::Add { .. }
                )
            {
                previous.relu = true;
                previous.masks = true;
                continue;
            }
            if !layer.in_place() {
                activations.push(device.activations(batch * layer.output.len())?);
                widest = widest.max(layer.output.len());
            }
            let place = match layer.spec.kind {
                LayerKind::MaxPool { .. } => argmax.len(),
                LayerKind::Add { from } => {
                    let first = layers.iter().find(|planned| planned.index as usize == from);
                    first.map_or_else(|| unreachable!("a shortcut goes around planned layers"), |first| first.input)
                }
                _ => statistics.len(),
            };
            let mut planned = Planned { index: index as u32, weight, input, place, relu: false, masks: false, layer };
            if planned.layer.is_maxpool() {
                // A shortcut around the pool brings a gradient that the pool does not see.
                if let Some(previous) = layers.last_mut().filter(|_| !shortcuts.contains(&index)) {
                    planned.masks = std::mem::take(&mut previous.masks);
                }
                argmax.push(device.bytes(batch * planned.layer.output.len())?);
            }
            if let Operation::BatchNorm(s) = planned.layer.operation(batch) {
                statistics.push(device.zeros(2 * s.channels)?);
            }
            weight += planned.layer.parameters().len();
            layers.push(planned);
        }
        let gradients = (0..held).map(|_| device.activations(batch * widest)).collect::<Result<_>>()?;
        let (labels, losses, correct) = (device.labels(batch)?, device.zeros(batch)?, device.zeros(batch)?);
        let (totals, host) = (device.totals()?, vec![D::Element::from_f64(0.0); batch]);
        Ok(Self {
            recordings: Vec::new(),
            replays: false,
            totals,
            indices: None,
            second: None,
            mixed: false,
            loaded: 0,
            device,
            architecture,
            batch,
            plan,
            layers,
            updated: vec![false; parameters.len()],
            parameters,
            activations,
            argmax,
            statistics,
            gradients,
            labels,
            losses,
            correct,
            host,
        })
    }

    /// The device it lives on.
    pub fn device(&self) -> &D {
        &self.device
    }
    /// The same, to make another network on it. Networks on one GPU take turns, see [`Cuda`](crate::Cuda).
    pub fn shared_device(&self) -> Arc<D> {
        self.device.clone()
    }
    /// The layers it was made from.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }
    /// The largest batch.
    pub fn batch(&self) -> usize {
        self.batch
    }
    /// The bytes it takes.
    pub fn memory_plan(&self) -> MemoryPlan {
        self.plan
    }
    /// Whether it was made for training.
    pub const fn trains(&self) -> bool {
        !self.gradients.is_empty()
    }
    /// The parameters in order.
    pub fn parameters(&self) -> &[Parameter<D::Buffer>] {
        &self.parameters
    }
    /// Takes the layers out of training for whose name `frozen` is true: they keep their parameters and need no
    /// gradients, and neither do the layers before the first that is trained. A frozen batch norm normalises by its
    /// running statistics, which stay as they are.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) {
        // They hold the addresses of what is given back here.
        self.recordings.clear();
        let element = size_of::<D::Element>() as u64;
        for parameter in &mut self.parameters {
            if frozen(parameter.layer()) && parameter.gradient.take().is_some() && parameter.momentum.take().is_some() {
                let bytes = parameter.len() as u64 * element;
                self.plan.gradients -= bytes;
                self.plan.momentum -= bytes;
            }
        }
    }
    /// The device and the parameters in order, to write them through [`Device::write`].
    pub fn device_and_parameters(&mut self) -> (&D, &mut [Parameter<D::Buffer>]) {
        // The caller may put other arrays into their places, and a recording holds addresses.
        self.recordings.clear();
        (&self.device, &mut self.parameters)
    }

    /// Sets the initial weights of this seed.
    ///
    /// # Errors
    /// The device's.
    pub fn initialise(&mut self, philox: Philox) -> Result<()> {
        for (index, spec) in self.architecture.parameters()?.iter().enumerate() {
            let values = initial_values(philox, index, spec);
            let values: Vec<D::Element> = values.into_iter().map(D::Element::from_f64).collect();
            self.device.write(&values, &mut self.parameters[index].value)?;
        }
        Ok(())
    }

    /// Forward and backward over one micro-batch: images (N, H, W, C), labels (N).
    ///
    /// The gradients are replaced by the first micro-batch of a step and added to by the others.
    ///
    /// # Errors
    /// A batch that does not fit, a label that is not a class, the device's.
    pub fn train(&mut self, images: &[D::Element], labels: &[u32], micro: &MicroBatch) -> Result<BatchResult> {
        self.train_observed(images, labels, micro, |_| ())
    }

    /// [`Network::train`], with a call of `observe` after each part, so that a caller can time the layers.
    ///
    /// # Errors
    /// As [`Network::train`].
    pub fn train_observed(
        &mut self,
        images: &[D::Element],
        labels: &[u32],
        micro: &MicroBatch,
        observe: impl FnMut(Part),
    ) -> Result<BatchResult> {
        self.load(images, labels)?;
        self.train_loaded(micro, None, observe)
    }

    /// The same over the micro-batch that was [loaded](Network::load) and perhaps [mixed](Network::mix). With a `rule` it
    /// updates the parameters too, where a device can in the same pass; unless the loss is not finite: then neither
    /// gradients nor parameters change.
    ///
    /// # Errors
    /// No batch was loaded; the device's.
    pub fn train_loaded(
        &mut self,
        micro: &MicroBatch,
        rule: Option<&Sgd>,
        mut observe: impl FnMut(Part),
    ) -> Result<BatchResult> {
        let n = self.loaded_images()?;
        self.for_training()?;
        self.forward(n, Some(micro), &mut observe)?;
        let classes = self.architecture.classes;
        let shape = LossShape { batch: n, classes, smoothing: micro.smoothing, divisor: micro.step_images };
        let result = self.loss(&shape, true)?;
        observe(Part::Loss);
        if rule.is_none() || result.loss.is_finite() {
            self.backward(n, micro, rule, &mut observe)?;
        }
        Ok(result)
    }

    /// One update of the parameters from the gradients that [`Network::train`] left.
    ///
    /// # Errors
    /// The device's.
    pub fn update(&mut self, rule: &Sgd) -> Result<()> {
        self.device.sgd(rule, &mut self.parameters)
    }

    /// Loss and hits without dropout; the logits can be read afterwards.
    ///
    /// # Errors
    /// A batch that does not fit, a label that is not a class, the device's.
    pub fn evaluate(&mut self, images: &[D::Element], labels: &[u32], smoothing: f64) -> Result<BatchResult> {
        self.load(images, labels)?;
        let n = self.loaded;
        self.forward(n, None, &mut |_| ())?;
        let classes = self.architecture.classes;
        self.loss(&LossShape { batch: n, classes, smoothing, divisor: n }, false)
    }

    /// The forward pass without dropout; the logits can be read afterwards.
    ///
    /// # Errors
    /// A batch that does not fit, the device's.
    pub fn predict(&mut self, images: &[D::Element]) -> Result<()> {
        let n = self.images_in(images)?;
        self.device.write(images, &mut self.activations[0])?;
        self.forward(n, None, &mut |_| ())
    }

    /// Copies the logits (N, classes) of the last forward pass.
    ///
    /// # Errors
    /// More logits asked for than the network holds; the device's.
    pub fn read_logits(&self, to: &mut [D::Element]) -> Result<()> {
        self.device.read(&self.activations[self.activations.len() - 1], to)
    }

    /// Copies the output (N, H, W, C) of a layer in the last forward pass, by the layer's index in the
    /// architecture. What a layer that works in place changed is seen in the layer before it too: a
    /// convolution with a ReLU after it gives the ReLU's output.
    ///
    /// # Errors
    /// No such layer; more asked for than the network holds; the device's.
    pub fn read_output(&self, layer: usize, to: &mut [D::Element]) -> Result<()> {
        let planned = self.layers.iter().rev().find(|planned| planned.index as usize <= layer);
        let buffer = planned
            .filter(|_| layer < self.architecture.layers.len())
            .map(|planned| &self.activations[planned.input + usize::from(!planned.layer.in_place())]);
        let Some(buffer) = buffer else {
            return Err(Error::Layer { layer: layer.to_string(), reason: "there is no such layer".into() });
        };
        self.device.read(buffer, to)
    }

    fn images_in(&self, images: &[D::Element]) -> Result<usize> {
        let image = self.architecture.image * self.architecture.image * self.architecture.channels;
        let n = images.len() / image;
        if n == 0 || n > self.batch || !images.len().is_multiple_of(image) {
            return Err(Error::Batch { found: n, planned: self.batch });
        }
        Ok(n)
    }

    fn for_training(&self) -> Result<()> {
        if self.trains() {
            return Ok(());
        }
        Err(Error::Device {
            device: self.device.name(),
            message: "the network was made for inference and has no memory for gradients".into(),
        })
    }

    fn check_labels(&self, labels: &[u32], n: usize) -> Result<()> {
        if labels.len() != n {
            let found = labels.len();
            return Err(OpsError::Length { operator: "network", argument: "labels", found, expected: n }.into());
        }
        Ok(expect_labels(labels, self.architecture.classes)?)
    }

    /// Runs the loss on the logits; with `gradient` leaves dL/dlogits in the first of the gradients.
    fn queue_loss(&mut self, shape: &LossShape, gradient: bool) -> Result<()> {
        let logits = &self.activations[self.activations.len() - 1];
        let dlogits = if gradient { self.gradients.first_mut() } else { None };
        let (losses, correct) = (&mut self.losses, &mut self.correct);
        let second = self.second.as_ref().filter(|_| self.mixed).map(|(labels, weight)| (labels, weight));
        self.device.softmax_cross_entropy(shape, logits, &self.labels, second, losses, correct, dlogits)
    }

    /// The same, and reads the sums.
    fn loss(&mut self, shape: &LossShape, gradient: bool) -> Result<BatchResult> {
        self.queue_loss(shape, gradient)?;
        let host = &mut self.host[..shape.batch];
        self.device.read(&self.losses, host)?;
        let loss = host.iter().map(|x| x.to_f64()).sum();
        self.device.read(&self.correct, host)?;
        let correct = host.iter().map(|x| x.to_f64()).sum::<f64>() as usize;
        Ok(BatchResult { loss, correct, images: shape.batch })
    }
}
