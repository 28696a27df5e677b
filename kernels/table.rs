//! Tables of array addresses in a kernel's arguments: one launch per [`ENTRIES`] arrays, one block
//! per [`CHUNK`] elements, as PyTorch's `multi_tensor_apply`.

use std::marker::PhantomData;

use crate::array::Array;
use crate::error::Result;
use crate::launch::{Value, count};

/// Maximum number of arrays per launch, as in `table.cuh`.
const ENTRIES: usize = 64;
const CHUNK: u32 = 4096;

/// A row of the table.
///
/// # Safety
/// It has the layout of the kernel's row, without padding.
pub unsafe trait Entry: Copy + Default {
    /// The kernel's operator.
    const OPERATOR: &'static str;
}

/// The rows in the kernel's layout.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Rows<E>([E; ENTRIES]);
// SAFETY: the layout is `Entry`'s, without padding; every row is initialised.
unsafe impl<E: Entry> Value for Rows<E> {}

/// What one launch takes: the rows, how many of them are in use, and the blocks of them all.
pub struct Table<E> {
    pub rows: Rows<E>,
    pub entries: u32,
    pub blocks: u32,
}

/// The tables of any number of arrays.
pub struct Tables<'a, E> {
    tables: Vec<Table<E>>,
    /// The rows contain addresses of arrays.
    arrays: PhantomData<&'a mut Array>,
}

impl<E> std::fmt::Debug for Tables<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("entries", &self.tables.iter().map(|t| t.entries).sum::<u32>()).finish()
    }
}

impl<E> Default for Tables<'_, E> {
    fn default() -> Self {
        Self { tables: Vec::new(), arrays: PhantomData }
    }
}

impl<E: Entry> Tables<'_, E> {
    /// Adds `row(len, first block)` for arrays of `len` elements.
    pub fn push(&mut self, len: usize, row: impl FnOnce(u32, u32) -> E) -> Result<()> {
        let words = count(E::OPERATOR, "w", len)?;
        let blocks = words.div_ceil(CHUNK);
        // 64 arrays of 2³² elements are 2²⁶ blocks, which a grid can have.
        if self.tables.last().is_none_or(|table| table.entries as usize == ENTRIES) {
            self.tables.push(Table { rows: Rows([E::default(); ENTRIES]), entries: 0, blocks: 0 });
        }
        if let Some(table) = self.tables.last_mut() {
            table.rows.0[table.entries as usize] = row(words, table.blocks);
            table.entries += 1;
            table.blocks += blocks;
        }
        Ok(())
    }
    /// Those with anything to do, one per launch.
    pub fn iter(&self) -> impl Iterator<Item = &Table<E>> {
        self.tables.iter().filter(|table| table.blocks > 0)
    }
}
