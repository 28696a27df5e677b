//! Adaptive average pooling, NHWC. A task computes one output row (forward) or one input row (backward).

use super::Context;
use super::pool::SyncPtr;
use super::simd::dispatch;
use crate::shape::AvgPoolShape;

/// See [`Operators::avgpool_forward`](crate::device::Operators::avgpool_forward).
pub fn forward(context: &Context, s: &AvgPoolShape, x: &[f32], y: &mut [f32]) {
    let (len, image_len) = (s.output_width * s.channels, s.height * s.width * s.channels);
    let y = SyncPtr(y.as_mut_ptr());
    context.pool.run(s.batch * s.output_height, |row, _| {
        // SAFETY: each task has its own output row.
        let y = unsafe { y.slice_mut(row * len, len) };
        let image = &x[row / s.output_height * image_len..][..image_len];
        forward_row(context.level, s, row % s.output_height, image, y);
    });
}

dispatch! {
    fn forward_row(s: &AvgPoolShape, p: usize, x: &[f32], y: &mut [f32]) = plain forward_row_body
}
#[inline(always)]
fn forward_row_body(s: &AvgPoolShape, p: usize, x: &[f32], y: &mut [f32]) {
    let rows = AvgPoolShape::window(p, s.height, s.output_height);
    for (q, y) in y.chunks_exact_mut(s.channels).enumerate() {
        let columns = AvgPoolShape::window(q, s.width, s.output_width);
        y.fill(0.0);
        for h in rows.clone() {
            for w in columns.clone() {
                for (y, &x) in y.iter_mut().zip(&x[(h * s.width + w) * s.channels..][..s.channels]) {
                    *y += x;
                }
            }
        }
        let pixels = (rows.len() * columns.len()) as f32;
        for y in y {
            *y /= pixels;
        }
    }
}

/// See [`Operators::avgpool_backward`](crate::device::Operators::avgpool_backward).
pub fn backward(context: &Context, s: &AvgPoolShape, dy: &[f32], dx: &mut [f32]) {
    let (len, image_len) = (s.width * s.channels, s.output_height * s.output_width * s.channels);
    let dx = SyncPtr(dx.as_mut_ptr());
    context.pool.run(s.batch * s.height, |row, _| {
        // SAFETY: each task has its own input row.
        let dx = unsafe { dx.slice_mut(row * len, len) };
        let image = &dy[row / s.height * image_len..][..image_len];
        backward_row(context.level, s, row % s.height, image, dx);
    });
}

/// The outputs whose window contains input `at`, with their windows.
fn near(at: usize, inputs: usize, outputs: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let first = (at * outputs / inputs).saturating_sub(1);
    let last = ((at + 1) * outputs).div_ceil(inputs).min(outputs);
    (first..last).map(move |i| (i, AvgPoolShape::window(i, inputs, outputs))).filter(move |(_, w)| w.contains(&at))
}

dispatch! {
    fn backward_row(s: &AvgPoolShape, h: usize, dy: &[f32], dx: &mut [f32]) = plain backward_row_body
}
#[inline(always)]
fn backward_row_body(s: &AvgPoolShape, h: usize, dy: &[f32], dx: &mut [f32]) {
    for (w, dx) in dx.chunks_exact_mut(s.channels).enumerate() {
        dx.fill(0.0);
        for (p, rows) in near(h, s.height, s.output_height) {
            for (q, columns) in near(w, s.width, s.output_width) {
                let pixels = (rows.len() * columns.len()) as f32;
                for (dx, &dy) in dx.iter_mut().zip(&dy[(p * s.output_width + q) * s.channels..][..s.channels]) {
                    *dx += dy / pixels;
                }
            }
        }
    }
}
