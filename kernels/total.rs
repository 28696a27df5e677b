//! Launcher of `total.cu`.

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, Value, count};

const THREADS: u32 = 256;

/// `Totals` of `total.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Addresses([u64; 32]);
// SAFETY: as many addresses.
unsafe impl Value for Addresses {}

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

    /// totals += the first of `from`, then the next, and so on.
    ///
    /// # Errors
    /// An array of another type or too short; the driver's.
    pub fn total_sum<'a>(&self, from: impl IntoIterator<Item = &'a Array>, totals: &mut Array) -> Result<()> {
        const NAME: &str = "total_sum";
        totals.expect(NAME, "totals", Number::F64, 2)?;
        let mut from = from.into_iter().peekable();
        while from.peek().is_some() {
            let (mut addresses, mut count) = (Addresses([0; 32]), 0);
            for (address, array) in addresses.0.iter_mut().zip(&mut from) {
                *address = array.expect(NAME, "from", Number::F64, 2)?.address();
                count += 1;
            }
            let launch = self.launch("total", NAME)?.reference(&addresses).value(count);
            // SAFETY: `count` addresses are set; one thread per total.
            unsafe { launch.array_mut(totals).run(Grid::new([1, 1, 1], 2)) }?;
        }
        Ok(())
    }
}
