//! Launcher of `ema.cu`.

use crate::Kernels;
use crate::Number;
use crate::array::Array;
use crate::error::Result;
use crate::launch::Grid;
use crate::table::{self, Table};

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
// SAFETY: the same words in the same order, no padding.
unsafe impl table::Entry for Entry {
    const OPERATOR: &'static str = NAME;
}

/// Which arrays an average touches, and how its blocks are shared out among them.
#[derive(Debug, Default)]
pub struct Averages<'a>(Table<'a, Entry>);

impl<'a> Averages<'a> {
    /// Adds a parameter of `len` elements with its average and the average's copy in the storage's numbers.
    ///
    /// # Errors
    /// An array that does not fit; more than one launch takes.
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
        let Averages(table) = averages;
        if table.blocks == 0 {
            return Ok(());
        }
        let launch = self.launch(NAME, NAME)?.reference(&table.rows).value(table.entries as u32).value(rate);
        // SAFETY: the table's arrays were checked when they were added; a block a chunk.
        unsafe { launch.run(Grid::new([table.blocks as u32, 1, 1], THREADS)) }
    }
}
