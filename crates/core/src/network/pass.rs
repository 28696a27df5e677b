//! Forward and backward through the layers: which operator each layer is, on which arrays.

use std::ops::Range;

use super::plan::{Auxiliary, DropoutLayer, PlannedLayer};
use super::{MicroBatch, Network, Phase};
use crate::architecture::{Operation, TracedLayer};
use crate::arguments::{
    Add, AvgPoolBackward, AvgPoolForward, BatchNormBackward, BatchNormForward, BatchNormInference,
    BatchNormInferenceBackward, ConvBackward, ConvBackwardData, ConvBackwardWeight, ConvForward, Dropout,
    FlattenBackward, FlattenForward, LinearBackwardData, LinearBackwardWeight, LinearForward, LrnBackward, LrnForward,
    MaxPoolBackward, MaxPoolForward, ReluBackward, ReluForward,
};
use crate::device::{Device, LinearBackwardUpdate, Parameter, Updates};
use crate::random::purpose;
use crate::shape::{BatchNormShape, DropoutShape};
use crate::{Result, Sgd};

/// Called after each phase of a step.
pub(super) type Profiler<'a> = dyn FnMut(Phase) -> Result<()> + 'a;

impl<D: Device> Network<D> {
    /// The forward pass over `n` images; with a micro-batch as in training: dropout, and batch norms that are trained
    /// normalise by the batch's statistics.
    pub(super) fn forward(&mut self, n: usize, micro: Option<&MicroBatch>, profiler: &mut Profiler<'_>) -> Result<()> {
        self.forward_layers(0..self.layers.len(), n, micro, profiler)
    }

    /// The same through some of the layers, by their positions.
    pub(super) fn forward_layers(
        &mut self,
        positions: Range<usize>,
        n: usize,
        micro: Option<&MicroBatch>,
        profiler: &mut Profiler<'_>,
    ) -> Result<()> {
        let device = &*self.device;
        for planned in self.layers[positions].iter().filter(|planned| !planned.fused[0]) {
            let &PlannedLayer { ref layer, index, weight, input, auxiliary, relu, .. } = planned;
            let (inputs, outputs) = self.batch.activations.split_at_mut(input + 1);
            // An addition reads an earlier activation besides.
            let (before, own) = inputs.split_at_mut(input);
            let x = &mut own[0];
            let parameters = &mut self.parameters[weight..];
            match (layer.operation(n), auxiliary) {
                (Operation::Conv(s), _) => {
                    let [w, b] = weight_and_bias(parameters);
                    device.conv_forward(ConvForward { shape: &s, x, w, b, relu, y: &mut outputs[0] })?;
                }
                (Operation::Linear(s), _) => {
                    let [w, b] = weight_and_bias(parameters);
                    let len = layer.output.len();
                    let dropout = micro.zip(planned.drops_output).map(|(micro, d)| dropout_shape(micro, d, n, len));
                    let (dropout, y) = (dropout.as_ref(), &mut outputs[0]);
                    device.linear_forward(LinearForward { shape: &s, x, w, b, relu, dropout, y })?;
                }
                (Operation::Relu { len }, _) => device.relu_forward(ReluForward { len, x })?,
                (Operation::Add { len }, Auxiliary::Shortcut(from)) => {
                    device.add(Add { len, x: &before[from], relu, y: x })?
                }
                (Operation::MaxPool(s), Auxiliary::Argmax(i)) => {
                    device.maxpool_forward(MaxPoolForward {
                        shape: &s,
                        x,
                        y: &mut outputs[0],
                        argmax: &mut self.batch.argmax[i],
                    })?;
                }
                (Operation::AvgPool(s), _) => {
                    device.avgpool_forward(AvgPoolForward { shape: &s, x, y: &mut outputs[0] })?
                }
                (Operation::Lrn(s), _) => device.lrn_forward(LrnForward { shape: &s, x, y: &mut outputs[0] })?,
                (Operation::BatchNorm(s), Auxiliary::Statistics(i)) => {
                    let [w, b, mean, variance] = batchnorm_parameters(parameters);
                    let (y, trained) = (&mut outputs[0], w.gradient.is_some());
                    let (w, b, mean, variance) = (&w.value, &b.value, &mut mean.value, &mut variance.value);
                    if let (Some(micro), true) = (micro, trained) {
                        let statistics = &mut self.statistics[i];
                        // With several shards the running statistics follow when the step is complete.
                        let (momentum, mean, variance) = match &mut self.sharding {
                            Some(sharding) => {
                                let [mean, variance] = &mut sharding.moments[micro.slot.number][i];
                                (1.0, mean, variance)
                            }
                            None => (s.momentum, mean, variance),
                        };
                        device.batchnorm_forward(BatchNormForward {
                            shape: &BatchNormShape { momentum, ..s },
                            x,
                            w,
                            b,
                            relu,
                            running_mean: mean,
                            running_variance: variance,
                            statistics,
                            y,
                        })?;
                    } else {
                        device.batchnorm_inference(BatchNormInference {
                            shape: &s,
                            x,
                            w,
                            b,
                            mean,
                            variance,
                            relu,
                            y,
                        })?;
                    }
                }
                (Operation::Flatten(s), _) => {
                    device.flatten_forward(FlattenForward { shape: &s, x, y: &mut outputs[0] })?
                }
                (Operation::Dropout { rate }, _) => {
                    if let Some(micro) = micro {
                        let shape = dropout_shape(micro, DropoutLayer { index, rate }, n, layer.output.len());
                        device.dropout(Dropout { shape: &shape, x })?;
                    }
                }
                (Operation::Add { .. } | Operation::MaxPool(_) | Operation::BatchNorm(_), _) => unplanned(),
            }
            profiler(Phase::Forward(index as usize))?;
        }
        Ok(())
    }

    /// Leaves the gradients; with an optimizer updates the parameters by them, where the device can without storing them.
    pub(super) fn backward(
        &mut self,
        n: usize,
        micro: &MicroBatch,
        optimizer: Option<&Sgd>,
        profiler: &mut Profiler<'_>,
    ) -> Result<()> {
        self.handled.fill(Handled::Stored);
        let Some(lowest) = self.lowest_trained() else { return Ok(()) };
        let linear = self.layers.iter().position(|planned| planned.layer.is_linear()).unwrap_or(self.layers.len());
        let (early, split) = (self.early_parameters(), lowest.max(linear));
        let (last, first) = self.parameters.split_at_mut(early);
        let (layers, activations, argmax, statistics) =
            (&self.layers, &self.batch.activations, &self.batch.argmax, &self.statistics);
        let (device, handled) = (&*self.device, &mut self.handled);
        let mut pass =
            Backward { device, n, micro, optimizer, handled, layers, lowest, activations, argmax, statistics };
        let (gradients, job) = (&mut self.batch.gradients, self.sharding.as_mut());
        pass.layers(split..layers.len(), (early, first), gradients, profiler)?;
        let mut rest = || pass.layers(lowest..split, (0, last), gradients, profiler);
        match job.and_then(|sharding| Some((sharding.shards, sharding.job.as_mut()?))) {
            Some((shards, job)) if micro.slot.complete && job.sends_early(&shards) => {
                let present = |rank| shards.computes(rank, micro.step_images);
                job.send(device, &present, early..early + first.len(), first, &mut rest)?;
            }
            _ => rest()?,
        }
        let Some(optimizer) = optimizer else { return Ok(()) };
        self.update_parameters(n, optimizer)?;
        profiler(Phase::Update)
    }

    /// The position of the lowest layer that is trained: those below it need no gradients. None in a network for inference.
    pub(super) fn lowest_trained(&self) -> Option<usize> {
        let trained = |p: &PlannedLayer| {
            self.parameters[p.weight..p.weight + p.parameters].iter().any(|parameter| parameter.gradient.is_some())
        };
        self.layers.iter().position(trained).filter(|_| self.trains())
    }

    /// The backward pass through some of the layers, by their positions; leaves the gradients.
    pub(super) fn backward_layers(&mut self, positions: Range<usize>, n: usize, micro: &MicroBatch) -> Result<()> {
        let Some(lowest) = self.lowest_trained() else { return Ok(()) };
        let (layers, activations, argmax, statistics) =
            (&self.layers, &self.batch.activations, &self.batch.argmax, &self.statistics);
        let (device, handled, optimizer) = (&*self.device, &mut self.handled, None);
        let mut pass =
            Backward { device, n, micro, optimizer, handled, layers, lowest, activations, argmax, statistics };
        pass.layers(positions, (0, &mut self.parameters), &mut self.batch.gradients, &mut |_| Ok(()))
    }

    /// Updates the parameters that the backward pass has not updated.
    pub(super) fn update_parameters(&mut self, n: usize, optimizer: &Sgd) -> Result<()> {
        let (device, handled, parameters) = (&*self.device, &self.handled, &mut self.parameters);
        let (activations, gradients) = (&self.batch.activations, &self.batch.gradients);
        let deferred = self.layers.iter().filter(|planned| {
            D::UPDATES == Updates::AfterPass
                && planned.layer.is_linear()
                && handled[planned.weight] == Handled::NotStored
        });
        {
            let operands = deferred.clone().flat_map(|planned| {
                let TracedLayer { input, output, .. } = &planned.layer;
                [(&activations[planned.input], n * input.len()), (&gradients[planned.dy], n * output.len())]
            });
            let untested = parameters.iter().zip(handled).filter(|(_, handled)| **handled == Handled::Stored);
            let gradients = untested.filter_map(|(parameter, _)| parameter.gradient.as_ref());
            device.begin_update(&mut { operands }, &mut { gradients })?;
        }
        // Before the large weights, while the gradients are in the cache.
        let rest = parameters.iter_mut().zip(handled).filter(|(_, handled)| **handled != Handled::NotStored);
        device.sgd(optimizer, &mut rest.map(|(parameter, _)| parameter))?;
        for planned in deferred {
            let (Operation::Linear(shape), [weight, bias, ..]) =
                (planned.layer.operation(n), &mut parameters[planned.weight..])
            else {
                unplanned()
            };
            let (x, dy) = (&activations[planned.input], &gradients[planned.dy]);
            device.linear_backward_update(LinearBackwardUpdate {
                shape: &shape,
                x,
                dy,
                sgd: optimizer,
                weight,
                bias,
            })?;
        }
        device.end_update()
    }
}

/// Adds the gradient of a shortcut that begins at this layer to its dx.
pub(super) fn join_shortcut<D: Device>(
    device: &D,
    planned: &PlannedLayer,
    n: usize,
    gradients: &mut [D::Buffer],
) -> Result<()> {
    let Some(shortcut) = planned.joins else { return Ok(()) };
    let [x, y] = two(gradients, [shortcut, planned.dx]);
    device.add(Add { len: n * planned.layer.input.len(), x, relu: false, y })
}

/// Two different elements.
pub(super) fn two<B>(arrays: &mut [B], indices: [usize; 2]) -> [&mut B; 2] {
    arrays.get_disjoint_mut(indices).unwrap_or_else(|_| unplanned())
}

/// What a backward pass has done with the gradient of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// Stored it, if the parameter is trained.
    Stored,
    /// Stored it; a device that scales the loss has tested it.
    Tested,
    /// Not stored it: the parameter is updated where it is computed.
    NotStored,
}

/// What the backward pass of every layer needs.
struct Backward<'a, D: Device> {
    device: &'a D,
    n: usize,
    micro: &'a MicroBatch,
    optimizer: Option<&'a Sgd>,
    handled: &'a mut [Handled],
    layers: &'a [PlannedLayer],
    /// The lowest layer that is trained.
    lowest: usize,
    activations: &'a [D::Buffer],
    argmax: &'a [D::Bytes],
    statistics: &'a [D::Buffer],
}

impl<D: Device> Backward<'_, D> {
    /// Some of the layers, the last first. `parameters` are those from a number on; `gradients` are those of activations.
    fn layers(
        &mut self,
        which: Range<usize>,
        (number, parameters): (usize, &mut [Parameter<D::Buffer>]),
        gradients: &mut [D::Buffer],
        profiler: &mut Profiler<'_>,
    ) -> Result<()> {
        let layers = self.layers;
        for position in which.rev().filter(|&position| !layers[position].fused[1]) {
            let (planned, last) = (&layers[position], position == self.lowest);
            let [dy, dx] = two(gradients, [planned.dy, planned.dx]);
            self.layer(planned, &mut parameters[planned.weight - number..], last, dy, dx)?;
            if !last {
                join_shortcut(self.device, planned, self.n, gradients)?;
            }
            profiler(Phase::Backward(planned.index as usize))?;
        }
        Ok(())
    }

    /// dx from dy, unless the layer is the `last` of the pass, whose dx nobody needs; the gradients of its `parameters`, the first
    /// ones.
    fn layer(
        &mut self,
        planned: &PlannedLayer,
        parameters: &mut [Parameter<D::Buffer>],
        last: bool,
        dy: &mut D::Buffer,
        dx: &mut D::Buffer,
    ) -> Result<()> {
        let &PlannedLayer { ref layer, index, weight, input, auxiliary, masks_input, .. } = planned;
        let (device, n, accumulate) = (self.device, self.n, self.micro.slot.accumulate);
        let x = &self.activations[input];
        let output = planned.masks.then(|| &self.activations[input + usize::from(!layer.in_place())]);
        let mask = masks_input.then_some(x);
        let operation = layer.operation(n);
        if let (Some(y), false) = (output, matches!(operation, Operation::MaxPool(_))) {
            device.relu_backward(ReluBackward { len: n * layer.output.len(), y, dy })?;
        }
        match (operation, auxiliary) {
            (Operation::Conv(s), _) => {
                let (w, gradients) = weight_and_gradients(parameters);
                // Only where an update follows, which forgets what was found.
                let test = self.optimizer.is_some() && !accumulate && gradients.is_some();
                if test {
                    self.handled[weight..weight + 2].fill(Handled::Tested);
                }
                match (gradients, last) {
                    (Some((dw, db)), false) => {
                        let masks = masks_input;
                        device.conv_backward(ConvBackward { shape: &s, accumulate, test, masks, x, w, dy, dw, db, dx })
                    }
                    (Some((dw, db)), true) => {
                        device.conv_backward_weight(ConvBackwardWeight { shape: &s, accumulate, test, x, dy, dw, db })
                    }
                    (None, false) => device.conv_backward_data(ConvBackwardData { shape: &s, dy, w, mask, dx }),
                    (None, true) => Ok(()),
                }
            }
            (Operation::Linear(s), _) => {
                let len = layer.input.len();
                let dropout = planned.drops_input.map(|dropout| dropout_shape(self.micro, dropout, n, len));
                let mut data = |w: &D::Buffer| match last {
                    false => {
                        let dropout = dropout.as_ref();
                        device.linear_backward_data(LinearBackwardData { shape: &s, dropout, dy, w, mask, dx })
                    }
                    true => Ok(()),
                };
                if D::UPDATES != Updates::Never
                    && let (Some(sgd), false) = (self.optimizer, accumulate)
                    && let [w, bias, ..] = &mut *parameters
                    && w.gradient.is_some()
                    && bias.gradient.is_some()
                {
                    // Before the weights change.
                    data(&w.value)?;
                    self.handled[weight..weight + 2].fill(Handled::NotStored);
                    if D::UPDATES == Updates::AfterPass {
                        return Ok(());
                    }
                    return device.linear_backward_update(LinearBackwardUpdate {
                        shape: &s,
                        x,
                        dy,
                        sgd,
                        weight: w,
                        bias,
                    });
                }
                let (w, gradients) = weight_and_gradients(parameters);
                let Some((dw, db)) = gradients else { return data(w) };
                device.side_by_side(&mut || data(w), &mut || {
                    device.linear_backward_weight(LinearBackwardWeight { shape: &s, x, dy, accumulate, dw, db })
                })
            }
            (Operation::MaxPool(s), Auxiliary::Argmax(i)) => {
                device.maxpool_backward(MaxPoolBackward { shape: &s, dy, argmax: &self.argmax[i], mask: output, dx })
            }
            (Operation::AvgPool(s), _) => device.avgpool_backward(AvgPoolBackward { shape: &s, dy, dx }),
            (Operation::Lrn(s), _) => device.lrn_backward(LrnBackward { shape: &s, x, dy, dx }),
            (Operation::BatchNorm(s), Auxiliary::Statistics(i)) => {
                let [w, b, _, variance] = batchnorm_parameters(parameters);
                match w.gradient.as_mut().zip(b.gradient.as_mut()) {
                    Some((dw, db)) => device.batchnorm_backward(BatchNormBackward {
                        shape: &s,
                        x,
                        dy,
                        w: &w.value,
                        statistics: &self.statistics[i],
                        accumulate,
                        dw,
                        db,
                        dx,
                    }),
                    None => device.batchnorm_inference_backward(BatchNormInferenceBackward {
                        shape: &s,
                        dy,
                        w: &w.value,
                        variance: &variance.value,
                        dx,
                    }),
                }
            }
            (Operation::Flatten(s), _) => device.flatten_backward(FlattenBackward { shape: &s, dy, dx }),
            // Layers in place leave their gradient in dy. After dropout x is zero where an element was dropped, so that a
            // ReLU before it masks by the same array.
            (Operation::Relu { len }, _) => device.relu_backward(ReluBackward { len, y: x, dy }),
            (Operation::Add { .. }, _) => Ok(()),
            (Operation::Dropout { rate }, _) => {
                let shape = dropout_shape(self.micro, DropoutLayer { index, rate }, n, layer.output.len());
                device.dropout(Dropout { shape: &shape, x: dy })
            }
            (Operation::MaxPool(_) | Operation::BatchNorm(_), _) => unplanned(),
        }
    }
}

pub(super) fn unplanned() -> ! {
    unreachable!("`Plan` gives every layer its auxiliary array")
}

/// The weight and the bias of a layer.
fn weight_and_bias<B>(parameters: &[Parameter<B>]) -> [&B; 2] {
    let [weight, bias, ..] = parameters else { unreachable!("a layer with a weight has a bias after it") };
    [&weight.value, &bias.value]
}

/// The weight of a layer, and the gradients of its weight and bias if it is trained.
fn weight_and_gradients<B>(parameters: &mut [Parameter<B>]) -> (&B, Option<(&mut B, &mut B)>) {
    let [weight, bias, ..] = parameters else { unreachable!("a layer with a weight has a bias after it") };
    (&weight.value, weight.gradient.as_mut().zip(bias.gradient.as_mut()))
}

/// Weight, bias, running mean and running variance of a batch norm.
pub(super) fn batchnorm_parameters<B>(parameters: &mut [Parameter<B>]) -> &mut [Parameter<B>; 4] {
    match parameters.first_chunk_mut() {
        Some(own) => own,
        None => unreachable!("a batch norm has four parameters"),
    }
}

/// The mask of a layer for one micro-batch of `n` images of `len` elements.
fn dropout_shape(micro: &MicroBatch, layer: DropoutLayer, n: usize, len: usize) -> DropoutShape {
    let DropoutLayer { index, rate } = layer;
    DropoutShape {
        len: n * len,
        rate,
        philox: micro.philox,
        purpose: purpose::dropout(index),
        step: micro.step,
        offset: (micro.first_image * len) as u64,
    }
}
