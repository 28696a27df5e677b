//! An NVIDIA GPU: nothing but calls into `alexnet_kernels`.
//!
//! Arrays of activations and their gradients are stored as the precision says; parameters, their gradients and their
//! momentum, losses and hits are float always. In half precision a parameter also has a copy in half precision, which
//! the products read and every update renews. All work runs in order on one stream.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alexnet_kernels::{self as kernels, Array, Averages, Kernels, Parameters};
use alexnet_ops::{Number, Scaler, expect_len};
use half::{bf16, f16};

pub use alexnet_kernels::{Error as DriverError, Event, nvrtc, probe};
pub use alexnet_ops::Precision;

use super::{Device, Parameter, Storage};
use crate::shape::Operation;
use crate::shape::{
    AugmentShape, AvgPoolShape, BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape,
    LrnShape, MaxPoolShape, MixShape,
};
use crate::{Error, Result, Sgd};

mod buffer;
mod scratch;

pub use buffer::Buffer;
pub use scratch::Recording;
use scratch::{Scratch, ScratchGuard};

/// A GPU.
///
/// Its networks share one stream and the scratch memory. They may be used from several threads: a step holds the GPU for its
/// thread from beginning to end, and so does every operator.
#[derive(Debug)]
pub struct Cuda {
    // Before the kernels, whose context its arrays live in.
    scratch: Mutex<Scratch>,
    kernels: Kernels,
    ordinal: usize,
    /// Good steps until the loss's scale is doubled; without scaling none.
    interval: Option<u32>,
}

/// Good steps until the loss's scale is doubled, as in `torch.amp.GradScaler`.
const INTERVAL: u32 = 2000;
/// The scale at the start, likewise.
const SCALE: f32 = 65536.0;

impl Cuda {
    /// Opens GPU number `ordinal`.
    ///
    /// # Errors
    /// Whatever is missing: driver, GPU, NVRTC; the message says what to do.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        let kernels = Kernels::new(ordinal, precision).map_err(|error| failure(ordinal, error))?;
        let fail = |error| failure(ordinal, error);
        let storage = kernels.storage();
        let scaled = precision == Precision::Fp16;
        let mut scratch = Scratch {
            workspace: kernels.zeros(Number::F32, 1).map_err(fail)?,
            packed: kernels.zeros(storage, 1).map_err(fail)?,
            step: kernels.zeros(Number::U32, 1).map_err(fail)?,
            step_value: 0,
            rule: kernels.zeros(Number::F32, 4).map_err(fail)?,
            rule_value: None,
            scaler: kernels.zeros(Number::F32, 4).map_err(fail)?,
            moved: 0,
            f16: Vec::new(),
            bf16: Vec::new(),
        };
        let scaler = if scaled { Scaler { scale: SCALE, ..Scaler::default() } } else { Scaler::default() };
        kernels.write_scaler(&scaler, &mut scratch.scaler).map_err(fail)?;
        Ok(Self { scratch: Mutex::new(scratch), kernels, ordinal, interval: scaled.then_some(INTERVAL) })
    }

    /// Records an event behind all work that is queued.
    ///
    /// # Errors
    /// The driver's.
    pub fn event(&self) -> Result<Event> {
        self.ok(self.kernels.event())
    }
    /// The GPU's time between two events; waits for both.
    ///
    /// # Errors
    /// That of the work before; the driver's.
    pub fn elapsed(&self, from: &Event, to: &Event) -> Result<Duration> {
        self.ok(from.until(to))
    }

    /// The GPU with its kernels.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// The state of the loss's scaling; a scale of 1 without scaling.
    ///
    /// # Errors
    /// The driver's.
    pub fn scaler(&self) -> Result<Scaler> {
        self.ok(self.kernels.read_scaler(&self.scratch().scaler))
    }
    /// Sets the state of the loss's scaling, as a checkpoint holds it.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_scaler(&self, scaler: &Scaler) -> Result<()> {
        self.ok(self.kernels.write_scaler(scaler, &mut self.scratch().scaler))
    }

    /// Takes the turn first: who waits for it while holding the scratch would stop a step that needs the scratch.
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

/// A failure in this crate's words.
fn failure(ordinal: usize, error: kernels::Error) -> Error {
    match error {
        kernels::Error::Operator(error) => error.into(),
        error => Error::Device { device: format!("cuda:{ordinal}"), message: error.to_string() },
    }
}

impl Device for Cuda {
    type Element = f32;
    type Buffer = Buffer;
    type Bytes = Array;
    type Labels = Array;
    type Totals = Array;
    type Recording = Recording;

    const QUEUES: bool = true;

    fn name(&self) -> String {
        format!("cuda:{} ({}, {:?})", self.ordinal, self.kernels.name(), self.kernels.precision()).to_lowercase()
    }

    fn zeros(&self, len: usize) -> Result<Buffer> {
        Ok(Buffer { array: self.array(Number::F32, len)?, copy: None })
    }
    fn activations(&self, len: usize) -> Result<Buffer> {
        Ok(Buffer { array: self.array(self.kernels.storage(), len)?, copy: None })
    }
    fn weights(&self, len: usize) -> Result<Buffer> {
        let storage = self.kernels.storage();
        let copy = if storage == Number::F32 { None } else { Some(self.array(storage, len)?) };
        Ok(Buffer { array: self.array(Number::F32, len)?, copy })
    }
    fn bytes(&self, len: usize) -> Result<Array> {
        self.array(Number::U8, len)
    }
    fn labels(&self, len: usize) -> Result<Array> {
        self.array(Number::U32, len)
    }
    fn write(&self, from: &[f32], to: &mut Buffer) -> Result<()> {
        self.write_array(from, &mut to.array)?;
        to.copy.as_mut().map_or(Ok(()), |copy| self.write_array(from, copy))
    }
    fn read(&self, from: &Buffer, to: &mut [f32]) -> Result<()> {
        let array = &from.array;
        expect_len("read", "from", array.len(), to.len())?;
        match array.number() {
            Number::F16 => {
                let mut half = vec![f16::ZERO; to.len()];
                self.ok(self.kernels.read(array, &mut half))?;
                to.iter_mut().zip(half).for_each(|(to, x)| *to = x.to_f32());
            }
            Number::Bf16 => {
                let mut half = vec![bf16::ZERO; to.len()];
                self.ok(self.kernels.read(array, &mut half))?;
                to.iter_mut().zip(half).for_each(|(to, x)| *to = x.to_f32());
            }
            _ => self.ok(self.kernels.read(array, to))?,
        }
        Ok(())
    }
    fn write_labels(&self, from: &[u32], to: &mut Array) -> Result<()> {
        self.ok(self.kernels.write(from, to))
    }

    fn write_bytes(&self, from: &[u8], to: &mut Array) -> Result<()> {
        self.ok(self.kernels.write(from, to))
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
    fn add_totals(&self, len: usize, losses: &Buffer, correct: &Buffer, totals: &mut Array) -> Result<()> {
        self.ok(self.kernels.total_add(len, &losses.array, &correct.array, totals))
    }

    fn exclusive(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _turn = self.kernels.turn();
        work()
    }
    fn begin_step(&self, step: u32, rule: Option<&Sgd>) -> Result<()> {
        let mut scratch = self.scratch();
        self.write_step(&mut scratch, step)?;
        rule.map_or(Ok(()), |rule| self.write_rule(&mut scratch, rule))
    }
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Recording>> {
        if !self.kernels.captures() {
            return Ok(None);
        }
        let moved = self.scratch().moved;
        let mut worked = Ok(());
        let captured = self.kernels.capture(|| worked = work());
        // That of the capture would be a consequence of this one.
        worked?;
        Ok(Some(Recording { graph: self.ok(captured)?, moved }))
    }
    unsafe fn replay(&self, recording: &mut Recording) -> Result<bool> {
        if recording.moved != self.scratch().moved {
            return Ok(false);
        }
        // SAFETY: the caller's arrays are there, by its promise; those of the scratch have not moved.
        self.ok(unsafe { self.kernels.replay(&mut recording.graph) })?;
        Ok(true)
    }

    fn augment(&self, s: &AugmentShape, images: &Array, indices: &Array, out: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.augment(s, images, indices, &mut out.array))
    }

    fn scaling(&self) -> Result<Option<Scaler>> {
        self.interval.map(|_| self.scaler()).transpose()
    }
    fn set_scaling(&self, scaler: &Scaler) -> Result<()> {
        if self.interval.is_some() { self.set_scaler(scaler) } else { Ok(()) }
    }

    fn storage(&self) -> Storage {
        let activation = self.kernels.storage().size();
        // In half precision the weights are there twice.
        Storage { parameter: if activation < 4 { 4 + activation } else { 4 }, gradient: 4, activation }
    }
    fn memory(&self) -> Result<Option<(u64, u64)>> {
        self.ok(self.kernels.memory()).map(Some)
    }
    fn workspace(&self, operations: &[Operation], training: bool) -> u64 {
        let (workspace, packed) = Self::needs(operations, training);
        (workspace * 4 + packed * self.kernels.storage().size()) as u64
    }

    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64> {
        let (workspace, packed) = Self::needs(operations, training);
        let scratch = self.scratch_of(workspace, packed)?;
        // Compiled and loaded now, not in the first step.
        self.ok(self.kernels.load_all())?;
        let bytes = |array: &Array| (array.len() * array.number().size()) as u64;
        Ok(bytes(&scratch.workspace) + bytes(&scratch.packed))
    }

    fn conv_forward(
        &self,
        shape: &ConvShape,
        x: &Buffer,
        w: &Buffer,
        b: &Buffer,
        relu: bool,
        y: &mut Buffer,
    ) -> Result<()> {
        let s = shape;
        let mut scratch = self.scratch_of(Kernels::conv_forward_workspace(s), s.weight_len())?;
        let Scratch { workspace, packed, .. } = &mut *scratch;
        self.ok(self.kernels.conv_pack_weights(s, &w.array, packed))?;
        self.ok(self.kernels.conv_forward(s, &x.array, packed, &b.array, relu, &mut y.array, workspace))
    }
    fn conv_backward_data(&self, shape: &ConvShape, dy: &Buffer, w: &Buffer, dx: &mut Buffer) -> Result<()> {
        let s = shape;
        let mut scratch = self.scratch_of(Kernels::conv_backward_data_workspace(s), s.weight_len())?;
        let Scratch { workspace, packed, .. } = &mut *scratch;
        self.ok(self.kernels.conv_pack_weights(s, &w.array, packed))?;
        self.ok(self.kernels.conv_backward_data(s, &dy.array, packed, &mut dx.array, workspace))
    }
    fn conv_backward_weight(
        &self,
        shape: &ConvShape,
        x: &Buffer,
        dy: &Buffer,
        accumulate: bool,
        dw: &mut Buffer,
        db: &mut Buffer,
    ) -> Result<()> {
        let s = shape;
        let mut scratch = self.scratch_of(Kernels::conv_backward_weight_workspace(s), 0)?;
        let (dw, db, workspace) = (&mut dw.array, &mut db.array, &mut scratch.workspace);
        self.ok(self.kernels.conv_backward_weight(s, &x.array, &dy.array, accumulate, dw, db, workspace))
    }

    fn relu_forward(&self, len: usize, x: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.relu_forward(len, &mut x.array))
    }
    fn relu_backward(&self, len: usize, y: &Buffer, dy: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.relu_backward(len, &y.array, &mut dy.array))
    }

    fn add(&self, len: usize, x: &Buffer, relu: bool, y: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.add(len, &x.array, relu, &mut y.array))
    }

    fn maxpool_forward(&self, s: &MaxPoolShape, x: &Buffer, y: &mut Buffer, argmax: &mut Array) -> Result<()> {
        self.ok(self.kernels.maxpool_forward(s, &x.array, &mut y.array, argmax))
    }
    fn maxpool_backward(&self, s: &MaxPoolShape, dy: &Buffer, argmax: &Array, dx: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.maxpool_backward(s, &dy.array, argmax, &mut dx.array))
    }

    fn avgpool_forward(&self, s: &AvgPoolShape, x: &Buffer, y: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.avgpool_forward(s, &x.array, &mut y.array))
    }
    fn avgpool_backward(&self, s: &AvgPoolShape, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.avgpool_backward(s, &dy.array, &mut dx.array))
    }

    fn lrn_forward(&self, s: &LrnShape, x: &Buffer, y: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.lrn_forward(s, &x.array, &mut y.array))
    }
    fn lrn_backward(&self, s: &LrnShape, x: &Buffer, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.lrn_backward(s, &x.array, &dy.array, &mut dx.array))
    }

    fn batchnorm_forward(
        &self,
        shape: &BatchNormShape,
        x: &Buffer,
        w: &Buffer,
        b: &Buffer,
        relu: bool,
        [mean, variance]: [&mut Buffer; 2],
        statistics: &mut Buffer,
        y: &mut Buffer,
    ) -> Result<()> {
        let s = shape;
        let workspace = &mut self.scratch_of(Kernels::batchnorm_workspace(s), 0)?.workspace;
        let (running, statistics) = ([&mut mean.array, &mut variance.array], &mut statistics.array);
        let (x, w, b, y) = (&x.array, &w.array, &b.array, &mut y.array);
        self.ok(self.kernels.batchnorm_forward(s, x, w, b, relu, running, statistics, y, workspace))
    }
    fn batchnorm_backward(
        &self,
        shape: &BatchNormShape,
        x: &Buffer,
        dy: &Buffer,
        w: &Buffer,
        statistics: &Buffer,
        accumulate: bool,
        dw: &mut Buffer,
        db: &mut Buffer,
        dx: &mut Buffer,
    ) -> Result<()> {
        let s = shape;
        let workspace = &mut self.scratch_of(Kernels::batchnorm_workspace(s), 0)?.workspace;
        let (x, dy, w, statistics) = (&x.array, &dy.array, &w.array, &statistics.array);
        let (dw, db, dx) = (&mut dw.array, &mut db.array, &mut dx.array);
        self.ok(self.kernels.batchnorm_backward(s, x, dy, w, statistics, accumulate, dw, db, dx, workspace))
    }
    fn batchnorm_inference(
        &self,
        s: &BatchNormShape,
        x: &Buffer,
        w: &Buffer,
        b: &Buffer,
        mean: &Buffer,
        variance: &Buffer,
        relu: bool,
        y: &mut Buffer,
    ) -> Result<()> {
        let (x, w, b, y) = (&x.array, &w.array, &b.array, &mut y.array);
        self.ok(self.kernels.batchnorm_inference(s, x, w, b, &mean.array, &variance.array, relu, y))
    }
    fn batchnorm_inference_backward(
        &self,
        s: &BatchNormShape,
        dy: &Buffer,
        w: &Buffer,
        variance: &Buffer,
        dx: &mut Buffer,
    ) -> Result<()> {
        let (dy, w, variance, dx) = (&dy.array, &w.array, &variance.array, &mut dx.array);
        self.ok(self.kernels.batchnorm_inference_backward(s, dy, w, variance, dx))
    }

    fn dropout(&self, s: &DropoutShape, x: &mut Buffer) -> Result<()> {
        let mut scratch = self.scratch();
        self.write_step(&mut scratch, s.step)?;
        self.ok(self.kernels.dropout(s, &scratch.step, &mut x.array))
    }

    fn flatten_forward(&self, s: &FlattenShape, x: &Buffer, y: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.flatten_forward(s, &x.array, &mut y.array))
    }
    fn flatten_backward(&self, s: &FlattenShape, dy: &Buffer, dx: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.flatten_backward(s, &dy.array, &mut dx.array))
    }

    fn linear_forward(
        &self,
        shape: &LinearShape,
        x: &Buffer,
        w: &Buffer,
        b: &Buffer,
        relu: bool,
        y: &mut Buffer,
    ) -> Result<()> {
        let s = shape;
        let workspace = &mut self.scratch_of(Kernels::linear_workspace(s), 0)?.workspace;
        let (x, w, b, y) = (&x.array, w.operand(), &b.array, &mut y.array);
        self.ok(self.kernels.linear_forward(s, x, w, b, relu, None, y, workspace))
    }
    fn linear_backward_data(&self, shape: &LinearShape, dy: &Buffer, w: &Buffer, dx: &mut Buffer) -> Result<()> {
        let s = shape;
        let workspace = &mut self.scratch_of(Kernels::linear_workspace(s), 0)?.workspace;
        self.ok(self.kernels.linear_backward_data(s, &dy.array, w.operand(), &mut dx.array, workspace))
    }
    fn linear_backward_weight(
        &self,
        shape: &LinearShape,
        x: &Buffer,
        dy: &Buffer,
        accumulate: bool,
        dw: &mut Buffer,
        db: &mut Buffer,
    ) -> Result<()> {
        let s = shape;
        let workspace = &mut self.scratch_of(Kernels::linear_workspace(s), 0)?.workspace;
        let (dw, db) = (&mut dw.array, &mut db.array);
        self.ok(self.kernels.linear_backward_weight(s, &x.array, &dy.array, accumulate, dw, db, workspace))
    }

    fn mix(&self, s: &MixShape, x: &mut Buffer) -> Result<()> {
        self.ok(self.kernels.mix(s, &mut x.array))
    }

    fn softmax_cross_entropy(
        &self,
        s: &LossShape,
        logits: &Buffer,
        labels: &Array,
        second: Option<(&Array, &Buffer)>,
        losses: &mut Buffer,
        correct: &mut Buffer,
        dlogits: Option<&mut Buffer>,
    ) -> Result<()> {
        let (losses, correct) = (&mut losses.array, &mut correct.array);
        let dlogits = dlogits.map(|dlogits| &mut dlogits.array);
        let scale = &self.scratch().scaler;
        let (logits, second) = (&logits.array, second.map(|(labels, weight)| (labels, &weight.array)));
        self.ok(self.kernels.softmax_cross_entropy(s, logits, labels, second, scale, losses, correct, dlogits))
    }

    fn sgd(&self, rule: &Sgd, parameters: &mut [Parameter<Buffer>]) -> Result<()> {
        let mut scratch = self.scratch();
        self.write_rule(&mut scratch, rule)?;
        let mut table = Parameters::default();
        for parameter in parameters {
            let (len, decays) = (parameter.len(), rule.decays(&parameter.shape));
            if let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) {
                let Buffer { array, copy } = &mut parameter.value;
                self.ok(table.push(len, decays, array, &gradient.array, &mut momentum.array, copy.as_mut()))?;
            }
        }
        let Scratch { rule, scaler, .. } = &mut *scratch;
        self.ok(self.kernels.sgd(&table, rule, scaler, self.interval))
    }

    fn ema(&self, decay: f64, parameters: &mut [Parameter<Buffer>]) -> Result<()> {
        let mut averages = Averages::default();
        for parameter in parameters {
            let len = parameter.len();
            if let Some(Buffer { array, copy }) = &mut parameter.average {
                self.ok(averages.push(len, array, copy.as_mut(), &parameter.value.array))?;
            }
        }
        self.ok(self.kernels.ema(&averages, (1.0 - decay) as f32))
    }
}
