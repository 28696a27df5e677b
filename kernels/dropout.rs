//! Launcher of `dropout.cu`.

use alexnet_ops::arguments::Dropout;

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

impl Kernels {
    /// x = x · (0 or scale), by the mask of the step given by the first word of `step`.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn dropout(&self, a: Dropout<'_, Self>, step: &Array) -> Result<()> {
        let Dropout { shape: s, x } = a.view(self)?;
        const NAME: &str = Dropout::<Kernels>::NAME;
        step.expect(NAME, "step", Number::U32, 1)?;
        let launch = self.launch("dropout", NAME)?.array_mut(x).value(count(NAME, "x", s.len)?);
        let launch = launch
            .value(s.rate as f32)
            .value(s.scale())
            .value(s.philox.seed())
            .value(s.purpose)
            .array(step)
            .value(s.offset);
        // SAFETY: one thread per four elements, rounded up; the kernel checks `len`, which x holds.
        unsafe { launch.run(Grid::linear(s.len.div_ceil(4), THREADS)) }
    }
}
