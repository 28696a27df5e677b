//! Launchers of `relu.cu`.

use crate::Kernels;
use crate::error::Result;
use crate::launch::{Grid, count};
use alexnet_ops::arguments::{ReluBackward, ReluForward};

const THREADS: u32 = 256;

impl Kernels {
    /// x = max(x, 0) for the first `len` elements.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn relu_forward(&self, a: ReluForward<'_, Self>) -> Result<()> {
        let ReluForward { len, x } = a.view(self)?;
        const NAME: &str = ReluForward::<Kernels>::NAME;
        let launch = self.launch("relu", NAME)?.array_mut(x).value(count(NAME, "x", len)?);
        // SAFETY: one thread per four elements, rounded up; the kernel checks `len`, which x holds.
        unsafe { launch.run(Grid::linear(len.div_ceil(4), THREADS)) }
    }

    /// dy = 0 where y ≤ 0, for the first `len` elements.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn relu_backward(&self, a: ReluBackward<'_, Self>) -> Result<()> {
        let ReluBackward { len, y, dy } = a.view(self)?;
        const NAME: &str = ReluBackward::<Kernels>::NAME;
        let launch = self.launch("relu", NAME)?.array(y).array_mut(dy).value(count(NAME, "y", len)?);
        // SAFETY: as in the forward pass, for both arrays.
        unsafe { launch.run(Grid::linear(len.div_ceil(4), THREADS)) }
    }
}
