//! Reorders between an image (H·W, C) and a row (C, H·W): one transposition, and one task, per image.

use super::Context;
use super::pool::SyncPtr;
use crate::shape::FlattenShape;

/// y (N, C·H·W) = x (N, H, W, C).
pub fn forward(context: &Context, s: &FlattenShape, x: &[f32], y: &mut [f32]) {
    transpose(context, s.batch, s.height * s.width, s.channels, x, y);
}

/// dx (N, H, W, C) = dy (N, C·H·W).
pub fn backward(context: &Context, s: &FlattenShape, dy: &[f32], dx: &mut [f32]) {
    transpose(context, s.batch, s.channels, s.height * s.width, dy, dx);
}

/// `batch` matrices (rows × columns) to (columns × rows).
fn transpose(context: &Context, batch: usize, rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    let len = rows * columns;
    let to = SyncPtr(to.as_mut_ptr());
    context.pool.run(batch, |n, _| {
        // SAFETY: each task has its own image.
        let to = unsafe { to.slice_mut(n * len, len) };
        let from = &from[n * len..][..len];
        for (column, to) in to.chunks_exact_mut(rows.max(1)).enumerate() {
            for (row, to) in to.iter_mut().enumerate() {
                *to = from[row * columns + column];
            }
        }
    });
}
