//! Fully connected layers: x (N, I), w (O, I) as in PyTorch, y (N, O).
//!
//! - forward: y = x·wᵀ; a task does some outputs, and so reads its rows of w once.
//! - data gradient: dx = dy·w; a task does some inputs: columns of w, read once.
//! - weight gradient: dw = dyᵀ·x; a task does a block of dw.
//!
//! Multiply-adds: N·I·O in each direction. Bytes at least: 4·I·O for w or dw, which at small N is the limit.

use super::gemm::{self, View, gemm};
use super::pool::Shares;
use super::scratch::{Need, Scratch};
use super::{Crew, column_sums, relu};
use crate::Result;
use crate::shape::LinearShape;

/// Rows of dw in a task.
const ROWS: usize = 192;
/// Columns of dw in a task.
const COLUMNS: usize = 4096;

/// The scratch memory of all directions that a network runs.
pub fn need(s: &LinearShape, training: bool) -> Need {
    let forward = Need { common: 0, local: gemm::BUFFER };
    if training { forward.or(column_sums::need(s.batch, s.outputs)) } else { forward }
}

/// Columns of a task: whole tiles, at least sixteen tasks if there are that many tiles, at most 256.
fn columns(n: usize) -> usize {
    n.div_ceil(16).next_multiple_of(32).clamp(32, 256)
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
    let need = need(s, false);
    scratch.reserve(need)?;
    let (_, local, stride) = scratch.parts(need);
    let (y, local) = (Shares(y.as_mut_ptr()), Shares(local.as_mut_ptr()));
    let columns = columns(s.outputs);
    crew.pool.run(s.outputs.div_ceil(columns), |task, thread| {
        let from = task * columns;
        let n = columns.min(s.outputs - from);
        // SAFETY: each thread has its own memory, each task its own columns of y; the matrices have the stated sizes.
        unsafe {
            let buffer = local.at(thread * stride);
            gemm(
                crew.level,
                s.batch,
                n,
                s.inputs,
                View::rows(x.as_ptr(), s.inputs),
                View::columns(w.as_ptr().add(from * s.inputs), s.inputs),
                y.at(from),
                s.outputs,
                false,
                buffer,
            );
            for row in 0..s.batch {
                relu::bias_relu(crew.level, y.part(row * s.outputs + from, n), &b[from..from + n], relu);
            }
        }
    });
    Ok(())
}

pub fn backward_data(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &LinearShape,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    let need = need(s, false);
    scratch.reserve(need)?;
    let (_, local, stride) = scratch.parts(need);
    let (dx, local) = (Shares(dx.as_mut_ptr()), Shares(local.as_mut_ptr()));
    let columns = columns(s.inputs);
    crew.pool.run(s.inputs.div_ceil(columns), |task, thread| {
        let from = task * columns;
        // SAFETY: each thread has its own memory, each task its own columns of dx; the matrices have the stated sizes.
        unsafe {
            gemm(
                crew.level,
                s.batch,
                columns.min(s.inputs - from),
                s.outputs,
                View::rows(dy.as_ptr(), s.outputs),
                View::rows(w.as_ptr().add(from), s.inputs),
                dx.at(from),
                s.inputs,
                false,
                local.at(thread * stride),
            );
        }
    });
    Ok(())
}

#[allow(clippy::too_many_arguments)]
pub fn backward_weight(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &LinearShape,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    db: &mut [f32],
) -> Result<()> {
    column_sums::run(crew, scratch, dy, s.outputs, accumulate, db)?;
    let need = need(s, false);
    scratch.reserve(need)?;
    let (_, local, stride) = scratch.parts(need);
    let (dw, local) = (Shares(dw.as_mut_ptr()), Shares(local.as_mut_ptr()));
    let across = s.inputs.div_ceil(COLUMNS);
    crew.pool.run(s.outputs.div_ceil(ROWS) * across, |task, thread| {
        let (row, column) = (task / across * ROWS, task % across * COLUMNS);
        // SAFETY: each thread has its own memory, each task its own block of dw; the matrices have the stated sizes.
        unsafe {
            gemm(
                crew.level,
                ROWS.min(s.outputs - row),
                COLUMNS.min(s.inputs - column),
                s.batch,
                View::columns(dy.as_ptr().add(row), s.outputs),
                View::rows(x.as_ptr().add(column), s.inputs),
                dw.at(row * s.inputs + column),
                s.inputs,
                accumulate,
                local.at(thread * stride),
            );
        }
    });
    Ok(())
}
