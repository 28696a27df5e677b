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
/// `start` + t·`tile` + its steps·`step` + `jump` for each panel's width of them.
#[derive(Clone, Copy)]
pub struct Ahead {
    pub start: *const f32,
    pub tiles: usize,
    pub tile: usize,
    pub step: usize,
    pub jump: usize,
}

impl Ahead {
    /// Nothing to ask for.
    pub const NOTHING: Ahead = Ahead { start: std::ptr::null(), tiles: 0, tile: 0, step: 0, jump: 0 };
}

/// What becomes of a tile's sums; `at` counts the elements of C.
pub trait Finish<S: Simd>: Copy {
    /// Called for each vector before the sum is made, to ask for its line.
    ///
    /// # Safety
    /// As for [`Finish::vector`].
    unsafe fn begin(self, at: usize);
    /// Takes LANES sums.
    ///
    /// # Safety
    /// The level's instructions; C has LANES elements at `at`.
    unsafe fn vector(self, at: usize, sum: S::V);
    /// Takes one sum.
    ///
    /// # Safety
    /// C has an element at `at`.
    unsafe fn number(self, at: usize, sum: f32);
}

/// C = sum.
#[derive(Clone, Copy)]
pub struct Store(pub *mut f32);
/// C += sum.
#[derive(Clone, Copy)]
pub struct Add(pub *mut f32);

// SAFETY of both: passed on to the caller.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<S: Simd> Finish<S> for Store {
    #[inline(always)]
    unsafe fn begin(self, at: usize) {
        unsafe { S::prefetch(self.0.add(at)) }
    }
    #[inline(always)]
    unsafe fn vector(self, at: usize, sum: S::V) {
        unsafe { S::store(self.0.add(at), sum) }
    }
    #[inline(always)]
    unsafe fn number(self, at: usize, sum: f32) {
        unsafe { *self.0.add(at) = sum }
    }
}
#[allow(clippy::undocumented_unsafe_blocks)]
impl<S: Simd> Finish<S> for Add {
    #[inline(always)]
    unsafe fn begin(self, at: usize) {
        unsafe { S::prefetch(self.0.add(at)) }
    }
    #[inline(always)]
    unsafe fn vector(self, at: usize, sum: S::V) {
        unsafe { S::store(self.0.add(at), S::add(S::load(self.0.add(at)), sum)) }
    }
    #[inline(always)]
    unsafe fn number(self, at: usize, sum: f32) {
        unsafe { *self.0.add(at) += sum }
    }
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

/// A panel of C: `m` rows, `ldc` apart, of `columns` columns, at most two vectors' width, from A (m×k) and a panel of
/// B (k rows of two vectors). Returns the number of tiles.
///
/// # Safety
/// A, B and C have the stated sizes.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn panel<S: Simd, F: Finish<S>>(
    m: usize,
    columns: usize,
    k: usize,
    left: &Left,
    b: *const f32,
    finish: F,
    at: usize,
    ldc: usize,
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
                true => (ahead.start.wrapping_add(next * ahead.tile), ahead.step, ahead.jump),
                false => (a, 0, 0),
            };
            if columns == panel {
                rows::<S, F>(w, k, left, a, b, finish, at + i * ldc, ldc, ask);
            } else {
                let mut edge = [0.0f32; 12 * 32];
                rows::<S, Store>(w, k, left, a, b, Store(edge.as_mut_ptr()), 0, panel, ask);
                for r in 0..w {
                    for j in 0..columns {
                        finish.number(at + (i + r) * ldc + j, edge[r * panel + j]);
                    }
                }
            }
            i += w;
            tiles += 1;
        }
        tiles
    }
}

type Ask = (*const f32, usize, usize);

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rows<S: Simd, F: Finish<S>>(
    rows: usize,
    k: usize,
    left: &Left,
    a: *const f32,
    b: *const f32,
    finish: F,
    at: usize,
    ldc: usize,
    ask: Ask,
) {
    macro_rules! tile {
        ($m:literal) => {
            match left.across {
                true => tile::<S, F, $m, true>(k, left.step, left.jump, a, b, finish, at, ldc, ask),
                false => tile::<S, F, $m, false>(k, left.step, left.jump, a, b, finish, at, ldc, ask),
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
unsafe fn tile<S: Simd, F: Finish<S>, const M: usize, const ACROSS: bool>(
    k: usize,
    step: usize,
    jump: usize,
    mut a: *const f32,
    mut b: *const f32,
    finish: F,
    at: usize,
    ldc: usize,
    (mut line, line_step, line_jump): Ask,
) {
    // SAFETY: as for `panel`; pointers past the end are made but not read.
    unsafe {
        let row = if ACROSS { 2 * S::LANES } else { 1 };
        for i in 0..M {
            finish.begin(at + i * ldc);
            finish.begin(at + i * ldc + S::LANES);
        }
        let mut sum = [[S::splat(0.0); 2]; M];
        let mut rest = k;
        while rest > 0 {
            let run = rest.min(2 * S::LANES);
            for _ in 0..run {
                S::prefetch(line);
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
            finish.vector(at + i * ldc, sum[0]);
            finish.vector(at + i * ldc + S::LANES, sum[1]);
        }
    }
}
