//! Launchers of `exchange.cu`.

use std::ops::Range;

use alexnet_ops::expect_len;

use crate::array::Array;
use crate::error::Result;
use crate::launch::{Grid, Value};
use crate::peers::{MAX_RANKS, Peers};
use crate::sgd::Entry;
use crate::table::{self, Tables};
use crate::{Kernels, Number, ParameterGroup, Parameters, Updated};

const NAME: &str = "exchange";
const THREADS: u32 = 256;
/// As in `exchange.cu`.
const FEW: usize = 8;

/// `Copied` of `exchange.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Copied {
    w: u64,
    copy: u64,
    len: u32,
    first_block: u32,
}
// SAFETY: the same words in the same order, without padding.
unsafe impl table::Entry for Copied {
    const OPERATOR: &'static str = "exchange_copy";
}

/// `Ranks` of `exchange.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RankWords {
    own: u32,
    count: u32,
    present: [u32; MAX_RANKS / 32],
}
// SAFETY: the same words in the same order, without padding.
unsafe impl Value for RankWords {}

/// The slices that this rank updates.
#[derive(Debug, Default)]
pub struct Slices<'a> {
    rows: Parameters<'a>,
    /// Floats of the others' parts of those that were added.
    parts: usize,
}

impl<'a> Slices<'a> {
    /// Adds a parameter with the elements of each rank, in the order of [`Kernels::exchange`]; its gradient and its other arrays
    /// are whole.
    ///
    /// # Errors
    /// An array that is too short or of another type; as [`Kernels::exchange`].
    pub fn push(
        &mut self,
        peers: &Peers,
        slices: &[Range<usize>],
        g: &'a mut Array,
        parameter: Updated<'a>,
    ) -> Result<()> {
        let Updated { group, w, v, copy } = parameter;
        let slice = peers.own(NAME, slices)?;
        for (name, array) in [("w", &*w), ("g", &*g), ("v", &*v)] {
            array.expect(NAME, name, Number::F32, slice.end)?;
        }
        if let Some(copy) = &copy {
            copy.expect(NAME, "copy", copy.number(), slice.end)?;
        }
        if slice.is_empty() {
            return Ok(());
        }
        let parts = peers.next_parts(slice.len(), &mut self.parts)?;
        let copy = copy.map_or(0, |copy| copy.address() + (slice.start * copy.number().size()) as u64);
        let [w, g, v] = [w, g, v].map(|array| array.address() + 4 * slice.start as u64);
        let ParameterGroup { decays, rate: factor } = group;
        let decays = decays.into();
        self.rows.0.push(slice.len(), |len, first_block| Entry {
            w,
            g,
            v,
            copy,
            parts,
            len,
            first_block,
            decays,
            factor,
        })
    }
}

/// Copies of weights that other ranks updated.
#[derive(Debug, Default)]
pub struct Copies<'a>(Tables<'a, Copied>);

impl<'a> Copies<'a> {
    /// Adds what is not in this rank's slice of a weight.
    ///
    /// # Errors
    /// An array of another type, a copy that is too short; as [`Kernels::exchange`].
    pub fn push(&mut self, peers: &Peers, slices: &[Range<usize>], w: &'a Array, copy: &'a mut Array) -> Result<()> {
        let own = peers.own("exchange_copy", slices)?;
        w.expect("exchange_copy", "w", Number::F32, own.end)?;
        copy.expect("exchange_copy", "copy", copy.number(), w.len())?;
        for range in [0..own.start, own.end..w.len()] {
            if range.is_empty() {
                continue;
            }
            let (w, copy) =
                (w.address() + 4 * range.start as u64, copy.address() + (range.start * copy.number().size()) as u64);
            self.0.push(range.len(), |len, first_block| Copied { w, copy, len, first_block })?;
        }
        Ok(())
    }
}

impl Kernels {
    /// Adds the ranks' parts of the slices' gradients, which [`Kernels::exchange`] has received, and updates the slices by the sum;
    /// ranks that are not `present` have no part. With loss scaling (`tests`) a step in which any rank's sum is not finite changes
    /// nothing but the scaler's state.
    ///
    /// # Errors
    /// Not one element of `present` per rank; an array of another type or too short; as [`Kernels::exchange`].
    pub fn exchange_update(
        &self,
        peers: &mut Peers,
        slices: &Slices<'_>,
        present: &[bool],
        optimizer: &Array,
        scaler: &mut Array,
        tests: bool,
    ) -> Result<()> {
        optimizer.expect(NAME, "optimizer", Number::F32, 4)?;
        scaler.expect(NAME, "scaler", Number::F32, 4)?;
        expect_len(NAME, "present", present.len(), peers.size())?;
        let mut ranks =
            RankWords { own: peers.rank() as u32, count: peers.size() as u32, present: [0; MAX_RANKS / 32] };
        for (rank, _) in present.iter().enumerate().filter(|(_, present)| **present) {
            ranks.present[rank / 32] |= 1 << (rank % 32);
        }
        let [update, sum] = match peers.size() {
            0..=FEW => ["exchange_update", "exchange_sum"],
            _ => ["exchange_update_many", "exchange_sum_many"],
        };
        let grid = |blocks| Grid::new([blocks, 1, 1], THREADS);
        if !tests {
            for table in slices.rows.0.iter() {
                let launch = self.launch(NAME, update)?.reference(&table.rows).value(table.entries);
                let launch = launch.reference(&ranks).array(optimizer).array(scaler);
                // SAFETY: the table's arrays were checked when they were added, and `parts` has room for those of all other
                // ranks; one block per chunk.
                unsafe { launch.run(grid(table.blocks)) }?;
            }
            return Ok(());
        }
        let found = peers.found.address() + 4 * peers.rank() as u64;
        for table in slices.rows.0.iter() {
            let launch = self.launch(NAME, sum)?.reference(&table.rows).value(table.entries);
            // SAFETY: as above; `found` has a word per rank.
            unsafe { launch.reference(&ranks).value(found).run(grid(table.blocks)) }?;
        }
        self.gather_found(peers)?;
        let launch = self.launch(NAME, "exchange_found")?.array_mut(&mut peers.found).value(ranks.count);
        // SAFETY: one thread, which accesses a word per rank and the scaler's four.
        unsafe { launch.array_mut(scaler).run(Grid::new([1, 1, 1], 1)) }?;
        self.sgd(&slices.rows, optimizer, scaler)
    }

    /// Renews copies in the storage type, after [`Kernels::gather`] of their weights.
    ///
    /// # Errors
    /// The driver's.
    pub fn exchange_copy(&self, copies: &Copies<'_>) -> Result<()> {
        for table in copies.0.iter() {
            let launch = self.launch(NAME, "exchange_copy")?.reference(&table.rows).value(table.entries);
            // SAFETY: the table's arrays were checked when they were added; one block per chunk.
            unsafe { launch.run(Grid::new([table.blocks, 1, 1], THREADS)) }?;
        }
        Ok(())
    }
}
