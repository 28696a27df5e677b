//! The inner loop: a tile of ROWS×2 vectors of C, summed over K in registers.
//!
//! A step of K costs two loads of B, ROWS broadcasts of A and 2·ROWS multiply-adds, so that the multiply-adds are
//! the limit as long as the loads hit a cache. One more load slot a step asks for a line of what comes next
//! ([`Ahead`]): weights that lie in memory in pieces too short for the processor to foresee.

use super::super::simd::Simd;

/// The left matrix, in blocks of rows.
#[derive(Clone, Copy)]
pub struct Left {
    /// Element (0, 0).
    pub start: *const f32,
    /// Whether the rows of a block lie a panel's width apart, else they are neighbours.
    pub across: bool,
    /// Rows of a block; a tile does not reach over a block's end.
    pub height: usize,
    /// From a block to the next.
    pub block: usize,
    /// From a column to the next.
    pub step: usize,
    /// What is added after each panel's width of columns.
    pub jump: usize,
}

/// Lines to ask for while tiles are summed: tile t below `tiles` asks in each step for the line at
/// `start` + t·`tile` + its steps·`step` + `jump` for each panel's width of them, and for the line `other` further on.
#[derive(Clone, Copy)]
pub struct Ahead {
    pub start: *const f32,
    pub tiles: usize,
    pub tile: usize,
    pub step: usize,
    pub jump: usize,
    pub other: usize,
}

impl Ahead {
    /// Nothing to ask for.
    pub const NOTHING: Ahead = Ahead { start: std::ptr::null(), tiles: 0, tile: 0, step: 0, jump: 0, other: 0 };
}

/// The widest tile for `rows` rows.
#[inline(always)]
fn width<S: Simd>(rows: usize) -> usize {
    match rows {
        r if r >= S::ROWS => S::ROWS,
        r if r >= 8 && S::ROWS > 8 => 8,
        r if r >= 4 && S::ROWS > 4 => 4,
        r if r >= 2 => 2,
        _ => 1,
    }
}

/// A panel of C, or C += it if `add`: `m` rows, `ldc` apart, of `columns` columns, at most two vectors' width, from A
/// (m×k) and a panel of B (k rows of two vectors). `done` tiles came before; returns the number of tiles.
///
/// # Safety
/// A, B and C have the stated sizes.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn panel<S: Simd>(
    m: usize,
    columns: usize,
    k: usize,
    left: &Left,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
    ahead: &Ahead,
    done: usize,
) -> usize {
    // SAFETY: the tiles cover C exactly once; a panel that reaches over C's edge goes by way of `edge`.
    unsafe {
        let panel = 2 * S::LANES;
        let (mut i, mut tiles) = (0, 0);
        while i < m {
            let inside = i % left.height;
            let w = width::<S>((m - i).min(left.height - inside));
            let row = if left.across { panel } else { 1 };
            let a = left.start.add(i / left.height * left.block + inside * row);
            let next = done + tiles;
            let ask = match next < ahead.tiles {
                true => (ahead.start.wrapping_add(next * ahead.tile), ahead.step, ahead.jump, ahead.other),
                false => (a, 0, 0, 0),
            };
            let c = c.add(i * ldc);
            if columns == panel {
                rows::<S>(w, k, left, a, b, c, ldc, add, ask);
            } else {
                let mut edge = [0.0f32; 12 * 32];
                rows::<S>(w, k, left, a, b, edge.as_mut_ptr(), panel, false, ask);
                for r in 0..w {
                    for j in 0..columns {
                        let (c, sum) = (c.add(r * ldc + j), edge[r * panel + j]);
                        *c = if add { *c + sum } else { sum };
                    }
                }
            }
            i += w;
            tiles += 1;
        }
        tiles
    }
}

type Ask = (*const f32, usize, usize, usize);

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rows<S: Simd>(
    rows: usize,
    k: usize,
    left: &Left,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
    ask: Ask,
) {
    macro_rules! tile {
        ($m:literal) => {
            match left.across {
                true => tile::<S, $m, true>(k, left.step, left.jump, a, b, c, ldc, add, ask),
                false => tile::<S, $m, false>(k, left.step, left.jump, a, b, c, ldc, add, ask),
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

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<S: Simd, const M: usize, const ACROSS: bool>(
    k: usize,
    step: usize,
    jump: usize,
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
    (mut line, line_step, line_jump, other): Ask,
) {
    // SAFETY: as for `panel`; pointers past the end are made but not read.
    unsafe {
        let row = if ACROSS { 2 * S::LANES } else { 1 };
        for i in 0..M {
            S::prefetch(c.add(i * ldc));
            S::prefetch(c.add(i * ldc + S::LANES));
        }
        let mut sum = [[S::splat(0.0); 2]; M];
        let mut rest = k;
        while rest > 0 {
            let run = rest.min(2 * S::LANES);
            for _ in 0..run {
                S::prefetch(line);
                S::prefetch(line.wrapping_add(other));
                line = line.wrapping_add(line_step);
                let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
                for (i, sum) in sum.iter_mut().enumerate() {
                    let x = S::splat(*a.add(i * row));
                    sum[0] = S::fma(x, b0, sum[0]);
                    sum[1] = S::fma(x, b1, sum[1]);
                }
                a = a.wrapping_add(step);
                b = b.add(2 * S::LANES);
            }
            a = a.wrapping_add(jump);
            line = line.wrapping_add(line_jump);
            rest -= run;
        }
        for (i, sum) in sum.iter().enumerate() {
            for (j, &sum) in sum.iter().enumerate() {
                let c = c.add(i * ldc + j * S::LANES);
                S::store(c, if add { S::add(S::load(c), sum) } else { sum });
            }
        }
    }
}
