//! max(x, 0), its gradient, and bias with ReLU; a NaN stays NaN, as in PyTorch.
//!
//! Bytes per element: 8 forward, 12 backward. Convolution and linear layer apply bias and ReLU in their own last pass.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;

/// Elements per task.
pub const CHUNK: usize = 64 << 10;

/// x = max(x, 0).
pub fn forward(context: &Context, x: &mut [f32]) {
    let (len, x) = (x.len(), SyncPtr(x.as_mut_ptr()));
    context.pool.run(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        // SAFETY: each task has its own chunk.
        clamp(context.level, unsafe { x.slice_mut(start, CHUNK.min(len - start)) });
    });
}

/// dy = 0 where y ≤ 0.
pub fn backward(context: &Context, y: &[f32], dy: &mut [f32]) {
    let (len, dy) = (dy.len(), SyncPtr(dy.as_mut_ptr()));
    context.pool.run(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        let chunk = CHUNK.min(len - start);
        // SAFETY: each task has its own chunk.
        mask(context.level, &y[start..start + chunk], unsafe { dy.slice_mut(start, chunk) });
    });
}

/// max(x, 0); a NaN stays NaN.
#[inline(always)]
pub fn max0(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The gradient before a ReLU that put out y.
#[inline(always)]
pub fn masked(dy: f32, y: f32) -> f32 {
    if y <= 0.0 { 0.0 } else { dy }
}

dispatch! {
    fn clamp(x: &mut [f32]) = plain clamp_body
}
#[inline(always)]
fn clamp_body(x: &mut [f32]) {
    for x in x {
        *x = max0(*x);
    }
}

dispatch! {
    fn mask(y: &[f32], dy: &mut [f32]) = plain mask_body
}
#[inline(always)]
fn mask_body(y: &[f32], dy: &mut [f32]) {
    for (dy, &y) in dy.iter_mut().zip(y) {
        *dy = masked(*dy, y);
    }
}

dispatch! {
    /// Adds the bias to every row of its length, then max(x, 0) if `relu`.
    pub fn bias_relu(rows: &mut [f32], bias: &[f32], relu: bool) = plain bias_relu_body
}
#[inline(always)]
fn bias_relu_body(rows: &mut [f32], bias: &[f32], relu: bool) {
    for row in rows.chunks_exact_mut(bias.len().max(1)) {
        for (x, &b) in row.iter_mut().zip(bias) {
            let sum = *x + b;
            *x = if relu { max0(sum) } else { sum };
        }
    }
}
