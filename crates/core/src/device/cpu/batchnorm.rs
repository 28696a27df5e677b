//! Batch normalisation of the channels of x (rows × C).
//!
//! The mean m and the sum M of squared deviations are computed in two passes over blocks that stay in the first-level cache,
//! and merged: with δ the difference of two means, m = m₁ + δ·n₂/n and M = M₁ + M₂ + δ²·n₁·n₂/n (Chan, Golub and LeVeque).
//! This keeps the variance accurate even if the mean is far from zero. The rows are split into at most [`CHUNKS`] chunks,
//! one task each, which are merged in order.
//! Minimum memory traffic in bytes per element: forward 12 (x read twice, y written), backward 20 (x and dy read twice, dx
//! written).

use super::pool::SyncPtr;
use super::relu::max0;
use super::simd::dispatch;
use super::workspace::{PerThread, Workspace, WorkspaceSize};
use super::{Context, Gradients};
use crate::Result;
use crate::shape::BatchNormShape;

const CHUNKS: usize = 32;
/// Floats per block: 32 KiB, the first-level cache.
const BLOCK: usize = 8 << 10;
/// Floats that a task normalises, about.
const TASK: usize = 64 << 10;

/// The number of chunks, and the rows of each but the last.
fn chunks(rows: usize) -> (usize, usize) {
    let chunks = rows.div_ceil(64).clamp(1, CHUNKS);
    (chunks, rows.div_ceil(chunks))
}

/// Workspace of all directions: two arrays per chunk, and two of factors.
pub fn workspace_size(s: &BatchNormShape) -> WorkspaceSize {
    WorkspaceSize { shared: 2 * s.channels * (chunks(s.rows).0 + 1), per_thread: 2 * s.channels }
}

/// The affine transformation after the normalisation: y = x̂·w + b, then max(y, 0) if `relu`.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    pub w: &'a [f32],
    pub b: &'a [f32],
    pub relu: bool,
}

/// See [`Operators::batchnorm_forward`](crate::device::Operators::batchnorm_forward).
pub fn forward(
    context: &Context,
    s: &BatchNormShape,
    x: &[f32],
    affine: Affine,
    [running_mean, running_variance]: [&mut [f32]; 2],
    statistics: &mut [f32],
    y: &mut [f32],
) -> Result<()> {
    if s.is_empty() {
        return Ok(());
    }
    let mut workspace = context.workspace();
    let (shared, local) = workspace.split(workspace_size(s))?;
    let (scale, partial) = shared.split_at_mut(2 * s.channels);
    let all = moments_of_rows(context, s, x, local, partial);
    let (momentum, unbiased, rows) = (s.share() as f32, s.unbiased() as f32, s.rows as f32);
    for c in 0..s.channels {
        let (mean, variance) = (all[c], all[s.channels + c] / rows);
        let inverse = 1.0 / (variance + s.epsilon as f32).sqrt();
        (statistics[c], statistics[s.channels + c], scale[c]) = (mean, inverse, affine.w[c] * inverse);
        if momentum == 1.0 {
            // Without the rounding of a difference.
            (running_mean[c], running_variance[c]) = (mean, unbiased * variance);
            continue;
        }
        running_mean[c] += momentum * (mean - running_mean[c]);
        running_variance[c] += momentum * (unbiased * variance - running_variance[c]);
    }
    normalise(context, s, x, &statistics[..s.channels], Affine { w: &scale[..s.channels], ..affine }, y);
    Ok(())
}

/// See [`Operators::batchnorm_moments`](crate::device::Operators::batchnorm_moments).
pub fn moments(context: &Context, s: &BatchNormShape, x: &[f32], moments: &mut [f32]) -> Result<()> {
    if s.is_empty() {
        return Ok(());
    }
    let mut workspace = context.workspace();
    let (shared, local) = workspace.split(workspace_size(s))?;
    let all = moments_of_rows(context, s, x, local, shared);
    moments[..2 * s.channels].copy_from_slice(all);
    moments[s.channels..2 * s.channels].iter_mut().for_each(|variance| *variance /= s.rows as f32);
    Ok(())
}

/// Mean and sum of the squared deviations of every channel, in the front of `partial`.
fn moments_of_rows<'a>(
    context: &Context,
    s: &BatchNormShape,
    x: &[f32],
    local: PerThread<'_>,
    partial: &'a mut [f32],
) -> &'a [f32] {
    for_each_chunk(context, s, partial, |from, end, thread, moments| {
        // SAFETY: each thread has its own memory.
        let block = unsafe { &mut local.slice(thread)[..2 * s.channels] };
        chunk_moments(context.level, &x[from..end], block, moments);
    });
    let (number, chunk) = chunks(s.rows);
    let (all, others) = partial[..2 * s.channels * number].split_at_mut(2 * s.channels);
    let mut count = chunk.min(s.rows);
    for moments in others.chunks_exact(2 * s.channels) {
        let more = chunk.min(s.rows - count);
        merge(all, count, moments, more);
        count += more;
    }
    all
}

/// See [`Operators::batchnorm_backward`](crate::device::Operators::batchnorm_backward).
pub fn backward(
    context: &Context,
    s: &BatchNormShape,
    [x, dy]: [&[f32]; 2],
    w: &[f32],
    statistics: &[f32],
    gradients: Gradients,
    dx: &mut [f32],
) -> Result<()> {
    if s.is_empty() {
        return Ok(());
    }
    let mut workspace = context.workspace();
    let (factors, partial) = workspace.split(workspace_size(s))?.0.split_at_mut(2 * s.channels);
    let all = sums_of_rows(context, s, [x, dy], statistics, partial);
    add_sums(s, all, gradients);
    let (means, slopes) = factors.split_at_mut(s.channels);
    for c in 0..s.channels {
        let (sum, product) = (all[c], all[s.channels + c]);
        (means[c], slopes[c]) = (sum / s.rows as f32, statistics[s.channels + c] * (product / s.rows as f32));
    }
    // The sums are no longer needed: reuse their memory.
    data(context, s, [x, dy, w], [statistics, factors], all, dx);
    Ok(())
}

/// See [`Operators::batchnorm_backward_weight`](crate::device::Operators::batchnorm_backward_weight).
pub fn backward_weight(
    context: &Context,
    s: &BatchNormShape,
    x: [&[f32]; 2],
    statistics: &[f32],
    gradients: Gradients,
) -> Result<()> {
    if s.is_empty() {
        return Ok(());
    }
    let mut workspace = context.workspace();
    let partial = workspace.split(workspace_size(s))?.0;
    add_sums(s, sums_of_rows(context, s, x, statistics, partial), gradients);
    Ok(())
}

/// See [`Operators::batchnorm_backward_data`](crate::device::Operators::batchnorm_backward_data).
pub fn backward_data(
    context: &Context,
    s: &BatchNormShape,
    [x, dy]: [&[f32]; 2],
    w: &[f32],
    sums: [&[f32]; 2],
    dx: &mut [f32],
) -> Result<()> {
    let mut workspace = context.workspace();
    let scale = workspace.split(workspace_size(s))?.0;
    data(context, s, [x, dy, w], sums, scale, dx);
    Ok(())
}

/// Σ dy and Σ dy·x̂ of every channel, in the front of `partial`.
fn sums_of_rows<'a>(
    context: &Context,
    s: &BatchNormShape,
    [x, dy]: [&[f32]; 2],
    statistics: &[f32],
    partial: &'a mut [f32],
) -> &'a mut [f32] {
    for_each_chunk(context, s, partial, |from, end, _, sums| {
        chunk_sums(context.level, &x[from..end], &dy[from..end], statistics, sums);
    });
    let (all, others) = partial[..2 * s.channels * chunks(s.rows).0].split_at_mut(2 * s.channels);
    for sums in others.chunks_exact(2 * s.channels) {
        all.iter_mut().zip(sums).for_each(|(sum, &more)| *sum += more);
    }
    all
}

fn add_sums(s: &BatchNormShape, sums: &[f32], Gradients { dw, db, accumulate }: Gradients) {
    for c in 0..s.channels {
        let (sum, product) = (sums[c], sums[s.channels + c]);
        db[c] = if accumulate { db[c] + sum } else { sum };
        dw[c] = if accumulate { dw[c] + product } else { product };
    }
}

/// dx by the statistics and the factors; `scale` is memory for one number per channel.
fn data(
    context: &Context,
    s: &BatchNormShape,
    [x, dy, w]: [&[f32]; 3],
    [statistics, factors]: [&[f32]; 2],
    scale: &mut [f32],
    dx: &mut [f32],
) {
    let (mean, inverse) = statistics.split_at(s.channels);
    let scale = &mut scale[..s.channels];
    scale.iter_mut().zip(w.iter().zip(inverse)).for_each(|(scale, (&w, &inverse))| *scale = w * inverse);
    for_each_part(context, s, dx, |from, end, dx| {
        backward_part(context.level, &x[from..end], &dy[from..end], mean, scale, factors, dx);
    });
}

/// See [`Operators::batchnorm_inference`](crate::device::Operators::batchnorm_inference).
pub fn inference(
    context: &Context,
    s: &BatchNormShape,
    x: &[f32],
    affine: Affine,
    [mean, variance]: [&[f32]; 2],
    y: &mut [f32],
) -> Result<()> {
    let mut workspace = context.workspace();
    let w = scale_of(&mut workspace, s, affine.w, variance)?;
    normalise(context, s, x, mean, Affine { w, ..affine }, y);
    Ok(())
}

/// See [`Operators::batchnorm_inference_backward`](crate::device::Operators::batchnorm_inference_backward).
pub fn inference_backward(
    context: &Context,
    s: &BatchNormShape,
    dy: &[f32],
    w: &[f32],
    variance: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    let mut workspace = context.workspace();
    let scale = scale_of(&mut workspace, s, w, variance)?;
    for_each_part(context, s, dx, |from, end, dx| scale_part(context.level, &dy[from..end], scale, dx));
    Ok(())
}

/// w/√(variance + ε), in the workspace.
fn scale_of<'a>(workspace: &'a mut Workspace, s: &BatchNormShape, w: &[f32], variance: &[f32]) -> Result<&'a [f32]> {
    let scale = &mut workspace.split(workspace_size(s))?.0[..s.channels];
    for ((scale, &w), &variance) in scale.iter_mut().zip(w).zip(variance) {
        *scale = w * (1.0 / (variance + s.epsilon as f32).sqrt());
    }
    Ok(scale)
}

/// Calls `task(first element, end, thread, 2·C floats of partial)` for every chunk of the rows.
fn for_each_chunk(
    context: &Context,
    s: &BatchNormShape,
    partial: &mut [f32],
    task: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
) {
    let ((chunks, chunk), partial) = (chunks(s.rows), SyncPtr(partial.as_mut_ptr()));
    context.pool.run(chunks, |i, thread| {
        let (from, end) = ((i * chunk).min(s.rows), ((i + 1) * chunk).min(s.rows));
        // SAFETY: each task has its own part.
        let part = unsafe { partial.slice_mut(i * 2 * s.channels, 2 * s.channels) };
        task(from * s.channels, end * s.channels, thread, part);
    });
}

/// Calls `task(first element, end, to[first..end])` for parts of whole rows.
fn for_each_part(
    context: &Context,
    s: &BatchNormShape,
    to: &mut [f32],
    task: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    let part = (TASK / s.channels.max(1)).max(1) * s.channels;
    let to = SyncPtr(to.as_mut_ptr());
    context.pool.run(s.len().div_ceil(part.max(1)), |i, _| {
        let (from, end) = (i * part, ((i + 1) * part).min(s.len()));
        // SAFETY: each task has its own rows.
        task(from, end, unsafe { to.slice_mut(from, end - from) });
    });
}

/// y = (x − mean)·w + b, then max(y, 0) if `relu`.
fn normalise(context: &Context, s: &BatchNormShape, x: &[f32], mean: &[f32], affine: Affine, y: &mut [f32]) {
    let Affine { w, b, relu } = affine;
    for_each_part(context, s, y, |from, end, y| normalise_part(context.level, &x[from..end], mean, w, b, relu, y));
}

/// Merges the moments (mean, then squared deviations) of `more` rows into those of `count`.
#[inline(always)]
fn merge(to: &mut [f32], count: usize, from: &[f32], more: usize) {
    let (n1, n2) = (count as f32, more as f32);
    let (share, weight) = (n2 / (n1 + n2), n1 * (n2 / (n1 + n2)));
    let (mean, squares) = to.split_at_mut(to.len() / 2);
    let (other_mean, other_squares) = from.split_at(from.len() / 2);
    for ((m, q), (&m2, &q2)) in mean.iter_mut().zip(squares).zip(other_mean.iter().zip(other_squares)) {
        let delta = m2 - *m;
        *m += delta * share;
        *q += q2 + delta * delta * weight;
    }
}

dispatch! {
    /// Mean and squared deviations of some rows; `block` is as long as `to`.
    fn chunk_moments(x: &[f32], block: &mut [f32], to: &mut [f32]) = plain chunk_moments_body
}
#[inline(always)]
fn chunk_moments_body(x: &[f32], block: &mut [f32], to: &mut [f32]) {
    let channels = to.len() / 2;
    let rows = (BLOCK / channels).max(8);
    let mut count = 0;
    for x in x.chunks(rows * channels) {
        let more = x.len() / channels;
        if count == 0 {
            block_moments(x, to);
        } else {
            block_moments(x, block);
            merge(to, count, block, more);
        }
        count += more;
    }
}

#[inline(always)]
fn block_moments(x: &[f32], to: &mut [f32]) {
    let channels = to.len() / 2;
    let (mean, squares) = to.split_at_mut(channels);
    mean.fill(0.0);
    for row in x.chunks_exact(channels) {
        mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += x);
    }
    let rows = (x.len() / channels) as f32;
    mean.iter_mut().for_each(|mean| *mean /= rows);
    squares.fill(0.0);
    for row in x.chunks_exact(channels) {
        for ((square, &mean), &x) in squares.iter_mut().zip(&*mean).zip(row) {
            *square += (x - mean) * (x - mean);
        }
    }
}

dispatch! {
    /// Σ dy and Σ dy·x̂ of some rows.
    fn chunk_sums(x: &[f32], dy: &[f32], statistics: &[f32], to: &mut [f32]) = plain chunk_sums_body
}
#[inline(always)]
fn chunk_sums_body(x: &[f32], dy: &[f32], statistics: &[f32], to: &mut [f32]) {
    let channels = to.len() / 2;
    let (sums, products) = to.split_at_mut(channels);
    let (mean, inverse) = statistics.split_at(channels);
    sums.fill(0.0);
    products.fill(0.0);
    for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
        let channel = sums.iter_mut().zip(&mut *products).zip(mean.iter().zip(inverse));
        for (((sum, product), (&mean, &inverse)), (&x, &dy)) in channel.zip(x.iter().zip(dy)) {
            *sum += dy;
            *product += dy * ((x - mean) * inverse);
        }
    }
}

dispatch! {
    fn normalise_part(x: &[f32], mean: &[f32], scale: &[f32], b: &[f32], relu: bool, y: &mut [f32]) = plain normalise_body
}
#[inline(always)]
fn normalise_body(x: &[f32], mean: &[f32], scale: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(scale.len()).zip(y.chunks_exact_mut(scale.len())) {
        for (((y, &x), &mean), (&scale, &b)) in y.iter_mut().zip(x).zip(mean).zip(scale.iter().zip(b)) {
            let value = (x - mean) * scale + b;
            *y = if relu { max0(value) } else { value };
        }
    }
}

dispatch! {
    /// dx = scale · (dy − means − (x − mean)·slopes); `factors` are the means, then the slopes.
    fn backward_part(x: &[f32], dy: &[f32], mean: &[f32], scale: &[f32], factors: &[f32], dx: &mut [f32]) = plain backward_body
}
#[inline(always)]
fn backward_body(x: &[f32], dy: &[f32], mean: &[f32], scale: &[f32], factors: &[f32], dx: &mut [f32]) {
    let channels = scale.len();
    let (means, slopes) = factors.split_at(channels);
    let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
    for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(channels)) {
        let channel = mean.iter().zip(scale).zip(means.iter().zip(slopes));
        for ((dx, (&x, &dy)), ((&mean, &scale), (&m, &slope))) in dx.iter_mut().zip(x.iter().zip(dy)).zip(channel) {
            *dx = scale * (dy - m - (x - mean) * slope);
        }
    }
}

dispatch! {
    fn scale_part(dy: &[f32], scale: &[f32], dx: &mut [f32]) = plain scale_body
}
#[inline(always)]
fn scale_body(dy: &[f32], scale: &[f32], dx: &mut [f32]) {
    for (dy, dx) in dy.chunks_exact(scale.len()).zip(dx.chunks_exact_mut(scale.len())) {
        dx.iter_mut().zip(dy).zip(scale).for_each(|((dx, &dy), &scale)| *dx = dy * scale);
    }
}
