//! Operands of AMX's tiles, in bf16.
//!
//! K is packed in blocks of 32, padded with zeros: a block of 16 rows of A, or of 16 columns of B, is a register (see
//! [`amx`]). Four of them hold 32×32 elements of C, two hold rows of A and two columns of B, so that each loaded register is used
//! twice.
//! ```text
//! micro-panel of A: for each block: [16 rows][16 pairs of k]
//! micro-panel of B: for each block: [16 pairs of k][32 columns]
//! stored rows:      for 32 columns each: [capacity rows][16 pairs of columns]
//! ```
//!
//! Error bound: operands are rounded as in [`operand`](super::operand). A block's products with even k are summed by fused
//! multiply-adds in order, those with odd k besides, and both sums are added to what was summed before; C is added last. The
//! first of the multiply-adds is exact, as are sums with the zeros beyond K: an element has at most 16 + ⌈K/32⌉ roundings, and
//! no more than ⌈K/2⌉ + 1 up to 32 k, fewer than the K that the bound of sums in order counts. Numbers and sums below 2⁻¹²⁶ are
//! zero.

use super::super::simd::Simd;
use super::super::simd::amx::{self, TILE, WORDS};
use super::super::simd::avx512::Avx512;
use super::operand::Operand;
use super::tile::{PackedA, Prefetch};
use super::{MatMut, MatRef};

/// Elements of K per block.
const BLOCK: usize = 32;
/// Columns of a micro-panel of B.
const COLUMNS: usize = 32;
/// Words of a block of a micro-panel of B.
const B_BLOCK: usize = WORDS * COLUMNS;

/// Pairs of bf16 in the registers of AMX.
#[derive(Clone, Copy)]
pub struct Tiles;

// Each function relies on the trait's contract: the level is AMX.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Operand for Tiles {
    const BLOCK: usize = BLOCK;
    const STEPS: usize = WORDS;
    const KC: usize = super::MAX_KC;
    type Stored = u16;

    #[inline(always)]
    fn rows<S: Simd>() -> usize {
        amx::ROWS
    }

    #[inline(always)]
    unsafe fn pack_a_panel<S: Simd>(a: MatRef, m: usize, k: usize, to: *mut f32) {
        unsafe {
            for (block, p) in (0..k).step_by(BLOCK).enumerate() {
                let to = to.add(block * TILE);
                let local;
                let mut a = a.from(0, p);
                if m < amx::ROWS || k - p < BLOCK {
                    local = gather(a, m.min(amx::ROWS), k - p);
                    a = MatRef { start: local.as_ptr(), stride: BLOCK, row_major: true };
                }
                if a.row_major {
                    for row in 0..amx::ROWS {
                        Avx512::store(to.add(row * WORDS), Avx512::neighbours(a.at(row, 0)));
                    }
                } else {
                    let mut steps = [0.0f32; TILE];
                    for step in 0..WORDS {
                        let pairs = across(a.at(0, 2 * step), a.stride);
                        Avx512::store(steps.as_mut_ptr().add(step * amx::ROWS), pairs);
                    }
                    Avx512::transpose(steps.as_ptr(), amx::ROWS, to, WORDS);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_whole_b<S: Simd>(b: MatRef, k: usize, n: usize, to: *mut f32) {
        unsafe {
            let panel = Self::steps(k) * COLUMNS;
            for (block, p) in (0..k).step_by(BLOCK).enumerate() {
                for j in (0..n).step_by(COLUMNS) {
                    let to = to.add(j / COLUMNS * panel + block * B_BLOCK);
                    for half in [0, 16] {
                        let (to, j) = (to.add(half), j + half);
                        let local;
                        let mut b = b.from(p, j);
                        if n < j + 16 || k - p < BLOCK {
                            // Columns become rows.
                            let columns = MatRef { row_major: !b.row_major, ..b };
                            local = gather(columns, n.saturating_sub(j).min(16), k - p);
                            b = MatRef { start: local.as_ptr(), stride: BLOCK, row_major: false };
                        }
                        if b.row_major {
                            for step in 0..WORDS {
                                Avx512::store(to.add(step * COLUMNS), across(b.at(2 * step, 0), b.stride));
                            }
                        } else {
                            let mut columns = [0.0f32; TILE];
                            for column in 0..16 {
                                let to = columns.as_mut_ptr().add(column * WORDS);
                                Avx512::store(to, Avx512::neighbours(b.at(0, column)));
                            }
                            Avx512::transpose(columns.as_ptr(), WORDS, to, COLUMNS);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn packed<S: Simd>(start: *const f32, k: usize) -> PackedA {
        let panel_stride = amx::ROWS * k;
        PackedA { start, row_major: true, rows: amx::ROWS, panel_stride, column_stride: TILE, jump: 0 }
    }

    #[inline(always)]
    unsafe fn panel<S: Simd>(
        [m, columns, k]: [usize; 3],
        a: &PackedA,
        b: *const f32,
        c: MatMut,
        prefetch: &Prefetch,
        done: usize,
    ) -> usize {
        unsafe {
            let blocks = k / Self::STEPS;
            for i in (0..m).step_by(2 * amx::ROWS) {
                let mut ahead = Ahead::new(prefetch, done + i / amx::ROWS);
                let start = a.start.add(i / amx::ROWS * a.panel_stride);
                let rows = (m - i).min(2 * amx::ROWS);
                tile_of_rows([rows, columns, blocks], &PackedA { start, ..*a }, b, c.from(i, 0), &mut ahead);
            }
            m.div_ceil(amx::ROWS)
        }
    }
    #[inline(always)]
    unsafe fn stream<S: Simd>(size: [usize; 3], a: *const f32, b: MatRef, c: MatMut, buffer: *mut f32) {
        unsafe { stream(size, a, b, c, buffer) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut u16, v: S::V) {
        unsafe { S::store_bf16(p, v) }
    }
    #[inline(always)]
    fn zeros(n: usize) -> std::ops::Range<usize> {
        n..n.next_multiple_of(BLOCK)
    }
    #[inline(always)]
    fn rows_of<S: Simd>(start: *const f32, capacity: usize) -> PackedA {
        let column_stride = capacity * WORDS;
        PackedA { start, row_major: true, rows: amx::ROWS, panel_stride: TILE, column_stride, jump: 0 }
    }
    #[inline(always)]
    unsafe fn pair_rows<S: Simd>(from: *const f32, rows: usize, to: *mut f32) -> *const f32 {
        for (block, first) in (0..rows).step_by(BLOCK).enumerate() {
            unsafe { pair_block(from.add(first * WORDS).cast(), rows - first, to.add(block * B_BLOCK)) };
        }
        to
    }
    #[inline(always)]
    unsafe fn pack_rows<S: Simd>(from: *const f32, [n, _]: [usize; 2], to: *mut f32) {
        unsafe {
            for half in [0, 16] {
                if half + 16 <= n {
                    Avx512::transpose(from.add(half * WORDS), WORDS, to.add(half), COLUMNS);
                    continue;
                }
                let mut rows = [0.0f32; TILE];
                let left = n.saturating_sub(half) * WORDS;
                from.wrapping_add(half * WORDS).copy_to_nonoverlapping(rows.as_mut_ptr(), left);
                Avx512::transpose(rows.as_ptr(), WORDS, to.add(half), COLUMNS);
            }
        }
    }
    #[inline(always)]
    unsafe fn columns_of<S: Simd>(from: *const f32, capacity: usize, [m, rows]: [usize; 2], to: *mut f32) -> PackedA {
        unsafe {
            let steps = Self::steps(rows);
            let mut pairs = [0.0f32; B_BLOCK];
            for c in (0..m).step_by(COLUMNS) {
                for (block, first) in (0..rows).step_by(BLOCK).enumerate() {
                    let from = from.add((c / COLUMNS * capacity + first) * WORDS).cast();
                    pair_block(from, rows - first, pairs.as_mut_ptr());
                    for half in [0, 16] {
                        let to = to.add((c + half) * steps + block * TILE);
                        Avx512::transpose(pairs.as_ptr().add(half), COLUMNS, to, WORDS);
                    }
                }
            }
            Self::packed::<S>(to, steps)
        }
    }
    #[inline(always)]
    fn ahead<S: Simd>(_a: &PackedA) -> Prefetch {
        Prefetch::NONE
    }
}

/// The first 32 k of at most 16 rows, in rows of 32, with zeros beyond.
#[inline(always)]
unsafe fn gather(a: MatRef, rows: usize, k: usize) -> [f32; amx::ROWS * BLOCK] {
    let mut to = [0.0; amx::ROWS * BLOCK];
    for row in 0..rows {
        for p in 0..k.min(BLOCK) {
            // SAFETY: the caller's matrix has these.
            to[row * BLOCK + p] = unsafe { *a.at(row, p) };
        }
    }
    to
}

/// The pairs of up to 32 stored rows, with zeros beyond.
///
/// # Safety
/// There are min(`rows`, 32) rows of 32, and `to` has room for a block of B.
#[inline(always)]
unsafe fn pair_block(from: *const u16, rows: usize, to: *mut f32) {
    const ZEROS: [u16; COLUMNS] = [0; COLUMNS];
    // SAFETY: see the caller.
    unsafe {
        for step in 0..WORDS {
            let row = |i| if i < rows { from.wrapping_add(i * COLUMNS) } else { ZEROS.as_ptr() };
            let [first, second] = Avx512::interleave(row(2 * step), row(2 * step + 1));
            Avx512::store(to.add(step * COLUMNS), first);
            Avx512::store(to.add(step * COLUMNS + 16), second);
        }
    }
}

/// The pairs of two times 16 floats, those at `p` in the lower halves.
///
/// # Safety
/// The pointers are valid.
#[inline(always)]
unsafe fn across(p: *const f32, stride: usize) -> <Avx512 as Simd>::V {
    // SAFETY: see the caller.
    unsafe { Avx512::pair(Avx512::load(p), Avx512::load(p.add(stride))) }
}

/// C = A·B: see [`gemm_stream_b`](super::gemm_stream_b).
///
/// All columns are done with some k before the next k, so that a part of A stays in the second-level cache. The columns that
/// follow are prefetched meanwhile.
///
/// # Safety
/// As for [`gemm_stream_b`](super::gemm_stream_b).
#[inline(always)]
unsafe fn stream([m, n, k]: [usize; 3], a: *const f32, b: MatRef, c: MatMut, buffer: *mut f32) {
    const RUN: usize = super::STREAM_STEPS;
    let (max_kc, rows) = (RUN / WORDS * BLOCK, m.next_multiple_of(amx::ROWS));
    let packed = Tiles::packed::<Avx512>(a, Tiles::steps(k));
    // SAFETY: all offsets stay inside the matrices and the buffer; prefetched addresses are not read.
    unsafe {
        let (pb, sums) = (buffer, buffer.add(super::pack::packed_b_len(RUN, super::GROUP)));
        for k0 in (0..k.max(1)).step_by(max_kc) {
            let kc = max_kc.min(k - k0);
            let (steps, blocks) = (Tiles::steps(kc), kc.div_ceil(BLOCK));
            let start = packed.start.add(k0 / BLOCK * packed.column_stride);
            for n0 in (0..n).step_by(super::GROUP) {
                let nc = super::GROUP.min(n - n0);
                Tiles::pack_whole_b::<Avx512>(b.from(k0, n0), kc, nc, pb);
                let next = if n0 + nc < n { b.at(k0, n0 + nc) } else { b.at((k0 + kc) % k.max(1), 0) };
                let per_row = if b.row_major { super::GROUP } else { kc }.div_ceil(16);
                let lines = (if b.row_major { kc } else { super::GROUP }) * per_row;
                let products = nc.div_ceil(COLUMNS) * rows.div_ceil(2 * amx::ROWS) * blocks;
                let per_block = lines.div_ceil(products.max(1));
                let mut ahead = Lines { row: next, stride: b.stride, per_row, next: 0, left: lines, per_block };
                for j in (0..nc).step_by(COLUMNS) {
                    let c = MatMut { start: sums.add((n0 + j) * rows), stride: COLUMNS, accumulate: k0 > 0 };
                    for i in (0..rows).step_by(2 * amx::ROWS) {
                        let start = start.add(i / amx::ROWS * packed.panel_stride);
                        let size = [(rows - i).min(2 * amx::ROWS), COLUMNS, blocks];
                        let (a, b) = (PackedA { start, ..packed }, pb.add(j * steps));
                        tile_of_rows(size, &a, b, c.from(i, 0), &mut ahead);
                    }
                }
            }
        }
        for j in (0..n).step_by(COLUMNS) {
            for i in 0..m {
                let (from, to) = (sums.add(j * rows + i * COLUMNS), c.start.add(i * c.stride + j));
                to.copy_from_nonoverlapping(from, COLUMNS.min(n - j));
            }
        }
    }
}

/// What is prefetched while products are computed.
trait Lookahead {
    /// Called once per block of K.
    ///
    /// # Safety
    /// The level's instructions exist.
    unsafe fn prefetch(&mut self);
}

/// The lines that a tile prefetches, see [`Prefetch`].
#[derive(Clone, Copy)]
struct Ahead {
    line: *const f32,
    /// Rows of C whose lines these are, and the distance between these.
    tiles: usize,
    tile_stride: usize,
    /// Floats per block.
    floats: usize,
    second: usize,
}

impl Ahead {
    #[inline(always)]
    fn new(prefetch: &Prefetch, tile: usize) -> Self {
        let &Prefetch { start, tiles, tile_stride, step, second, .. } = prefetch;
        let line = start.wrapping_add(tile * tile_stride);
        Ahead { line, tiles: tiles.saturating_sub(tile).min(2), tile_stride, floats: WORDS * step, second }
    }
}
impl Lookahead for Ahead {
    #[inline(always)]
    unsafe fn prefetch(&mut self) {
        for tile in 0..self.tiles {
            let line = self.line.wrapping_add(tile * self.tile_stride);
            for at in (0..self.floats).step_by(16) {
                // SAFETY: prefetched addresses are not read.
                unsafe {
                    Avx512::prefetch(line.wrapping_add(at));
                    if self.second != 0 {
                        Avx512::prefetch(line.wrapping_add(at + self.second));
                    }
                }
            }
        }
        self.line = self.line.wrapping_add(self.floats);
    }
}

/// A matrix's lines, row by row.
struct Lines {
    row: *const f32,
    stride: usize,
    /// Lines per row, and the next one in this row.
    per_row: usize,
    next: usize,
    left: usize,
    per_block: usize,
}
impl Lookahead for Lines {
    #[inline(always)]
    unsafe fn prefetch(&mut self) {
        for _ in 0..self.per_block.min(self.left) {
            // SAFETY: prefetched addresses are not read.
            unsafe { Avx512::prefetch(self.row.wrapping_add(16 * self.next)) };
            self.next += 1;
            if self.next == self.per_row {
                (self.row, self.next) = (self.row.wrapping_add(self.stride), 0);
            }
        }
        self.left = self.left.saturating_sub(self.per_block);
    }
}

/// At most 32×32 elements of C, of `size` \[rows, columns, blocks of K\].
///
/// # Safety
/// As for [`tile::panel`](super::tile::panel).
#[inline(always)]
unsafe fn tile_of_rows<L: Lookahead>(size: [usize; 3], a: &PackedA, b: *const f32, c: MatMut, ahead: &mut L) {
    // SAFETY: passed on to the caller.
    unsafe {
        match (size[0] > amx::ROWS, size[1] > 16) {
            (true, true) => tile::<2, 2, L>(size, a, b, c, ahead),
            (true, false) => tile::<2, 1, L>(size, a, b, c, ahead),
            (false, true) => tile::<1, 2, L>(size, a, b, c, ahead),
            (false, false) => tile::<1, 1, L>(size, a, b, c, ahead),
        }
    }
}

/// R registers of rows by Q of columns.
///
/// # Safety
/// As for [`tile_of_rows`].
#[inline(always)]
unsafe fn tile<const R: usize, const Q: usize, L: Lookahead>(
    [rows, columns, blocks]: [usize; 3],
    a: &PackedA,
    b: *const f32,
    c: MatMut,
    ahead: &mut L,
) {
    let (mut block_a, mut block_b) = (a.start, b);
    // SAFETY: see the caller.
    unsafe {
        amx::zero::<0>();
        amx::zero::<1>();
        amx::zero::<2>();
        amx::zero::<3>();
        for _ in 0..blocks {
            ahead.prefetch();
            amx::load::<4>(block_a, WORDS);
            amx::load::<6>(block_b, COLUMNS);
            amx::dot::<0, 4, 6>();
            if Q > 1 {
                amx::load::<7>(block_b.wrapping_add(16), COLUMNS);
                amx::dot::<1, 4, 7>();
            }
            if R > 1 {
                amx::load::<5>(block_a.wrapping_add(a.panel_stride), WORDS);
                amx::dot::<2, 5, 6>();
            }
            if R > 1 && Q > 1 {
                amx::dot::<3, 5, 7>();
            }
            block_a = block_a.wrapping_add(a.column_stride);
            block_b = block_b.wrapping_add(B_BLOCK);
        }
        store::<0>([rows, columns], c);
        if Q > 1 {
            store::<1>([rows, columns - 16], c.from(0, 16));
        }
        if R > 1 {
            store::<2>([rows - 16, columns], c.from(16, 0));
        }
        if R > 1 && Q > 1 {
            store::<3>([rows - 16, columns - 16], c.from(16, 16));
        }
    }
}

/// Stores up to 16×16 sums, or adds them to C.
///
/// # Safety
/// C has these elements.
#[inline(always)]
unsafe fn store<const T: u8>([rows, columns]: [usize; 2], c: MatMut) {
    // SAFETY: see the caller; the sums have 16 rows and columns.
    unsafe {
        if rows >= 16 && columns >= 16 && !c.accumulate {
            return amx::store::<T>(c.start, c.stride);
        }
        let mut sums = std::mem::MaybeUninit::<[f32; TILE]>::uninit();
        let sums = sums.as_mut_ptr().cast::<f32>();
        amx::store::<T>(sums, 16);
        for row in 0..rows.min(16) {
            let (from, to) = (sums.add(row * 16), c.start.add(row * c.stride));
            if columns >= 16 {
                let sum = Avx512::load(from);
                Avx512::store(to, if c.accumulate { Avx512::add(Avx512::load(to), sum) } else { sum });
                continue;
            }
            for column in 0..columns {
                let (sum, to) = (*from.add(column), to.add(column));
                *to = if c.accumulate { *to + sum } else { sum };
            }
        }
    }
}

#[cfg(test)]
mod tests;
