//! Weights in half precision, for inference: stored as fp16, multiplied as the f32 that they widen to. So a network computes
//! exactly what it would in fp32 with its weights rounded to fp16, and a weight w errs by at most max(2⁻¹¹·|w|, 2⁻²⁵).
//!
//! fp16 rather than bf16: 11 bits instead of 8, so an eighth of the error, for one more instruction per vector where the loads of
//! memory are the limit. Numbers beyond 65504, which it lacks, are refused when they are written.
//!
//! The order is that in which products read them, so nothing is packed later: see [`Half`].

use super::array::{Array, Plain};
use super::gemm::COLUMNS;
use super::simd::{Simd, fp16};
use crate::{Error, Result};
use alexnet_ops::{expect_len, front};
use std::ops::Range;

impl Plain for u16 {}

/// Columns of the matrix that are written at once: so many cache lines stay in the first-level cache.
const BLOCK: usize = 256;

/// A matrix of weights in panels of [`COLUMNS`] rows, one for each output or filter. A panel holds its columns one after the other;
/// the last one is padded with zeros.
#[derive(Clone, Copy)]
pub struct Half<'a> {
    pub values: &'a [u16],
    /// Columns of the matrix: inputs, or channels and window.
    pub columns: usize,
}

impl Half<'_> {
    /// The matrix from a row on with which a panel begins.
    pub fn from_row(self, row: usize) -> Self {
        Self { values: &self.values[self.index(row, 0)..], ..self }
    }
    /// Index of an element; those of the next rows in the panel follow.
    #[inline(always)]
    pub fn index(self, row: usize, column: usize) -> usize {
        index(self.columns, row, column)
    }
}

#[inline(always)]
fn index(columns: usize, row: usize, column: usize) -> usize {
    (row / COLUMNS * columns + column) * COLUMNS + row % COLUMNS
}

/// A [`Half`] and its memory.
#[derive(Debug)]
struct Stored {
    rows: usize,
    columns: usize,
    values: Array<u16>,
}

impl Stored {
    fn len(&self) -> usize {
        self.rows * self.columns
    }

    fn write_at(&mut self, from: &[f32], start: usize) -> Result<()> {
        expect_len("write", "to", self.len(), start + from.len())?;
        // What is less rounds to the largest number at most.
        if let Some(&value) = from.iter().find(|x| x.abs().partial_cmp(&65520.0).is_none_or(|order| order.is_ge())) {
            return Err(Error::Overflow { value });
        }
        let (columns, end) = (self.columns, start + from.len());
        let to = self.values.as_mut_slice();
        let rows = start / columns.max(1)..end.div_ceil(columns.max(1));
        for panel in rows.start / COLUMNS..rows.end.div_ceil(COLUMNS) {
            let rows = rows.start.max(panel * COLUMNS)..rows.end.min((panel + 1) * COLUMNS);
            for first in (0..columns).step_by(BLOCK) {
                for row in rows.clone() {
                    // The part of the row that is in the block and in `from`.
                    let [a, b] = [first, columns.min(first + BLOCK)].map(|at| (row * columns + at).clamp(start, end));
                    let at = index(columns, row, a - row * columns);
                    for (to, &x) in to[at..].iter_mut().step_by(COLUMNS).zip(&from[a - start..b - start]) {
                        *to = fp16::round(x);
                    }
                }
            }
        }
        Ok(())
    }

    fn read_at(&self, start: usize, to: &mut [f32]) -> Result<()> {
        expect_len("read", "from", self.len(), start + to.len())?;
        for (i, to) in (start..).zip(to) {
            *to = fp16::widen(self.values[index(self.columns, i / self.columns, i % self.columns)]);
        }
        Ok(())
    }
}

/// An array of the CPU: floats, or [weights in half precision](Half), of which it has no floats.
#[derive(Debug)]
pub struct Buffer {
    floats: Array<f32>,
    half: Option<Stored>,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Result<Self> {
        Ok(Self { floats: Array::zeros(len)?, half: None })
    }
    /// Zeros in half precision.
    pub fn half(rows: usize, columns: usize) -> Result<Self> {
        let values = Array::zeros(rows.next_multiple_of(COLUMNS) * columns)?;
        Ok(Self { floats: Array::zeros(0)?, half: Some(Stored { rows, columns, values }) })
    }
    /// The floats, mutably; counts as a change of the contents.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.floats.as_mut_slice()
    }
    /// See [`Array::contents`].
    pub fn contents(&self) -> u64 {
        self.floats.contents()
    }
    /// Whether it is in half precision.
    pub fn is_half(&self) -> bool {
        self.half.is_some()
    }
    /// See [`Memory::write_at`](crate::device::Memory::write_at).
    pub fn write_at(&mut self, from: &[f32], start: usize) -> Result<()> {
        match &mut self.half {
            Some(half) => half.write_at(from, start)?,
            None => {
                alexnet_ops::front_mut("write", "to", self.floats.as_mut_slice(), start + from.len())?[start..]
                    .copy_from_slice(from);
            }
        }
        Ok(())
    }
    /// See [`Memory::read_at`](crate::device::Memory::read_at).
    pub fn read_at(&self, start: usize, to: &mut [f32]) -> Result<()> {
        match &self.half {
            Some(half) => half.read_at(start, to)?,
            None => to.copy_from_slice(&front("read", "from", &self.floats, start + to.len())?[start..]),
        }
        Ok(())
    }
    /// The weights of `operator`, a matrix of `columns` columns, `len` elements.
    pub fn weights(&self, operator: &'static str, len: usize, columns: usize) -> Result<Weights<'_>> {
        Ok(match &self.half {
            Some(half) => {
                let found = if half.columns == columns { half.len() } else { 0 };
                expect_len(operator, "w", found, len)?;
                let values = Values::Half(Half { values: &half.values, columns });
                Weights { values, contents: half.values.contents() }
            }
            None => {
                let values = Values::Full(front(operator, "w", &self.floats, len)?);
                Weights { values, contents: self.floats.contents() }
            }
        })
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.floats
    }
}
impl AsRef<[f32]> for Buffer {
    fn as_ref(&self) -> &[f32] {
        &self.floats
    }
}
impl AsMut<[f32]> for Buffer {
    fn as_mut(&mut self) -> &mut [f32] {
        self.floats.as_mut_slice()
    }
}

/// Weights with the number of their [contents](Array::contents), the key under which arrays computed from them are cached.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub values: Values<'a>,
    pub contents: u64,
}

/// A matrix of weights, a row per output or filter.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Row by row.
    Full(&'a [f32]),
    Half(Half<'a>),
}

impl Values<'_> {
    /// An element of a matrix with `columns` columns.
    #[inline(always)]
    pub fn at(self, columns: usize, row: usize, column: usize) -> f32 {
        match self {
            Values::Full(values) => values[row * columns + column],
            Values::Half(half) => fp16::widen(half.values[half.index(row, column)]),
        }
    }

    /// `lanes` rows from `row` on, as a vector per column: `range` of the matrix's `columns`. Lanes beyond are not written, but where
    /// there are LANES. Prefetches the columns that come next.
    ///
    /// # Safety
    /// The rows exist; `to` has LANES floats per column.
    #[inline(always)]
    pub unsafe fn vectors<S: Simd>(self, columns: usize, row: usize, lanes: usize, range: Range<usize>, to: *mut f32) {
        // SAFETY: see the caller; what is prefetched is not read.
        unsafe {
            let mut j = range.start;
            if lanes == S::LANES {
                match self {
                    Values::Full(values) => {
                        let from = values.as_ptr().add(row * columns);
                        while j + S::LANES <= range.end {
                            for i in 0..lanes {
                                S::prefetch(from.wrapping_add(i * columns + j + range.len()));
                            }
                            S::transpose(from.add(j), columns, to.add((j - range.start) * S::LANES), S::LANES);
                            j += S::LANES;
                        }
                    }
                    // Otherwise the rows are in two panels.
                    Values::Half(half) if row.is_multiple_of(S::LANES) => {
                        let from = half.values.as_ptr().add(half.index(row, 0));
                        while j < range.end {
                            let from = from.add(j * COLUMNS);
                            S::prefetch(from.wrapping_add(range.len() * COLUMNS).cast());
                            S::store(to.add((j - range.start) * S::LANES), S::load_fp16(from));
                            j += 1;
                        }
                    }
                    Values::Half(_) => {}
                }
            }
            for j in j..range.end {
                for i in 0..lanes {
                    *to.add((j - range.start) * S::LANES + i) = self.at(columns, row + i, j);
                }
            }
        }
    }
}
