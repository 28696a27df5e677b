//! The micro-kernel: a tile of MR×NR elements of C (ROWS rows by two vectors), summed over K in registers.
//!
//! K is counted in steps of the [`operand`](super::operand). A step costs two loads of B, ROWS broadcasts of A and 2·ROWS
//! multiply-adds, so the multiply-adds are the limit as long as the loads hit a cache. One spare load slot per step prefetches
//! what comes next ([`Prefetch`]): weights stored in pieces too short for the hardware prefetcher.

use super::super::simd::Simd;
use super::MatMut;
use super::operand::Element;

/// A in micro-panels, which vectors multiply; of AMX's operands a micro-panel is a register for each
/// block of K.
#[derive(Clone, Copy)]
pub struct PackedA {
    /// Element (0, 0).
    pub start: *const f32,
    /// Whether a micro-panel holds its rows one after the other, each with the steps of two vectors of elements; otherwise its
    /// columns.
    pub row_major: bool,
    /// Rows per micro-panel; a tile does not cross a micro-panel's end.
    pub rows: usize,
    /// Distance between micro-panels.
    pub panel_stride: usize,
    /// Distance between columns, of one step each; between blocks of K.
    pub column_stride: usize,
    /// Added after every 2·LANES columns, of a row-major A after every row's part of a micro-panel.
    pub jump: usize,
}

/// Cache lines to prefetch while tiles are summed: tile t below `tiles` prefetches in each step of K the line at
/// `start` + t·`tile_stride` + step·`step` (+ `jump` after every 2·LANES steps), and the line `second` floats further on.
#[derive(Clone, Copy)]
pub struct Prefetch {
    pub start: *const f32,
    pub tiles: usize,
    pub tile_stride: usize,
    pub step: usize,
    pub jump: usize,
    pub second: usize,
}

impl Prefetch {
    /// Prefetches nothing.
    pub const NONE: Prefetch =
        Prefetch { start: std::ptr::null(), tiles: 0, tile_stride: 0, step: 0, jump: 0, second: 0 };
}

/// Where one tile prefetches.
#[derive(Clone, Copy)]
struct PrefetchCursor {
    line: *const f32,
    step: usize,
    jump: usize,
    second: usize,
}

/// Rows of the tallest tile for `rows` rows.
#[inline(always)]
fn tile_rows<S: Simd>(rows: usize) -> usize {
    match rows {
        r if r >= S::ROWS => S::ROWS,
        r if r >= 8 && S::ROWS > 8 => 8,
        r if r >= 4 && S::ROWS > 4 => 4,
        r if r >= 2 => 2,
        _ => 1,
    }
}

/// One panel of C = A·B, or of C += A·B: `size` is \[M, columns, steps of K\] with at most two vectors of columns, `b` one micro-panel
/// (a row of two vectors per step). `done` tiles came before, for [`Prefetch`]; returns the number of tiles.
///
/// # Safety
/// A, B and C have the stated sizes.
#[inline(always)]
pub unsafe fn panel<S: Simd, E: Element>(
    [m, columns, k]: [usize; 3],
    packed: &PackedA,
    b: *const f32,
    c: MatMut,
    prefetch: &Prefetch,
    done: usize,
) -> usize {
    // SAFETY: the tiles cover C exactly once; a panel that crosses C's edge goes through `edge`.
    unsafe {
        let panel = 2 * S::LANES;
        let (mut i, mut tiles) = (0, 0);
        while i < m {
            let inside = i % packed.rows;
            let rows = tile_rows::<S>((m - i).min(packed.rows - inside));
            let row = if packed.row_major { panel / E::PER_STEP } else { 1 };
            let a = packed.start.add(i / packed.rows * packed.panel_stride + inside * row);
            let next = done + tiles;
            let Prefetch { start, tile_stride, step, jump, second, .. } = *prefetch;
            let cursor = match next < prefetch.tiles {
                true => PrefetchCursor { line: start.wrapping_add(next * tile_stride), step, jump, second },
                false => PrefetchCursor { line: a, step: 0, jump: 0, second: 0 },
            };
            let c = c.from(i, 0);
            if columns == panel {
                tile_of_rows::<S, E>(rows, k, packed, a, b, c, cursor);
            } else {
                let mut edge = [0.0f32; 12 * 32];
                let sums = MatMut { start: edge.as_mut_ptr(), stride: panel, accumulate: false };
                tile_of_rows::<S, E>(rows, k, packed, a, b, sums, cursor);
                for r in 0..rows {
                    for j in 0..columns {
                        let (to, sum) = (c.start.add(r * c.stride + j), edge[r * panel + j]);
                        *to = if c.accumulate { *to + sum } else { sum };
                    }
                }
            }
            i += rows;
            tiles += 1;
        }
        tiles
    }
}

/// # Safety
/// As for [`panel`], of which these are some rows.
#[inline(always)]
unsafe fn tile_of_rows<S: Simd, E: Element>(
    rows: usize,
    k: usize,
    packed: &PackedA,
    a: *const f32,
    b: *const f32,
    c: MatMut,
    cursor: PrefetchCursor,
) {
    macro_rules! tile {
        ($m:literal) => {
            match packed.row_major {
                true => tile::<S, E, $m, true>(k, packed, a, b, c, cursor),
                false => tile::<S, E, $m, false>(k, packed, a, b, c, cursor),
            }
        };
    }
    // SAFETY: as for `panel`.
    unsafe {
        match rows {
            12 if S::ROWS >= 12 => tile!(12),
            8 if S::ROWS >= 8 => tile!(8),
            6 if S::ROWS == 6 => tile!(6),
            4 if S::ROWS >= 4 => tile!(4),
            2 => tile!(2),
            _ => tile!(1),
        }
    }
}

/// # Safety
/// As for [`panel`], of which these are `M` rows.
#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const M: usize, const ROW_MAJOR: bool>(
    k: usize,
    packed: &PackedA,
    mut a: *const f32,
    mut b: *const f32,
    c: MatMut,
    cursor: PrefetchCursor,
) {
    let (MatMut { start: c, stride: ldc, accumulate }, PrefetchCursor { mut line, step, jump, second }) = (c, cursor);
    let (column_stride, a_jump) = (packed.column_stride, packed.jump);
    // SAFETY: as for `panel`; pointers past the end are computed but not read.
    unsafe {
        let width = if ROW_MAJOR { 2 * S::LANES / E::PER_STEP } else { 2 * S::LANES };
        let row = if ROW_MAJOR { width } else { 1 };
        for i in 0..M {
            S::prefetch(c.add(i * ldc));
            S::prefetch(c.add(i * ldc + S::LANES));
        }
        let mut sum = [[S::splat(0.0); 2]; M];
        let mut rest = k;
        while rest > 0 {
            let run = rest.min(width);
            for _ in 0..run {
                S::prefetch(line);
                S::prefetch(line.wrapping_add(second));
                line = line.wrapping_add(step);
                let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
                for (i, sum) in sum.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * row));
                    sum[0] = E::multiply_add::<S>(x, b0, sum[0]);
                    sum[1] = E::multiply_add::<S>(x, b1, sum[1]);
                }
                a = a.wrapping_add(column_stride);
                b = b.add(2 * S::LANES);
            }
            a = a.wrapping_add(a_jump);
            line = line.wrapping_add(jump);
            rest -= run;
        }
        for (i, sum) in sum.iter().enumerate() {
            for (j, &sum) in sum.iter().enumerate() {
                let c = c.add(i * ldc + j * S::LANES);
                S::store(c, if accumulate { S::add(S::load(c), sum) } else { sum });
            }
        }
    }
}
