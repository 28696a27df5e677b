//! The CPU device: every operator with vector instructions, on all cores.
//!
//! - `simd` has the instruction sets, chosen at run time, `gemm` the matrix product, `pool` the threads.
//! - Each operator is a file. It splits its work into tasks by sizes that depend on the shape only, and the pool distributes
//!   them: the bits are the same with any number of threads.
//! - The operators of one device run one at a time; a second calling thread waits.

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
mod sums;
mod weights;
mod workspace;

pub use array::Array;
pub use simd::Level;
pub use weights::Buffer;

use super::exchange::{self, Division, HostPeers};
use super::{CHUNK, Element, Exchange, LinearBackwardUpdate, Memory, Operators, Parameter, Queue, Storage, Updates};
use crate::arguments::*;
use crate::network::shards::Tree;
use crate::shape::{ConvShape, DropoutShape, Operation};
use crate::{Error, Result, Sgd};
use alexnet_ops::{Precision, front, front_mut};
use alexnet_ranks::Ranks;
use batchnorm::Affine;
use context::{Context, Gradients};
use pool::{Pool, SyncPtr};
use std::convert::Infallible;
use std::sync::Arc;
use weights::{Values, Weights};
use workspace::WorkspaceSize;

/// The CPU as a device.
pub struct Cpu {
    context: Context,
}

impl Cpu {
    /// Uses the fastest instruction set of this machine, or the one that `ALEXNET_SIMD` names, and `threads` threads; 0 means one
    /// per core.
    ///
    /// # Errors
    /// `ALEXNET_SIMD` names no level of this machine, or a thread cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        let level = match std::env::var("ALEXNET_SIMD") {
            Ok(name) => Level::available().into_iter().find(|l| l.name() == name).ok_or_else(|| {
                let names: Vec<_> = Level::available().into_iter().map(Level::name).collect();
                error(format!("ALEXNET_SIMD={name} is not one of this machine's levels: {}", names.join(", ")))
            })?,
            Err(_) => Level::best(),
        };
        Self::with(threads, level)
    }

    /// Uses the instruction set `level` and `threads` threads; 0 means one per core.
    ///
    /// # Errors
    /// This machine does not support `level`, or a thread cannot be started.
    pub fn with(threads: usize, level: Level) -> Result<Self> {
        if !level.is_available() {
            return Err(error(format!("this machine does not support {}", level.name())));
        }
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = Pool::new(threads).map_err(|e| error(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self { context: Context::new(pool, level)? })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.context.pool.threads()
    }

    /// Whether this convolution uses Winograd's algorithm, which has a larger error bound.
    pub fn uses_winograd(&self, shape: &ConvShape) -> bool {
        conv::uses_winograd(&self.context, shape)
    }
    /// Whether convolutions may use Winograd's algorithm, as they do at first. Set it before a network is built.
    pub fn set_winograd(&mut self, may: bool) {
        self.context.winograd = may;
    }

    /// Whether networks for inference, the only ones there are then, store the weights of convolutions and linear layers in half
    /// precision (fp16) and compute what they would with their weights rounded to fp16. At first they do not. Set it before a
    /// network is built.
    pub fn set_half_weights(&mut self, half: bool) {
        self.context.half = half;
    }

    /// How the operands of convolutions and linear layers are multiplied: fp32, as at first, or rounded to bf16. Arrays, sums
    /// and updates are f32 in both. Set it before a network is built.
    ///
    /// # Errors
    /// Another precision.
    pub fn set_precision(&mut self, precision: Precision) -> Result<()> {
        match precision {
            Precision::Fp32 => {}
            // AVX-512 without AVX512-BF16: AVX2 computes the same in several instructions.
            Precision::Bf16 if self.context.level == Level::Avx512 && !self.context.level.multiplies_bf16() => {
                self.context.level = Level::Avx2;
            }
            Precision::Bf16 => {}
            Precision::Tf32 | Precision::Fp16 => {
                let other = format!("{precision:?}").to_lowercase();
                return Err(error(format!("the CPU computes in fp32 and bf16 only, not in {other}")));
            }
        }
        self.context.precision = precision;
        Ok(())
    }
    /// Whether nothing is lost by its precision: fp32, or bf16 where that is faster.
    pub fn gains(&self) -> bool {
        self.context.precision == Precision::Fp32 || self.context.level.gains_by_bf16()
    }

    /// The backward pass of a ReLU on dx, if one follows.
    fn mask(&self, output: Option<&[f32]>, dx: &mut [f32]) {
        if let Some(y) = output {
            relu::backward(&self.context, y, dx);
        }
    }
    /// Dropout, if one follows.
    fn drop_out(&self, dropout: Option<&DropoutShape>, x: &mut [f32]) {
        if let Some(shape) = dropout {
            dropout::run(&self.context, shape, x);
        }
    }
}

fn error(message: String) -> Error {
    Error::Device { device: "cpu".into(), message }
}

impl Arrays for Cpu {
    type Buffer = Buffer;
    type Bytes = Array<u8>;
    type Labels = Array<u32>;
}

impl Memory for Cpu {
    type Element = f32;
    type Totals = [f64; 2];
    type Uploads = Infallible;

    fn name(&self) -> String {
        let threads = self.threads();
        let precision = if self.context.precision == Precision::Bf16 { ", bf16" } else { "" };
        let weights = if self.context.half { ", half weights" } else { "" };
        let plural = if threads == 1 { "" } else { "s" };
        format!("cpu ({threads} thread{plural}, {}{precision}{weights})", self.context.level.name())
    }

    fn zeros(&self, len: usize) -> Result<Buffer> {
        Buffer::zeros(len)
    }
    fn inference_weights(&self, shape: &[usize]) -> Result<Buffer> {
        let Context { half, precision, .. } = self.context;
        // Other convolutions reorder their weights for every batch.
        let full = precision == Precision::Fp32 && matches!(shape, [_, _] | [_, _, 3, 3]);
        match shape {
            [rows, rest @ ..] if full || half && !rest.is_empty() => Buffer::panels(*rows, rest.iter().product(), half),
            _ => Buffer::zeros(shape.iter().product()),
        }
    }
    fn storage(&self) -> Storage {
        let parameter = if self.context.half { size_of::<u16>() } else { size_of::<f32>() };
        Storage { parameter, ..Storage::uniform(size_of::<f32>()) }
    }
    fn bytes(&self, len: usize) -> Result<Array<u8>> {
        Array::zeros(len)
    }
    fn labels(&self, len: usize) -> Result<Array<u32>> {
        Array::zeros(len)
    }
    fn write_at(&self, from: &[f32], to: &mut Buffer, start: usize) -> Result<()> {
        to.write_at(self.context.level, from, start)
    }
    fn read_at(&self, from: &Buffer, start: usize, to: &mut [f32]) -> Result<()> {
        from.read_at(start, to)
    }
    fn snapshot(&self, from: &Buffer, earlier: Option<Buffer>) -> Result<Buffer> {
        if from.has_panels() {
            return Err(self.lacks("snapshot of weights for inference"));
        }
        let mut copy = earlier.map_or_else(|| Buffer::zeros(from.len()), Ok)?;
        let to = SyncPtr(front_mut("snapshot", "earlier", copy.as_mut_slice(), from.len())?.as_mut_ptr());
        self.context.pool.run(from.len().div_ceil(CHUNK), |task, _| {
            let start = task * CHUNK;
            let len = CHUNK.min(from.len() - start);
            // SAFETY: each task has its own elements.
            unsafe { to.slice_mut(start, len) }.copy_from_slice(&from[start..start + len]);
        });
        Ok(copy)
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

    fn workspace(&self, operations: &[Operation], training: bool) -> u64 {
        let (size, cache) = workspace_of(&self.context, operations, training);
        size.bytes(self.threads()) + cache.iter().map(|len| (len * size_of::<f32>()) as u64).sum::<u64>()
    }
    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64> {
        if training && self.context.half {
            return Err(self.lacks("training with weights in half precision"));
        }
        if self.context.precision != Precision::Fp32 && self.context.half {
            return Err(self.lacks("products in bf16 with weights in half precision"));
        }
        let (size, cache) = workspace_of(&self.context, operations, training);
        let mut workspace = self.context.workspace();
        workspace.reserve(size)?;
        workspace.reserve_cache(&cache)?;
        Ok(workspace.bytes())
    }
}

/// The workspace that running `operations` needs, and the lengths of the arrays that they cache.
fn workspace_of(context: &Context, operations: &[Operation], training: bool) -> (WorkspaceSize, Vec<usize>) {
    let size = operations.iter().fold(WorkspaceSize::default(), |size, operation| {
        size.max(match operation {
            Operation::Conv(s) => conv::workspace_size(context, s, training),
            Operation::Linear(s) => linear::workspace_size(context, s, training),
            Operation::Lrn(s) => lrn::workspace_size(s),
            Operation::BatchNorm(s) => batchnorm::workspace_size(s),
            _ => WorkspaceSize::default(),
        })
    });
    let convs = operations.iter().filter_map(|operation| match operation {
        Operation::Conv(s) => conv::cache_len(context, s, training),
        _ => None,
    });
    (size, convs.collect())
}

impl Queue for Cpu {
    type Graph = Infallible;
}

impl Exchange for Cpu {
    type Peers = HostPeers<Buffer>;

    fn stored_len(&self, buffer: &Buffer) -> usize {
        buffer.len()
    }
    fn connect(
        &self,
        ranks: Arc<dyn Ranks>,
        divisions: &mut dyn Iterator<Item = Division>,
    ) -> Result<HostPeers<Buffer>> {
        HostPeers::new(self, ranks, divisions)
    }
    fn send_gradients<'a>(
        &self,
        peers: &mut HostPeers<Buffer>,
        present: &dyn Fn(usize) -> bool,
        before: &mut dyn Iterator<Item = Division>,
        gradients: &mut dyn Iterator<Item = (&'a Buffer, Division)>,
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        exchange::send_gradients(peers, present, before, gradients, work)
    }
    fn update_own<'a>(
        &self,
        peers: &mut HostPeers<Buffer>,
        optimizer: &Sgd,
        tree: Tree,
        parameters: &mut dyn Iterator<Item = (&'a mut Parameter<Buffer>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        sums::run(&self.context, optimizer, peers, &tree, parameters);
        Ok(())
    }
    fn gather<'a>(
        &self,
        peers: &mut HostPeers<Buffer>,
        arrays: &mut dyn Iterator<Item = (&'a mut Buffer, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        exchange::gather(peers, arrays)
    }
    fn gather_totals<'a>(
        &self,
        peers: &mut HostPeers<Buffer>,
        totals: &mut dyn Iterator<Item = (&'a mut [f64; 2], Division)>,
    ) -> Result<()>
    where
        Self::Totals: 'a,
    {
        exchange::gather(peers, totals)
    }
}

/// Views arguments as slices of the lengths that the shapes require.
const FRONTS: Fronts<f32> = Fronts::new();

impl Operators for Cpu {
    const UPDATES: Updates = Updates::InPass;

    fn conv_forward(&self, a: ConvForward<'_, Self>) -> Result<()> {
        const NAME: &str = ConvForward::<Cpu>::NAME;
        let ConvForward { shape: s, relu, x, w, b, y } = a;
        let w = w.weights(NAME, s.weight_len(), s.kernel * s.kernel * s.channels / s.groups)?;
        let (x, b) = (front(NAME, "x", x, s.input_len())?, front(NAME, "b", b, s.filters)?);
        conv::forward(&self.context, s, x, w, b, relu, front_mut(NAME, "y", y.as_mut_slice(), s.output_len())?)
    }
    fn conv_backward_data(&self, a: ConvBackwardData<'_, Self>) -> Result<()> {
        let contents = a.w.contents();
        let ConvBackwardData { shape, dy, w, mask, dx } = a.view(&FRONTS)?;
        conv::backward_data(&self.context, shape, dy, Weights { values: Values::Rows(w), contents }, dx)?;
        self.mask(mask, dx);
        Ok(())
    }
    fn conv_backward_weight(&self, a: ConvBackwardWeight<'_, Self>) -> Result<()> {
        let ConvBackwardWeight { shape, accumulate, x, dy, dw, db, .. } = a.view(&FRONTS)?;
        conv::backward_weight(&self.context, shape, x, dy, Gradients { dw, db, accumulate }, None)
    }
    fn conv_backward(&self, a: ConvBackward<'_, Self>) -> Result<()> {
        let contents = a.w.contents();
        let ConvBackward { shape, accumulate, masks, x, w, dy, dw, db, dx, .. } = a.view(&FRONTS)?;
        let data = Some((Weights { values: Values::Rows(w), contents }, &mut *dx));
        conv::backward_weight(&self.context, shape, x, dy, Gradients { dw, db, accumulate }, data)?;
        self.mask(masks.then_some(x), dx);
        Ok(())
    }

    fn relu_forward(&self, a: ReluForward<'_, Self>) -> Result<()> {
        relu::forward(&self.context, a.view(&FRONTS)?.x);
        Ok(())
    }
    fn relu_backward(&self, a: ReluBackward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        relu::backward(&self.context, a.y, a.dy);
        Ok(())
    }

    fn add(&self, a: Add<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        add::run(&self.context, a.x, a.relu, a.y);
        Ok(())
    }

    fn maxpool_forward(&self, a: MaxPoolForward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        maxpool::forward(&self.context, a.shape, a.x, a.y, a.argmax);
        Ok(())
    }
    fn maxpool_backward(&self, a: MaxPoolBackward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        maxpool::backward(&self.context, a.shape, a.dy, a.argmax, a.mask, a.dx);
        Ok(())
    }

    fn avgpool_forward(&self, a: AvgPoolForward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        avgpool::forward(&self.context, a.shape, a.x, a.y);
        Ok(())
    }
    fn avgpool_backward(&self, a: AvgPoolBackward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        avgpool::backward(&self.context, a.shape, a.dy, a.dx);
        Ok(())
    }

    fn lrn_forward(&self, a: LrnForward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        lrn::forward(&self.context, a.shape, a.x, a.y)
    }
    fn lrn_backward(&self, a: LrnBackward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        lrn::backward(&self.context, a.shape, a.x, a.dy, a.dx)
    }

    fn batchnorm_forward(&self, a: BatchNormForward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        let (affine, running) = (Affine { w: a.w, b: a.b, relu: a.relu }, [a.running_mean, a.running_variance]);
        batchnorm::forward(&self.context, a.shape, a.x, affine, running, a.statistics, a.y)
    }
    fn batchnorm_backward(&self, a: BatchNormBackward<'_, Self>) -> Result<()> {
        let BatchNormBackward { shape, accumulate, x, dy, w, statistics, dw, db, dx } = a.view(&FRONTS)?;
        batchnorm::backward(&self.context, shape, [x, dy], w, statistics, Gradients { dw, db, accumulate }, dx)
    }
    fn batchnorm_moments(&self, a: BatchNormMoments<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        batchnorm::moments(&self.context, a.shape, a.x, a.moments)
    }
    fn batchnorm_backward_weight(&self, a: BatchNormBackwardWeight<'_, Self>) -> Result<()> {
        let BatchNormBackwardWeight { shape, accumulate, x, dy, statistics, dw, db } = a.view(&FRONTS)?;
        let gradients = Gradients { dw, db, accumulate };
        batchnorm::backward_weight(&self.context, shape, [x, dy], statistics, gradients)
    }
    fn batchnorm_backward_data(&self, a: BatchNormBackwardData<'_, Self>) -> Result<()> {
        let BatchNormBackwardData { shape, x, dy, w, statistics, factors, dx } = a.view(&FRONTS)?;
        batchnorm::backward_data(&self.context, shape, [x, dy], w, [statistics, factors], dx)
    }
    fn batchnorm_inference(&self, a: BatchNormInference<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        let affine = Affine { w: a.w, b: a.b, relu: a.relu };
        batchnorm::inference(&self.context, a.shape, a.x, affine, [a.mean, a.variance], a.y)
    }
    fn batchnorm_inference_backward(&self, a: BatchNormInferenceBackward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        batchnorm::inference_backward(&self.context, a.shape, a.dy, a.w, a.variance, a.dx)
    }

    fn dropout(&self, a: Dropout<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        dropout::run(&self.context, a.shape, a.x);
        Ok(())
    }

    fn flatten_forward(&self, a: FlattenForward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        flatten::forward(&self.context, a.shape, a.x, a.y);
        Ok(())
    }
    fn flatten_backward(&self, a: FlattenBackward<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        flatten::backward(&self.context, a.shape, a.dy, a.dx);
        Ok(())
    }

    fn linear_forward(&self, a: LinearForward<'_, Self>) -> Result<()> {
        const NAME: &str = LinearForward::<Cpu>::NAME;
        let LinearForward { shape: s, relu, dropout, x, w, b, y } = a;
        let w = w.weights(NAME, s.weight_len(), s.inputs)?.values;
        let (x, b) = (front(NAME, "x", x, s.input_len())?, front(NAME, "b", b, s.outputs)?);
        let y = front_mut(NAME, "y", y.as_mut_slice(), s.output_len())?;
        linear::forward(&self.context, s, x, w, b, relu, y)?;
        self.drop_out(dropout, y);
        Ok(())
    }
    fn linear_backward_data(&self, a: LinearBackwardData<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        linear::backward_data(&self.context, a.shape, a.dy, a.w, a.dx)?;
        self.drop_out(a.dropout, a.dx);
        self.mask(a.mask, a.dx);
        Ok(())
    }
    fn linear_backward_weight(&self, a: LinearBackwardWeight<'_, Self>) -> Result<()> {
        let LinearBackwardWeight { shape, accumulate, x, dy, dw, db } = a.view(&FRONTS)?;
        let gradient = linear::Gradient::Store { dw, accumulate };
        linear::backward_weight(&self.context, shape, x, dy, gradient, db)
    }
    fn linear_backward_update(&self, a: LinearBackwardUpdate<'_, Self>) -> Result<()> {
        const NAME: &str = "linear_backward_update";
        let LinearBackwardUpdate { shape: s, x, dy, sgd, weight, bias } = a;
        let optimizer = &weight.sgd(sgd);
        let (Some(momentum), Some(db)) = (&mut weight.momentum, &mut bias.gradient) else {
            return Err(self.lacks("update of a parameter that is not trained"));
        };
        let (x, dy) = (front(NAME, "x", x, s.input_len())?, front(NAME, "dy", dy, s.output_len())?);
        let value = front_mut(NAME, "w", weight.value.as_mut_slice(), s.weight_len())?;
        let momentum = front_mut(NAME, "v", momentum.as_mut_slice(), s.weight_len())?;
        let db = front_mut(NAME, "db", db.as_mut_slice(), s.outputs)?;
        let gradient = linear::Gradient::Update { optimizer, value, momentum };
        linear::backward_weight(&self.context, s, x, dy, gradient, db)?;
        self.sgd(sgd, &mut std::iter::once(bias))
    }

    fn mix(&self, a: MixPairs<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        mix::run(&self.context, a.shape, a.x);
        Ok(())
    }

    fn softmax_cross_entropy(&self, a: SoftmaxCrossEntropy<'_, Self>) -> Result<()> {
        let a = a.view(&FRONTS)?;
        a.check_labels()?;
        let second = a.second.map(|(labels, weight)| (labels, weight[0]));
        let outputs = [a.losses, a.correct];
        let target = softmax_cross_entropy::Target { labels: a.labels, second, class_weights: a.class_weights };
        softmax_cross_entropy::run(&self.context, a.shape, a.logits, target, outputs, a.dlogits);
        Ok(())
    }

    fn add_totals(&self, len: usize, losses: &Buffer, correct: &Buffer, totals: &mut [f64; 2]) -> Result<()> {
        for (total, values) in totals
            .iter_mut()
            .zip([front("add_totals", "losses", losses, len)?, front("add_totals", "correct", correct, len)?])
        {
            *total += values.iter().map(|&x| Element::to_f64(x)).sum::<f64>();
        }
        Ok(())
    }

    fn sgd<'a>(&self, optimizer: &Sgd, parameters: &mut dyn Iterator<Item = &'a mut Parameter<Buffer>>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        sgd::run(&self.context, optimizer, parameters);
        Ok(())
    }

    fn ema(&self, decay: f64, parameters: &mut [Parameter<Buffer>]) -> Result<()> {
        ema::run(&self.context, decay, parameters);
        Ok(())
    }

    fn add_floats<'a>(&self, pairs: &mut dyn Iterator<Item = (&'a mut Buffer, &'a Buffer)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        for (y, x) in pairs {
            let (x, y) =
                (front("add_floats", "x", x, y.len())?, front_mut("add_floats", "y", y.as_mut_slice(), x.len())?);
            add::run(&self.context, x, false, y);
        }
        Ok(())
    }

    fn approach<'a>(&self, rate: f64, pairs: &mut dyn Iterator<Item = (&'a mut Buffer, &'a Buffer)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        for (e, x) in pairs {
            let (x, e) = (front("approach", "x", x, e.len())?, front_mut("approach", "e", e.as_mut_slice(), x.len())?);
            ema::approach(&self.context, rate as f32, e, x);
        }
        Ok(())
    }
}
