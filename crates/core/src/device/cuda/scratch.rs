//! Arrays of the CUDA device that belong to no network, and captured graphs.

use std::sync::MutexGuard;

use alexnet_kernels::{self as kernels, Array, Kernels, Turn};
use alexnet_ops::{Number, Tf32, expect_len};
use half::{bf16, f16};

use super::Cuda;
use crate::shape::{ConvShape, LinearShape, Operation};
use crate::{Result, Sgd};

/// Arrays that all networks of the device share, allocated by [`Memory::prepare`](super::Memory::prepare).
#[derive(Debug)]
pub(super) struct Scratch {
    /// The operators' workspace, and that of the second of two [side by side](Kernels::side_by_side).
    pub(super) workspaces: [Array; 2],
    /// The step, for dropout.
    pub(super) step: Array,
    pub(super) step_value: u32,
    pub(super) optimizer: Array,
    pub(super) optimizer_value: Option<Sgd>,
    /// The state of loss scaling.
    pub(super) scaler: Array,
    /// How often an array was reallocated.
    pub(super) moved: u64,
    /// Staging memory for conversions.
    pub(super) f16: Vec<f16>,
    pub(super) bf16: Vec<bf16>,
    pub(super) tf32: Vec<Tf32>,
}

/// The locked scratch, and the thread's turn on the stream.
pub(super) struct ScratchGuard<'a> {
    pub(super) scratch: MutexGuard<'a, Scratch>,
    pub(super) _turn: Turn<'a>,
}

impl std::ops::Deref for ScratchGuard<'_> {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl std::ops::DerefMut for ScratchGuard<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.scratch
    }
}

/// A CUDA graph with what it depends on besides the network's arrays.
#[derive(Debug)]
pub struct Graph {
    pub(super) graph: kernels::Graph,
    /// [`Scratch::moved`] at the capture: the graph holds the addresses of that time.
    pub(super) moved: u64,
}

impl Cuda {
    /// Locks the scratch, with at least `floats` floats of workspace.
    pub(super) fn scratch_of(&self, floats: usize) -> Result<ScratchGuard<'_>> {
        let mut scratch = self.scratch();
        self.grow(&mut scratch, self.kernels.side(), floats)?;
        Ok(scratch)
    }

    /// Makes a workspace at least `floats` floats long.
    pub(super) fn grow(&self, scratch: &mut Scratch, side: usize, floats: usize) -> Result<()> {
        if scratch.workspaces[side].len() < floats {
            scratch.workspaces[side] = self.array(Number::F32, floats)?;
            scratch.moved += 1;
        }
        Ok(())
    }

    pub(super) fn write_array(&self, from: &[f32], to: &mut Array, start: usize) -> Result<()> {
        expect_len("write", "to", to.len(), start + from.len())?;
        let Scratch { f16, bf16, tf32, .. } = &mut *self.scratch();
        self.ok(match to.number() {
            Number::F16 => self.kernels.write_rounded(from, to, start, f16),
            Number::Bf16 => self.kernels.write_rounded(from, to, start, bf16),
            Number::Tf32 => self.kernels.write_rounded(from, to, start, tf32),
            _ => self.kernels.write_at(from, to, start),
        })
    }

    pub(super) fn read_array(&self, from: &Array, start: usize, to: &mut [f32]) -> Result<()> {
        expect_len("read", "from", from.len(), start + to.len())?;
        self.ok(match from.number() {
            Number::F16 => self.kernels.read_widened::<f16>(from, start, to),
            Number::Bf16 => self.kernels.read_widened::<bf16>(from, start, to),
            Number::Tf32 => self.kernels.read_widened::<Tf32>(from, start, to),
            _ => self.kernels.read_at(from, start, to),
        })
    }

    /// Floats that `operations` need of each workspace, at their batch and at any smaller one: that has fewer tiles, whose sums may
    /// be split into more chunks.
    pub(super) fn workspace_floats(&self, operations: &[Operation], training: bool) -> [usize; 2] {
        let kernels = &self.kernels;
        let (mut all, mut beside) = (0, 0);
        // The first product's input needs no gradient, so that none is computed beside that of its weight.
        let mut first = true;
        // With RandAugment the images of a batch are there in bytes, twice.
        if let (Some(Operation::Conv(s)), true) = (operations.first(), training) {
            all = (2 * s.input_len()).div_ceil(4);
        }
        for operation in operations {
            // For the gradient of the weight, and for the rest.
            let [weight, rest] = match operation {
                Operation::Conv(s) => {
                    let largest = |floats: fn(&Kernels, &ConvShape) -> usize| {
                        (1..=s.batch).map(|batch| floats(kernels, &ConvShape { batch, ..*s })).max().unwrap_or(0)
                    };
                    let forward = largest(Kernels::conv_forward_workspace);
                    match training {
                        true => {
                            let data = if first { 0 } else { largest(Kernels::conv_backward_data_workspace) };
                            [largest(Kernels::conv_backward_weight_workspace), forward.max(data)]
                        }
                        false => [0, forward],
                    }
                }
                Operation::Linear(s) => {
                    let floats = |batch| kernels.linear_workspace(&LinearShape { batch, ..*s });
                    [(1..=s.batch).map(floats).max().unwrap_or(0); 2]
                }
                Operation::BatchNorm(s) => [0, Kernels::batchnorm_workspace(s)],
                _ => continue,
            };
            all = all.max(weight).max(rest);
            let product = !matches!(operation, Operation::BatchNorm(_));
            if training && product && !std::mem::take(&mut first) {
                beside = beside.max(weight);
            }
        }
        [all, beside]
    }

    /// Writes the step to where dropout reads it, unless it is there already.
    pub(super) fn write_step(&self, scratch: &mut Scratch, step: u32) -> Result<()> {
        if scratch.step_value != step {
            self.ok(self.kernels.write(&[step], &mut scratch.step))?;
            scratch.step_value = step;
        }
        Ok(())
    }

    /// Writes the optimizer's constants to where sgd reads them, unless they are there already.
    pub(super) fn write_optimizer(&self, scratch: &mut Scratch, optimizer: &Sgd) -> Result<()> {
        if scratch.optimizer_value != Some(*optimizer) {
            self.ok(self.kernels.write_sgd(optimizer, &mut scratch.optimizer))?;
            scratch.optimizer_value = Some(*optimizer);
        }
        Ok(())
    }
}
