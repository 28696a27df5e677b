//! Launchers of `relu.cu`.

use crate::Kernels;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

impl Kernels {
    /// x = max(x, 0) on the first `len` elements.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn relu_forward(&self, len: usize, x: &mut Array) -> Result<()> {
        const NAME: &str = "relu_forward";
        x.expect(NAME, "x", self.storage(), len)?;
        let launch = self.launch("relu", NAME)?.array_mut(x).value(count(NAME, "x", len)?);
        // SAFETY: a thread for every four elements begun; the kernel does not go beyond `len`, which x holds.
        unsafe { launch.run(Grid::linear(len.div_ceil(4), THREADS)) }
    }

    /// dy = 0 where y ≤ 0, on the first `len` elements.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn relu_backward(&self, len: usize, y: &Array, dy: &mut Array) -> Result<()> {
        const NAME: &str = "relu_backward";
        y.expect(NAME, "y", self.storage(), len)?;
        dy.expect(NAME, "dy", self.storage(), len)?;
        let launch = self.launch("relu", NAME)?.array(y).array_mut(dy).value(count(NAME, "y", len)?);
        // SAFETY: as in the forward pass, for both arrays.
        unsafe { launch.run(Grid::linear(len.div_ceil(4), THREADS)) }
    }
}
