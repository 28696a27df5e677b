//! Launcher of `dropout.cu`.

use crate::Kernels;
use crate::array::{Array, Number};
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

/// One mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Elements of the array.
    pub len: usize,
    /// The share that is set to zero.
    pub rate: f32,
    /// 1 / (1 − rate).
    pub scale: f32,
    /// Key of the generator.
    pub seed: u64,
    /// The stream of this layer.
    pub purpose: u32,
    /// Elements of the same step that came before.
    pub offset: u64,
}

impl Kernels {
    /// x = x · (0 or scale), by the mask of the step whose number is the first word of `step`.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn dropout(&self, s: &Dropout, step: &Array, x: &mut Array) -> Result<()> {
        const NAME: &str = "dropout";
        x.expect(NAME, "x", self.storage(), s.len)?;
        step.expect(NAME, "step", Number::U32, 1)?;
        let launch = self.launch("dropout", NAME)?.array_mut(x).value(count(NAME, "x", s.len)?);
        let launch = launch.value(s.rate).value(s.scale).value(s.seed).value(s.purpose).array(step).value(s.offset);
        // SAFETY: a thread for every four elements begun; the kernel does not go beyond `len`, which x holds.
        unsafe { launch.run(Grid::linear(s.len.div_ceil(4), THREADS)) }
    }
}
