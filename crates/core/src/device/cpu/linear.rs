//! Fully connected layers: x (N, I), w (O, I) as in PyTorch, y (N, O).
//!
//! - forward: y = x·wᵀ; a task does some outputs, and so reads its rows of w once.
//! - data gradient: dx = dy·w; a task does some inputs: columns of w, read once.
//! - weight gradient: dw = dyᵀ·x; a task does some rows of dw. If the update follows at once, some columns of them are made
//!   while what they update is asked for from memory, and are used before they leave the cache.
//!
//! x and dy are copied first in the order in which the product reads them, once for all tasks.
//!
//! Multiply-adds: N·I·O in each direction. Bytes at least: 4·I·O for w or dw, 16·I·O for the update, which at small N is
//! the limit.

use super::gemm::tile::Ahead;
use super::gemm::{self, View, outer, outer_body, pack, stream};
use super::pool::Shares;
use super::scratch::{Need, Scratch};
use super::simd::{Simd, dispatch};
use super::{Crew, column_sums, relu, sgd};
use crate::shape::LinearShape;
use crate::{Result, Sgd};

/// Rows of dw in a task: whole blocks at any level.
const ROWS: usize = 48;
/// The same where dw is not kept, and columns of dw that are made and used at once.
const ROWS_IN_CACHE: usize = 24;
const COLUMNS_IN_CACHE: usize = 512;
/// Blocks of rows, or columns of panels, that a task copies.
const COPIES: usize = 8;

/// The scratch memory of all directions that a network runs.
pub fn need(s: &LinearShape, training: bool) -> Need {
    let forward = need_stream(s.batch, s.inputs);
    if training {
        forward.or(need_stream(s.batch, s.outputs)).or(need_outer(s)).or(column_sums::need(s.batch, s.outputs))
    } else {
        forward
    }
}

/// For a product with w whose left side is N×`k`.
fn need_stream(batch: usize, k: usize) -> Need {
    Need { common: pack::blocks_len(batch, k), local: gemm::stream_buffer(batch) }
}

fn need_outer(s: &LinearShape) -> Need {
    Need {
        common: pack::blocks_len(s.outputs, s.batch) + pack::panels_len(s.batch, s.inputs),
        local: ROWS_IN_CACHE * COLUMNS_IN_CACHE,
    }
}

/// Columns of a task: whole panels, at least sixteen tasks if there are that many panels, at most 256.
fn columns(n: usize) -> usize {
    n.div_ceil(16).next_multiple_of(gemm::COLUMNS).clamp(gemm::COLUMNS, 256)
}

/// Copies A (m×k) as blocks, on all threads.
fn pack_left(crew: &Crew, a: View, m: usize, k: usize, to: Shares<f32>) {
    // The number of blocks depends on the level; those past the end do nothing.
    crew.pool.run(m.div_ceil(COPIES), |task, _| {
        // SAFETY: the caller's matrix; each task writes its own blocks.
        unsafe { pack::pack_blocks(crew.level, a, task * COPIES, COPIES, m, k, to.at(0)) }
    });
}

/// y (N×n) = left (N×k) · b (k×n), finished by `finish(row of y, first column)`.
#[allow(clippy::too_many_arguments)]
fn product(
    crew: &Crew,
    scratch: &mut Scratch,
    [batch, n, k]: [usize; 3],
    left: View,
    b: impl Fn(usize) -> View + Sync,
    y: &mut [f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Result<()> {
    let need = need_stream(batch, k);
    scratch.reserve(need)?;
    let (common, local, stride) = scratch.parts(need);
    let (a, y, local) = (Shares(common.as_mut_ptr()), Shares(y.as_mut_ptr()), Shares(local.as_mut_ptr()));
    pack_left(crew, left, batch, k, a);
    let columns = columns(n);
    crew.pool.run(n.div_ceil(columns), |task, thread| {
        let from = task * columns;
        let width = columns.min(n - from);
        // SAFETY: each thread has its own memory, each task its own columns of y; the matrices have the stated sizes.
        unsafe {
            let buffer = local.at(thread * stride);
            stream(crew.level, batch, width, k, a.at(0), b(from), y.at(from), n, buffer);
            for row in 0..batch {
                finish(y.part(row * n + from, width), from);
            }
        }
    });
    Ok(())
}

#[allow(clippy::too_many_arguments)]
pub fn forward(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &LinearShape,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    let left = View::rows(x.as_ptr(), s.inputs);
    let right = |from| View::columns(w[from * s.inputs..].as_ptr(), s.inputs);
    product(crew, scratch, [s.batch, s.outputs, s.inputs], left, right, y, |y, from| {
        relu::bias_relu(crew.level, y, &b[from..from + y.len()], relu);
    })
}

pub fn backward_data(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &LinearShape,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    let left = View::rows(dy.as_ptr(), s.outputs);
    let right = |from| View::rows(w[from..].as_ptr(), s.inputs);
    product(crew, scratch, [s.batch, s.inputs, s.outputs], left, right, dx, |_, _| ())
}

/// What a weight's gradient is for.
pub enum Gradient<'a> {
    /// To be left here, or to be added here.
    Left { dw: &'a mut [f32], accumulate: bool },
    /// To update these weights and their momentum at once.
    Update { rule: &'a Sgd, value: &'a mut [f32], momentum: &'a mut [f32] },
}

/// The gradient of the weights, and that of the biases, which is added if the weights' is.
pub fn backward_weight(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &LinearShape,
    x: &[f32],
    dy: &[f32],
    gradient: Gradient,
    db: &mut [f32],
) -> Result<()> {
    let accumulate = matches!(gradient, Gradient::Left { accumulate: true, .. });
    column_sums::run(crew, scratch, dy, s.outputs, accumulate, db)?;
    let need = need_outer(s);
    scratch.reserve(need)?;
    let (common, local, stride) = scratch.parts(need);
    let (a, b) = common.split_at_mut(pack::blocks_len(s.outputs, s.batch));
    let (a, b, local) = (Shares(a.as_mut_ptr()), Shares(b.as_mut_ptr()), Shares(local.as_mut_ptr()));
    pack_left(crew, View::columns(dy.as_ptr(), s.outputs), s.outputs, s.batch, a);
    let width = COPIES * gemm::COLUMNS;
    let right = View::rows(x.as_ptr(), s.inputs);
    crew.pool.run(s.inputs.div_ceil(width), |task, _| {
        let from = task * width;
        // SAFETY: x has the stated size; each task writes its own panels.
        unsafe { pack::pack_panels(crew.level, right, s.batch, from, width.min(s.inputs - from), b.at(0)) }
    });
    let rows_of_dw = |row: usize, rows: usize, to: *mut f32, add| {
        // SAFETY: the matrices have the stated sizes, and `to` that of the rows, which nobody else writes.
        unsafe { outer(crew.level, row, rows, s.inputs, s.batch, a.at(0), b.at(0), to, s.inputs, add, &Ahead::NOTHING) }
    };
    match gradient {
        Gradient::Left { dw, accumulate } => {
            let dw = Shares(dw.as_mut_ptr());
            crew.pool.run(s.outputs.div_ceil(ROWS), |task, _| {
                let row = task * ROWS;
                // SAFETY: each task has its own rows of dw.
                rows_of_dw(row, ROWS.min(s.outputs - row), unsafe { dw.at(row * s.inputs) }, accumulate);
            });
        }
        Gradient::Update { rule, value, momentum } => {
            let (value, momentum) = (Shares(value.as_mut_ptr()), Shares(momentum.as_mut_ptr()));
            crew.pool.run(s.outputs.div_ceil(ROWS_IN_CACHE), |task, thread| {
                let row = task * ROWS_IN_CACHE;
                let rows = ROWS_IN_CACHE.min(s.outputs - row);
                let (start, len) = (row * s.inputs, rows * s.inputs);
                // SAFETY: each thread has its own memory, each task its own rows of w and its momentum.
                unsafe {
                    let dw = local.part(thread * stride, stride);
                    let (value, momentum) = (value.part(start, len), momentum.part(start, len));
                    update_rows(crew.level, s, rule, row, a.at(0), b.at(0), dw, value, momentum);
                }
            });
        }
    }
    Ok(())
}

dispatch! {
    /// Updates rows `first`.. of w and of its momentum, as many as `value` has, with the gradient from dy's blocks `a` and
    /// x's panels `b`. A group of columns of dw is made in `dw`; meanwhile what it updates comes from memory.
    ///
    /// # Safety
    /// The matrices have the stated sizes.
    unsafe fn update_rows(s: &LinearShape, rule: &Sgd, first: usize, a: *const f32, b: *const f32, dw: &mut [f32], value: &mut [f32], momentum: &mut [f32]) = update_rows_body
}
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn update_rows_body<S: Simd>(
    s: &LinearShape,
    rule: &Sgd,
    first: usize,
    a: *const f32,
    b: *const f32,
    dw: &mut [f32],
    value: &mut [f32],
    momentum: &mut [f32],
) {
    for j in (0..s.inputs).step_by(COLUMNS_IN_CACHE) {
        let (rows, columns) = (value.len() / s.inputs, COLUMNS_IN_CACHE.min(s.inputs - j));
        // A row's lines during a tile, of which there are more than rows.
        let other = (momentum.as_ptr().addr().wrapping_sub(value.as_ptr().addr())) / size_of::<f32>();
        let step = columns.div_ceil(s.batch.max(1)).min(16);
        let ahead = Ahead { start: &value[j], tiles: rows, tile: s.inputs, step, jump: 0, other };
        // SAFETY: panels of `columns` from column j on; `dw` has room for the rows' part of them.
        unsafe {
            let b = b.add(j * s.batch);
            outer_body::<S>(first, rows, columns, s.batch, a, b, dw.as_mut_ptr(), columns, false, &ahead);
        }
        for (i, dw) in dw.chunks_exact(columns).take(rows).enumerate() {
            let here = i * s.inputs + j..i * s.inputs + j + columns;
            sgd::update_body(rule, &mut value[here.clone()], dw, &mut momentum[here]);
        }
    }
}
