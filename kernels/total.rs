//! Launcher of `total.cu`.

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

impl Kernels {
    /// totals\[0\] += Σ losses, totals\[1\] += Σ correct, over the first `len` elements, in double.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn total_add(&self, len: usize, losses: &Array, correct: &Array, totals: &mut Array) -> Result<()> {
        const NAME: &str = "total_add";
        losses.expect(NAME, "losses", Number::F32, len)?;
        correct.expect(NAME, "correct", Number::F32, len)?;
        totals.expect(NAME, "totals", Number::F64, 2)?;
        let launch = self.launch("total", NAME)?.array(losses).array(correct).value(count(NAME, "losses", len)?);
        // SAFETY: one block, which checks `len`.
        unsafe { launch.array_mut(totals).run(Grid::new([1, 1, 1], THREADS)) }
    }
}
