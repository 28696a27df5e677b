//! The weights of convolutions and linear layers in a network for inference: in the order in which products read them, so that
//! nothing is packed later, and on request in half precision.
//!
//! In half precision they are stored as fp16 and multiplied as the f32 that they widen to. So a network computes exactly what it
//! would in fp32 with its weights rounded to fp16, and a weight w errs by at most max(2⁻¹¹·|w|, 2⁻²⁵). fp16 rather than bf16: 11
//! bits instead of 8, so an eighth of the error, for one more instruction per vector where the loads of memory are the limit.
//! Numbers beyond 65504, which it lacks, are refused when they are written.

use super::array::{Array, Plain};
use super::gemm::COLUMNS;
use super::simd::{Level, Simd, dispatch, fp16};
use crate::{Error, Result};
use alexnet_ops::{expect_len, front, front_mut};
use std::ops::Range;

/// A number format of stored weights.
pub trait Number: Plain {
    /// Rounds.
    fn of(x: f32) -> Self;
    /// Widens.
    fn value(self) -> f32;
    /// LANES of them, widened.
    ///
    /// # Safety
    /// As for [`Simd::load`].
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
}

impl Number for f32 {
    #[inline(always)]
    fn of(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: passed on to the caller.
        unsafe { S::load(p) }
    }
}

/// fp16.
impl Number for u16 {
    #[inline(always)]
    fn of(x: f32) -> u16 {
        fp16::round(x)
    }
    #[inline(always)]
    fn value(self) -> f32 {
        fp16::widen(self)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u16) -> S::V {
        // SAFETY: passed on to the caller.
        unsafe { S::load_fp16(p) }
    }
}
impl Plain for u16 {}

/// A matrix of weights in panels of [`COLUMNS`] rows, one for each output or filter. A panel holds its columns one after the other;
/// the last one is padded with zeros.
#[derive(Clone, Copy)]
pub struct PanelsOf<'a, T> {
    pub values: &'a [T],
    /// Columns of the matrix: inputs, or channels and window.
    pub columns: usize,
}

impl<T: Number> PanelsOf<'_, T> {
    /// Address of an element; those of the next rows in the panel follow. It may be outside: prefetches go there.
    #[inline(always)]
    pub fn at(self, row: usize, column: usize) -> *const T {
        self.values.as_ptr().wrapping_add(index(self.columns, row, column))
    }
    fn value(self, row: usize, column: usize) -> f32 {
        self.values[index(self.columns, row, column)].value()
    }
    fn rows_from(self, row: usize) -> Self {
        Self { values: &self.values[index(self.columns, row, 0)..], ..self }
    }

    /// A vector for each column in `range` of LANES rows from `row` on, which are in one panel.
    ///
    /// # Safety
    /// The rows exist; `to` has LANES floats per column.
    #[inline(always)]
    unsafe fn vectors<S: Simd>(self, row: usize, range: Range<usize>, to: *mut f32) {
        // SAFETY: see the caller; what is prefetched is not read.
        unsafe {
            for (i, j) in range.clone().enumerate() {
                let from = self.at(row, j);
                S::prefetch(from.wrapping_add(range.len() * COLUMNS).cast());
                S::store(to.add(i * S::LANES), T::load::<S>(from));
            }
        }
    }
}

#[inline(always)]
fn index(columns: usize, row: usize, column: usize) -> usize {
    (row / COLUMNS * columns + column) * COLUMNS + row % COLUMNS
}

/// [`PanelsOf`] either number format.
#[derive(Clone, Copy)]
pub enum Panels<'a> {
    Full(PanelsOf<'a, f32>),
    Half(PanelsOf<'a, u16>),
}

impl Panels<'_> {
    /// The matrix from a row on with which a panel begins.
    pub fn rows_from(self, row: usize) -> Self {
        match self {
            Panels::Full(panels) => Panels::Full(panels.rows_from(row)),
            Panels::Half(panels) => Panels::Half(panels.rows_from(row)),
        }
    }
}

/// A matrix of weights, a row per output or filter.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Row by row.
    Rows(&'a [f32]),
    Panels(Panels<'a>),
}

/// Weights with the number of their [contents](Array::contents), the key under which arrays computed from them are cached.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub values: Values<'a>,
    pub contents: u64,
}

impl Values<'_> {
    /// An element of a matrix with `columns` columns.
    #[inline(always)]
    pub fn at(self, columns: usize, row: usize, column: usize) -> f32 {
        match self {
            Values::Rows(values) => values[row * columns + column],
            Values::Panels(Panels::Full(panels)) => panels.value(row, column),
            Values::Panels(Panels::Half(panels)) => panels.value(row, column),
        }
    }

    /// `lanes` rows from `row` on, as a vector per column: `range` of the matrix's `columns`. Lanes beyond are not written.
    /// Prefetches the columns that come next.
    ///
    /// # Safety
    /// The rows exist; `to` has LANES floats per column.
    #[inline(always)]
    pub unsafe fn vectors<S: Simd>(self, columns: usize, row: usize, lanes: usize, range: Range<usize>, to: *mut f32) {
        // SAFETY: see the caller; what is prefetched is not read.
        unsafe {
            let mut done = range.start;
            if lanes == S::LANES {
                // Lanes that do not begin with a multiple are in two panels.
                let aligned = row.is_multiple_of(S::LANES);
                match self {
                    Values::Rows(values) => {
                        let from = values.as_ptr().add(row * columns);
                        while done + S::LANES <= range.end {
                            for i in 0..lanes {
                                S::prefetch(from.wrapping_add(i * columns + done + range.len()));
                            }
                            S::transpose(from.add(done), columns, to.add((done - range.start) * S::LANES), S::LANES);
                            done += S::LANES;
                        }
                    }
                    Values::Panels(Panels::Full(panels)) if aligned => {
                        return panels.vectors::<S>(row, range, to);
                    }
                    Values::Panels(Panels::Half(panels)) if aligned => {
                        return panels.vectors::<S>(row, range, to);
                    }
                    Values::Panels(_) => {}
                }
            }
            for j in done..range.end {
                for i in 0..lanes {
                    *to.add((j - range.start) * S::LANES + i) = self.at(columns, row + i, j);
                }
            }
        }
    }
}

/// The memory of [`PanelsOf`].
#[derive(Debug)]
struct Stored<T: Number> {
    rows: usize,
    columns: usize,
    values: Array<T>,
}

impl<T: Number> Stored<T> {
    fn zeros(rows: usize, columns: usize) -> Result<Self> {
        Ok(Self { rows, columns, values: Array::zeros(rows.next_multiple_of(COLUMNS) * columns)? })
    }

    fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// The panels, if they are a matrix of `columns` columns and at least `len` elements.
    fn panels(&self, operator: &'static str, len: usize, columns: usize) -> Result<PanelsOf<'_, T>> {
        expect_len(operator, "w", if self.columns == columns { self.len() } else { 0 }, len)?;
        Ok(PanelsOf { values: &self.values, columns })
    }

    /// `whole` writes the rows of a whole panel.
    fn write_at(&mut self, from: &[f32], start: usize, whole: impl Fn(&[f32], usize, &mut [T])) -> Result<()> {
        expect_len("write", "to", self.len(), start + from.len())?;
        let (columns, end) = (self.columns, start + from.len());
        let size = columns * COLUMNS;
        let panels = self.values.as_mut_slice().chunks_exact_mut(size.max(1)).enumerate();
        let first = start / size.max(1);
        for (panel, to) in panels.take(end.div_ceil(size.max(1))).skip(first) {
            let range = start.max(panel * size)..end.min((panel + 1) * size);
            let from = &from[range.start - start..range.end - start];
            if from.len() == size {
                whole(from, columns, to);
                continue;
            }
            for (i, &x) in (range.start - panel * size..).zip(from) {
                to[i % columns * COLUMNS + i / columns] = T::of(x);
            }
        }
        Ok(())
    }

    fn read_at(&self, start: usize, to: &mut [f32]) -> Result<()> {
        expect_len("read", "from", self.len(), start + to.len())?;
        for (i, to) in (start..).zip(to) {
            *to = self.values[index(self.columns, i / self.columns, i % self.columns)].value();
        }
        Ok(())
    }
}

dispatch! {
    /// Writes a panel from its rows.
    fn write_full(from: &[f32], columns: usize, to: &mut [f32]) = write_full_body
}
dispatch! {
    /// Writes a panel from its rows, rounded.
    fn write_half(from: &[f32], columns: usize, to: &mut [u16]) = write_half_body
}
#[inline(always)]
unsafe fn write_full_body<S: Simd>(from: &[f32], columns: usize, to: &mut [f32]) {
    // SAFETY: passed on to the caller.
    unsafe { write_body::<S, f32>(from, columns, to) }
}
#[inline(always)]
unsafe fn write_half_body<S: Simd>(from: &[f32], columns: usize, to: &mut [u16]) {
    // SAFETY: passed on to the caller.
    unsafe { write_body::<S, u16>(from, columns, to) }
}
#[inline(always)]
unsafe fn write_body<S: Simd, T: Number>(from: &[f32], columns: usize, to: &mut [T]) {
    // LANES is at most 16.
    let mut block = [0.0f32; 16 * COLUMNS];
    for (first, to) in (0..columns).step_by(S::LANES).zip(to.chunks_mut(S::LANES * COLUMNS)) {
        let width = S::LANES.min(columns - first);
        if width == S::LANES {
            for row in (0..COLUMNS).step_by(S::LANES) {
                // SAFETY: the rows and the block are that large.
                unsafe {
                    let to = block.as_mut_ptr().add(row);
                    S::transpose(from.as_ptr().add(row * columns + first), columns, to, COLUMNS);
                }
            }
        } else {
            for (i, x) in block.iter_mut().enumerate().take(width * COLUMNS) {
                *x = from[i % COLUMNS * columns + first + i / COLUMNS];
            }
        }
        for (to, &x) in to.iter_mut().zip(&block) {
            *to = T::of(x);
        }
    }
}

/// An array of the CPU: floats in order, or weights in panels, of which it gives no floats.
#[derive(Debug)]
pub struct Buffer {
    floats: Array<f32>,
    panels: Option<StoredPanels>,
}

#[derive(Debug)]
enum StoredPanels {
    Full(Stored<f32>),
    Half(Stored<u16>),
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Result<Self> {
        Ok(Self { floats: Array::zeros(len)?, panels: None })
    }
    /// Zeros in panels of a matrix, in half precision or as floats.
    pub fn panels(rows: usize, columns: usize, half: bool) -> Result<Self> {
        let panels = match half {
            true => StoredPanels::Half(Stored::zeros(rows, columns)?),
            false => StoredPanels::Full(Stored::zeros(rows, columns)?),
        };
        Ok(Self { floats: Array::zeros(0)?, panels: Some(panels) })
    }
    /// The floats, mutably; counts as a change of the contents.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.floats.as_mut_slice()
    }
    /// See [`Array::contents`].
    pub fn contents(&self) -> u64 {
        match &self.panels {
            None => self.floats.contents(),
            Some(StoredPanels::Full(panels)) => panels.values.contents(),
            Some(StoredPanels::Half(panels)) => panels.values.contents(),
        }
    }
    /// Whether it has weights in panels.
    pub fn has_panels(&self) -> bool {
        self.panels.is_some()
    }
    /// Whether these are in half precision.
    pub fn is_half(&self) -> bool {
        matches!(self.panels, Some(StoredPanels::Half(_)))
    }
    /// See [`Memory::write_at`](crate::device::Memory::write_at).
    pub fn write_at(&mut self, level: Level, from: &[f32], start: usize) -> Result<()> {
        match &mut self.panels {
            None => {
                let floats = self.floats.as_mut_slice();
                front_mut("write", "to", floats, start + from.len())?[start..].copy_from_slice(from);
                Ok(())
            }
            Some(StoredPanels::Full(panels)) => {
                panels.write_at(from, start, |from, columns, to| write_full(level, from, columns, to))
            }
            Some(StoredPanels::Half(panels)) => {
                // What is less rounds to the largest number at most.
                let overflows = |x: &&f32| x.abs().partial_cmp(&65520.0).is_none_or(|order| order.is_ge());
                match from.iter().find(overflows) {
                    Some(&value) => Err(Error::Overflow { value }),
                    None => panels.write_at(from, start, |from, columns, to| write_half(level, from, columns, to)),
                }
            }
        }
    }
    /// See [`Memory::read_at`](crate::device::Memory::read_at).
    pub fn read_at(&self, start: usize, to: &mut [f32]) -> Result<()> {
        match &self.panels {
            None => {
                to.copy_from_slice(&front("read", "from", &self.floats, start + to.len())?[start..]);
                Ok(())
            }
            Some(StoredPanels::Full(panels)) => panels.read_at(start, to),
            Some(StoredPanels::Half(panels)) => panels.read_at(start, to),
        }
    }
    /// The weights of `operator`, a matrix of `columns` columns, `len` elements.
    pub fn weights(&self, operator: &'static str, len: usize, columns: usize) -> Result<Weights<'_>> {
        let values = match &self.panels {
            None => Values::Rows(front(operator, "w", &self.floats, len)?),
            Some(StoredPanels::Full(stored)) => Values::Panels(Panels::Full(stored.panels(operator, len, columns)?)),
            Some(StoredPanels::Half(stored)) => Values::Panels(Panels::Half(stored.panels(operator, len, columns)?)),
        };
        Ok(Weights { values, contents: self.contents() })
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
