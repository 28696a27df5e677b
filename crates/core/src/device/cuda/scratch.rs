//! Arrays of the CUDA device that belong to no network, and captured graphs.

use std::sync::MutexGuard;

use alexnet_kernels::{self as kernels, Array, Kernels, Turn};
use alexnet_ops::{Number, expect_len};
use half::{bf16, f16};

use super::Cuda;
use crate::shape::Operation;
use crate::{Result, Sgd};

/// Arrays that all networks of the device share, allocated by [`Memory::prepare`](super::Memory::prepare).
#[derive(Debug)]
pub(super) struct Scratch {
    /// The operators' workspace.
    pub(super) workspace: Array,
    /// A convolution's weights in the order in which its kernels read them.
    pub(super) packed: Array,
    /// The step, for dropout.
    pub(super) step: Array,
    pub(super) step_value: u32,
    pub(super) optimizer: Array,
    pub(super) optimizer_value: Option<Sgd>,
    /// The state of loss scaling.
    pub(super) scaler: Array,
    /// How often an array was reallocated.
    pub(super) moved: u64,
    /// Staging memory for conversions to half precision.
    pub(super) f16: Vec<f16>,
    pub(super) bf16: Vec<bf16>,
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
    /// Reallocates `array` if it is shorter than `len`; its contents are lost.
    pub(super) fn reserve(&self, array: &mut Array, len: usize, moved: &mut u64) -> Result<()> {
        if array.len() < len {
            *array = self.array(array.number(), len)?;
            *moved += 1;
        }
        Ok(())
    }

    /// Locks the scratch, with at least `workspace` floats and `packed` elements of packed weights.
    pub(super) fn scratch_of(&self, workspace: usize, packed: usize) -> Result<ScratchGuard<'_>> {
        let mut scratch = self.scratch();
        let Scratch { workspace: floats, packed: weights, moved, .. } = &mut *scratch;
        self.reserve(floats, workspace, moved)?;
        self.reserve(weights, packed, moved)?;
        Ok(scratch)
    }

    pub(super) fn write_array(&self, from: &[f32], to: &mut Array, start: usize) -> Result<()> {
        expect_len("write", "to", to.len(), start + from.len())?;
        let Scratch { f16: halves, bf16: bhalves, .. } = &mut *self.scratch();
        self.ok(match to.number() {
            Number::F16 => {
                halves.clear();
                halves.extend(from.iter().map(|&x| f16::from_f32(x)));
                self.kernels.write_at(halves, to, start)
            }
            Number::Bf16 => {
                bhalves.clear();
                bhalves.extend(from.iter().map(|&x| bf16::from_f32(x)));
                self.kernels.write_at(bhalves, to, start)
            }
            _ => self.kernels.write_at(from, to, start),
        })
    }

    /// Floats of workspace and elements of packed weights that `operations` need.
    pub(super) fn needs(operations: &[Operation], training: bool) -> (usize, usize) {
        let (mut workspace, mut packed) = (0, 0);
        for operation in operations {
            match operation {
                Operation::Conv(s) => {
                    let backward =
                        Kernels::conv_backward_data_workspace(s).max(Kernels::conv_backward_weight_workspace(s));
                    workspace =
                        workspace.max(Kernels::conv_forward_workspace(s)).max(if training { backward } else { 0 });
                    packed = packed.max(s.weight_len());
                }
                Operation::Linear(s) => workspace = workspace.max(Kernels::linear_workspace(s)),
                Operation::BatchNorm(s) => workspace = workspace.max(Kernels::batchnorm_workspace(s)),
                _ => {}
            }
        }
        (workspace, packed)
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
