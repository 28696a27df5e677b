//! Launchers of `cast.cu`.

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

impl Kernels {
    /// y (storage type) = x (float), rounded to nearest.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn cast_from_float(&self, len: usize, x: &Array, y: &mut Array) -> Result<()> {
        const NAME: &str = "cast_from_float";
        x.expect(NAME, "x", Number::F32, len)?;
        y.expect(NAME, "y", self.storage(), len)?;
        let launch = self.launch("cast", NAME)?.array(x).array_mut(y).value(count(NAME, "x", len)?);
        // SAFETY: one thread per four elements, rounded up; the kernel checks `len`.
        unsafe { launch.run(Grid::linear(len.div_ceil(4), THREADS)) }
    }

    /// y (float) = x (storage type).
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn cast_to_float(&self, len: usize, x: &Array, y: &mut Array) -> Result<()> {
        const NAME: &str = "cast_to_float";
        x.expect(NAME, "x", self.storage(), len)?;
        y.expect(NAME, "y", Number::F32, len)?;
        let launch = self.launch("cast", NAME)?.array(x).array_mut(y).value(count(NAME, "x", len)?);
        // SAFETY: as above.
        unsafe { launch.run(Grid::linear(len.div_ceil(4), THREADS)) }
    }
}
