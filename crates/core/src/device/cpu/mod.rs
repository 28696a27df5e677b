//! The CPU: every operator with vector instructions, on all cores.
//!
//! - `simd` holds the instruction sets, chosen at run time; `gemm` the matrix product; `pool` the threads.
//! - An operator is a file. It cuts its work into tasks by sizes that depend on the shape only, and the
//!   pool deals them out: the bits are the same at any thread count.
//! - The operators of one device run one after the other; a second thread waits for its turn.

mod add;
mod array;
mod avgpool;
mod batchnorm;
mod column_sums;
mod context;
mod conv;
mod dropout;
mod ema;
mod flatten;
mod gemm;
mod linear;
mod lrn;
mod maxpool;
mod mix;
mod pool;
mod relu;
mod sgd;
mod simd;
mod softmax_cross_entropy;
mod workspace;

pub use array::Array;
pub use simd::Level;

use super::{Device, Element, Parameter};
use crate::shape::Operation;
use crate::shape::{
    AvgPoolShape, BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape, LrnShape,
    MaxPoolShape, MixShape,
};
use crate::{Error, Result, Sgd};
use alexnet_ops::{expect_labels, front, front_mut};
use batchnorm::Affine;
use context::{Context, Gradients, Weights};
use pool::Pool;
use std::convert::Infallible;
use workspace::WorkspaceSize;

/// The CPU as a device.
pub struct Cpu {
    context: Context,
}

impl Cpu {
    /// With the fastest instructions of this machine (or the level that `ALEXNET_SIMD` names), on `threads` threads,
    /// 0 for one a core.
    pub fn new(threads: usize) -> Result<Self> {
        let level = match std::env::var("ALEXNET_SIMD") {
            Ok(name) => Level::available().into_iter().find(|l| l.name() == name).ok_or_else(|| {
                let names: Vec<_> = Level::available().into_iter().map(Level::name).collect();
                error(format!("ALEXNET_SIMD={name} is none of this machine's levels: {}", names.join(", ")))
            })?,
            Err(_) => Level::best(),
        };
        Self::with(threads, level)
    }

    /// With the instructions of `level`, on `threads` threads, 0 for one a core.
    pub fn with(threads: usize, level: Level) -> Result<Self> {
        if !level.is_available() {
            return Err(error(format!("this machine has no {}", level.name())));
        }
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = Pool::new(threads).map_err(|e| error(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self { context: Context::new(pool, level)? })
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.context.pool.threads()
    }

    /// Whether a convolution runs by Winograd's algorithm, whose errors have a larger bound.
    pub fn uses_winograd(&self, shape: &ConvShape) -> bool {
        conv::winograd::suits(shape)
    }
}

fn error(message: String) -> Error {
    Error::Device { device: "cpu".into(), message }
}

impl Device for Cpu {
    type Element = f32;
    type Buffer = Array<f32>;
    type Bytes = Array<u8>;
    type Labels = Array<u32>;
    type Totals = [f64; 2];
    type Recording = Infallible;

    fn name(&self) -> String {
        let threads = self.threads();
        format!("cpu ({threads} thread{}, {})", if threads == 1 { "" } else { "s" }, self.context.level.name())
    }

    fn zeros(&self, len: usize) -> Result<Array<f32>> {
        Array::zeros(len)
    }
    fn bytes(&self, len: usize) -> Result<Array<u8>> {
        Array::zeros(len)
    }
    fn labels(&self, len: usize) -> Result<Array<u32>> {
        Array::zeros(len)
    }
    fn write(&self, from: &[f32], to: &mut Array<f32>) -> Result<()> {
        front_mut("write", "to", to.as_mut_slice(), from.len())?.copy_from_slice(from);
        Ok(())
    }
    fn read(&self, from: &Array<f32>, to: &mut [f32]) -> Result<()> {
        to.copy_from_slice(front("read", "from", from, to.len())?);
        Ok(())
    }
    fn write_labels(&self, from: &[u32], to: &mut Array<u32>) -> Result<()> {
        front_mut("write_labels", "to", to.as_mut_slice(), from.len())?.copy_from_slice(from);
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
    fn add_totals(&self, len: usize, losses: &Array<f32>, correct: &Array<f32>, totals: &mut [f64; 2]) -> Result<()> {
        for (total, values) in totals
            .iter_mut()
            .zip([front("add_totals", "losses", losses, len)?, front("add_totals", "correct", correct, len)?])
        {
            *total += values.iter().map(|&x| Element::to_f64(x)).sum::<f64>();
        }
        Ok(())
    }

    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64> {
        let size = operations.iter().fold(WorkspaceSize::default(), |size, operation| {
            size.max(match operation {
                Operation::Conv(s) => conv::workspace_size(s, training),
                Operation::Linear(s) => linear::workspace_size(s, training),
                Operation::Lrn(s) => lrn::workspace_size(s),
                Operation::BatchNorm(s) => batchnorm::workspace_size(s),
                _ => WorkspaceSize::default(),
            })
        });
        let cache: Vec<usize> = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Conv(s) => conv::cache_len(s),
                _ => None,
            })
            .collect();
        let mut workspace = self.context.workspace();
        workspace.reserve(size)?;
        workspace.reserve_cache(&cache)?;
        Ok(workspace.bytes())
    }

    fn conv_forward(
        &self,
        s: &ConvShape,
        x: &Array<f32>,
        w: &Array<f32>,
        b: &Array<f32>,
        relu: bool,
        y: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "conv_forward";
        let x = front(NAME, "x", x, s.input_len())?;
        let w = Weights::of(NAME, w, s.weight_len())?;
        let (b, y) = (front(NAME, "b", b, s.filters)?, front_mut(NAME, "y", y.as_mut_slice(), s.output_len())?);
        conv::forward(&self.context, s, x, w, b, relu, y)
    }
    fn conv_backward_data(&self, s: &ConvShape, dy: &Array<f32>, w: &Array<f32>, dx: &mut Array<f32>) -> Result<()> {
        const NAME: &str = "conv_backward_data";
        let dy = front(NAME, "dy", dy, s.output_len())?;
        let w = Weights::of(NAME, w, s.weight_len())?;
        let dx = front_mut(NAME, "dx", dx.as_mut_slice(), s.input_len())?;
        conv::backward_data(&self.context, s, dy, w, dx)
    }
    fn conv_backward_weight(
        &self,
        s: &ConvShape,
        x: &Array<f32>,
        dy: &Array<f32>,
        accumulate: bool,
        dw: &mut Array<f32>,
        db: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "conv_backward_weight";
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let dw = front_mut(NAME, "dw", dw.as_mut_slice(), s.weight_len())?;
        let db = front_mut(NAME, "db", db.as_mut_slice(), s.filters)?;
        conv::backward_weight(&self.context, s, x, dy, Gradients { dw, db, accumulate }, None)
    }
    fn conv_backward(
        &self,
        s: &ConvShape,
        x: &Array<f32>,
        w: &Array<f32>,
        dy: &Array<f32>,
        accumulate: bool,
        dw: &mut Array<f32>,
        db: &mut Array<f32>,
        dx: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "conv_backward";
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let w = Weights::of(NAME, w, s.weight_len())?;
        let dw = front_mut(NAME, "dw", dw.as_mut_slice(), s.weight_len())?;
        let db = front_mut(NAME, "db", db.as_mut_slice(), s.filters)?;
        let dx = front_mut(NAME, "dx", dx.as_mut_slice(), s.input_len())?;
        conv::backward_weight(&self.context, s, x, dy, Gradients { dw, db, accumulate }, Some((w, dx)))
    }

    fn relu_forward(&self, len: usize, x: &mut Array<f32>) -> Result<()> {
        relu::forward(&self.context, front_mut("relu_forward", "x", x.as_mut_slice(), len)?);
        Ok(())
    }
    fn relu_backward(&self, len: usize, y: &Array<f32>, dy: &mut Array<f32>) -> Result<()> {
        let y = front("relu_backward", "y", y, len)?;
        relu::backward(&self.context, y, front_mut("relu_backward", "dy", dy.as_mut_slice(), len)?);
        Ok(())
    }

    fn add(&self, len: usize, x: &Array<f32>, relu: bool, y: &mut Array<f32>) -> Result<()> {
        let x = front("add", "x", x, len)?;
        add::run(&self.context, x, relu, front_mut("add", "y", y.as_mut_slice(), len)?);
        Ok(())
    }

    fn maxpool_forward(
        &self,
        s: &MaxPoolShape,
        x: &Array<f32>,
        y: &mut Array<f32>,
        argmax: &mut Array<u8>,
    ) -> Result<()> {
        const NAME: &str = "maxpool_forward";
        let (x, len) = (front(NAME, "x", x, s.input_len())?, s.output_len());
        let y = front_mut(NAME, "y", y.as_mut_slice(), len)?;
        maxpool::forward(&self.context, s, x, y, front_mut(NAME, "argmax", argmax.as_mut_slice(), len)?);
        Ok(())
    }
    fn maxpool_backward(
        &self,
        s: &MaxPoolShape,
        dy: &Array<f32>,
        argmax: &Array<u8>,
        dx: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "maxpool_backward";
        let (dy, argmax) = (front(NAME, "dy", dy, s.output_len())?, front(NAME, "argmax", argmax, s.output_len())?);
        maxpool::backward(&self.context, s, dy, argmax, front_mut(NAME, "dx", dx.as_mut_slice(), s.input_len())?);
        Ok(())
    }

    fn avgpool_forward(&self, s: &AvgPoolShape, x: &Array<f32>, y: &mut Array<f32>) -> Result<()> {
        let x = front("avgpool_forward", "x", x, s.input_len())?;
        avgpool::forward(&self.context, s, x, front_mut("avgpool_forward", "y", y.as_mut_slice(), s.output_len())?);
        Ok(())
    }
    fn avgpool_backward(&self, s: &AvgPoolShape, dy: &Array<f32>, dx: &mut Array<f32>) -> Result<()> {
        let dy = front("avgpool_backward", "dy", dy, s.output_len())?;
        avgpool::backward(&self.context, s, dy, front_mut("avgpool_backward", "dx", dx.as_mut_slice(), s.input_len())?);
        Ok(())
    }

    fn lrn_forward(&self, s: &LrnShape, x: &Array<f32>, y: &mut Array<f32>) -> Result<()> {
        let x = front("lrn_forward", "x", x, s.len())?;
        let y = front_mut("lrn_forward", "y", y.as_mut_slice(), s.len())?;
        lrn::forward(&self.context, s, x, y)
    }
    fn lrn_backward(&self, s: &LrnShape, x: &Array<f32>, dy: &Array<f32>, dx: &mut Array<f32>) -> Result<()> {
        const NAME: &str = "lrn_backward";
        let (x, dy) = (front(NAME, "x", x, s.len())?, front(NAME, "dy", dy, s.len())?);
        let dx = front_mut(NAME, "dx", dx.as_mut_slice(), s.len())?;
        lrn::backward(&self.context, s, x, dy, dx)
    }

    fn batchnorm_forward(
        &self,
        s: &BatchNormShape,
        x: &Array<f32>,
        w: &Array<f32>,
        b: &Array<f32>,
        relu: bool,
        [mean, variance]: [&mut Array<f32>; 2],
        statistics: &mut Array<f32>,
        y: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_forward";
        let (x, y) = (front(NAME, "x", x, s.len())?, front_mut(NAME, "y", y.as_mut_slice(), s.len())?);
        let (w, b) = (front(NAME, "w", w, s.channels)?, front(NAME, "b", b, s.channels)?);
        let mean = front_mut(NAME, "running mean", mean.as_mut_slice(), s.channels)?;
        let variance = front_mut(NAME, "running variance", variance.as_mut_slice(), s.channels)?;
        let statistics = front_mut(NAME, "statistics", statistics.as_mut_slice(), 2 * s.channels)?;
        batchnorm::forward(&self.context, s, x, Affine { w, b, relu }, [mean, variance], statistics, y)
    }
    fn batchnorm_backward(
        &self,
        s: &BatchNormShape,
        x: &Array<f32>,
        dy: &Array<f32>,
        w: &Array<f32>,
        statistics: &Array<f32>,
        accumulate: bool,
        dw: &mut Array<f32>,
        db: &mut Array<f32>,
        dx: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_backward";
        let (x, dy) = (front(NAME, "x", x, s.len())?, front(NAME, "dy", dy, s.len())?);
        let w = front(NAME, "w", w, s.channels)?;
        let statistics = front(NAME, "statistics", statistics, 2 * s.channels)?;
        let (dw, db) = (
            front_mut(NAME, "dw", dw.as_mut_slice(), s.channels)?,
            front_mut(NAME, "db", db.as_mut_slice(), s.channels)?,
        );
        let dx = front_mut(NAME, "dx", dx.as_mut_slice(), s.len())?;
        batchnorm::backward(&self.context, s, [x, dy], w, statistics, Gradients { dw, db, accumulate }, dx)
    }
    fn batchnorm_inference(
        &self,
        s: &BatchNormShape,
        x: &Array<f32>,
        w: &Array<f32>,
        b: &Array<f32>,
        mean: &Array<f32>,
        variance: &Array<f32>,
        relu: bool,
        y: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_inference";
        let (x, y) = (front(NAME, "x", x, s.len())?, front_mut(NAME, "y", y.as_mut_slice(), s.len())?);
        let (w, b) = (front(NAME, "w", w, s.channels)?, front(NAME, "b", b, s.channels)?);
        let (mean, variance) = (front(NAME, "mean", mean, s.channels)?, front(NAME, "variance", variance, s.channels)?);
        batchnorm::inference(&self.context, s, x, Affine { w, b, relu }, [mean, variance], y)
    }
    fn batchnorm_inference_backward(
        &self,
        s: &BatchNormShape,
        dy: &Array<f32>,
        w: &Array<f32>,
        variance: &Array<f32>,
        dx: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "batchnorm_inference_backward";
        let (dy, dx) = (front(NAME, "dy", dy, s.len())?, front_mut(NAME, "dx", dx.as_mut_slice(), s.len())?);
        let (w, variance) = (front(NAME, "w", w, s.channels)?, front(NAME, "variance", variance, s.channels)?);
        batchnorm::inference_backward(&self.context, s, dy, w, variance, dx)
    }

    fn dropout(&self, s: &DropoutShape, x: &mut Array<f32>) -> Result<()> {
        dropout::run(&self.context, s, front_mut("dropout", "x", x.as_mut_slice(), s.len)?);
        Ok(())
    }

    fn flatten_forward(&self, s: &FlattenShape, x: &Array<f32>, y: &mut Array<f32>) -> Result<()> {
        let x = front("flatten_forward", "x", x, s.len())?;
        flatten::forward(&self.context, s, x, front_mut("flatten_forward", "y", y.as_mut_slice(), s.len())?);
        Ok(())
    }
    fn flatten_backward(&self, s: &FlattenShape, dy: &Array<f32>, dx: &mut Array<f32>) -> Result<()> {
        let dy = front("flatten_backward", "dy", dy, s.len())?;
        flatten::backward(&self.context, s, dy, front_mut("flatten_backward", "dx", dx.as_mut_slice(), s.len())?);
        Ok(())
    }

    fn linear_forward(
        &self,
        s: &LinearShape,
        x: &Array<f32>,
        w: &Array<f32>,
        b: &Array<f32>,
        relu: bool,
        y: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "linear_forward";
        let (x, w) = (front(NAME, "x", x, s.input_len())?, front(NAME, "w", w, s.weight_len())?);
        let (b, y) = (front(NAME, "b", b, s.outputs)?, front_mut(NAME, "y", y.as_mut_slice(), s.output_len())?);
        linear::forward(&self.context, s, x, w, b, relu, y)
    }
    fn linear_backward_data(
        &self,
        s: &LinearShape,
        dy: &Array<f32>,
        w: &Array<f32>,
        dx: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "linear_backward_data";
        let (dy, w) = (front(NAME, "dy", dy, s.output_len())?, front(NAME, "w", w, s.weight_len())?);
        let dx = front_mut(NAME, "dx", dx.as_mut_slice(), s.input_len())?;
        linear::backward_data(&self.context, s, dy, w, dx)
    }
    fn linear_backward_weight(
        &self,
        s: &LinearShape,
        x: &Array<f32>,
        dy: &Array<f32>,
        accumulate: bool,
        dw: &mut Array<f32>,
        db: &mut Array<f32>,
    ) -> Result<()> {
        const NAME: &str = "linear_backward_weight";
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let dw = front_mut(NAME, "dw", dw.as_mut_slice(), s.weight_len())?;
        let db = front_mut(NAME, "db", db.as_mut_slice(), s.outputs)?;
        let gradient = linear::Gradient::Store { dw, accumulate };
        linear::backward_weight(&self.context, s, x, dy, gradient, db)
    }
    fn linear_backward_update(
        &self,
        s: &LinearShape,
        x: &Array<f32>,
        dy: &Array<f32>,
        rule: &Sgd,
        weight: &mut Parameter<Array<f32>>,
        db: &mut Array<f32>,
    ) -> Result<bool> {
        const NAME: &str = "linear_backward_update";
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let rule = &rule.of(&weight.shape);
        let Some(momentum) = &mut weight.momentum else { return Ok(false) };
        let value = front_mut(NAME, "w", weight.value.as_mut_slice(), s.weight_len())?;
        let momentum = front_mut(NAME, "v", momentum.as_mut_slice(), s.weight_len())?;
        let db = front_mut(NAME, "db", db.as_mut_slice(), s.outputs)?;
        let gradient = linear::Gradient::Update { optimizer: rule, value, momentum };
        linear::backward_weight(&self.context, s, x, dy, gradient, db)?;
        Ok(true)
    }

    fn mix(&self, s: &MixShape, x: &mut Array<f32>) -> Result<()> {
        mix::run(&self.context, s, front_mut("mix", "x", x.as_mut_slice(), s.len())?);
        Ok(())
    }

    fn softmax_cross_entropy(
        &self,
        s: &LossShape,
        logits: &Array<f32>,
        labels: &Array<u32>,
        second: Option<(&Array<u32>, &Array<f32>)>,
        losses: &mut Array<f32>,
        correct: &mut Array<f32>,
        dlogits: Option<&mut Array<f32>>,
    ) -> Result<()> {
        const NAME: &str = "softmax_cross_entropy";
        let len = s.batch * s.classes;
        let logits = front(NAME, "logits", logits, len)?;
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
        let losses = front_mut(NAME, "losses", losses.as_mut_slice(), s.batch)?;
        let correct = front_mut(NAME, "correct", correct.as_mut_slice(), s.batch)?;
        let dlogits = dlogits.map(|d| front_mut(NAME, "dlogits", d.as_mut_slice(), len)).transpose()?;
        softmax_cross_entropy::run(&self.context, s, logits, labels, second, [losses, correct], dlogits);
        Ok(())
    }

    fn sgd(&self, rule: &Sgd, parameters: &mut [Parameter<Array<f32>>]) -> Result<()> {
        sgd::run(&self.context, rule, parameters);
        Ok(())
    }

    fn ema(&self, decay: f64, parameters: &mut [Parameter<Array<f32>>]) -> Result<()> {
        ema::run(&self.context, decay, parameters);
        Ok(())
    }
}
