//! A device owns arrays ([`Memory`]), computes on them ([`Operators`]) and orders the work ([`Queue`]).
//!
//! Activations are NHWC, parameters have PyTorch's layout. An array may be longer than its shape (a short last batch uses the
//! front); one that is too short is [`alexnet_ops::Error::Length`]. Operators are deterministic: the same bits at any thread
//! count.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod exchange;
pub mod reference;

use alexnet_ops::for_each_operator;

use crate::arguments::*;
use crate::shape::{LinearShape, Operation};
use crate::{Error, Result, Sgd};

pub use alexnet_ops::Scaler;
pub use exchange::Exchange;

/// Bytes per element, by kind of array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Weights and biases, with all their copies.
    pub parameter: usize,
    /// Gradients and momentum of parameters; losses.
    pub gradient: usize,
    /// Activations and their gradients.
    pub activation: usize,
    /// Gradients of linear layers' outputs that are kept until the end of the backward pass, see [`Updates::AfterPass`]; 0 where
    /// none are.
    pub kept: usize,
}

impl Storage {
    /// The same size for all arrays.
    pub const fn uniform(bytes: usize) -> Self {
        Self { parameter: bytes, gradient: bytes, activation: bytes, kept: 0 }
    }
}

/// A number that a device computes with: f32, or f64 in the reference.
pub trait Element:
    num_traits::Float + num_traits::NumAssign + bytemuck::Pod + Send + Sync + std::fmt::Debug + 'static
{
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
    /// Factor of the optimizer's learning rate, usually 1.
    pub rate: f64,
}

impl<B> Parameter<B> {
    /// Name of the layer that it is of, such as `features.0`.
    pub fn layer(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(layer, _)| layer)
    }
    /// The optimizer's constants for this parameter: its own learning rate, and weight decay where it applies.
    pub fn sgd(&self, optimizer: &Sgd) -> Sgd {
        Sgd { learning_rate: optimizer.learning_rate * self.rate, ..optimizer.of(&self.shape) }
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

/// Elements that are copied at a time where an array may be large: a multiple of four.
pub const CHUNK: usize = 1 << 18;

/// Allocates arrays and copies to and from them.
pub trait Memory:
    Arrays<Buffer: Sized + Send + Sync, Bytes: Sized + Send + Sync, Labels: Sized + Send + Sync> + Send + Sync
{
    /// Element type on the host, for [`Memory::write`] and [`Memory::read`].
    type Element: Element;
    /// The sums of losses and of correct predictions over many batches.
    type Totals: Send + Sync;
    /// What [`Memory::upload`] needs.
    type Uploads: Send + Sync;

    /// Name for messages, such as `cpu (2 threads, avx512)`.
    fn name(&self) -> String;

    /// Allocates `len` zeros.
    fn zeros(&self, len: usize) -> Result<Self::Buffer>;
    /// Allocates `len` zeros for activations or their gradients, which a device may store in half precision.
    fn activations(&self, len: usize) -> Result<Self::Buffer> {
        self.zeros(len)
    }
    /// Allocates zeros for a parameter of this shape, which a device may keep in an order of its own and in a second copy in half
    /// precision. Copies to and from it are in PyTorch's order.
    fn weights(&self, shape: &[usize]) -> Result<Self::Buffer> {
        self.zeros(shape.iter().product())
    }
    /// As [`Memory::weights`], for a network that is not trained: only the forward pass reads them.
    fn inference_weights(&self, shape: &[usize]) -> Result<Self::Buffer> {
        self.weights(shape)
    }
    /// Allocates zeros for the gradient or the momentum of a parameter of this shape, in the order of [`Memory::weights`].
    fn gradients(&self, shape: &[usize]) -> Result<Self::Buffer> {
        self.zeros(shape.iter().product())
    }
    /// Allocates `len` zero bytes.
    fn bytes(&self, len: usize) -> Result<Self::Bytes>;
    /// Allocates `len` zero labels.
    fn labels(&self, len: usize) -> Result<Self::Labels>;
    /// Copies `from` into the front of `to`.
    ///
    /// # Errors
    /// `to` is shorter; the device's.
    fn write(&self, from: &[Self::Element], to: &mut Self::Buffer) -> Result<()> {
        self.write_at(from, to, 0)
    }
    /// Copies the front of `from` into `to`.
    ///
    /// # Errors
    /// `from` is shorter; the device's.
    fn read(&self, from: &Self::Buffer, to: &mut [Self::Element]) -> Result<()> {
        self.read_at(from, 0, to)
    }
    /// Copies `from` into `to` from element `start` on: a large array in [chunks](CHUNK), without a second one on the host.
    fn write_at(&self, from: &[Self::Element], to: &mut Self::Buffer, start: usize) -> Result<()>;
    /// Copies the elements of `from` from `start` on into `to`.
    fn read_at(&self, from: &Self::Buffer, start: usize, to: &mut [Self::Element]) -> Result<()>;
    /// A copy of `from` as it is after the work queued so far, in the memory of an `earlier` one if there is one.
    /// [`Memory::read_at`] of the copy, by any thread, waits for no work that is queued later.
    ///
    /// # Errors
    /// The earlier one is shorter; too little memory; the device's.
    fn snapshot(&self, from: &Self::Buffer, earlier: Option<Self::Buffer>) -> Result<Self::Buffer>;
    /// Copies `from` into the front of `to`.
    fn write_labels(&self, from: &[u32], to: &mut Self::Labels) -> Result<()>;

    /// Copies `from` into the front of `to`.
    ///
    /// # Errors
    /// A device that does not [`augment`](Operators::augment); its own.
    fn write_bytes(&self, from: &[u8], to: &mut Self::Bytes) -> Result<()> {
        let _ = (from, to);
        Err(self.lacks("memory for data sets"))
    }
    /// Allocates what uploads of up to `len` bytes need: twice as many on the device and on the host.
    ///
    /// # Errors
    /// A device that does not [`augment`](Operators::augment); too little memory of either.
    fn uploads(&self, len: usize) -> Result<Self::Uploads> {
        let _ = len;
        Err(self.lacks("memory for images"))
    }
    /// Copies `from` to the device, beside the work that was queued before; returns where it is for the operators that are
    /// called before the next upload.
    ///
    /// # Errors
    /// More than was allocated; a device that does not [`augment`](Operators::augment); its own.
    fn upload<'a>(&self, from: &[u8], uploads: &'a mut Self::Uploads) -> Result<&'a Self::Bytes> {
        let _ = (from, uploads);
        Err(self.lacks("memory for images"))
    }

    /// Allocates the two sums, at zero.
    fn totals(&self) -> Result<Self::Totals>;
    /// Sets the sums of losses and of correct predictions.
    fn write_totals(&self, from: [f64; 2], to: &mut Self::Totals) -> Result<()>;
    /// The sums of losses and of correct predictions.
    fn read_totals(&self, from: &Self::Totals) -> Result<[f64; 2]>;
    /// Adds the first of `from` to `to`, then the next, and so on.
    ///
    /// # Errors
    /// The device's.
    fn sum_totals<'a>(&self, from: &mut dyn Iterator<Item = &'a Self::Totals>, to: &mut Self::Totals) -> Result<()>
    where
        Self::Totals: 'a,
    {
        let mut sums = self.read_totals(to)?;
        for totals in from {
            sums.iter_mut().zip(self.read_totals(totals)?).for_each(|(sum, more)| *sum += more);
        }
        self.write_totals(sums, to)
    }
    /// Bytes per element of its arrays.
    fn storage(&self) -> Storage {
        Storage::uniform(size_of::<Self::Element>())
    }
    /// Free and total bytes, for a device with memory of its own.
    ///
    /// # Errors
    /// The device's.
    fn memory(&self) -> Result<Option<(u64, u64)>> {
        Ok(None)
    }
    /// Bytes that [`Memory::prepare`] would allocate; 0 where the device cannot tell.
    fn workspace(&self, operations: &[Operation], training: bool) -> u64 {
        let _ = (operations, training);
        0
    }
    /// The error of a device that has no `what`.
    fn lacks(&self, what: &str) -> Error {
        Error::Device { device: self.name(), message: format!("this device has no {what}") }
    }

    /// Allocates the workspace of `operations`, so that running them, or the same with a smaller batch, allocates nothing.
    /// Returns its bytes.
    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64>;
}

/// Declares the operators; a device that does not implement one answers with an error.
macro_rules! declare {
    ($($name:ident($arguments:ident);)*) => {$(
        #[doc = concat!("Runs [`", stringify!($arguments), "`].\n\n# Errors")]
        #[doc = "An array that does not fit, a device that has no such operator; its own."]
        fn $name(&self, arguments: $arguments<'_, Self>) -> Result<()> {
            let _ = arguments;
            Err(self.lacks($arguments::<Self>::NAME))
        }
    )*};
}

/// When a training step updates a linear layer's weight where its gradient is computed, without storing the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// Not at all.
    Never,
    /// Right after the gradient of the layer's input.
    InPass,
    /// When all gradients of activations are known, as loss scaling requires: a step with one that is not finite changes nothing.
    AfterPass,
}

/// The operators of a training step. [`arguments`](crate::arguments) has their formulas and checks their lengths.
pub trait Operators: Memory {
    /// When a training step runs [`Operators::linear_backward_update`].
    const UPDATES: Updates = Updates::Never;

    for_each_operator!(declare);

    /// Runs [`SoftmaxCrossEntropy`].
    ///
    /// # Errors
    /// An array that does not fit, a label that is not a class, a device that has no such operator; its own.
    fn softmax_cross_entropy(&self, arguments: SoftmaxCrossEntropy<'_, Self>) -> Result<()> {
        let _ = arguments;
        Err(self.lacks(SoftmaxCrossEntropy::<Self>::NAME))
    }

    /// Runs [`ConvBackward`]. A device on which the two gradients share work does both in one go.
    ///
    /// # Errors
    /// As the two operators'.
    fn conv_backward(&self, arguments: ConvBackward<'_, Self>) -> Result<()> {
        let ConvBackward { shape, accumulate, test, masks, x, w, dy, dw, db, dx } = arguments;
        self.conv_backward_weight(ConvBackwardWeight { shape, accumulate, test, x, dy, dw, db })?;
        self.conv_backward_data(ConvBackwardData { shape, dy, w, mask: masks.then_some(x), dx })
    }

    /// [`LinearBackwardWeight`] and the update of `weight` and `bias` in one, as [`Operators::sgd`] would update them. Their gradients
    /// need not be stored. In a step that is skipped no parameter changes.
    ///
    /// # Errors
    /// An array that does not fit; a parameter that is not trained; a device that has no such operator; its own.
    fn linear_backward_update(&self, arguments: LinearBackwardUpdate<'_, Self>) -> Result<()> {
        let _ = arguments;
        Err(self.lacks("linear_backward_update"))
    }

    /// Adds the first `len` losses and correct predictions to `totals`: the batch's sum first, then that to the total.
    fn add_totals(
        &self,
        len: usize,
        losses: &Self::Buffer,
        correct: &Self::Buffer,
        totals: &mut Self::Totals,
    ) -> Result<()>;
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

    /// Begins the updates of a step. On a device that scales the loss the step is skipped, with all updates until
    /// [`Operators::end_update`], if a gradient is not finite: one of `gradients`, or one that is computed from `operands`, the first
    /// elements of x and dy of each [`Operators::linear_backward_update`] that follows; or one that was tested where a convolution
    /// computed it.
    ///
    /// # Errors
    /// The device's.
    fn begin_update<'a>(
        &self,
        operands: &mut dyn Iterator<Item = (&'a Self::Buffer, usize)>,
        gradients: &mut dyn Iterator<Item = &'a Self::Buffer>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (operands, gradients);
        Ok(())
    }
    /// Ends the updates of a step: on a device that scales the loss, adapts the scale.
    ///
    /// # Errors
    /// The device's.
    fn end_update(&self) -> Result<()> {
        Ok(())
    }
    /// One update of all `parameters` that have a gradient, each by [`Sgd::of`] its shape. In a step that is skipped it changes
    /// nothing.
    ///
    /// # Errors
    /// An array that does not fit; the device's.
    fn sgd<'a>(
        &self,
        optimizer: &Sgd,
        parameters: &mut dyn Iterator<Item = &'a mut Parameter<Self::Buffer>>,
    ) -> Result<()>
    where
        Self::Buffer: 'a;

    /// e = d·e + (1 − d)·w for all `parameters` that have an average, computed as e += (1 − d)·(w − e): so an average
    /// that equals its weight stays, where d and 1 − d as rounded need not add up to 1.
    fn ema(&self, decay: f64, parameters: &mut [Parameter<Self::Buffer>]) -> Result<()>;

    /// y += x for all pairs (y, x) of arrays of floats of one length, such as gradients.
    ///
    /// # Errors
    /// Arrays of different lengths; the device's.
    fn add_floats<'a>(&self, pairs: &mut dyn Iterator<Item = (&'a mut Self::Buffer, &'a Self::Buffer)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = pairs;
        Err(self.lacks("add_floats"))
    }

    /// e += rate·(x − e) for all pairs (e, x) of arrays of floats of one length: running statistics.
    ///
    /// # Errors
    /// Arrays of different lengths; the device's.
    fn approach<'a>(
        &self,
        rate: f64,
        pairs: &mut dyn Iterator<Item = (&'a mut Self::Buffer, &'a Self::Buffer)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let _ = (rate, pairs);
        Err(self.lacks("approach"))
    }
}

/// Arguments of [`Operators::linear_backward_update`].
pub struct LinearBackwardUpdate<'a, D: Memory> {
    /// Shape.
    pub shape: &'a LinearShape,
    /// (N, I).
    pub x: &'a D::Buffer,
    /// (N, O).
    pub dy: &'a D::Buffer,
    /// How the parameters are updated.
    pub sgd: &'a Sgd,
    /// w (O, I).
    pub weight: &'a mut Parameter<D::Buffer>,
    /// b (O).
    pub bias: &'a mut Parameter<D::Buffer>,
}

/// The order of work, for devices that run it later or again.
pub trait Queue: Memory {
    /// Captured work, see [`Queue::capture`].
    type Graph: Send + Sync;

    /// Whether operators return before they are done, so that reading their results waits for them.
    const QUEUES: bool = false;

    /// Runs `work` while operators that other threads call on this device wait: for operators that belong together.
    ///
    /// # Errors
    /// That of `work`.
    fn exclusive(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }
    /// Runs two pieces of work, on a device that can beside each other. Neither may change what the other uses.
    ///
    /// # Errors
    /// Those of either.
    fn side_by_side(
        &self,
        first: &mut dyn FnMut() -> Result<()>,
        second: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        first()?;
        second()
    }
    /// Writes what changes from step to step to where a [graph](Queue::capture) reads it.
    ///
    /// # Errors
    /// The device's.
    fn begin_step(&self, step: u32, optimizer: Option<&Sgd>) -> Result<()> {
        let _ = (step, optimizer);
        Ok(())
    }
    /// Captures what `work` launches as a CUDA graph, without running it. None, and nothing has happened, on a device that
    /// has no graphs.
    ///
    /// # Errors
    /// That of `work`; work that cannot be captured.
    fn capture(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Self::Graph>> {
        let _ = work;
        Ok(None)
    }
    /// Runs what was captured. False, and nothing has happened, if the device's scratch memory has moved since.
    ///
    /// # Safety
    /// The arrays that were arguments of the captured work are still allocated.
    ///
    /// # Errors
    /// The device's.
    unsafe fn launch_graph(&self, graph: &mut Self::Graph) -> Result<bool> {
        let _ = graph;
        Ok(false)
    }
}

/// A device: memory, operators, a queue, and the exchange between ranks.
pub trait Device: Memory + Operators + Queue + Exchange {}
impl<D: Memory + Operators + Queue + Exchange> Device for D {}
