//! Convolution as a matrix product over unrolled windows (im2col), for any window, stride, padding and groups.
//!
//! Letters: N·P·Q output pixels; J = R·S·C/groups elements per window, in the order (r, s, c), in which they lie in the NHWC
//! image as R runs of S·C.
//! - forward: y (pixels × K) = windows (pixels × J) · wᵀ (J × K). A task unrolls a block of pixels into its own memory,
//!   small enough for the second-level cache, and multiplies.
//! - weight gradient: dwᵀ (J × K) = windowsᵀ · dy. The pixels are split into at most [`CHUNKS`] chunks, one task each, whose
//!   sums are added in order.
//! - data gradient: windows' gradient (pixels × J) = dy · w, summed into dx (col2im); one task per image.
//!
//! Multiply-adds: N·P·Q·K·J in each direction. The unrolled windows stay in the cache.

use crate::Result;
use crate::device::cpu::gemm::{self, MatMut, MatRef, gemm};
use crate::device::cpu::pool::SyncPtr;
use crate::device::cpu::weights::Values;
use crate::device::cpu::workspace::WorkspaceSize;
use crate::device::cpu::{Context, relu};
use crate::shape::ConvShape;

/// Maximum number of chunks of pixels for the weight gradient.
const CHUNKS: usize = 16;
/// Floats of unrolled windows per thread.
const UNROLLED: usize = 64 << 10;
/// Floats of partial weight gradients.
const PARTIAL: usize = 8 << 20;

/// Sizes derived from a shape.
struct Sizes {
    /// J.
    window: usize,
    /// K/groups.
    filters: usize,
    /// C/groups.
    channels: usize,
    /// P·Q.
    pixels_per_image: usize,
    /// Pixels unrolled at once.
    block: usize,
    /// Chunks of the weight gradient.
    chunks: usize,
}

fn sizes(s: &ConvShape) -> Sizes {
    let channels = s.channels / s.groups;
    let window = s.kernel * s.kernel * channels;
    let pixels_per_image = s.output_height() * s.output_width();
    let block = (UNROLLED / window.max(1) / 12 * 12).clamp(12, 384);
    let max_chunks = (PARTIAL / s.weight_len().max(1)).clamp(1, CHUNKS);
    let chunks = (pixels_per_image * s.batch).div_ceil(512).clamp(1, max_chunks);
    Sizes { window, filters: s.filters / s.groups, channels, pixels_per_image, block, chunks }
}

/// A thread's memory: the product's buffer, then the unrolled windows.
fn per_thread(sizes: &Sizes) -> usize {
    gemm::BUFFER + sizes.block * sizes.window
}

/// Workspace of [`forward`] and [`backward_data`].
pub fn workspace_size(s: &ConvShape) -> WorkspaceSize {
    WorkspaceSize { shared: s.weight_len(), per_thread: per_thread(&sizes(s)) }
}
/// Workspace of [`backward_weight`].
pub fn workspace_backward_weight(s: &ConvShape) -> WorkspaceSize {
    let sizes = sizes(s);
    WorkspaceSize { shared: sizes.chunks * s.weight_len(), per_thread: per_thread(&sizes) }
}

/// Reorders w (K, C/groups, R, S) to one matrix (J × K/groups) per group.
fn reorder_weight(context: &Context, s: &ConvShape, w: Values, to: &mut [f32]) {
    let z = sizes(s);
    let area = s.kernel * s.kernel;
    let to = SyncPtr(to.as_mut_ptr());
    context.pool.run(s.groups * area, |task, _| {
        let (group, rs) = (task / area, task % area);
        // SAFETY: each task writes the rows of its own window position.
        let to = unsafe { to.slice_mut((group * z.window + rs * z.channels) * z.filters, z.channels * z.filters) };
        for (c, to) in to.chunks_exact_mut(z.filters).enumerate() {
            for (k, to) in to.iter_mut().enumerate() {
                *to = w.at(z.window, group * z.filters + k, c * area + rs);
            }
        }
    });
}

/// The inverse of [`reorder_weight`] on the sum of `chunks` arrays.
fn restore_weight(context: &Context, s: &ConvShape, chunks: usize, from: &[f32], accumulate: bool, dw: &mut [f32]) {
    let z = sizes(s);
    let area = s.kernel * s.kernel;
    let len = s.weight_len();
    let dw = SyncPtr(dw.as_mut_ptr());
    context.pool.run(s.filters, |k, _| {
        let (group, filter) = (k / z.filters, k % z.filters);
        // SAFETY: each task writes its own filter.
        let dw = unsafe { dw.slice_mut(k * z.window, z.window) };
        for (i, dw) in dw.iter_mut().enumerate() {
            let (c, rs) = (i / area, i % area);
            let at = (group * z.window + rs * z.channels + c) * z.filters + filter;
            let mut sum = from[at];
            for chunk in 1..chunks {
                sum += from[chunk * len + at];
            }
            *dw = if accumulate { *dw + sum } else { sum };
        }
    });
}

/// The pixels of a window's row that lie inside the image, as (first s, end s).
fn inside(start: usize, kernel: usize, padding: usize, side: usize) -> (usize, usize) {
    let first = padding.saturating_sub(start).min(kernel);
    (first, (side + padding).saturating_sub(start).clamp(first, kernel))
}

/// Calls `visit(offset in the window, offset in the image, length)` for the contiguous pixels of window (p, q) inside the
/// image, and `outside(offset in the window, length)` for the padding. With groups each pixel is visited on its own.
#[inline(always)]
fn for_each_segment(
    s: &ConvShape,
    z: &Sizes,
    p: usize,
    q: usize,
    mut visit: impl FnMut(usize, usize, usize),
    mut outside: impl FnMut(usize, usize),
) {
    let row = s.kernel * z.channels;
    let (first_row, end_row) = inside(p * s.stride, s.kernel, s.padding, s.height);
    let (first, end) = inside(q * s.stride, s.kernel, s.padding, s.width);
    for r in 0..s.kernel {
        let at = r * row;
        if r < first_row || r >= end_row || first == end {
            outside(at, row);
            continue;
        }
        outside(at, first * z.channels);
        outside(at + end * z.channels, (s.kernel - end) * z.channels);
        let image = ((p * s.stride + r - s.padding) * s.width + q * s.stride + first - s.padding) * s.channels;
        if s.groups == 1 {
            visit(at + first * z.channels, image, (end - first) * z.channels);
        } else {
            for t in first..end {
                visit(at + t * z.channels, image + (t - first) * s.channels, z.channels);
            }
        }
    }
}

/// Unrolls the windows of the output pixels `from..end` for one group into `to`.
fn unroll(s: &ConvShape, z: &Sizes, x: &[f32], group: usize, from: usize, end: usize, to: &mut [f32]) {
    let (q_end, image_len) = (s.output_width(), s.height * s.width * s.channels);
    for (pixel, to) in (from..end).zip(to.chunks_exact_mut(z.window)) {
        let (n, pq) = (pixel / z.pixels_per_image, pixel % z.pixels_per_image);
        let image = &x[n * image_len..][..image_len];
        let to = std::cell::RefCell::new(to);
        for_each_segment(
            s,
            z,
            pq / q_end,
            pq % q_end,
            |at, from, len| {
                to.borrow_mut()[at..at + len].copy_from_slice(&image[from + group * z.channels..][..len]);
            },
            |at, len| to.borrow_mut()[at..at + len].fill(0.0),
        );
    }
}

/// See [`Operators::conv_forward`](crate::device::Operators::conv_forward).
pub fn forward(
    context: &Context,
    s: &ConvShape,
    x: &[f32],
    w: Values,
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    let mut workspace = context.workspace();
    let (weight, local) = workspace.split(workspace_size(s))?;
    reorder_weight(context, s, w, weight);
    let (z, weight) = (sizes(s), &*weight);
    let pixels = s.batch * z.pixels_per_image;
    let y = SyncPtr(y.as_mut_ptr());
    context.pool.run(pixels.div_ceil(z.block), |task, thread| {
        let (from, end) = (task * z.block, pixels.min((task + 1) * z.block));
        // SAFETY: each thread has its own memory, each task its own pixels of y; the matrices have the stated sizes.
        unsafe {
            let (buffer, windows) = local.slice(thread).split_at_mut(gemm::BUFFER);
            let y = y.slice_mut(from * s.filters, (end - from) * s.filters);
            for group in 0..s.groups {
                unroll(s, &z, x, group, from, end, windows);
                let a = MatRef::row_major(windows, z.window);
                let b = MatRef::row_major(&weight[group * z.window * z.filters..], z.filters);
                let start = y.as_mut_ptr().add(group * z.filters);
                let c = MatMut { start, stride: s.filters, accumulate: false };
                gemm(context.products(), [end - from, z.filters, z.window], a, b, c, buffer.as_mut_ptr());
            }
            relu::bias_relu(context.level, y, b, relu);
        }
    });
    Ok(())
}

/// See [`Operators::conv_backward_data`](crate::device::Operators::conv_backward_data).
pub fn backward_data(context: &Context, s: &ConvShape, dy: &[f32], w: Values, dx: &mut [f32]) -> Result<()> {
    let mut workspace = context.workspace();
    let (weight, local) = workspace.split(workspace_size(s))?;
    reorder_weight(context, s, w, weight);
    let (z, weight) = (sizes(s), &*weight);
    let (q_end, image_len) = (s.output_width(), s.height * s.width * s.channels);
    let dx = SyncPtr(dx.as_mut_ptr());
    context.pool.run(s.batch, |n, thread| {
        // SAFETY: each thread has its own memory, each task its own image; the matrices have the stated sizes.
        unsafe {
            let (buffer, windows) = local.slice(thread).split_at_mut(gemm::BUFFER);
            let dx = dx.slice_mut(n * image_len, image_len);
            dx.fill(0.0);
            for group in 0..s.groups {
                for from in (0..z.pixels_per_image).step_by(z.block) {
                    let end = z.pixels_per_image.min(from + z.block);
                    let first = (n * z.pixels_per_image + from) * s.filters + group * z.filters;
                    let a = MatRef::row_major(&dy[first..], s.filters);
                    let b = MatRef::column_major(&weight[group * z.window * z.filters..], z.filters);
                    let c = MatMut { start: windows.as_mut_ptr(), stride: z.window, accumulate: false };
                    gemm(context.products(), [end - from, z.window, z.filters], a, b, c, buffer.as_mut_ptr());
                    for (pq, window) in (from..end).zip(windows.chunks_exact(z.window)) {
                        let add = |at: usize, to: usize, len: usize| {
                            let dx = &mut dx[to + group * z.channels..][..len];
                            for (dx, &d) in dx.iter_mut().zip(&window[at..at + len]) {
                                *dx += d;
                            }
                        };
                        for_each_segment(s, &z, pq / q_end, pq % q_end, add, |_, _| {});
                    }
                }
            }
        }
    });
    Ok(())
}

/// The weights' part of [`Operators::conv_backward_weight`](crate::device::Operators::conv_backward_weight).
pub fn backward_weight(
    context: &Context,
    s: &ConvShape,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
) -> Result<()> {
    let mut workspace = context.workspace();
    let (shared, local) = workspace.split(workspace_backward_weight(s))?;
    let z = sizes(s);
    let pixels = s.batch * z.pixels_per_image;
    let chunk = pixels.div_ceil(z.chunks);
    {
        let partial = SyncPtr(shared.as_mut_ptr());
        context.pool.run(z.chunks, |task, thread| {
            // SAFETY: each thread has its own memory, each task its own partial sum; the matrices have the stated sizes.
            unsafe {
                let (buffer, windows) = local.slice(thread).split_at_mut(gemm::BUFFER);
                let partial = partial.slice_mut(task * s.weight_len(), s.weight_len());
                partial.fill(0.0);
                let last = pixels.min((task + 1) * chunk);
                for from in (task * chunk..last).step_by(z.block) {
                    let end = last.min(from + z.block);
                    for group in 0..s.groups {
                        unroll(s, &z, x, group, from, end, windows);
                        let a = MatRef::column_major(windows, z.window);
                        let b = MatRef::row_major(&dy[from * s.filters + group * z.filters..], s.filters);
                        let start = partial.as_mut_ptr().add(group * z.window * z.filters);
                        let c = MatMut { start, stride: z.filters, accumulate: true };
                        gemm(context.products(), [z.window, z.filters, end - from], a, b, c, buffer.as_mut_ptr());
                    }
                }
            }
        });
    }
    restore_weight(context, s, z.chunks, shared, accumulate, dw);
    Ok(())
}
