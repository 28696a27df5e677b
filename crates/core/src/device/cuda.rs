//! The device for an NVIDIA GPU, by the kernels of `alexnet_kernels`.
//!
//! Activations and their gradients are stored in the network's precision; parameters, their gradients and momentum, losses and
//! counts of correct predictions are always float. In all precisions but fp32 a weight also has a copy in that precision,
//! which the matrix products read and each update renews. Weights of convolutions lie in the order in which the products read them.
//! All work runs in order on one stream, but for the gradients of weights, which are computed on another beside those of
//! activations.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alexnet_kernels::{
    self as kernels, Array, Averages, FilterLayout, Kernels, ParameterGroup, Parameters, Sums, Tested, Update, Updated,
    Uploads,
};
use alexnet_ops::{Number, Scaler, expect_len};

use alexnet_kernels::nccl::Nccl;
pub use alexnet_kernels::{Error as DriverError, Event, Winograd, nccl, nvrtc, probe};
pub use alexnet_ops::Precision;

use super::{LinearBackwardUpdate, Memory, Operators, Parameter, Queue, Storage, Updates};
use crate::arguments::*;
use crate::shape::Operation;
use crate::{Error, Result, Sgd};

mod buffer;
mod exchange;
mod scratch;

pub use buffer::Buffer;
pub use scratch::Graph;
use scratch::{Scratch, ScratchGuard};

/// An NVIDIA GPU as a device.
///
/// Its networks share the streams and the scratch memory. They may be used from several threads: each step and each operator
/// holds the GPU from beginning to end.
#[derive(Debug)]
pub struct Cuda {
    // Declared before the kernels: its arrays are freed before their context.
    scratch: Mutex<Scratch>,
    kernels: Kernels,
    ordinal: usize,
    /// What exchanges with the GPUs of other ranks.
    nccl: Option<&'static Nccl>,
    /// Good steps after which the loss scale is doubled; `None` without loss scaling.
    interval: Option<u32>,
}

/// Good steps after which the loss scale is doubled, as in `torch.amp.GradScaler`.
const INTERVAL: u32 = 2000;
/// The initial loss scale, as in `torch.amp.GradScaler`.
const SCALE: f32 = 65536.0;

impl Cuda {
    /// Opens GPU number `ordinal`.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver, the GPU or NVRTC is missing; the message says what.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        let kernels = Kernels::new(ordinal, precision).map_err(|error| failure(ordinal, error))?;
        let fail = |error| failure(ordinal, error);
        let scaled = precision == Precision::Fp16;
        let mut scratch = Scratch {
            workspaces: [kernels.zeros(Number::F32, 1).map_err(fail)?, kernels.zeros(Number::F32, 1).map_err(fail)?],
            step: kernels.zeros(Number::U32, 1).map_err(fail)?,
            step_value: 0,
            optimizer: kernels.zeros(Number::F32, 4).map_err(fail)?,
            optimizer_value: None,
            scaler: kernels.zeros(Number::F32, 4).map_err(fail)?,
            moved: 0,
            f16: Vec::new(),
            bf16: Vec::new(),
            tf32: Vec::new(),
        };
        let scaler = if scaled { Scaler { scale: SCALE, ..Scaler::default() } } else { Scaler::default() };
        kernels.write_scaler(&scaler, &mut scratch.scaler).map_err(fail)?;
        let interval = scaled.then_some(INTERVAL);
        Ok(Self { scratch: Mutex::new(scratch), kernels, ordinal, nccl: None, interval })
    }

    /// Records an event after all queued work.
    ///
    /// # Errors
    /// The driver's.
    pub fn event(&self) -> Result<Event> {
        self.ok(self.kernels.event())
    }
    /// GPU time between two events; waits for both.
    ///
    /// # Errors
    /// The driver's, also for earlier work.
    pub fn elapsed(&self, from: &Event, to: &Event) -> Result<Duration> {
        self.ok(from.until(to))
    }

    /// Chooses where convolutions in fp32 use Winograd's algorithm. Set it before a network is built.
    pub fn set_winograd(&mut self, winograd: Winograd) {
        self.kernels.set_winograd(winograd);
    }

    /// Lets the networks of several ranks exchange by NCCL; without it they do through the host. All ranks must do the same. Set it
    /// before [`Network::shard`](crate::Network::shard).
    pub fn set_nccl(&mut self, nccl: Option<&'static Nccl>) {
        self.nccl = nccl;
    }

    /// The kernels that the device launches.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// The state of loss scaling; without it a scale of 1.
    ///
    /// # Errors
    /// The driver's.
    pub fn scaler(&self) -> Result<Scaler> {
        self.ok(self.kernels.read_scaler(&self.scratch().scaler))
    }
    /// Sets the state of loss scaling, from a checkpoint.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_scaler(&self, scaler: &Scaler) -> Result<()> {
        self.ok(self.kernels.write_scaler(scaler, &mut self.scratch().scaler))
    }

    /// Takes the turn first: a thread that waited for it while holding the scratch would block a step that needs the scratch.
    fn scratch(&self) -> ScratchGuard<'_> {
        let turn = self.kernels.turn();
        ScratchGuard { scratch: self.scratch.lock().unwrap_or_else(PoisonError::into_inner), _turn: turn }
    }

    fn ok<T>(&self, result: kernels::Result<T>) -> Result<T> {
        result.map_err(|error| failure(self.ordinal, error))
    }

    fn array(&self, number: Number, len: usize) -> Result<Array> {
        self.ok(self.kernels.zeros(number, len))
    }
}

/// Converts an error of the kernels.
fn failure(ordinal: usize, error: kernels::Error) -> Error {
    match error {
        kernels::Error::Operator(error) => error.into(),
        kernels::Error::Ranks(error) => error.into(),
        error => Error::Device { device: format!("cuda:{ordinal}"), message: error.to_string() },
    }
}

impl Arrays for Cuda {
    type Buffer = Buffer;
    type Bytes = Array;
    type Labels = Array;
}

/// Views arguments as the kernels take them, which check the lengths.
impl View<Cuda> for Cuda {
    type To = Kernels;
    type Error = Error;
    fn stored<'a>(&self, _: Argument, buffer: &'a Buffer) -> Result<&'a Array> {
        Ok(&buffer.array)
    }
    fn stored_mut<'a>(&self, _: Argument, buffer: &'a mut Buffer) -> Result<&'a mut Array> {
        Ok(&mut buffer.array)
    }
    fn bytes<'a>(&self, _: Argument, bytes: &'a Array) -> Result<&'a Array> {
        Ok(bytes)
    }
    fn bytes_mut<'a>(&self, _: Argument, bytes: &'a mut Array) -> Result<&'a mut Array> {
        Ok(bytes)
    }
    fn labels<'a>(&self, _: Argument, labels: &'a Array) -> Result<&'a Array> {
        Ok(labels)
    }
}

impl Memory for Cuda {
    type Element = f32;
    type Totals = Array;
    type Uploads = Uploads;

    fn name(&self) -> String {
        format!("cuda:{} ({}, {:?})", self.ordinal, self.kernels.name(), self.kernels.precision()).to_lowercase()
    }

    fn zeros(&self, len: usize) -> Result<Buffer> {
        Ok(Buffer::new(self.array(Number::F32, len)?))
    }
    fn activations(&self, len: usize) -> Result<Buffer> {
        Ok(Buffer::new(self.array(self.kernels.storage(), len)?))
    }
    fn weights(&self, shape: &[usize]) -> Result<Buffer> {
        let (storage, mut buffer) = (self.kernels.storage(), self.gradients(shape)?);
        // Biases are added in float.
        if storage != Number::F32 && shape.len() > 1 {
            buffer.copy = Some(self.array(storage, buffer.array.len())?);
        }
        Ok(buffer)
    }
    fn gradients(&self, shape: &[usize]) -> Result<Buffer> {
        let &[filters, channels, kernel, _] = shape else { return self.zeros(shape.iter().product()) };
        let layout = FilterLayout::new([filters, channels, kernel], self.kernels.storage());
        Ok(Buffer { layout: Some(layout), ..self.zeros(layout.len())? })
    }
    fn bytes(&self, len: usize) -> Result<Array> {
        self.array(Number::U8, len)
    }
    fn labels(&self, len: usize) -> Result<Array> {
        self.array(Number::U32, len)
    }
    fn write_at(&self, from: &[f32], to: &mut Buffer, start: usize) -> Result<()> {
        expect_len("write", "to", to.len(), start + from.len())?;
        let Buffer { array, copy, layout, .. } = to;
        let mut arrays = std::iter::once(array).chain(copy);
        let Some(layout) = layout else {
            return arrays.try_for_each(|array| self.write_array(from, array, start));
        };
        let rows = layout.filters_of(start..start + from.len());
        let mut filters = vec![0.0; rows.len()];
        arrays.try_for_each(|array| {
            // What is not written stays.
            self.read_array(array, rows.start, &mut filters)?;
            from.iter().zip(start..).for_each(|(&x, i)| filters[layout.position(i) - rows.start] = x);
            self.write_array(&filters, array, rows.start)
        })
    }
    fn read_at(&self, from: &Buffer, start: usize, to: &mut [f32]) -> Result<()> {
        expect_len("read", "from", from.len(), start + to.len())?;
        let read = |start, to: &mut [f32]| match from.snapshot {
            true => self.ok(self.kernels.read_copy(&from.array, start, to)),
            false => self.read_array(&from.array, start, to),
        };
        let Some(layout) = from.layout else { return read(start, to) };
        let rows = layout.filters_of(start..start + to.len());
        let mut filters = vec![0.0; rows.len()];
        read(rows.start, &mut filters)?;
        to.iter_mut().zip(start..).for_each(|(to, i)| *to = filters[layout.position(i) - rows.start]);
        Ok(())
    }
    fn snapshot(&self, from: &Buffer, earlier: Option<Buffer>) -> Result<Buffer> {
        let mut copy = match earlier {
            Some(earlier) => earlier,
            None => {
                let array = self.array(from.array.number(), from.array.len())?;
                Buffer { snapshot: true, layout: from.layout, ..Buffer::new(array) }
            }
        };
        self.ok(self.kernels.copy(&from.array, &mut copy.array))?;
        Ok(copy)
    }
    fn write_labels(&self, from: &[u32], to: &mut Array) -> Result<()> {
        self.ok(self.kernels.write(from, to))
    }

    fn write_bytes(&self, from: &[u8], to: &mut Array) -> Result<()> {
        self.ok(self.kernels.write(from, to))
    }
    fn uploads(&self, len: usize) -> Result<Uploads> {
        self.ok(self.kernels.uploads(len))
    }
    fn upload<'a>(&self, from: &[u8], uploads: &'a mut Uploads) -> Result<&'a Array> {
        self.ok(self.kernels.upload(from, uploads))
    }

    fn totals(&self) -> Result<Array> {
        self.array(Number::F64, 2)
    }
    fn write_totals(&self, from: [f64; 2], to: &mut Array) -> Result<()> {
        self.ok(self.kernels.write(&from, to))
    }
    fn read_totals(&self, from: &Array) -> Result<[f64; 2]> {
        let mut totals = [0.0; 2];
        self.ok(self.kernels.read(from, &mut totals))?;
        Ok(totals)
    }

    fn sum_totals<'a>(&self, from: &mut dyn Iterator<Item = &'a Array>, to: &mut Array) -> Result<()>
    where
        Self::Totals: 'a,
    {
        self.ok(self.kernels.total_sum(from, to))
    }

    fn storage(&self) -> Storage {
        let (storage, master) = (self.kernels.storage(), Number::F32.size());
        // All but fp32 have a copy of the weights, which the products read.
        let copy = if storage == Number::F32 { 0 } else { storage.size() };
        Storage { parameter: master + copy, gradient: 4, activation: storage.size(), kept: storage.size() }
    }
    fn memory(&self) -> Result<Option<(u64, u64)>> {
        self.ok(self.kernels.memory()).map(Some)
    }
    fn workspace(&self, operations: &[Operation], training: bool) -> u64 {
        4 * self.workspace_floats(operations, training).iter().sum::<usize>() as u64
    }

    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64> {
        let mut scratch = self.scratch();
        for (side, floats) in self.workspace_floats(operations, training).into_iter().enumerate() {
            self.grow(&mut scratch, side, floats)?;
        }
        // Compile and load now, not in the first step.
        self.ok(self.kernels.load_all())?;
        Ok(4 * scratch.workspaces.iter().map(Array::len).sum::<usize>() as u64)
    }
}

impl Queue for Cuda {
    type Graph = Graph;

    const QUEUES: bool = true;

    fn exclusive(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _turn = self.kernels.turn();
        work()
    }
    fn side_by_side(
        &self,
        first: &mut dyn FnMut() -> Result<()>,
        second: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut done = [Ok(()), Ok(())];
        let [one, other] = &mut done;
        let joined = self.kernels.side_by_side(|| *one = first(), || *other = second());
        let [one, other] = done;
        one.and(other)?;
        self.ok(joined)
    }
    fn begin_step(&self, step: u32, optimizer: Option<&Sgd>) -> Result<()> {
        let mut scratch = self.scratch();
        self.write_step(&mut scratch, step)?;
        optimizer.map_or(Ok(()), |optimizer| self.write_optimizer(&mut scratch, optimizer))
    }
    fn capture(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Graph>> {
        if !self.kernels.captures() {
            return Ok(None);
        }
        let moved = self.scratch().moved;
        let mut worked = Ok(());
        let captured = self.kernels.capture(|| worked = work());
        // First, because it may have made the capture fail too.
        worked?;
        Ok(Some(Graph { graph: self.ok(captured)?, moved }))
    }
    unsafe fn launch_graph(&self, graph: &mut Graph) -> Result<bool> {
        let scratch = self.scratch();
        if graph.moved != scratch.moved {
            return Ok(false);
        }
        // SAFETY: the caller promises that its arrays exist; those of the scratch have not moved.
        self.ok(unsafe { self.kernels.launch_graph(&mut graph.graph) })?;
        Ok(true)
    }
}

/// The optimizer's settings for a parameter.
fn group(optimizer: &Sgd, parameter: &Parameter<Buffer>) -> ParameterGroup {
    ParameterGroup { decays: optimizer.decays(&parameter.shape), rate: parameter.rate as f32 }
}

/// Operators that call the kernels' method of the same name.
macro_rules! kernels {
    ($($name:ident($arguments:ident);)*) => {$(
        fn $name(&self, a: $arguments<'_, Self>) -> Result<()> {
            self.ok(self.kernels.$name(a.view(self)?))
        }
    )*};
}

impl Operators for Cuda {
    const UPDATES: Updates = Updates::AfterPass;

    kernels! {
        relu_forward(ReluForward);
        relu_backward(ReluBackward);
        add(Add);
        maxpool_forward(MaxPoolForward);
        maxpool_backward(MaxPoolBackward);
        avgpool_forward(AvgPoolForward);
        avgpool_backward(AvgPoolBackward);
        lrn_forward(LrnForward);
        lrn_backward(LrnBackward);
        batchnorm_backward_data(BatchNormBackwardData);
        batchnorm_inference(BatchNormInference);
        batchnorm_inference_backward(BatchNormInferenceBackward);
        flatten_forward(FlattenForward);
        flatten_backward(FlattenBackward);
        mix(MixPairs);
    }

    fn augment(&self, a: Augment<'_, Self>) -> Result<()> {
        let workspace = &mut self.scratch_of(Kernels::augment_workspace(a.shape))?.workspaces[self.kernels.side()];
        self.ok(self.kernels.augment(a.view(self)?, workspace))
    }
    fn conv_forward(&self, a: ConvForward<'_, Self>) -> Result<()> {
        let workspace =
            &mut self.scratch_of(self.kernels.conv_forward_workspace(a.shape))?.workspaces[self.kernels.side()];
        let w = a.w.operand();
        self.ok(self.kernels.conv_forward(ConvForward { w, ..a.view(self)? }, workspace))
    }
    fn conv_backward_data(&self, a: ConvBackwardData<'_, Self>) -> Result<()> {
        let workspace =
            &mut self.scratch_of(self.kernels.conv_backward_data_workspace(a.shape))?.workspaces[self.kernels.side()];
        let w = a.w.operand();
        self.ok(self.kernels.conv_backward_data(ConvBackwardData { w, ..a.view(self)? }, workspace))
    }
    fn conv_backward(&self, a: ConvBackward<'_, Self>) -> Result<()> {
        let ConvBackward { shape, accumulate, test, masks, x, w, dy, dw, db, dx } = a;
        self.side_by_side(
            &mut || self.conv_backward_data(ConvBackwardData { shape, dy, w, mask: masks.then_some(x), dx }),
            &mut || self.conv_backward_weight(ConvBackwardWeight { shape, accumulate, test, x, dy, dw, db }),
        )
    }
    fn conv_backward_weight(&self, a: ConvBackwardWeight<'_, Self>) -> Result<()> {
        let mut scratch = self.scratch_of(self.kernels.conv_backward_weight_workspace(a.shape))?;
        let Scratch { workspaces, scaler, .. } = &mut *scratch;
        let (workspace, tests) = (&mut workspaces[self.kernels.side()], a.test && self.interval.is_some());
        self.ok(self.kernels.conv_backward_weight(a.view(self)?, tests.then_some(scaler), workspace))
    }

    fn batchnorm_forward(&self, a: BatchNormForward<'_, Self>) -> Result<()> {
        let workspace = &mut self.scratch_of(Kernels::batchnorm_workspace(a.shape))?.workspaces[self.kernels.side()];
        self.ok(self.kernels.batchnorm_forward(a.view(self)?, workspace))
    }
    fn batchnorm_moments(&self, a: BatchNormMoments<'_, Self>) -> Result<()> {
        let workspace = &mut self.scratch_of(Kernels::batchnorm_workspace(a.shape))?.workspaces[self.kernels.side()];
        self.ok(self.kernels.batchnorm_moments(a.view(self)?, workspace))
    }
    fn batchnorm_backward_weight(&self, a: BatchNormBackwardWeight<'_, Self>) -> Result<()> {
        let workspace = &mut self.scratch_of(Kernels::batchnorm_workspace(a.shape))?.workspaces[self.kernels.side()];
        self.ok(self.kernels.batchnorm_backward_weight(a.view(self)?, workspace))
    }
    fn batchnorm_backward(&self, a: BatchNormBackward<'_, Self>) -> Result<()> {
        let workspace = &mut self.scratch_of(Kernels::batchnorm_workspace(a.shape))?.workspaces[self.kernels.side()];
        self.ok(self.kernels.batchnorm_backward(a.view(self)?, workspace))
    }

    fn dropout(&self, a: Dropout<'_, Self>) -> Result<()> {
        let mut scratch = self.scratch();
        self.write_step(&mut scratch, a.shape.step)?;
        self.ok(self.kernels.dropout(a.view(self)?, &scratch.step))
    }

    fn linear_forward(&self, a: LinearForward<'_, Self>) -> Result<()> {
        let mut scratch = self.scratch_of(self.kernels.linear_workspace(a.shape))?;
        a.dropout.map_or(Ok(()), |dropout| self.write_step(&mut scratch, dropout.step))?;
        let (w, Scratch { workspaces, step, .. }) = (a.w.operand(), &mut *scratch);
        let workspace = &mut workspaces[self.kernels.side()];
        self.ok(self.kernels.linear_forward(LinearForward { w, ..a.view(self)? }, step, workspace))
    }
    fn linear_backward_data(&self, a: LinearBackwardData<'_, Self>) -> Result<()> {
        let mut scratch = self.scratch_of(self.kernels.linear_workspace(a.shape))?;
        a.dropout.map_or(Ok(()), |dropout| self.write_step(&mut scratch, dropout.step))?;
        let (w, Scratch { workspaces, step, .. }) = (a.w.operand(), &mut *scratch);
        let workspace = &mut workspaces[self.kernels.side()];
        self.ok(self.kernels.linear_backward_data(LinearBackwardData { w, ..a.view(self)? }, step, workspace))
    }
    fn linear_backward_weight(&self, a: LinearBackwardWeight<'_, Self>) -> Result<()> {
        let workspace = &mut self.scratch_of(self.kernels.linear_workspace(a.shape))?.workspaces[self.kernels.side()];
        self.ok(self.kernels.linear_backward_weight(a.view(self)?, workspace))
    }
    fn linear_backward_update(&self, a: LinearBackwardUpdate<'_, Self>) -> Result<()> {
        let LinearBackwardUpdate { shape, x, dy, sgd, weight, bias } = a;
        let mut scratch = self.scratch_of(self.kernels.linear_workspace(shape))?;
        self.write_optimizer(&mut scratch, sgd)?;
        let groups = [group(sgd, weight), group(sgd, bias)];
        let (Some(v), Some(bias_v)) = (&mut weight.momentum, &mut bias.momentum) else {
            return Err(self.lacks("update of a parameter that is not trained"));
        };
        let Scratch { workspaces, optimizer, scaler, .. } = &mut *scratch;
        let Buffer { array: w, copy, .. } = &mut weight.value;
        let weight = Updated { group: groups[0], w, v: &mut v.array, copy: copy.as_mut() };
        let bias = Updated { group: groups[1], w: &mut bias.value.array, v: &mut bias_v.array, copy: None };
        let update = Update { optimizer, scaler, weight, bias };
        let workspace = &mut workspaces[self.kernels.side()];
        self.ok(self.kernels.linear_backward_update(shape, [&x.array, &dy.array], update, workspace))
    }

    fn softmax_cross_entropy(&self, a: SoftmaxCrossEntropy<'_, Self>) -> Result<()> {
        let scale = &self.scratch().scaler;
        self.ok(self.kernels.softmax_cross_entropy(a.view(self)?, scale))
    }

    fn add_totals(&self, len: usize, losses: &Buffer, correct: &Buffer, totals: &mut Array) -> Result<()> {
        self.ok(self.kernels.total_add(len, &losses.array, &correct.array, totals))
    }

    fn scaling(&self) -> Result<Option<Scaler>> {
        self.interval.map(|_| self.scaler()).transpose()
    }
    fn set_scaling(&self, scaler: &Scaler) -> Result<()> {
        if self.interval.is_some() { self.set_scaler(scaler) } else { Ok(()) }
    }

    fn begin_update<'a>(
        &self,
        operands: &mut dyn Iterator<Item = (&'a Buffer, usize)>,
        gradients: &mut dyn Iterator<Item = &'a Buffer>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        if self.interval.is_none() {
            return Ok(());
        }
        let mut tested = Tested::default();
        for (buffer, len) in operands.chain(gradients.map(|gradient| (gradient, gradient.array.len()))) {
            self.ok(tested.push(&self.kernels, &buffer.array, len))?;
        }
        self.ok(self.kernels.sgd_test(&tested, &mut self.scratch().scaler))
    }
    fn end_update(&self) -> Result<()> {
        let rescale = |interval| self.ok(self.kernels.sgd_rescale(&mut self.scratch().scaler, interval));
        self.interval.map_or(Ok(()), rescale)
    }
    fn sgd<'a>(&self, optimizer: &Sgd, parameters: &mut dyn Iterator<Item = &'a mut Parameter<Buffer>>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let mut scratch = self.scratch();
        self.write_optimizer(&mut scratch, optimizer)?;
        let mut table = Parameters::default();
        for parameter in parameters {
            let group = group(optimizer, parameter);
            if let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) {
                let Buffer { array, copy, .. } = &mut parameter.value;
                self.ok(table.push(array.len(), group, array, &gradient.array, &mut momentum.array, copy.as_mut()))?;
            }
        }
        self.ok(self.kernels.sgd(&table, &scratch.optimizer, &scratch.scaler))
    }

    fn ema(&self, decay: f64, parameters: &mut [Parameter<Buffer>]) -> Result<()> {
        let mut averages = Averages::default();
        for parameter in parameters {
            if let Some(Buffer { array, copy, .. }) = &mut parameter.average {
                self.ok(averages.push(array.len(), array, copy.as_mut(), &parameter.value.array))?;
            }
        }
        self.ok(self.kernels.ema(&averages, (1.0 - decay) as f32))
    }

    fn add_floats<'a>(&self, pairs: &mut dyn Iterator<Item = (&'a mut Buffer, &'a Buffer)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let mut sums = Sums::default();
        for (y, x) in pairs {
            let len = y.array.len().max(x.array.len());
            self.ok(sums.push(len, &mut y.array, &x.array))?;
        }
        self.ok(self.kernels.sum(&sums))
    }
    fn approach<'a>(&self, rate: f64, pairs: &mut dyn Iterator<Item = (&'a mut Buffer, &'a Buffer)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let mut averages = Averages::default();
        for (e, x) in pairs {
            let len = e.array.len().max(x.array.len());
            self.ok(averages.push(len, &mut e.array, None, &x.array))?;
        }
        self.ok(self.kernels.ema(&averages, rate as f32))
    }
}
