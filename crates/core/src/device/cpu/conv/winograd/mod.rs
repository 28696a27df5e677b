//! Winograd's F(4×4, 3×3): 3×3 convolutions of stride 1 with a quarter of the multiplications.
//!
//! An output tile of 4×4 pixels is y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A, where d is the 6×6 tile of the image under it and g
//! the 3×3 weights (matrices in [`transform`]). Summed over channels, the 36 elementwise products (one per tile position) are
//! 36 matrix products:
//!
//! - U\[position\] (C × K) from the weights, cached until they change: training computes it once per step, inference once. For few
//!   tiles the forward pass computes it [on the way](on_the_fly), which reads a quarter of the bytes;
//! - V\[position\] (tiles × C) from the image, M = V·U, and y from M with bias and ReLU;
//! - the gradients are the transposed algorithm: Y\[position\] (tiles × K) = A·dy·Aᵀ, Z = Y·Uᵀ and
//!   dx = Σ over tiles of B·Z·Bᵀ; dU = Vᵀ·Y summed over tiles, and dw = Gᵀ·dU·G.
//!
//! Multiply-adds: 36·tiles·C·K in each direction, against 144·tiles·C·K. An image of 4×4 pixels is one tile. The stride
//! between positions is an odd number of cache lines, so that a tile's 36 vectors fall into different sets of the cache.
//! At most [`TILES`] tiles are in flight, which bounds the workspace: 4·36·TILES·(C + K) bytes. All transformed arrays are
//! stored as micro-panels ([`tiles`]), in the order in which the products ([`products`]) read and write them: no packing.
//!
//! Tasks: one image for the transformations of V, Y, y and dx; one position and up to 256 columns for the products; up to 32
//! filters for U and dw.
//!
//! Error bound: y errs by at most (C + 24)·2⁻²⁴·|A|ᵀ[Σ over c of (|G||g||G|ᵀ) ⊙ (|B|ᵀ|d||B|)]|A| to first order:
//! C additions per product, and at most twelve roundings in each dimension of the three transformations. In one dimension the
//! right side amplifies the largest |d||g| by up to 48, in two by 2304, where the direct sum has 9; typical errors are far
//! smaller. A NaN or an infinity in x makes its whole tile NaN.
//!
//! In bf16 the transformations are in f32 and U, V and Y are rounded when they are stored: two more roundings of 2⁻⁸, so that
//! (C + 24)·2⁻²⁴ becomes (C + 24)·2⁻²⁴ + 2·2⁻⁸ + 2⁻¹⁶. With normal numbers and 256 channels y, dx and dw err by 0.019, 0.024 and
//! 0.020 of their root mean square, against 0.0024 where direct sums are rounded to bf16.

mod on_the_fly;
mod products;
mod tiles;
mod transform;

use super::Size;
use crate::Result;
use crate::device::cpu::Context;
use crate::device::cpu::gemm::{self, operand::Products};
use crate::device::cpu::pool::SyncPtr;
use crate::device::cpu::weights::Weights;
use crate::device::cpu::workspace::{Cached, Key, PerThread, WorkspaceSize};
use crate::shape::ConvShape;
use alexnet_ops::Precision;
use products::*;
use std::ops::Range;
use tiles::*;

/// Maximum number of tiles in flight, unless an image has more: few enough that V and M stay in the last-level cache beside U.
const TILES: usize = 128;
/// Tiles per task of the transformations, unless an image has more.
const TILES_PER_TASK: usize = 8;
/// Tile positions: elements of a transformed tile.
const POSITIONS: usize = 36;
/// Filters per task for U and dw: whole micro-panels at any level.
const FILTERS: usize = 32;
/// Most tiles of a batch whose products read the weights instead of U.
const FEW_TILES: usize = 4;

/// Whether this is the faster algorithm: the tiles' overhang wastes less than the algorithm saves.
pub fn suits(s: &ConvShape) -> bool {
    let (p, q) = (s.output_height(), s.output_width());
    s.kernel == 3
        && s.stride == 1
        && s.channels / s.groups >= 4
        && s.filters / s.groups >= 4
        && POSITIONS * p.div_ceil(4) * q.div_ceil(4) * 4 <= 3 * 9 * p * q
}

/// Stride between the positions of an array with `len` words of 32 bits per position: an odd number of cache lines.
fn stride(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Sizes derived from a shape.
#[derive(Clone, Copy)]
struct Sizes {
    size: Size,
    tiles_per_row: usize,
    /// Tiles per image.
    tiles: usize,
    /// Images in flight.
    images: usize,
    /// Rows that V, Y, Z and M have room for: the maximum number of tiles in flight.
    capacity: usize,
    /// C/groups and K/groups, rounded up to whole micro-panels.
    channels: usize,
    filters: usize,
    /// How the products are computed, and V, Y and U stored.
    products: Products,
    /// Words between the positions of V, Y and U.
    v_stride: usize,
    y_stride: usize,
    u_stride: usize,
    /// Of Z, M and dU, which are floats.
    z_stride: usize,
    m_stride: usize,
    du_stride: usize,
}

fn sizes(context: &Context, s: &ConvShape) -> Sizes {
    let tiles_per_row = s.output_width().div_ceil(4);
    let tiles = s.output_height().div_ceil(4) * tiles_per_row;
    let images = (TILES / tiles.max(1)).clamp(1, s.batch.max(1));
    let products = context.products();
    let capacity = (tiles * images).next_multiple_of(products.rows_read());
    let size = Size::new(s);
    let [channels, filters] = [size.channels, size.filters].map(|n| n.next_multiple_of(gemm::COLUMNS));
    let [v, y] = [channels, filters].map(|n| capacity * s.groups * n);
    let u = s.groups * size.channels * filters;
    Sizes {
        size,
        tiles_per_row,
        tiles,
        images,
        capacity,
        channels,
        filters,
        products,
        v_stride: stride(products.words(v)),
        y_stride: stride(products.words(y)),
        u_stride: stride(products.words(u)),
        z_stride: stride(v),
        m_stride: stride(y),
        du_stride: stride(u),
    }
}

impl Sizes {
    /// Words before a group's part within a position of V.
    fn v_of(&self, position: usize, group: usize) -> usize {
        position * self.v_stride + self.products.words(self.capacity * group * self.channels)
    }
    /// The same of Z.
    fn z_of(&self, position: usize, group: usize) -> usize {
        position * self.z_stride + self.capacity * group * self.channels
    }
    /// The same of Y, from filter `k` of the group on, with which a micro-panel begins.
    fn y_of(&self, position: usize, group: usize, k: usize) -> usize {
        position * self.y_stride + self.products.words(self.capacity * (group * self.filters + k))
    }
    /// The same of M.
    fn m_of(&self, position: usize, group: usize, k: usize) -> usize {
        position * self.m_stride + self.capacity * (group * self.filters + k)
    }
    /// The same of U.
    fn u_of(&self, position: usize, group: usize, k: usize) -> usize {
        position * self.u_stride + self.products.words(self.size.channels * (group * self.filters + k))
    }
    /// The same of dU.
    fn du_of(&self, position: usize, group: usize, k: usize) -> usize {
        position * self.du_stride + self.size.channels * (group * self.filters + k)
    }
}

/// Floats of U.
pub fn transformed_len(context: &Context, s: &ConvShape) -> usize {
    POSITIONS * sizes(context, s).u_stride
}

/// Workspace of forward and data gradient.
pub fn workspace_size(context: &Context, s: &ConvShape) -> WorkspaceSize {
    let z = sizes(context, s);
    let panel = z.products.steps(z.filters.max(z.channels)) * gemm::COLUMNS;
    WorkspaceSize {
        shared: POSITIONS * (z.z_stride + z.m_stride),
        per_thread: panel.max(tiles::LOCAL).max(on_the_fly::LOCAL),
    }
}

/// Workspace of the weight gradient.
pub fn workspace_backward_weight(context: &Context, s: &ConvShape) -> WorkspaceSize {
    let (z, other) = (sizes(context, s), workspace_size(context, s));
    // V and a micro-panel of Y, where their rows are paired.
    let paired = z.products.steps(z.capacity) * (z.channels + gemm::COLUMNS);
    WorkspaceSize {
        shared: POSITIONS * (z.z_stride + z.m_stride + z.du_stride),
        per_thread: if z.products.words(32) != 32 { other.per_thread.max(paired) } else { other.per_thread },
    }
}

/// Calls `task(images)` for each range of images that is in flight together.
fn for_each_flight(s: &ConvShape, z: &Sizes, mut task: impl FnMut(Range<usize>)) {
    for first in (0..s.batch).step_by(z.images) {
        task(first..s.batch.min(first + z.images));
    }
}

/// Calls `task(image)` for `images` images on all threads, some after one another on the same thread.
fn for_each_image(context: &Context, z: &Sizes, images: usize, task: impl Fn(usize) + Sync) {
    context.pool.run_items(images, (TILES_PER_TASK / z.tiles.max(1)).max(1), task);
}

/// Calls `task(filters, thread)` for all filters, on all threads.
fn for_each_filters(context: &Context, s: &ConvShape, z: &Sizes, task: impl Fn(Filters, usize) + Sync) {
    let tasks = z.size.filters.div_ceil(FILTERS);
    context.pool.run(s.groups * tasks, |i, thread| {
        let (group, first) = (i / tasks, i % tasks * FILTERS);
        task(Filters { group, first, len: FILTERS.min(z.size.filters - first) }, thread);
    });
}

/// Whether the forward pass has so few tiles that U takes longer to read than to compute.
pub fn computes_u(context: &Context, s: &ConvShape) -> bool {
    context.precision == Precision::Fp32 && s.batch * sizes(context, s).tiles <= FEW_TILES
}

/// U of the weights, computed unless it is still cached.
fn transformed<'a>(
    context: &Context,
    s: &ConvShape,
    z: &Sizes,
    w: Weights,
    cached: Cached<'a>,
    local: PerThread,
) -> &'a [f32] {
    if !cached.valid {
        let u = SyncPtr(cached.values.as_mut_ptr());
        // SAFETY: each thread has its own memory; each task writes its own filters of U.
        for_each_filters(context, s, z, |filters, thread| unsafe {
            let local = local.slice(thread).as_mut_ptr();
            weight_tiles(context.products(), z, filters, w.values, u.at(0), local);
        });
    }
    cached.values
}

fn key(s: &ConvShape, w: Weights) -> Key {
    Key { contents: w.contents, channels: s.channels, filters: s.filters, groups: s.groups }
}

/// Calls `product(position, group, columns, thread)` for the matrix products of all positions.
fn for_each_product(
    context: &Context,
    s: &ConvShape,
    columns: usize,
    product: impl Fn(usize, usize, Range<usize>, usize) + Sync,
) {
    let parts = columns.div_ceil(256).max(1);
    let width = columns.div_ceil(parts).next_multiple_of(32);
    let parts = columns.div_ceil(width);
    context.pool.run(POSITIONS * s.groups * parts, |task, thread| {
        let (position, rest) = (task / (s.groups * parts), task % (s.groups * parts));
        let (group, first) = (rest / parts, rest % parts * width);
        product(position, group, first..columns.min(first + width), thread);
    });
}

/// See [`Operators::conv_forward`](crate::device::Operators::conv_forward).
pub fn forward(
    context: &Context,
    s: &ConvShape,
    x: &[f32],
    w: Weights,
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    let (level, products, z) = (context.level, context.products(), sizes(context, s));
    let size = workspace_size(context, s);
    let mut workspace = context.workspace();
    let (shared, local, u) = if computes_u(context, s) {
        let (shared, local) = workspace.split(size)?;
        (shared, local, None)
    } else {
        let (shared, local, cached) = workspace.split_with_cache(size, key(s, w), transformed_len(context, s))?;
        (shared, local, Some(transformed(context, s, &z, w, cached, local)))
    };
    let (v, m) = shared.split_at_mut(POSITIONS * z.z_stride);
    let (v, m, y) = (SyncPtr(v.as_mut_ptr()), SyncPtr(m.as_mut_ptr()), SyncPtr(y.as_mut_ptr()));
    for_each_flight(s, &z, |images| {
        let tiles = images.len() * z.tiles;
        // SAFETY: each task has its own tiles of V, its own columns of M, its own image of y.
        for_each_image(context, &z, images.len(), |i| unsafe {
            image_tiles(products, s, &z, i, x.as_ptr().add((images.start + i) * z.size.image), v.at(0))
        });
        match u {
            // SAFETY: as above; the matrices have the stated sizes.
            Some(u) => for_each_product(context, s, z.size.filters, |position, group, columns, thread| unsafe {
                let k = columns.start;
                let (v, m) = (v.at(z.v_of(position, group)), m.at(z.m_of(position, group, k)));
                let u = u.as_ptr().add(z.u_of(position, group, k));
                let buffer = local.slice(thread).as_mut_ptr();
                forward_product(products, &z, [tiles, columns.len()], v, u, m, buffer);
            }),
            // SAFETY: as above.
            None => for_each_filters(context, s, &z, |filters, thread| unsafe {
                let buffer = local.slice(thread).as_mut_ptr();
                on_the_fly::product(level, &z, filters, tiles, w.values, [v.at(0), m.at(0)], buffer);
            }),
        }
        // SAFETY: as above.
        for_each_image(context, &z, images.len(), |i| unsafe {
            output_tiles(level, s, &z, i, m.at(0), (b, relu), y.at((images.start + i) * z.size.output));
        });
    });
    Ok(())
}

/// Y and U, and Z and dx that come from them.
struct DataArrays<'a> {
    y: SyncPtr<f32>,
    u: &'a [f32],
    z: SyncPtr<f32>,
    dx: SyncPtr<f32>,
}

/// Z = Y·Uᵀ of the images in flight, and their dx.
fn data_from_tiles(
    context: &Context,
    s: &ConvShape,
    z: &Sizes,
    images: Range<usize>,
    arrays: &DataArrays,
    local: PerThread,
) {
    let level = context.level;
    // SAFETY: each thread has its own memory, each task its own columns of Z; the matrices have the stated sizes.
    for_each_product(context, s, z.size.channels, |position, group, columns, thread| unsafe {
        let (y, dz) = (arrays.y.at(z.y_of(position, group, 0)), arrays.z.at(z.z_of(position, group)));
        let u = arrays.u.as_ptr().add(z.u_of(position, group, 0));
        let buffer = local.slice(thread).as_mut_ptr();
        data_product(context.products(), z, images.len() * z.tiles, columns, [y, u], dz, buffer);
    });
    // SAFETY: each task has its own image of dx.
    for_each_image(context, z, images.len(), |i| unsafe {
        image_gradient_tiles(level, s, z, i, arrays.z.at(0), arrays.dx.at((images.start + i) * z.size.image));
    });
}

/// See [`Operators::conv_backward_data`](crate::device::Operators::conv_backward_data).
pub fn backward_data(context: &Context, s: &ConvShape, dy: &[f32], w: Weights, dx: &mut [f32]) -> Result<()> {
    let z = sizes(context, s);
    let mut workspace = context.workspace();
    let (shared, local, cached) =
        workspace.split_with_cache(workspace_size(context, s), key(s, w), transformed_len(context, s))?;
    let u = transformed(context, s, &z, w, cached, local);
    let (v, y) = shared.split_at_mut(POSITIONS * z.z_stride);
    let y = SyncPtr(y.as_mut_ptr());
    let arrays = DataArrays { y, u, z: SyncPtr(v.as_mut_ptr()), dx: SyncPtr(dx.as_mut_ptr()) };
    for_each_flight(s, &z, |images| {
        // SAFETY: each task has its own tiles of Y.
        for_each_image(context, &z, images.len(), |i| unsafe {
            let dy = dy.as_ptr().add((images.start + i) * z.size.output);
            output_gradient_tiles(context.products(), s, &z, i, dy, y.at(0));
        });
        data_from_tiles(context, s, &z, images, &arrays, local);
    });
    Ok(())
}

/// The weights' part of [`Operators::conv_backward_weight`](crate::device::Operators::conv_backward_weight); with `data`, the weights and dx,
/// also [`Operators::conv_backward_data`](crate::device::Operators::conv_backward_data), which needs the same Y.
pub fn backward_weight(
    context: &Context,
    s: &ConvShape,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    data: Option<(Weights, &mut [f32])>,
) -> Result<()> {
    let (products, z, size) = (context.products(), sizes(context, s), workspace_backward_weight(context, s));
    let mut workspace = context.workspace();
    let (shared, local, data) = match data {
        Some((w, dx)) => {
            let (shared, local, cached) = workspace.split_with_cache(size, key(s, w), transformed_len(context, s))?;
            (shared, local, Some((transformed(context, s, &z, w, cached, local), dx)))
        }
        None => {
            let (shared, local) = workspace.split(size)?;
            (shared, local, None)
        }
    };
    let (v, rest) = shared.split_at_mut(POSITIONS * z.z_stride);
    let (y, du) = rest.split_at_mut(POSITIONS * z.m_stride);
    let (v, y, du, dw) =
        (SyncPtr(v.as_mut_ptr()), SyncPtr(y.as_mut_ptr()), SyncPtr(du.as_mut_ptr()), SyncPtr(dw.as_mut_ptr()));
    // V is not needed after the product with Y, and as large as Z.
    let arrays = data.map(|(u, dx)| DataArrays { y, u, z: v, dx: SyncPtr(dx.as_mut_ptr()) });
    for_each_flight(s, &z, |images| {
        // SAFETY: each task has its own tiles of V and Y, its own columns of dU.
        for_each_image(context, &z, images.len(), |i| unsafe {
            let n = images.start + i;
            image_tiles(products, s, &z, i, x.as_ptr().add(n * z.size.image), v.at(0));
            output_gradient_tiles(products, s, &z, i, dy.as_ptr().add(n * z.size.output), y.at(0));
        });
        // SAFETY: as above; the matrices have the stated sizes.
        for_each_product(context, s, z.size.filters, |position, group, columns, thread| unsafe {
            let k = columns.start;
            let (y, du) = (y.at(z.y_of(position, group, k)), du.at(z.du_of(position, group, k)));
            let (v, size) = (v.at(z.v_of(position, group)), [images.len() * z.tiles, columns.len()]);
            let buffer = local.slice(thread).as_mut_ptr();
            weight_product(products, &z, size, [v, y], du, images.start > 0, buffer);
        });
        if let Some(arrays) = &arrays {
            data_from_tiles(context, s, &z, images, arrays, local);
        }
    });
    // SAFETY: each thread has its own memory, each task its own filters of dw.
    for_each_filters(context, s, &z, |filters, thread| unsafe {
        let local = local.slice(thread).as_mut_ptr();
        weight_gradient_tiles(context.level, &z, filters, du.at(0), accumulate, dw.at(0), local);
    });
    Ok(())
}
