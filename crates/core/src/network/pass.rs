//! Through the layers and back: which operator a layer is, on which arrays.

use super::{MicroBatch, Network, Part, Planned};
use crate::architecture::{LayerKind, Operation};
use crate::device::{Device, Parameter};
use crate::random::purpose;
use crate::shape::DropoutShape;
use crate::{Result, Sgd};

impl<D: Device> Network<D> {
    pub(super) fn forward(
        &mut self,
        n: usize,
        micro: Option<&MicroBatch>,
        observe: &mut impl FnMut(Part),
    ) -> Result<()> {
        let device = &*self.device;
        for &Planned { ref layer, index, weight, input, place, relu, .. } in &self.layers {
            let (inputs, outputs) = self.activations.split_at_mut(input + 1);
            // An addition reads an earlier one beside it.
            let (before, own) = inputs.split_at_mut(input);
            let x = &mut own[0];
            let parameters = &mut self.parameters[weight..];
            match layer.operation(n) {
                Operation::Conv(s) => {
                    let [w, b] = weight_and_bias(parameters);
                    device.conv_forward(&s, x, w, b, relu, &mut outputs[0])?;
                }
                Operation::Linear(s) => {
                    let [w, b] = weight_and_bias(parameters);
                    device.linear_forward(&s, x, w, b, relu, &mut outputs[0])?;
                }
                Operation::Relu { len } => device.relu_forward(len, x)?,
                Operation::Add { len } => device.add(len, &before[place], relu, x)?,
                Operation::MaxPool(s) => device.maxpool_forward(&s, x, &mut outputs[0], &mut self.argmax[place])?,
                Operation::AvgPool(s) => device.avgpool_forward(&s, x, &mut outputs[0])?,
                Operation::Lrn(s) => device.lrn_forward(&s, x, &mut outputs[0])?,
                Operation::BatchNorm(s) => {
                    let [w, b, mean, variance] = batchnorm_parameters(parameters);
                    let (y, trained) = (&mut outputs[0], w.gradient.is_some());
                    let (w, b, mean, variance) = (&w.value, &b.value, &mut mean.value, &mut variance.value);
                    if micro.is_some() && trained {
                        let statistics = &mut self.statistics[place];
                        device.batchnorm_forward(&s, x, w, b, relu, [mean, variance], statistics, y)?;
                    } else {
                        device.batchnorm_inference(&s, x, w, b, mean, variance, relu, y)?;
                    }
                }
                Operation::Flatten(s) => device.flatten_forward(&s, x, &mut outputs[0])?,
                Operation::Dropout { rate } => {
                    if let Some(micro) = micro {
                        device.dropout(&dropout_shape(micro, index, rate, n, layer.output.len()), x)?;
                    }
                }
            }
            observe(Part::Forward(index as usize));
        }
        Ok(())
    }

    /// Leaves the gradients; with a `rule` updates the parameters by them.
    pub(super) fn backward(
        &mut self,
        n: usize,
        micro: &MicroBatch,
        rule: Option<&Sgd>,
        observe: &mut impl FnMut(Part),
    ) -> Result<()> {
        self.updated.fill(false);
        let device = &*self.device;
        let accumulate = micro.first_image > 0;
        let [dy, dx, others @ ..] = self.gradients.as_mut_slice() else { return Ok(()) };
        let (mut dy, mut dx) = (dy, dx);
        // A shortcut's gradient is that of its end, and joins the gradient of what its first layer takes in.
        let (mut spare, mut held, mut ends) = (others.first_mut(), None, None);
        let trained = |p: &Planned| {
            let own = p.layer.parameters().len();
            self.parameters[p.weight..p.weight + own].iter().any(|parameter| parameter.gradient.is_some())
        };
        let Some(lowest) = self.layers.iter().position(trained) else { return Ok(()) };
        for (position, &Planned { ref layer, index, weight, input, place, masks, .. }) in
            self.layers.iter().enumerate().skip(lowest).rev()
        {
            let x = &self.activations[input];
            if masks {
                let y = &self.activations[input + usize::from(!layer.in_place())];
                device.relu_backward(n * layer.output.len(), y, dy)?;
            }
            let first = position == lowest;
            match layer.operation(n) {
                Operation::Conv(s) => {
                    let (value, gradients) = weight_and_gradients(&mut self.parameters[weight..]);
                    match (gradients, first) {
                        (Some((dw, db)), false) => {
                            device.conv_backward(&s, x, value, dy, accumulate, dw, db, dx)?;
                        }
                        (Some((dw, db)), true) => device.conv_backward_weight(&s, x, dy, accumulate, dw, db)?,
                        (None, false) => device.conv_backward_data(&s, dy, value, dx)?,
                        (None, true) => {}
                    }
                }
                Operation::Linear(s) => {
                    // Before the weights change.
                    if !first {
                        device.linear_backward_data(&s, dy, &self.parameters[weight].value, dx)?;
                    }
                    if let (Some(rule), false) = (rule, accumulate)
                        && let [w, b, ..] = &mut self.parameters[weight..]
                        && let (Some(_), Some(db)) = (&w.gradient, &mut b.gradient)
                    {
                        self.updated[weight] = device.linear_backward_update(&s, x, dy, rule, w, db)?;
                    }
                    if !self.updated[weight]
                        && let (_, Some((dw, db))) = weight_and_gradients(&mut self.parameters[weight..])
                    {
                        device.linear_backward_weight(&s, x, dy, accumulate, dw, db)?;
                    }
                }
                Operation::MaxPool(s) => device.maxpool_backward(&s, dy, &self.argmax[place], dx)?,
                Operation::AvgPool(s) => device.avgpool_backward(&s, dy, dx)?,
                Operation::Lrn(s) => device.lrn_backward(&s, x, dy, dx)?,
                Operation::BatchNorm(s) => {
                    let [w, b, _, variance] = batchnorm_parameters(&mut self.parameters[weight..]);
                    if let Some((dw, db)) = w.gradient.as_mut().zip(b.gradient.as_mut()) {
                        let statistics = &self.statistics[place];
                        device.batchnorm_backward(&s, x, dy, &w.value, statistics, accumulate, dw, db, dx)?;
                    } else {
                        device.batchnorm_inference_backward(&s, dy, &w.value, &variance.value, dx)?;
                    }
                }
                Operation::Flatten(s) => device.flatten_backward(&s, dy, dx)?,
                // The layers in place leave their gradient in dy. After dropout x is zero where an
                // element was dropped, so that a ReLU before it masks by the same array.
                Operation::Relu { len } => device.relu_backward(len, x, dy)?,
                Operation::Add { .. } => {
                    if let LayerKind::Add { from } = layer.spec.kind {
                        ends = Some(from);
                    }
                }
                Operation::Dropout { rate } => {
                    device.dropout(&dropout_shape(micro, index, rate, n, layer.output.len()), dy)?;
                }
            }
            if !layer.in_place() {
                std::mem::swap(&mut dy, &mut dx);
                // This one stands before an addition, whose gradient it has read and left where it is.
                if let Some(from) = ends.take()
                    && let Some(free) = spare.take()
                {
                    held = Some((from, std::mem::replace(&mut dx, free)));
                }
                if let Some((_, gradient)) = held.take_if(|(from, _)| *from == index as usize && !first) {
                    device.add(n * layer.input.len(), gradient, false, dy)?;
                    spare = Some(gradient);
                }
            }
            observe(Part::Backward(index as usize));
        }
        rule.map_or(Ok(()), |rule| self.update_rest(rule))
    }

    /// Updates the parameters that the layers have not updated themselves.
    fn update_rest(&mut self, rule: &Sgd) -> Result<()> {
        let mut start = 0;
        while start < self.parameters.len() {
            let end = (start..self.parameters.len()).find(|&i| self.updated[i]).unwrap_or(self.parameters.len());
            if start < end {
                self.device.sgd(rule, &mut self.parameters[start..end])?;
            }
            start = end + 1;
        }
        Ok(())
    }
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
fn batchnorm_parameters<B>(parameters: &mut [Parameter<B>]) -> &mut [Parameter<B>; 4] {
    match parameters.first_chunk_mut() {
        Some(own) => own,
        None => unreachable!("a batch norm has four parameters"),
    }
}

/// The mask of a layer for one micro-batch of `n` images of `len` elements.
fn dropout_shape(micro: &MicroBatch, layer: u32, rate: f64, n: usize, len: usize) -> DropoutShape {
    DropoutShape {
        len: n * len,
        rate,
        philox: micro.philox,
        purpose: purpose::dropout(layer),
        step: micro.step,
        offset: (micro.first_image * len) as u64,
    }
}
