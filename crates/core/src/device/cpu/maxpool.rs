//! Max pooling, NHWC; argmax is the maximum's position in its window, as one byte.
//!
//! A task computes some output rows (forward) or input rows (backward), a vector of channels at a time. The
//! gradient is gathered: an input pixel visits the windows that cover it, so no two tasks write the same number and
//! overlapping windows are added in a fixed order.
//!
//! Minimum memory traffic in bytes per output: 4·(pixels under it) + 4 + 1 forward, the same backward.

use super::pool::SyncPtr;
use super::simd::dispatch;
use super::{Context, relu};
use crate::shape::MaxPoolShape;
use std::ops::Range;

/// Channels computed at once; the remaining ones follow one by one.
const LANES: usize = 32;
/// Floats of the input per task, at least: short tasks cost more than their runs of memory.
const TASK: usize = 16 << 10;

/// Calls `row(index)` for `rows` rows that stand for `len` floats of the input each.
fn for_each_row(context: &Context, rows: usize, len: usize, row: impl Fn(usize) + Sync) {
    context.pool.run_items(rows, TASK.div_ceil(len.max(1)), row);
}

/// The positions r of a window at output `index` that lie inside an image of `side` pixels.
fn inside(s: &MaxPoolShape, index: usize, side: usize) -> Range<usize> {
    let start = index * s.stride;
    let first = s.padding.saturating_sub(start).min(s.kernel);
    first..(side + s.padding).saturating_sub(start).clamp(first, s.kernel)
}

/// The outputs whose window covers pixel `at` of a side with `outputs` outputs.
fn covering(s: &MaxPoolShape, at: usize, outputs: usize) -> Range<usize> {
    let at = at + s.padding;
    let first = if at < s.kernel { 0 } else { (at - s.kernel) / s.stride + 1 };
    first..(at / s.stride + 1).min(outputs).max(first)
}

/// See [`Operators::maxpool_forward`](crate::device::Operators::maxpool_forward).
pub fn forward(context: &Context, s: &MaxPoolShape, x: &[f32], y: &mut [f32], argmax: &mut [u8]) {
    let rows = s.output_height();
    let len = s.output_width() * s.channels;
    let (y, argmax) = (SyncPtr(y.as_mut_ptr()), SyncPtr(argmax.as_mut_ptr()));
    for_each_row(context, s.batch * rows, s.stride * s.width * s.channels, |row| {
        // SAFETY: each task has its own output row.
        let (y, argmax) = unsafe { (y.slice_mut(row * len, len), argmax.slice_mut(row * len, len)) };
        let image = &x[row / rows * s.height * s.width * s.channels..][..s.height * s.width * s.channels];
        forward_row(context.level, s, row % rows, image, y, argmax);
    });
}

dispatch! {
    fn forward_row(s: &MaxPoolShape, p: usize, x: &[f32], y: &mut [f32], argmax: &mut [u8]) = plain forward_row_body
}
#[inline(always)]
fn forward_row_body(s: &MaxPoolShape, p: usize, x: &[f32], y: &mut [f32], argmax: &mut [u8]) {
    let rows = inside(s, p, s.height);
    for q in 0..s.output_width() {
        let columns = inside(s, q, s.width);
        let whole = rows.len() == s.kernel && columns.len() == s.kernel;
        let at = Position { row: p, column: q, rows: rows.clone(), columns };
        let mut c = 0;
        while c + LANES <= s.channels {
            match s.kernel {
                2 if whole => window::<LANES, 2>(s, &at, c, x, y, argmax),
                3 if whole => window::<LANES, 3>(s, &at, c, x, y, argmax),
                _ => window::<LANES, 0>(s, &at, c, x, y, argmax),
            }
            c += LANES;
        }
        for c in c..s.channels {
            window::<1, 0>(s, &at, c, x, y, argmax);
        }
    }
}

/// A pixel of the output with the window positions inside the image, or one of the input with the windows that cover it.
struct Position {
    row: usize,
    column: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// L channels of an output. A KERNEL above 0 is a window that lies inside the image: its loops are unrolled, which keeps the
/// maximum in registers.
#[inline(always)]
fn window<const L: usize, const KERNEL: usize>(
    s: &MaxPoolShape,
    at: &Position,
    c: usize,
    x: &[f32],
    y: &mut [f32],
    argmax: &mut [u8],
) {
    let (p, q) = (at.row, at.column);
    let (rows, columns) = match KERNEL {
        0 => (at.rows.clone(), at.columns.clone()),
        kernel => (0..kernel, 0..kernel),
    };
    let mut best = [f32::NEG_INFINITY; L];
    let mut position = [0u32; L];
    let mut first = true;
    for r in rows {
        for t in columns.clone() {
            let at = (p * s.stride + r - s.padding) * s.width + q * s.stride + t - s.padding;
            let x = &x[at * s.channels + c..][..L];
            let here = (r * s.kernel + t) as u32;
            if first {
                best.copy_from_slice(x);
                position = [here; L];
                first = false;
                continue;
            }
            for i in 0..L {
                // A NaN counts as larger than any number, and the first NaN wins.
                let larger = (x[i] > best[i]) | (x[i].is_nan() & !best[i].is_nan());
                best[i] = if larger { x[i] } else { best[i] };
                position[i] = if larger { here } else { position[i] };
            }
        }
    }
    let at = q * s.channels + c;
    y[at..at + L].copy_from_slice(&best);
    for (to, &from) in argmax[at..at + L].iter_mut().zip(&position) {
        *to = from as u8;
    }
}

/// See [`Operators::maxpool_backward`](crate::device::Operators::maxpool_backward).
pub fn backward(context: &Context, s: &MaxPoolShape, dy: &[f32], argmax: &[u8], mask: Option<&[f32]>, dx: &mut [f32]) {
    let len = s.width * s.channels;
    let image_len = s.output_height() * s.output_width() * s.channels;
    let dx = SyncPtr(dx.as_mut_ptr());
    for_each_row(context, s.batch * s.height, len, |row| {
        // SAFETY: each task has its own input row.
        let dx = unsafe { dx.slice_mut(row * len, len) };
        let image = row / s.height * image_len..(row / s.height + 1) * image_len;
        let mask = mask.map(|mask| &mask[image.clone()]);
        backward_row(context.level, s, row % s.height, &dy[image.clone()], &argmax[image], mask, dx);
    });
}

dispatch! {
    fn backward_row(s: &MaxPoolShape, h: usize, dy: &[f32], argmax: &[u8], mask: Option<&[f32]>, dx: &mut [f32]) = plain backward_row_body
}
#[inline(always)]
fn backward_row_body(s: &MaxPoolShape, h: usize, dy: &[f32], argmax: &[u8], mask: Option<&[f32]>, dx: &mut [f32]) {
    let rows = covering(s, h, s.output_height());
    for w in 0..s.width {
        let columns = covering(s, w, s.output_width());
        let at = Position { row: h, column: w, rows: rows.clone(), columns };
        let mut c = 0;
        while c + LANES <= s.channels {
            pixel::<LANES>(s, &at, c, dy, argmax, mask, dx);
            c += LANES;
        }
        for c in c..s.channels {
            pixel::<1>(s, &at, c, dy, argmax, mask, dx);
        }
    }
}

/// L channels of an input's gradient.
#[inline(always)]
fn pixel<const L: usize>(
    s: &MaxPoolShape,
    at: &Position,
    c: usize,
    dy: &[f32],
    argmax: &[u8],
    mask: Option<&[f32]>,
    dx: &mut [f32],
) {
    let (h, w) = (at.row, at.column);
    let mut sum = [0.0f32; L];
    for p in at.rows.clone() {
        for q in at.columns.clone() {
            let here = ((h + s.padding - p * s.stride) * s.kernel + w + s.padding - q * s.stride) as u8;
            let at = (p * s.output_width() + q) * s.channels + c;
            let (dy, argmax) = (&dy[at..at + L], &argmax[at..at + L]);
            match mask.map(|mask| &mask[at..at + L]) {
                None => (0..L).for_each(|i| sum[i] += if argmax[i] == here { dy[i] } else { 0.0 }),
                Some(y) => {
                    for i in 0..L {
                        sum[i] += if argmax[i] == here { relu::masked(dy[i], y[i]) } else { 0.0 };
                    }
                }
            }
        }
    }
    dx[w * s.channels + c..][..L].copy_from_slice(&sum);
}
