//! Launcher of `ema.cu`.

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::Grid;
use crate::table::{self, Tables};

const NAME: &str = "ema";
const THREADS: u32 = 256;

/// `Entry` of `ema.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    e: u64,
    w: u64,
    copy: u64,
    len: u32,
    first_block: u32,
}
// SAFETY: the same words in the same order, without padding.
unsafe impl table::Entry for Entry {
    const OPERATOR: &'static str = NAME;
}

/// The arrays that an update of the averages reads and writes.
#[derive(Debug, Default)]
pub struct Averages<'a>(Tables<'a, Entry>);

impl<'a> Averages<'a> {
    /// Adds a parameter of `len` elements with its average and the average's copy in the storage type.
    ///
    /// # Errors
    /// An array that is too short or of another type.
    pub fn push(&mut self, len: usize, e: &'a mut Array, copy: Option<&'a mut Array>, w: &'a Array) -> Result<()> {
        e.expect(NAME, "e", Number::F32, len)?;
        w.expect(NAME, "w", Number::F32, len)?;
        if let Some(copy) = &copy {
            copy.expect(NAME, "copy", copy.number(), len)?;
        }
        let copy = copy.map_or(0, |copy| copy.address());
        self.0.push(len, |len, first_block| Entry { e: e.address(), w: w.address(), copy, len, first_block })
    }
}

impl Kernels {
    /// e += rate·(w − e) for all parameters.
    ///
    /// # Errors
    /// The driver's.
    pub fn ema(&self, averages: &Averages<'_>, rate: f32) -> Result<()> {
        for table in averages.0.iter() {
            let launch = self.launch(NAME, NAME)?.reference(&table.rows).value(table.entries).value(rate);
            // SAFETY: the table's arrays were checked when they were added; one block per chunk.
            unsafe { launch.run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
        }
        Ok(())
    }
}
