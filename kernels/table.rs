//! The table in a kernel's arguments that says where each of many arrays lies, for one launch over all: chunks of
//! [`CHUNK`] elements, a block each.

use std::marker::PhantomData;

use crate::array::Array;
use crate::error::{Error, Result};
use crate::launch::{Value, count};

/// As in the `.cu` files.
pub const ENTRIES: usize = 64;
const CHUNK: usize = 4096;

/// A row of the table.
///
/// # Safety
/// Its words lie as in its kernel, without padding.
pub unsafe trait Entry: Copy + Default {
    /// The kernel's operator.
    const OPERATOR: &'static str;
}

/// The rows as the kernel takes them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Rows<E>([E; ENTRIES]);
// SAFETY: the same words in the same order, no padding, see `Entry`; every row is written.
unsafe impl<E: Entry> Value for Rows<E> {}

/// The rows, how many of them are in use, and the blocks of them all.
pub struct Table<'a, E> {
    pub rows: Rows<E>,
    pub entries: usize,
    pub blocks: usize,
    /// The rows hold their addresses.
    arrays: PhantomData<&'a mut Array>,
}

impl<E> std::fmt::Debug for Table<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("entries", &self.entries).field("blocks", &self.blocks).finish()
    }
}

impl<E: Entry> Default for Table<'_, E> {
    fn default() -> Self {
        Self { rows: Rows([E::default(); ENTRIES]), entries: 0, blocks: 0, arrays: PhantomData }
    }
}

impl<E: Entry> Table<'_, E> {
    /// Adds `row(len, first block)` of arrays of `len` elements.
    pub fn push(&mut self, len: usize, row: impl FnOnce(u32, u32) -> E) -> Result<()> {
        if self.entries == ENTRIES {
            let reason = format!("has more than {ENTRIES} arrays");
            return Err(Error::Argument { operator: E::OPERATOR, argument: "parameters", reason });
        }
        self.rows.0[self.entries] = row(count(E::OPERATOR, "w", len)?, self.blocks as u32);
        self.entries += 1;
        self.blocks += len.div_ceil(CHUNK);
        Ok(())
    }
}
