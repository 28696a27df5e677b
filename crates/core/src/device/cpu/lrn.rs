//! Local response normalisation across channels; a task computes [`PIXELS`] pixels.
//!
//! s\[c\] = k + α/size · Σ x² over the window of channels; y = x·s^−β;
//! dx\[c\] = dy\[c\]·s\[c\]^−β − 2αβ/size · x\[c\] · Σ over c' whose window contains c of dy\[c'\]·x\[c'\]·s\[c'\]^(−β−1).
//! These c' are c − (size − 1)/2 to c + size/2. The paper's β = 0.75 takes two square roots instead of a power.

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use super::workspace::WorkspaceSize;
use crate::Result;
use crate::shape::LrnShape;

const PIXELS: usize = 64;

/// Workspace of both directions.
pub fn workspace_size(s: &LrnShape) -> WorkspaceSize {
    WorkspaceSize { shared: 0, per_thread: 2 * s.channels }
}

/// s^−β.
#[inline(always)]
fn power(s: f32, beta: f32) -> f32 {
    if beta == 0.75 {
        let root = s.sqrt();
        1.0 / (root * root.sqrt())
    } else {
        s.powf(-beta)
    }
}

#[inline(always)]
fn scales(s: &LrnShape, x: &[f32], to: &mut [f32]) {
    let (factor, k) = ((s.alpha / s.size as f64) as f32, s.k as f32);
    for (c, to) in to.iter_mut().enumerate() {
        *to = k + factor * s.window(c).fold(0.0, |sum, i| sum + x[i] * x[i]);
    }
}

/// See [`Operators::lrn_forward`](crate::device::Operators::lrn_forward).
pub fn forward(context: &Context, s: &LrnShape, x: &[f32], y: &mut [f32]) -> Result<()> {
    run(context, s, y, |from, len, y, local| {
        forward_pixels(context.level, s, &x[from..from + len], y, local);
    })
}

/// See [`Operators::lrn_backward`](crate::device::Operators::lrn_backward).
pub fn backward(context: &Context, s: &LrnShape, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<()> {
    run(context, s, dx, |from, len, dx, local| {
        backward_pixels(context.level, s, &x[from..from + len], &dy[from..from + len], dx, local);
    })
}

/// Calls `task(first element, length, to[first..first + length], the thread's memory)` for blocks of pixels.
fn run(
    context: &Context,
    s: &LrnShape,
    to: &mut [f32],
    task: impl Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
) -> Result<()> {
    let mut workspace = context.workspace();
    let (_, local) = workspace.split(workspace_size(s))?;
    let to = SyncPtr(to.as_mut_ptr());
    context.pool.run(s.pixels.div_ceil(PIXELS), |i, thread| {
        let from = i * PIXELS * s.channels;
        let len = (s.len() - from).min(PIXELS * s.channels);
        // SAFETY: each thread has its own memory, each task its own pixels.
        unsafe { task(from, len, to.slice_mut(from, len), local.slice(thread)) }
    });
    Ok(())
}

dispatch! {
    fn forward_pixels(s: &LrnShape, x: &[f32], y: &mut [f32], local: &mut [f32]) = plain forward_body
}
#[inline(always)]
fn forward_body(s: &LrnShape, x: &[f32], y: &mut [f32], local: &mut [f32]) {
    let scale = &mut local[..s.channels];
    let beta = s.beta as f32;
    for (x, y) in x.chunks_exact(s.channels).zip(y.chunks_exact_mut(s.channels)) {
        scales(s, x, scale);
        for ((y, &x), &scale) in y.iter_mut().zip(x).zip(&*scale) {
            *y = x * power(scale, beta);
        }
    }
}

dispatch! {
    fn backward_pixels(s: &LrnShape, x: &[f32], dy: &[f32], dx: &mut [f32], local: &mut [f32]) = plain backward_body
}
#[inline(always)]
fn backward_body(s: &LrnShape, x: &[f32], dy: &[f32], dx: &mut [f32], local: &mut [f32]) {
    let (scale, outer) = local.split_at_mut(s.channels);
    let beta = s.beta as f32;
    let factor = (2.0 * s.alpha * s.beta / s.size as f64) as f32;
    let pixels = x.chunks_exact(s.channels).zip(dy.chunks_exact(s.channels));
    for ((x, dy), dx) in pixels.zip(dx.chunks_exact_mut(s.channels)) {
        scales(s, x, scale);
        for c in 0..s.channels {
            let inverse = power(scale[c], beta);
            dx[c] = dy[c] * inverse;
            outer[c] = dx[c] * x[c] / scale[c];
        }
        for c in 0..s.channels {
            let window = c.saturating_sub((s.size - 1) / 2)..(c + s.size / 2 + 1).min(s.channels);
            let sum = window.fold(0.0, |sum, i| sum + outer[i]);
            dx[c] -= factor * x[c] * sum;
        }
    }
}
