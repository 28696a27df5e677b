//! Launcher of `sum.cu`.

use crate::array::Array;
use crate::error::Result;
use crate::launch::Grid;
use crate::table::{self, Tables};
use crate::{Kernels, Number};

const NAME: &str = "sum";
const THREADS: u32 = 256;

/// `Entry` of `sum.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    y: u64,
    x: u64,
    len: u32,
    first_block: u32,
}
// SAFETY: the same words in the same order, without padding.
unsafe impl table::Entry for Entry {
    const OPERATOR: &'static str = NAME;
}

/// The pairs of arrays that are added.
#[derive(Debug, Default)]
pub struct Sums<'a>(Tables<'a, Entry>);

impl<'a> Sums<'a> {
    /// Adds a pair of `len` floats.
    ///
    /// # Errors
    /// An array that is too short or of another type.
    pub fn push(&mut self, len: usize, y: &'a mut Array, x: &'a Array) -> Result<()> {
        let y = y.expect(NAME, "y", Number::F32, len)?.address();
        let x = x.expect(NAME, "x", Number::F32, len)?.address();
        self.0.push(len, |len, first_block| Entry { y, x, len, first_block })
    }
}

impl Kernels {
    /// y += x for all pairs.
    ///
    /// # Errors
    /// The driver's.
    pub fn sum(&self, sums: &Sums<'_>) -> Result<()> {
        for table in sums.0.iter() {
            let launch = self.launch(NAME, NAME)?.reference(&table.rows).value(table.entries);
            // SAFETY: the table's arrays were checked when they were added; one block per chunk.
            unsafe { launch.run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
        }
        Ok(())
    }
}
