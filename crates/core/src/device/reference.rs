//! The reference as a device: the definition of every operator, for gradient checks in f64.

use super::{Device, Element, Parameter};
use crate::shape::Operation;
use crate::shape::{
    AvgPoolShape, BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape, LrnShape,
    MaxPoolShape, MixShape,
};
use crate::{Result, Sgd, reference};
use alexnet_ops::{expect_labels, front, front_mut};
use std::convert::Infallible;

/// Naive loops over `T`, one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference<T>(std::marker::PhantomData<T>);

impl<T> Reference<T> {
    /// The device.
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Element> Device for Reference<T> {
    type Element = T;
    type Buffer = Vec<T>;
    type Bytes = Vec<u8>;
    type Labels = Vec<u32>;
    type Totals = [f64; 2];
    type Recording = Infallible;

    fn name(&self) -> String {
        format!("reference ({})", std::any::type_name::<T>())
    }

    fn zeros(&self, len: usize) -> Result<Vec<T>> {
        Ok(vec![T::zero(); len])
    }
    fn bytes(&self, len: usize) -> Result<Vec<u8>> {
        Ok(vec![0; len])
    }
    fn labels(&self, len: usize) -> Result<Vec<u32>> {
        Ok(vec![0; len])
    }
    fn write(&self, from: &[T], to: &mut Vec<T>) -> Result<()> {
        front_mut("write", "to", to, from.len())?.copy_from_slice(from);
        Ok(())
    }
    fn read(&self, from: &Vec<T>, to: &mut [T]) -> Result<()> {
        to.copy_from_slice(front("read", "from", from, to.len())?);
        Ok(())
    }
    fn write_labels(&self, from: &[u32], to: &mut Vec<u32>) -> Result<()> {
        front_mut("write_labels", "to", to, from.len())?.copy_from_slice(from);
        Ok(())
    }
    fn totals(&self) -> Result<[f64; 2]> {
        Ok([0.0; 2])
    }
    fn write_totals(&self, from: [f64; 2], to: &mut [f64; 2]) -> Result<()> {
        *to = from;
        Ok(())
    }
    fn read_totals(&self, from: &[f64; 2]) -> Result<[f64; 2]> {
        Ok(*from)
    }
    fn add_totals(&self, len: usize, losses: &Vec<T>, correct: &Vec<T>, totals: &mut [f64; 2]) -> Result<()> {
        for (total, values) in totals
            .iter_mut()
            .zip([front("add_totals", "losses", losses, len)?, front("add_totals", "correct", correct, len)?])
        {
            *total += values.iter().map(|&x| Element::to_f64(x)).sum::<f64>();
        }
        Ok(())
    }

    fn prepare(&self, _: &[Operation], _: bool) -> Result<u64> {
        Ok(0)
    }

    fn conv_forward(
        &self,
        s: &ConvShape,
        x: &Vec<T>,
        w: &Vec<T>,
        b: &Vec<T>,
        relu: bool,
        y: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "conv_forward";
        let (x, w) = (front(NAME, "x", x, s.input_len())?, front(NAME, "w", w, s.weight_len())?);
        let (b, y) = (front(NAME, "b", b, s.filters)?, front_mut(NAME, "y", y, s.output_len())?);
        reference::conv_forward(s, x, w, b, relu, y);
        Ok(())
    }
    fn conv_backward_data(&self, s: &ConvShape, dy: &Vec<T>, w: &Vec<T>, dx: &mut Vec<T>) -> Result<()> {
        const NAME: &str = "conv_backward_data";
        let (dy, w) = (front(NAME, "dy", dy, s.output_len())?, front(NAME, "w", w, s.weight_len())?);
        reference::conv_backward_data(s, dy, w, front_mut(NAME, "dx", dx, s.input_len())?);
        Ok(())
    }
    fn conv_backward_weight(
        &self,
        s: &ConvShape,
        x: &Vec<T>,
        dy: &Vec<T>,
        accumulate: bool,
        dw: &mut Vec<T>,
        db: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "conv_backward_weight";
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let (dw, db) = (front_mut(NAME, "dw", dw, s.weight_len())?, front_mut(NAME, "db", db, s.filters)?);
        reference::conv_backward_weight(s, x, dy, accumulate, dw, db);
        Ok(())
    }

    fn relu_forward(&self, len: usize, x: &mut Vec<T>) -> Result<()> {
        reference::relu_forward(front_mut("relu_forward", "x", x, len)?);
        Ok(())
    }
    fn relu_backward(&self, len: usize, y: &Vec<T>, dy: &mut Vec<T>) -> Result<()> {
        let y = front("relu_backward", "y", y, len)?;
        reference::relu_backward(y, front_mut("relu_backward", "dy", dy, len)?);
        Ok(())
    }

    fn add(&self, len: usize, x: &Vec<T>, relu: bool, y: &mut Vec<T>) -> Result<()> {
        reference::add(front("add", "x", x, len)?, relu, front_mut("add", "y", y, len)?);
        Ok(())
    }

    fn maxpool_forward(&self, s: &MaxPoolShape, x: &Vec<T>, y: &mut Vec<T>, argmax: &mut Vec<u8>) -> Result<()> {
        const NAME: &str = "maxpool_forward";
        let (x, len) = (front(NAME, "x", x, s.input_len())?, s.output_len());
        reference::maxpool_forward(s, x, front_mut(NAME, "y", y, len)?, front_mut(NAME, "argmax", argmax, len)?);
        Ok(())
    }
    fn maxpool_backward(&self, s: &MaxPoolShape, dy: &Vec<T>, argmax: &Vec<u8>, dx: &mut Vec<T>) -> Result<()> {
        const NAME: &str = "maxpool_backward";
        let (dy, argmax) = (front(NAME, "dy", dy, s.output_len())?, front(NAME, "argmax", argmax, s.output_len())?);
        reference::maxpool_backward(s, dy, argmax, front_mut(NAME, "dx", dx, s.input_len())?);
        Ok(())
    }

    fn avgpool_forward(&self, s: &AvgPoolShape, x: &Vec<T>, y: &mut Vec<T>) -> Result<()> {
        let x = front("avgpool_forward", "x", x, s.input_len())?;
        reference::avgpool_forward(s, x, front_mut("avgpool_forward", "y", y, s.output_len())?);
        Ok(())
    }
    fn avgpool_backward(&self, s: &AvgPoolShape, dy: &Vec<T>, dx: &mut Vec<T>) -> Result<()> {
        let dy = front("avgpool_backward", "dy", dy, s.output_len())?;
        reference::avgpool_backward(s, dy, front_mut("avgpool_backward", "dx", dx, s.input_len())?);
        Ok(())
    }

    fn lrn_forward(&self, s: &LrnShape, x: &Vec<T>, y: &mut Vec<T>) -> Result<()> {
        let x = front("lrn_forward", "x", x, s.len())?;
        reference::lrn_forward(s, x, front_mut("lrn_forward", "y", y, s.len())?);
        Ok(())
    }
    fn lrn_backward(&self, s: &LrnShape, x: &Vec<T>, dy: &Vec<T>, dx: &mut Vec<T>) -> Result<()> {
        const NAME: &str = "lrn_backward";
        let (x, dy) = (front(NAME, "x", x, s.len())?, front(NAME, "dy", dy, s.len())?);
        reference::lrn_backward(s, x, dy, front_mut(NAME, "dx", dx, s.len())?);
        Ok(())
    }

    fn batchnorm_forward(
        &self,
        s: &BatchNormShape,
        x: &Vec<T>,
        w: &Vec<T>,
        b: &Vec<T>,
        relu: bool,
        [mean, variance]: [&mut Vec<T>; 2],
        statistics: &mut Vec<T>,
        y: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_forward";
        let (x, y) = (front(NAME, "x", x, s.len())?, front_mut(NAME, "y", y, s.len())?);
        let (w, b) = (front(NAME, "w", w, s.channels)?, front(NAME, "b", b, s.channels)?);
        let mean = front_mut(NAME, "running mean", mean, s.channels)?;
        let variance = front_mut(NAME, "running variance", variance, s.channels)?;
        let statistics = front_mut(NAME, "statistics", statistics, 2 * s.channels)?;
        reference::batchnorm_forward(s, x, w, b, relu, [mean, variance], statistics, y);
        Ok(())
    }
    fn batchnorm_backward(
        &self,
        s: &BatchNormShape,
        x: &Vec<T>,
        dy: &Vec<T>,
        w: &Vec<T>,
        statistics: &Vec<T>,
        accumulate: bool,
        dw: &mut Vec<T>,
        db: &mut Vec<T>,
        dx: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_backward";
        let (x, dy) = (front(NAME, "x", x, s.len())?, front(NAME, "dy", dy, s.len())?);
        let w = front(NAME, "w", w, s.channels)?;
        let statistics = front(NAME, "statistics", statistics, 2 * s.channels)?;
        let (dw, db) = (front_mut(NAME, "dw", dw, s.channels)?, front_mut(NAME, "db", db, s.channels)?);
        let dx = front_mut(NAME, "dx", dx, s.len())?;
        reference::batchnorm_backward(s, x, dy, w, statistics, accumulate, dw, db, dx);
        Ok(())
    }
    fn batchnorm_inference(
        &self,
        s: &BatchNormShape,
        x: &Vec<T>,
        w: &Vec<T>,
        b: &Vec<T>,
        mean: &Vec<T>,
        variance: &Vec<T>,
        relu: bool,
        y: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_inference";
        let (x, y) = (front(NAME, "x", x, s.len())?, front_mut(NAME, "y", y, s.len())?);
        let (w, b) = (front(NAME, "w", w, s.channels)?, front(NAME, "b", b, s.channels)?);
        let (mean, variance) = (front(NAME, "mean", mean, s.channels)?, front(NAME, "variance", variance, s.channels)?);
        reference::batchnorm_inference(s, x, w, b, mean, variance, relu, y);
        Ok(())
    }
    fn batchnorm_inference_backward(
        &self,
        s: &BatchNormShape,
        dy: &Vec<T>,
        w: &Vec<T>,
        variance: &Vec<T>,
        dx: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_inference_backward";
        let (dy, dx) = (front(NAME, "dy", dy, s.len())?, front_mut(NAME, "dx", dx, s.len())?);
        let (w, variance) = (front(NAME, "w", w, s.channels)?, front(NAME, "variance", variance, s.channels)?);
        reference::batchnorm_inference_backward(s, dy, w, variance, dx);
        Ok(())
    }

    fn dropout(&self, s: &DropoutShape, x: &mut Vec<T>) -> Result<()> {
        reference::dropout(s, front_mut("dropout", "x", x, s.len)?);
        Ok(())
    }

    fn flatten_forward(&self, s: &FlattenShape, x: &Vec<T>, y: &mut Vec<T>) -> Result<()> {
        let x = front("flatten_forward", "x", x, s.len())?;
        reference::flatten_forward(s, x, front_mut("flatten_forward", "y", y, s.len())?);
        Ok(())
    }
    fn flatten_backward(&self, s: &FlattenShape, dy: &Vec<T>, dx: &mut Vec<T>) -> Result<()> {
        let dy = front("flatten_backward", "dy", dy, s.len())?;
        reference::flatten_backward(s, dy, front_mut("flatten_backward", "dx", dx, s.len())?);
        Ok(())
    }

    fn linear_forward(
        &self,
        s: &LinearShape,
        x: &Vec<T>,
        w: &Vec<T>,
        b: &Vec<T>,
        relu: bool,
        y: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "linear_forward";
        let (x, w) = (front(NAME, "x", x, s.input_len())?, front(NAME, "w", w, s.weight_len())?);
        let (b, y) = (front(NAME, "b", b, s.outputs)?, front_mut(NAME, "y", y, s.output_len())?);
        reference::linear_forward(s, x, w, b, relu, y);
        Ok(())
    }
    fn linear_backward_data(&self, s: &LinearShape, dy: &Vec<T>, w: &Vec<T>, dx: &mut Vec<T>) -> Result<()> {
        const NAME: &str = "linear_backward_data";
        let (dy, w) = (front(NAME, "dy", dy, s.output_len())?, front(NAME, "w", w, s.weight_len())?);
        reference::linear_backward_data(s, dy, w, front_mut(NAME, "dx", dx, s.input_len())?);
        Ok(())
    }
    fn linear_backward_weight(
        &self,
        s: &LinearShape,
        x: &Vec<T>,
        dy: &Vec<T>,
        accumulate: bool,
        dw: &mut Vec<T>,
        db: &mut Vec<T>,
    ) -> Result<()> {
        const NAME: &str = "linear_backward_weight";
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let (dw, db) = (front_mut(NAME, "dw", dw, s.weight_len())?, front_mut(NAME, "db", db, s.outputs)?);
        reference::linear_backward_weight(s, x, dy, accumulate, dw, db);
        Ok(())
    }

    fn mix(&self, s: &MixShape, x: &mut Vec<T>) -> Result<()> {
        reference::mix(s, front_mut("mix", "x", x, s.len())?);
        Ok(())
    }

    fn softmax_cross_entropy(
        &self,
        s: &LossShape,
        logits: &Vec<T>,
        labels: &Vec<u32>,
        second: Option<(&Vec<u32>, &Vec<T>)>,
        losses: &mut Vec<T>,
        correct: &mut Vec<T>,
        dlogits: Option<&mut Vec<T>>,
    ) -> Result<()> {
        const NAME: &str = "softmax_cross_entropy";
        let logits = front(NAME, "logits", logits, s.batch * s.classes)?;
        let labels = front(NAME, "labels", labels, s.batch)?;
        expect_labels(labels, s.classes)?;
        let second = match second {
            Some((labels, weight)) => {
                let labels = front(NAME, "second labels", labels, s.batch)?;
                expect_labels(labels, s.classes)?;
                Some((labels, front(NAME, "weight", weight, 1)?[0]))
            }
            None => None,
        };
        let losses = front_mut(NAME, "losses", losses, s.batch)?;
        let correct = front_mut(NAME, "correct", correct, s.batch)?;
        let dlogits = match dlogits {
            Some(d) => Some(front_mut(NAME, "dlogits", d, s.batch * s.classes)?),
            None => None,
        };
        reference::softmax_cross_entropy(s, logits, labels, second, losses, correct, dlogits);
        Ok(())
    }

    fn sgd(&self, rule: &Sgd, parameters: &mut [Parameter<Vec<T>>]) -> Result<()> {
        for parameter in parameters {
            if let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) {
                reference::sgd(&rule.of(&parameter.shape), &mut parameter.value, gradient, momentum);
            }
        }
        Ok(())
    }

    fn ema(&self, decay: f64, parameters: &mut [Parameter<Vec<T>>]) -> Result<()> {
        for parameter in parameters {
            if let Some(average) = &mut parameter.average {
                reference::ema(decay, &parameter.value, average);
            }
        }
        Ok(())
    }
}
