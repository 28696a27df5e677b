//! A device is a set of operators on arrays that it owns.
//!
//! Activations are NHWC, parameters lie as in PyTorch. An array may be longer than the shape needs
//! (a short last batch uses the front); an array too short is [`alexnet_ops::Error::Length`].
//! Every operator is deterministic: the same bits at any thread count.

pub mod cpu;
pub mod cuda;
pub mod reference;

use crate::shape::Operation;
use crate::shape::{
    AugmentShape, AvgPoolShape, BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape,
    LrnShape, MaxPoolShape, MixShape,
};
use crate::{Error, Result, Sgd};

pub use alexnet_ops::Scaler;

/// What is kept of a number where: bytes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Of a weight or bias, with all its copies.
    pub parameter: usize,
    /// Of a parameter's gradient or momentum, of a loss.
    pub gradient: usize,
    /// Of an activation or its gradient.
    pub activation: usize,
}

impl Storage {
    /// The same everywhere.
    pub const fn uniform(bytes: usize) -> Self {
        Self { parameter: bytes, gradient: bytes, activation: bytes }
    }
}

/// A number that a device computes with: f32, or f64 in the reference.
pub trait Element: num_traits::Float + num_traits::NumAssign + Send + Sync + std::fmt::Debug + 'static {
    /// Rounds from f64.
    fn from_f64(value: f64) -> Self;
    /// Widens to f64.
    fn to_f64(self) -> f64;
}

impl Element for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Element for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// A parameter of the network with what training keeps beside it.
#[derive(Debug)]
pub struct Parameter<B> {
    /// Name under which it is stored, such as `features.0.weight`.
    pub name: String,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// w.
    pub value: B,
    /// dL/dw; absent in a network for inference, of a frozen layer, and of a running statistic.
    pub gradient: Option<B>,
    /// v; absent where the gradient is.
    pub momentum: Option<B>,
    /// e, the moving average of w; absent unless one is kept.
    pub average: Option<B>,
}

impl<B> Parameter<B> {
    /// Name of the layer that it is of, such as `features.0`.
    pub fn layer(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(layer, _)| layer)
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The operators of AlexNet's training step.
///
/// In the gradients' names `dy` is dL/dy. `accumulate` adds to the gradient instead of replacing it.
pub trait Device: Send + Sync {
    /// The numbers of the host's side of [`Device::write`] and [`Device::read`].
    type Element: Element;
    /// An array of numbers.
    type Buffer: Send + Sync;
    /// An array of bytes (the positions of max pooling).
    type Bytes: Send + Sync;
    /// An array of labels.
    type Labels: Send + Sync;
    /// Sums over many batches.
    type Totals: Send + Sync;
    /// A stretch of work that can be done again, see [`Device::record`].
    type Recording: Send + Sync;

    /// Whether operators return before they are done, so that reading their results makes the host wait.
    const QUEUES: bool = false;

    /// Name for messages, such as `cpu (2 threads, avx512)`.
    fn name(&self) -> String;

    /// Allocates `len` zeros.
    fn zeros(&self, len: usize) -> Result<Self::Buffer>;
    /// Allocates `len` zeros for activations or their gradients, which a device may store in fewer bits.
    fn activations(&self, len: usize) -> Result<Self::Buffer> {
        self.zeros(len)
    }
    /// Allocates `len` zeros for a parameter, of which a device may keep copies in other forms.
    fn weights(&self, len: usize) -> Result<Self::Buffer> {
        self.zeros(len)
    }
    /// Allocates `len` bytes of zero.
    fn bytes(&self, len: usize) -> Result<Self::Bytes>;
    /// Allocates `len` labels of zero.
    fn labels(&self, len: usize) -> Result<Self::Labels>;
    /// Copies `from` into the front of `to`.
    fn write(&self, from: &[Self::Element], to: &mut Self::Buffer) -> Result<()>;
    /// Copies the front of `from` into `to`.
    fn read(&self, from: &Self::Buffer, to: &mut [Self::Element]) -> Result<()>;
    /// Copies `from` into the front of `to`.
    fn write_labels(&self, from: &[u32], to: &mut Self::Labels) -> Result<()>;

    /// Copies `from` into the front of `to`.
    ///
    /// # Errors
    /// A device that does not [`augment`](Device::augment); its own.
    fn write_bytes(&self, from: &[u8], to: &mut Self::Bytes) -> Result<()> {
        let _ = (from, to);
        Err(self.without("a data set"))
    }

    /// Two sums of zero.
    fn totals(&self) -> Result<Self::Totals>;
    /// Sets the sums of losses and of hits.
    fn write_totals(&self, from: [f64; 2], to: &mut Self::Totals) -> Result<()>;
    /// The sums of losses and of hits.
    fn read_totals(&self, from: &Self::Totals) -> Result<[f64; 2]>;
    /// Adds the first `len` losses and hits to `totals`: the batch's sum first, then that to the total.
    fn add_totals(
        &self,
        len: usize,
        losses: &Self::Buffer,
        correct: &Self::Buffer,
        totals: &mut Self::Totals,
    ) -> Result<()>;

    /// Runs `work` while operators that other threads call on this device wait: for operators that belong together.
    ///
    /// # Errors
    /// That of `work`.
    fn exclusive(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }
    /// Tells what changes from step to step, which a [recording](Device::record) takes from here.
    fn begin_step(&self, step: u32, rule: Option<&Sgd>) -> Result<()> {
        let _ = (step, rule);
        Ok(())
    }
    /// Records what `work` does, to be done by [`Device::replay`]; it is not done now. None, and nothing has happened,
    /// where the device does not record.
    ///
    /// # Errors
    /// That of `work`; work that cannot be recorded.
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Self::Recording>> {
        let _ = work;
        Ok(None)
    }
    /// Does again what was recorded. False, and nothing has happened, if the device's scratch memory has moved since.
    ///
    /// # Safety
    /// The arrays that the recorded work was given are still there.
    ///
    /// # Errors
    /// The device's.
    unsafe fn replay(&self, recording: &mut Self::Recording) -> Result<bool> {
        let _ = recording;
        Ok(false)
    }

    /// Batches out of a data set that lies on the device: out (N, S, S, 3) from those of `images` (·, S, S, 3) that
    /// `indices` names, transformed and normalised.
    ///
    /// # Errors
    /// A device that does not do it; its own.
    fn augment(
        &self,
        shape: &AugmentShape,
        images: &Self::Bytes,
        indices: &Self::Labels,
        out: &mut Self::Buffer,
    ) -> Result<()> {
        let _ = (shape, images, indices, out);
        Err(self.without("a data set"))
    }

    /// The state of the loss's scaling, on a device that scales it.
    ///
    /// # Errors
    /// The device's.
    fn scaling(&self) -> Result<Option<Scaler>> {
        Ok(None)
    }
    /// Sets the state of the loss's scaling, on a device that scales it.
    ///
    /// # Errors
    /// The device's.
    fn set_scaling(&self, scaler: &Scaler) -> Result<()> {
        let _ = scaler;
        Ok(())
    }

    /// How it stores numbers.
    fn storage(&self) -> Storage {
        Storage::uniform(size_of::<Self::Element>())
    }
    /// The free and all bytes of a memory of its own.
    ///
    /// # Errors
    /// The device's.
    fn memory(&self) -> Result<Option<(u64, u64)>> {
        Ok(None)
    }
    /// Bytes that [`Device::prepare`] would hold, where they can be told before.
    fn workspace(&self, operations: &[Operation], training: bool) -> u64 {
        let _ = (operations, training);
        0
    }
    /// The error of a device that has no `what`.
    fn without(&self, what: &str) -> Error {
        Error::Device { device: self.name(), message: format!("this device does not hold {what}") }
    }

    /// Reserves the scratch memory of `operations`, so that running them (or the same with a smaller
    /// batch) allocates nothing. Returns the bytes it holds.
    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64>;

    /// y = x ⋆ w + b, then max(y, 0) if `relu`.
    ///
    /// y\[n,p,q,k\] = b\[k\] + Σ over c, r, s of x\[n, p·stride + r − padding, q·stride + s − padding, c\] · w\[k,c,r,s\].
    #[allow(clippy::too_many_arguments)]
    fn conv_forward(
        &self,
        shape: &ConvShape,
        x: &Self::Buffer,
        w: &Self::Buffer,
        b: &Self::Buffer,
        relu: bool,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx\[n,h,w,c\] = Σ over k, r, s of dy\[n,p,q,k\] · w\[k,c,r,s\] where (p, q) and (r, s) meet (h, w).
    fn conv_backward_data(
        &self,
        shape: &ConvShape,
        dy: &Self::Buffer,
        w: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// dw\[k,c,r,s\] = Σ over n, p, q of dy\[n,p,q,k\] · x\[n, p·stride + r − padding, …, c\]; db\[k\] = Σ dy\[n,p,q,k\].
    #[allow(clippy::too_many_arguments)]
    fn conv_backward_weight(
        &self,
        shape: &ConvShape,
        x: &Self::Buffer,
        dy: &Self::Buffer,
        accumulate: bool,
        dw: &mut Self::Buffer,
        db: &mut Self::Buffer,
    ) -> Result<()>;
    /// [`Device::conv_backward_weight`] and [`Device::conv_backward_data`], with the same results. A device on which they
    /// share work does both in one go.
    #[allow(clippy::too_many_arguments)]
    fn conv_backward(
        &self,
        shape: &ConvShape,
        x: &Self::Buffer,
        w: &Self::Buffer,
        dy: &Self::Buffer,
        accumulate: bool,
        dw: &mut Self::Buffer,
        db: &mut Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()> {
        self.conv_backward_weight(shape, x, dy, accumulate, dw, db)?;
        self.conv_backward_data(shape, dy, w, dx)
    }

    /// x = max(x, 0) on the first `len` elements.
    fn relu_forward(&self, len: usize, x: &mut Self::Buffer) -> Result<()>;
    /// dy = 0 where y ≤ 0, on the first `len` elements; y is the output of the forward pass.
    fn relu_backward(&self, len: usize, y: &Self::Buffer, dy: &mut Self::Buffer) -> Result<()>;

    /// y = y + x, then max(y, 0) if `relu`, on the first `len` elements: a shortcut, and its gradient.
    fn add(&self, len: usize, x: &Self::Buffer, relu: bool, y: &mut Self::Buffer) -> Result<()>;

    /// y = the largest x in each window; `argmax` = its position r·R + s in the window, the first of
    /// equals in row order. A NaN counts as the largest, as in PyTorch.
    fn maxpool_forward(
        &self,
        shape: &MaxPoolShape,
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        argmax: &mut Self::Bytes,
    ) -> Result<()>;
    /// dx = Σ of the dy whose window's largest element x was; written as a gather, zeros included.
    fn maxpool_backward(
        &self,
        shape: &MaxPoolShape,
        dy: &Self::Buffer,
        argmax: &Self::Bytes,
        dx: &mut Self::Buffer,
    ) -> Result<()>;

    /// y = the mean of x over each window of [`AvgPoolShape::window`].
    fn avgpool_forward(&self, shape: &AvgPoolShape, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// dx = Σ of dy / window size over the windows that hold x.
    fn avgpool_backward(&self, shape: &AvgPoolShape, dy: &Self::Buffer, dx: &mut Self::Buffer) -> Result<()>;

    /// y = x · (k + α/size · Σ x²)^−β over the window of channels.
    fn lrn_forward(&self, shape: &LrnShape, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// dx\[c\] = dy\[c\]·s\[c\]^−β − 2αβ/size · x\[c\] · Σ over c' whose window holds c of dy\[c'\]·x\[c'\]·s\[c'\]^(−β−1),
    /// where s = k + α/size · Σ x².
    fn lrn_backward(&self, shape: &LrnShape, x: &Self::Buffer, dy: &Self::Buffer, dx: &mut Self::Buffer) -> Result<()>;

    /// y = w·(x − μ)/√(σ²+ε) + b with the mean μ and the biased variance σ² of each channel's rows, then max(y, 0) if
    /// `relu`. `statistics` (2, C) = μ and 1/√(σ²+ε), for the backward pass; `running` = the running mean and
    /// variance, which move by `momentum` towards μ and the unbiased variance.
    #[allow(clippy::too_many_arguments)]
    fn batchnorm_forward(
        &self,
        shape: &BatchNormShape,
        x: &Self::Buffer,
        w: &Self::Buffer,
        b: &Self::Buffer,
        relu: bool,
        running: [&mut Self::Buffer; 2],
        statistics: &mut Self::Buffer,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// With x̂ = (x − μ)/√(σ²+ε): dw = Σ dy·x̂; db = Σ dy; dx = w/√(σ²+ε) · (dy − mean(dy) − x̂·mean(dy·x̂)).
    #[allow(clippy::too_many_arguments)]
    fn batchnorm_backward(
        &self,
        shape: &BatchNormShape,
        x: &Self::Buffer,
        dy: &Self::Buffer,
        w: &Self::Buffer,
        statistics: &Self::Buffer,
        accumulate: bool,
        dw: &mut Self::Buffer,
        db: &mut Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// y = w·(x − mean)/√(variance+ε) + b with statistics that are given, then max(y, 0) if `relu`.
    #[allow(clippy::too_many_arguments)]
    fn batchnorm_inference(
        &self,
        shape: &BatchNormShape,
        x: &Self::Buffer,
        w: &Self::Buffer,
        b: &Self::Buffer,
        mean: &Self::Buffer,
        variance: &Self::Buffer,
        relu: bool,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx = dy·w/√(variance+ε): the backward pass of a layer that is frozen, whose statistics are given.
    fn batchnorm_inference_backward(
        &self,
        shape: &BatchNormShape,
        dy: &Self::Buffer,
        w: &Self::Buffer,
        variance: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;

    /// x = x · factor, see [`DropoutShape::factor`]; the backward pass is the same operator on dy.
    fn dropout(&self, shape: &DropoutShape, x: &mut Self::Buffer) -> Result<()>;

    /// y (N, C·H·W) = x (N, H, W, C) reordered.
    fn flatten_forward(&self, shape: &FlattenShape, x: &Self::Buffer, y: &mut Self::Buffer) -> Result<()>;
    /// dx (N, H, W, C) = dy (N, C·H·W) reordered.
    fn flatten_backward(&self, shape: &FlattenShape, dy: &Self::Buffer, dx: &mut Self::Buffer) -> Result<()>;

    /// y = x·wᵀ + b, then max(y, 0) if `relu`.
    #[allow(clippy::too_many_arguments)]
    fn linear_forward(
        &self,
        shape: &LinearShape,
        x: &Self::Buffer,
        w: &Self::Buffer,
        b: &Self::Buffer,
        relu: bool,
        y: &mut Self::Buffer,
    ) -> Result<()>;
    /// dx = dy·w.
    fn linear_backward_data(
        &self,
        shape: &LinearShape,
        dy: &Self::Buffer,
        w: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) -> Result<()>;
    /// dw = dyᵀ·x; db = Σ over n of dy.
    #[allow(clippy::too_many_arguments)]
    fn linear_backward_weight(
        &self,
        shape: &LinearShape,
        x: &Self::Buffer,
        dy: &Self::Buffer,
        accumulate: bool,
        dw: &mut Self::Buffer,
        db: &mut Self::Buffer,
    ) -> Result<()>;

    /// Mixes the images x of a batch in pairs, see [`Mix`](crate::shape::Mix).
    fn mix(&self, shape: &MixShape, x: &mut Self::Buffer) -> Result<()>;

    /// `losses`\[n\] = −Σ target·ln softmax(logits\[n\]); `correct`\[n\] = 1 if the first largest logit
    /// is the label's, else 0; `dlogits` = (softmax − target) / divisor, if asked for.
    ///
    /// With `second` labels and their λ, the one number of an array, the target is λ times that of the labels and 1 − λ
    /// times that of the second ones; `correct` counts the label with the larger share, the first of equals.
    #[allow(clippy::too_many_arguments)]
    fn softmax_cross_entropy(
        &self,
        shape: &LossShape,
        logits: &Self::Buffer,
        labels: &Self::Labels,
        second: Option<(&Self::Labels, &Self::Buffer)>,
        losses: &mut Self::Buffer,
        correct: &mut Self::Buffer,
        dlogits: Option<&mut Self::Buffer>,
    ) -> Result<()>;

    /// dw = dyᵀ·x, by which `weight` is updated at once, as [`Device::sgd`] would, and which is not kept; db = Σ over n of
    /// dy. False, and nothing has happened, on a device that has no such operator.
    fn linear_backward_update(
        &self,
        shape: &LinearShape,
        x: &Self::Buffer,
        dy: &Self::Buffer,
        rule: &Sgd,
        weight: &mut Parameter<Self::Buffer>,
        db: &mut Self::Buffer,
    ) -> Result<bool> {
        let _ = (shape, x, dy, rule, weight, db);
        Ok(false)
    }

    /// One update of all `parameters` that have a gradient, each by [`Sgd::of`] its shape.
    fn sgd(&self, rule: &Sgd, parameters: &mut [Parameter<Self::Buffer>]) -> Result<()>;

    /// e = d·e + (1 − d)·w for all `parameters` that have an average, computed as e += (1 − d)·(w − e): so an average
    /// that equals its weight stays, where d and 1 − d as rounded need not add up to 1.
    fn ema(&self, decay: f64, parameters: &mut [Parameter<Self::Buffer>]) -> Result<()>;
}
