//! Launcher of `add.cu`.

use crate::Kernels;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, count};

const THREADS: u32 = 256;

impl Kernels {
    /// y = y + x, then max(y, 0) if `relu`, on the first `len` elements; both of the storage's number.
    ///
    /// # Errors
    /// An array that does not fit; the driver's.
    pub fn add(&self, len: usize, x: &Array, relu: bool, y: &mut Array) -> Result<()> {
        const NAME: &str = "add";
        x.expect(NAME, "x", self.storage(), len)?;
        y.expect(NAME, "y", self.storage(), len)?;
        let launch = self.launch("add", NAME)?.array(x).array_mut(y).value(u32::from(relu));
        // SAFETY: a thread for every four elements begun; the kernel does not go beyond `len`, which x and y hold.
        unsafe { launch.value(count(NAME, "x", len)?).run(Grid::linear(len.div_ceil(4), THREADS)) }
    }
}
