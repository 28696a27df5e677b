//! Winograd's F(4×4, 3×3): 3×3 convolutions of stride 1 with a quarter of the multiplications.
//!
//! An output tile of 4×4 pixels is y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A, where d is the 6×6 tile of the image under it and g
//! the 3×3 weights (matrices in [`transform`]). Summed over channels the 36 elementwise products are 36 matrix products:
//!
//! - U\[point\] (C × K) from the weights, kept until they change: training makes it once a step, inference once;
//! - V\[point\] (tiles × C) from the image, M = V·U, and y from M with bias and ReLU;
//! - the gradients are the same algorithm transposed: Y\[point\] (tiles × K) = A·dy·Aᵀ, Z = Y·Uᵀ and
//!   dx = Σ over tiles of B·Z·Bᵀ; dU = Vᵀ·Y summed over tiles, and dw = Gᵀ·dU·G.
//!
//! Multiply-adds: 36·tiles·C·K in each direction, against 144·tiles·C·K. An image of 4×4 pixels is one tile. The
//! points lie an odd number of cache lines apart, so that a tile's 36 vectors fall into different sets of the cache.
//! At most [`TILES`] tiles are in flight, which bounds the scratch memory: 4·36·TILES·(C + K) bytes. All arrays of points lie
//! in panels ([`tiles`]), in which order the products ([`products`]) read and write them, so that nothing is copied.
//!
//! Tasks: a group of images for the transformations of V, Y, y and dx; a point and up to 256 columns for the products; one
//! vector of filters for U and dw.
//!
//! Errors: y errs by at most (C + 24)·2⁻²⁴·|A|ᵀ[Σ over c of (|G||g||G|ᵀ) ⊙ (|B|ᵀ|d||B|)]|A| to first order:
//! C additions in a product, and at most twelve roundings in each dimension of the three transformations. In one
//! dimension the right side amplifies the largest |d||g| by up to 48, in two by 2304 where the direct sum has 9; typical errors are
//! far smaller. A NaN or an infinity in x makes its whole tile NaN.

mod products;
mod tiles;
mod transform;

use super::Size;
use crate::Result;
use crate::device::cpu::gemm;
use crate::device::cpu::pool::Shares;
use crate::device::cpu::scratch::{Key, Need, Scratch};
use crate::device::cpu::{Crew, Weights};
use crate::shape::ConvShape;
use products::*;
use tiles::*;

/// Most tiles in flight, unless an image has more: so few that V and M stay in the last-level cache beside U.
const TILES: usize = 128;
const POINTS: usize = 36;

/// Whether this is the better way: the tiles' overhang wastes less than is won.
pub fn suits(s: &ConvShape) -> bool {
    let (p, q) = (s.output_height(), s.output_width());
    s.kernel == 3
        && s.stride == 1
        && s.channels / s.groups >= 4
        && s.filters / s.groups >= 4
        && POINTS * p.div_ceil(4) * q.div_ceil(4) * 4 <= 3 * 9 * p * q
}

/// Numbers between the points of an array with `len` numbers a point: an odd number of cache lines.
fn apart(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Sizes derived from a shape.
#[derive(Clone, Copy)]
struct Sizes {
    size: Size,
    across: usize,
    /// Tiles of an image.
    tiles: usize,
    /// Images in flight.
    images: usize,
    /// Most tiles in flight.
    most: usize,
    /// C/groups and K/groups, rounded up to whole panels.
    channels: usize,
    filters: usize,
    /// Between the points of V and Z, of Y and M, of U and dU.
    v: usize,
    y: usize,
    u: usize,
}

fn sizes(s: &ConvShape) -> Sizes {
    let across = s.output_width().div_ceil(4);
    let tiles = s.output_height().div_ceil(4) * across;
    let images = (TILES / tiles.max(1)).clamp(1, s.batch.max(1));
    let most = tiles * images;
    let size = Size::new(s);
    let [channels, filters] = [size.channels, size.filters].map(|n| n.next_multiple_of(gemm::COLUMNS));
    Sizes {
        size,
        across,
        tiles,
        images,
        most,
        channels,
        filters,
        v: apart(most * s.groups * channels),
        y: apart(most * s.groups * filters),
        u: apart(s.groups * size.channels * filters),
    }
}

/// Numbers of U.
pub fn transformed_len(s: &ConvShape) -> usize {
    POINTS * sizes(s).u
}

/// Scratch memory of forward and data gradient.
pub fn need(s: &ConvShape) -> Need {
    let z = sizes(s);
    Need { common: POINTS * (z.v + z.y), local: (z.filters * gemm::COLUMNS).max(9 * z.size.channels * 16) }
}

/// Scratch memory of the weight gradient.
pub fn need_backward_weight(s: &ConvShape) -> Need {
    let z = sizes(s);
    Need { common: POINTS * (z.v + z.y + z.u), ..need(s) }
}

/// Calls `task(first image, images)` for each run of images that is in flight together.
fn for_each_run(s: &ConvShape, z: &Sizes, mut run: impl FnMut(usize, usize)) {
    for first in (0..s.batch).step_by(z.images) {
        run(first, z.images.min(s.batch - first));
    }
}

/// Makes U of the weights unless it is still there; then y or dx may be computed.
fn transformed<'a>(
    crew: &Crew,
    s: &ConvShape,
    w: Weights,
    key_and_place: (bool, &'a mut [f32]),
    local: Shares<f32>,
    stride: usize,
) -> &'a [f32] {
    let (made, u) = key_and_place;
    if !made {
        let z = sizes(s);
        let to = Shares(u.as_mut_ptr());
        let lanes = 16;
        let runs = z.size.filters.div_ceil(lanes);
        crew.pool.run(s.groups * runs, |task, thread| {
            let (group, k) = (task / runs, task % runs * lanes);
            let filters = lanes.min(z.size.filters - k);
            // SAFETY: each thread has its own memory; each task writes its own filters of U.
            unsafe {
                weight_tiles(
                    crew.level,
                    s,
                    &z,
                    group,
                    k,
                    filters,
                    w.values.as_ptr(),
                    to.at(0),
                    local.at(thread * stride),
                )
            }
        });
    }
    u
}

fn key(s: &ConvShape, w: Weights) -> Key {
    Key { contents: w.contents, channels: s.channels, filters: s.filters, groups: s.groups }
}

/// The matrix products of all points: `product(point, group, first column, columns, buffer)`.
fn for_each_product(
    crew: &Crew,
    s: &ConvShape,
    columns: usize,
    local: Shares<f32>,
    stride: usize,
    product: impl Fn(usize, usize, usize, usize, *mut f32) + Sync,
) {
    let parts = columns.div_ceil(256).max(1);
    let width = columns.div_ceil(parts).next_multiple_of(32);
    let parts = columns.div_ceil(width);
    crew.pool.run(POINTS * s.groups * parts, |task, thread| {
        let (point, rest) = (task / (s.groups * parts), task % (s.groups * parts));
        let (group, first) = (rest / parts, rest % parts * width);
        // SAFETY: each thread has its own memory.
        product(point, group, first, width.min(columns - first), unsafe { local.at(thread * stride) });
    });
}

/// See [`Device::conv_forward`](crate::Device::conv_forward).
#[allow(clippy::too_many_arguments)]
pub fn forward(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    x: &[f32],
    w: Weights,
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    let (need, z) = (need(s), sizes(s));
    scratch.reserve(need)?;
    let (common, local, stride, place) = scratch.parts_and_kept(need, key(s, w), transformed_len(s))?;
    let local = Shares(local.as_mut_ptr());
    let u = transformed(crew, s, w, place, local, stride);
    let (v, m) = common.split_at_mut(POINTS * z.v);
    let (v, m, y) = (Shares(v.as_mut_ptr()), Shares(m.as_mut_ptr()), Shares(y.as_mut_ptr()));
    let Size { channels, filters, .. } = z.size;
    for_each_run(s, &z, |first, images| {
        // SAFETY: each task has its own tiles of V, its own columns of M, its own image of y.
        crew.pool.run(images, |i, _| unsafe {
            image_tiles(crew.level, s, &z, i, x.as_ptr().add((first + i) * z.size.image), v.at(0))
        });
        // SAFETY: as above; the matrices have the stated sizes.
        for_each_product(crew, s, filters, local, stride, |point, group, k, columns, _| unsafe {
            let first = group * z.filters + k;
            let v = v.at(point * z.v + z.most * group * z.channels);
            let (u, m) = (u.as_ptr().add(point * z.u + channels * first), m.at(point * z.y + z.most * first));
            forward_product(crew.level, images * z.tiles, columns, channels, z.most, v, u, m);
        });
        // SAFETY: as above.
        crew.pool.run(images, |i, _| unsafe {
            output_tiles(crew.level, s, &z, i, m.at(0), b, relu, y.at((first + i) * z.size.output));
        });
    });
    Ok(())
}

/// Z = Y·Uᵀ of the images `first`.. in flight, and their dx from it.
#[allow(clippy::too_many_arguments)]
fn data_from_tiles(
    crew: &Crew,
    s: &ConvShape,
    z: &Sizes,
    (first, images): (usize, usize),
    y: Shares<f32>,
    u: &[f32],
    v: Shares<f32>,
    dx: Shares<f32>,
    local: Shares<f32>,
    stride: usize,
) {
    let Size { channels, filters, .. } = z.size;
    // SAFETY: each task has its own columns of Z; the matrices have the stated sizes.
    for_each_product(crew, s, channels, local, stride, |point, group, c, columns, buffer| unsafe {
        let y = y.at(point * z.y + z.most * group * z.filters);
        let u = u.as_ptr().add(point * z.u + channels * group * z.filters);
        let v = v.at(point * z.v + z.most * group * z.channels);
        data_product(crew.level, images * z.tiles, c, columns, channels, filters, z.most, y, u, v, buffer);
    });
    // SAFETY: each task has its own image of dx.
    crew.pool.run(images, |i, _| unsafe {
        image_gradient_tiles(crew.level, s, z, i, v.at(0), dx.at((first + i) * z.size.image));
    });
}

/// See [`Device::conv_backward_data`](crate::Device::conv_backward_data).
pub fn backward_data(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    dy: &[f32],
    w: Weights,
    dx: &mut [f32],
) -> Result<()> {
    let (need, z) = (need(s), sizes(s));
    scratch.reserve(need)?;
    let (common, local, stride, place) = scratch.parts_and_kept(need, key(s, w), transformed_len(s))?;
    let local = Shares(local.as_mut_ptr());
    let u = transformed(crew, s, w, place, local, stride);
    let (v, y) = common.split_at_mut(POINTS * z.v);
    let (v, y, dx) = (Shares(v.as_mut_ptr()), Shares(y.as_mut_ptr()), Shares(dx.as_mut_ptr()));
    for_each_run(s, &z, |first, images| {
        // SAFETY: each task has its own tiles of Y.
        crew.pool.run(images, |i, _| unsafe {
            output_gradient_tiles(crew.level, s, &z, i, dy.as_ptr().add((first + i) * z.size.output), y.at(0))
        });
        data_from_tiles(crew, s, &z, (first, images), y, u, v, dx, local, stride);
    });
    Ok(())
}

/// The weights' part of [`Device::conv_backward_weight`](crate::Device::conv_backward_weight); with `data`, which are the
/// weights and dx, also [`Device::conv_backward_data`](crate::Device::conv_backward_data): both work on the same Y.
#[allow(clippy::too_many_arguments)]
pub fn backward_weight(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    data: Option<(Weights, &mut [f32])>,
) -> Result<()> {
    let (need, z) = (need_backward_weight(s), sizes(s));
    scratch.reserve(need)?;
    let (data, dx) = data.unzip();
    let (common, local, stride, place) = match data {
        Some(w) => {
            let (common, local, stride, place) = scratch.parts_and_kept(need, key(s, w), transformed_len(s))?;
            (common, local, stride, Some((w, place)))
        }
        None => {
            let (common, local, stride) = scratch.parts(need);
            (common, local, stride, None)
        }
    };
    let local = Shares(local.as_mut_ptr());
    let u = place.map(|(w, place)| transformed(crew, s, w, place, local, stride));
    let data = u.zip(dx.map(|dx| Shares(dx.as_mut_ptr())));
    let (v, rest) = common.split_at_mut(POINTS * z.v);
    let (y, du) = rest.split_at_mut(POINTS * z.y);
    let (v, y, du, dw) =
        (Shares(v.as_mut_ptr()), Shares(y.as_mut_ptr()), Shares(du.as_mut_ptr()), Shares(dw.as_mut_ptr()));
    let Size { channels, filters, .. } = z.size;
    for_each_run(s, &z, |first, images| {
        // SAFETY: each task has its own tiles of V and Y, its own columns of dU.
        crew.pool.run(images, |i, _| unsafe {
            image_tiles(crew.level, s, &z, i, x.as_ptr().add((first + i) * z.size.image), v.at(0));
            output_gradient_tiles(crew.level, s, &z, i, dy.as_ptr().add((first + i) * z.size.output), y.at(0));
        });
        // SAFETY: as above; the matrices have the stated sizes.
        for_each_product(crew, s, filters, local, stride, |point, group, k, columns, _| unsafe {
            let column = group * z.filters + k;
            let v = v.at(point * z.v + z.most * group * z.channels);
            let (y, du) = (y.at(point * z.y + z.most * column), du.at(point * z.u + channels * column));
            weight_product(crew.level, images * z.tiles, columns, channels, z.most, v, y, du, first > 0);
        });
        if let Some((u, dx)) = &data {
            // V is done with, and as large as Z.
            data_from_tiles(crew, s, &z, (first, images), y, u, v, *dx, local, stride);
        }
    });
    let lanes = 16;
    let runs = filters.div_ceil(lanes);
    crew.pool.run(s.groups * runs, |task, thread| {
        let (group, k) = (task / runs, task % runs * lanes);
        // SAFETY: each thread has its own memory, each task its own filters of dw.
        unsafe {
            weight_gradient_tiles(
                crew.level,
                s,
                &z,
                group,
                k,
                lanes.min(filters - k),
                du.at(0),
                accumulate,
                dw.at(0),
                local.at(thread * stride),
            )
        }
    });
    Ok(())
}
