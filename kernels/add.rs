//! Launcher of `add.cu`.

use crate::Kernels;
use crate::error::Result;
use crate::launch::{Grid, count};
use alexnet_ops::arguments::Add;

const THREADS: u32 = 256;

impl Kernels {
    /// y = y + x, then max(y, 0) if `relu`, for the first `len` elements; both of the storage type.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn add(&self, a: Add<'_, Self>) -> Result<()> {
        let Add { len, relu, x, y } = a.view(self)?;
        const NAME: &str = Add::<Kernels>::NAME;
        let launch = self.launch("add", NAME)?.array(x).array_mut(y).value(u32::from(relu));
        // SAFETY: one thread per four elements, rounded up; the kernel checks `len`, which x and y hold.
        unsafe { launch.value(count(NAME, "x", len)?).run(Grid::linear(len.div_ceil(4), THREADS)) }
    }
}
