//! Launcher of `ema.cu`.

use std::marker::PhantomData;

use crate::Kernels;
use crate::array::{Array, Number};
use crate::error::{Error, Result};
use crate::launch::{Grid, Value, count};

const NAME: &str = "ema";
const THREADS: u32 = 256;
/// As in `ema.cu`.
const ENTRIES: usize = 64;
const CHUNK: usize = 4096;

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
/// `Table` of `ema.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Table([Entry; ENTRIES]);
// SAFETY: the same words in the same order, no padding; every entry is written.
unsafe impl Value for Table {}

/// Which arrays an average touches, and how its blocks are shared out among them.
pub struct Averages<'a> {
    table: Table,
    entries: usize,
    blocks: usize,
    /// The table holds their addresses.
    arrays: PhantomData<&'a mut Array>,
}

impl std::fmt::Debug for Averages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Averages").field("entries", &self.entries).field("blocks", &self.blocks).finish()
    }
}

impl Default for Averages<'_> {
    fn default() -> Self {
        Self { table: Table([Entry::default(); ENTRIES]), entries: 0, blocks: 0, arrays: PhantomData }
    }
}

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
        if self.entries == ENTRIES {
            let reason = format!("has more than {ENTRIES} arrays");
            return Err(Error::Argument { operator: NAME, argument: "parameters", reason });
        }
        let copy = copy.map_or(0, |copy| copy.address());
        let first_block = self.blocks as u32;
        self.table.0[self.entries] =
            Entry { e: e.address(), w: w.address(), copy, len: count(NAME, "w", len)?, first_block };
        self.entries += 1;
        self.blocks += len.div_ceil(CHUNK);
        Ok(())
    }
}

impl Kernels {
    /// e += rate·(w − e) for all parameters.
    ///
    /// # Errors
    /// The driver's.
    pub fn ema(&self, averages: &Averages<'_>, rate: f32) -> Result<()> {
        if averages.blocks == 0 {
            return Ok(());
        }
        let launch = self.launch(NAME, NAME)?.reference(&averages.table).value(averages.entries as u32).value(rate);
        // SAFETY: the table's arrays were checked when they were added; a block a chunk.
        unsafe { launch.run(Grid::new([averages.blocks as u32, 1, 1], THREADS)) }
    }
}
