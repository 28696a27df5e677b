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
//! At most [`TILES`] tiles are in flight, which bounds the scratch memory: 4·36·TILES·(C + K) bytes.
//!
//! Tasks: a group of images for the transformations of V, Y, y and dx; a point and up to 256 columns for the products; one
//! vector of filters for U and dw.
//!
//! Errors: y errs by at most (C + 24)·2⁻²⁴·|A|ᵀ[Σ over c of (|G||g||G|ᵀ) ⊙ (|B|ᵀ|d||B|)]|A| to first order:
//! C additions in a product, and at most twelve roundings in each dimension of the three transformations. In one
//! dimension the right side amplifies the largest |d||g| by up to 48, in two by 2304 where the direct sum has 9; typical errors are
//! far smaller. A NaN or an infinity in x makes its whole tile NaN.

pub mod transform;

use super::Size;
use crate::Result;
use crate::device::cpu::gemm::{self, View, gemm};
use crate::device::cpu::pool::Shares;
use crate::device::cpu::scratch::{Key, Need, Scratch};
use crate::device::cpu::simd::portable::Scalar;
use crate::device::cpu::simd::{Simd, dispatch};
use crate::device::cpu::{Crew, Weights};
use crate::shape::ConvShape;
use transform::both;

/// Most tiles in flight, unless an image has more.
const TILES: usize = 512;
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
    let u = apart(s.groups * size.channels * size.filters);
    Sizes { size, across, tiles, images, v: apart(most * s.channels), y: apart(most * s.filters), u }
}

/// Numbers of U.
pub fn transformed_len(s: &ConvShape) -> usize {
    POINTS * sizes(s).u
}

/// Scratch memory of forward and data gradient.
pub fn need(s: &ConvShape) -> Need {
    let z = sizes(s);
    Need { common: POINTS * (z.v + z.y), local: gemm::BUFFER.max(9 * z.size.channels * 16) }
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
        for_each_product(crew, s, filters, local, stride, |point, group, k, columns, buffer| unsafe {
            let a = View::rows(v.at(point * z.v + group * channels), s.channels);
            let b = View::rows(u.as_ptr().add(point * z.u + group * channels * filters + k), filters);
            let c = m.at(point * z.y + group * filters + k);
            gemm(crew.level, images * z.tiles, columns, channels, a, b, c, s.filters, false, buffer);
        });
        crew.pool.run(images, |i, _| unsafe {
            output_tiles(crew.level, s, &z, i, m.at(0), b, relu, y.at((first + i) * z.size.output));
        });
    });
    Ok(())
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
    let Size { channels, filters, .. } = z.size;
    for_each_run(s, &z, |first, images| {
        // SAFETY: each task has its own tiles of Y, its own columns of Z, its own image of dx.
        crew.pool.run(images, |i, _| unsafe {
            output_gradient_tiles(crew.level, s, &z, i, dy.as_ptr().add((first + i) * z.size.output), y.at(0))
        });
        for_each_product(crew, s, channels, local, stride, |point, group, c, columns, buffer| unsafe {
            let a = View::rows(y.at(point * z.y + group * filters), s.filters);
            let b = View::columns(u.as_ptr().add(point * z.u + (group * channels + c) * filters), filters);
            let to = v.at(point * z.v + group * channels + c);
            gemm(crew.level, images * z.tiles, columns, filters, a, b, to, s.channels, false, buffer);
        });
        crew.pool.run(images, |i, _| unsafe {
            image_gradient_tiles(crew.level, s, &z, i, v.at(0), dx.at((first + i) * z.size.image));
        });
    });
    Ok(())
}

/// The weights' part of [`Device::conv_backward_weight`](crate::Device::conv_backward_weight).
pub fn backward_weight(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
) -> Result<()> {
    let (need, z) = (need_backward_weight(s), sizes(s));
    scratch.reserve(need)?;
    let (common, local, stride) = scratch.parts(need);
    let local = Shares(local.as_mut_ptr());
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
        for_each_product(crew, s, filters, local, stride, |point, group, k, columns, buffer| unsafe {
            let a = View::columns(v.at(point * z.v + group * channels), s.channels);
            let b = View::rows(y.at(point * z.y + group * filters + k), s.filters);
            let c = du.at(point * z.u + group * channels * filters + k);
            gemm(crew.level, channels, columns, images * z.tiles, a, b, c, filters, first > 0, buffer);
        });
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

dispatch! {
    /// # Safety
    /// `x` is an image, `v` the array V with room for image `i`.
    unsafe fn image_tiles(s: &ConvShape, z: &Sizes, i: usize, x: *const f32, v: *mut f32) = image_tiles_body
}
#[inline(always)]
unsafe fn image_tiles_body<S: Simd>(s: &ConvShape, z: &Sizes, i: usize, x: *const f32, v: *mut f32) {
    // SAFETY: pixels are read only inside the image; tile i·tiles + t has its place in each point of V.
    unsafe {
        for t in 0..z.tiles {
            let to = v.add((i * z.tiles + t) * s.channels);
            let mut c = 0;
            while c + S::LANES <= s.channels {
                image_tile::<S>(s, z, t, x.add(c), to.add(c));
                c += S::LANES;
            }
            for c in c..s.channels {
                image_tile::<Scalar>(s, z, t, x.add(c), to.add(c));
            }
        }
    }
}

/// Row and column of a tile's first pixel in the padded image.
#[inline(always)]
fn corner(z: &Sizes, t: usize) -> (usize, usize) {
    (t / z.across * 4, t % z.across * 4)
}

#[inline(always)]
unsafe fn image_tile<S: Simd>(s: &ConvShape, z: &Sizes, t: usize, x: *const f32, to: *mut f32) {
    let (h, w) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut d = [[zero; 6]; 6];
        for (r, d) in d.iter_mut().enumerate() {
            let h = (h + r).wrapping_sub(s.padding);
            for (q, d) in d.iter_mut().enumerate() {
                let w = (w + q).wrapping_sub(s.padding);
                if h < s.height && w < s.width {
                    *d = S::load(x.add((h * s.width + w) * s.channels));
                }
            }
        }
        let d = both::<S, transform::Image, _, _>(&d);
        for p in 0..POINTS {
            S::store(to.add(p * z.v), d[p / 6][p % 6]);
        }
    }
}

dispatch! {
    /// # Safety
    /// `dy` is an image's gradient of the output, `y` the array Y with room for image `i`.
    unsafe fn output_gradient_tiles(s: &ConvShape, z: &Sizes, i: usize, dy: *const f32, y: *mut f32) = output_gradient_tiles_body
}
#[inline(always)]
unsafe fn output_gradient_tiles_body<S: Simd>(s: &ConvShape, z: &Sizes, i: usize, dy: *const f32, y: *mut f32) {
    // SAFETY: as for `image_tiles_body`.
    unsafe {
        for t in 0..z.tiles {
            let to = y.add((i * z.tiles + t) * s.filters);
            let mut k = 0;
            while k + S::LANES <= s.filters {
                output_gradient_tile::<S>(s, z, t, dy.add(k), to.add(k));
                k += S::LANES;
            }
            for k in k..s.filters {
                output_gradient_tile::<Scalar>(s, z, t, dy.add(k), to.add(k));
            }
        }
    }
}

#[inline(always)]
unsafe fn output_gradient_tile<S: Simd>(s: &ConvShape, z: &Sizes, t: usize, dy: *const f32, to: *mut f32) {
    let (p, q) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut d = [[zero; 4]; 4];
        for (i, d) in d.iter_mut().enumerate() {
            for (j, d) in d.iter_mut().enumerate() {
                if p + i < z.size.height && q + j < z.size.width {
                    *d = S::load(dy.add(((p + i) * z.size.width + q + j) * s.filters));
                }
            }
        }
        let d = both::<S, transform::OutputGradient, _, _>(&d);
        for p in 0..POINTS {
            S::store(to.add(p * z.y), d[p / 6][p % 6]);
        }
    }
}

dispatch! {
    /// # Safety
    /// `m` is the array M with image `i`, `y` an image of the output.
    unsafe fn output_tiles(s: &ConvShape, z: &Sizes, i: usize, m: *const f32, b: &[f32], relu: bool, y: *mut f32) = output_tiles_body
}
#[inline(always)]
unsafe fn output_tiles_body<S: Simd>(
    s: &ConvShape,
    z: &Sizes,
    i: usize,
    m: *const f32,
    b: &[f32],
    relu: bool,
    y: *mut f32,
) {
    // SAFETY: as for `image_tiles_body`.
    unsafe {
        for t in 0..z.tiles {
            let from = m.add((i * z.tiles + t) * s.filters);
            let mut k = 0;
            while k + S::LANES <= s.filters {
                output_tile::<S>(s, z, t, from.add(k), b.as_ptr().add(k), relu, y.add(k));
                k += S::LANES;
            }
            for k in k..s.filters {
                output_tile::<Scalar>(s, z, t, from.add(k), b.as_ptr().add(k), relu, y.add(k));
            }
        }
    }
}

#[inline(always)]
unsafe fn output_tile<S: Simd>(
    s: &ConvShape,
    z: &Sizes,
    t: usize,
    from: *const f32,
    b: *const f32,
    relu: bool,
    y: *mut f32,
) {
    let (p, q) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut m = [[zero; 6]; 6];
        for p in 0..POINTS {
            m[p / 6][p % 6] = S::load(from.add(p * z.y));
        }
        let out = both::<S, transform::Output, _, _>(&m);
        let b = S::load(b);
        for (i, out) in out.iter().enumerate() {
            for (j, &out) in out.iter().enumerate() {
                if p + i < z.size.height && q + j < z.size.width {
                    let sum = S::add(out, b);
                    S::store(
                        y.add(((p + i) * z.size.width + q + j) * s.filters),
                        if relu { S::max0(sum) } else { sum },
                    );
                }
            }
        }
    }
}

dispatch! {
    /// # Safety
    /// `v` is the array Z with image `i`, `dx` an image.
    unsafe fn image_gradient_tiles(s: &ConvShape, z: &Sizes, i: usize, v: *const f32, dx: *mut f32) = image_gradient_tiles_body
}
#[inline(always)]
unsafe fn image_gradient_tiles_body<S: Simd>(s: &ConvShape, z: &Sizes, i: usize, v: *const f32, dx: *mut f32) {
    // SAFETY: as for `image_tiles_body`.
    unsafe {
        std::slice::from_raw_parts_mut(dx, z.size.image).fill(0.0);
        for t in 0..z.tiles {
            let from = v.add((i * z.tiles + t) * s.channels);
            let mut c = 0;
            while c + S::LANES <= s.channels {
                image_gradient_tile::<S>(s, z, t, from.add(c), dx.add(c));
                c += S::LANES;
            }
            for c in c..s.channels {
                image_gradient_tile::<Scalar>(s, z, t, from.add(c), dx.add(c));
            }
        }
    }
}

#[inline(always)]
unsafe fn image_gradient_tile<S: Simd>(s: &ConvShape, z: &Sizes, t: usize, from: *const f32, dx: *mut f32) {
    let (h, w) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut m = [[zero; 6]; 6];
        for p in 0..POINTS {
            m[p / 6][p % 6] = S::load(from.add(p * z.v));
        }
        let out = both::<S, transform::ImageGradient, _, _>(&m);
        for (r, out) in out.iter().enumerate() {
            let h = (h + r).wrapping_sub(s.padding);
            for (q, &out) in out.iter().enumerate() {
                let w = (w + q).wrapping_sub(s.padding);
                if h < s.height && w < s.width {
                    let to = dx.add((h * s.width + w) * s.channels);
                    S::store(to, S::add(S::load(to), out));
                }
            }
        }
    }
}

dispatch! {
    /// # Safety
    /// `w` are the weights, `u` the array U, `local` has room for 9·C/groups·16 numbers.
    unsafe fn weight_tiles(s: &ConvShape, z: &Sizes, group: usize, k: usize, filters: usize, w: *const f32, u: *mut f32, local: *mut f32) = weight_tiles_body
}
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weight_tiles_body<S: Simd>(
    _: &ConvShape,
    z: &Sizes,
    group: usize,
    k: usize,
    filters: usize,
    w: *const f32,
    u: *mut f32,
    local: *mut f32,
) {
    // SAFETY: filters k..k + filters of the group exist, in w and in U.
    unsafe {
        let end = k + filters;
        let mut k = k;
        while k + S::LANES <= end {
            weight_vector::<S>(z, group, k, w, u, local);
            k += S::LANES;
        }
        for k in k..end {
            weight_vector::<Scalar>(z, group, k, w, u, local);
        }
    }
}

#[inline(always)]
unsafe fn weight_vector<S: Simd>(z: &Sizes, group: usize, k: usize, w: *const f32, u: *mut f32, local: *mut f32) {
    let Size { channels, filters, .. } = z.size;
    let row = 9 * channels;
    // SAFETY: see the caller.
    unsafe {
        // The filters' rows (channel, window) become columns: a vector for each channel and window position.
        let w = w.add((group * filters + k) * row);
        let mut j = 0;
        while j + S::LANES <= row {
            S::transpose(w.add(j), row, local.add(j * S::LANES), S::LANES);
            j += S::LANES;
        }
        for j in j..row {
            for i in 0..S::LANES {
                *local.add(j * S::LANES + i) = *w.add(i * row + j);
            }
        }
        let zero = S::splat(0.0);
        for c in 0..channels {
            let mut g = [[zero; 3]; 3];
            for i in 0..9 {
                g[i / 3][i % 3] = S::load(local.add((9 * c + i) * S::LANES));
            }
            let g = both::<S, transform::Weight, _, _>(&g);
            let to = u.add((group * channels + c) * filters + k);
            for p in 0..POINTS {
                S::store(to.add(p * z.u), g[p / 6][p % 6]);
            }
        }
    }
}

dispatch! {
    /// # Safety
    /// `du` is the array dU, `dw` the weights' gradient, `local` has room for 9·C/groups·16 numbers.
    unsafe fn weight_gradient_tiles(s: &ConvShape, z: &Sizes, group: usize, k: usize, filters: usize, du: *const f32, accumulate: bool, dw: *mut f32, local: *mut f32) = weight_gradient_tiles_body
}
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weight_gradient_tiles_body<S: Simd>(
    _: &ConvShape,
    z: &Sizes,
    group: usize,
    k: usize,
    filters: usize,
    du: *const f32,
    accumulate: bool,
    dw: *mut f32,
    local: *mut f32,
) {
    // SAFETY: filters k..k + filters of the group exist, in dw and in dU.
    unsafe {
        let end = k + filters;
        let mut k = k;
        while k + S::LANES <= end {
            weight_gradient_vector::<S>(z, group, k, du, accumulate, dw, local);
            k += S::LANES;
        }
        for k in k..end {
            weight_gradient_vector::<Scalar>(z, group, k, du, accumulate, dw, local);
        }
    }
}

#[inline(always)]
unsafe fn weight_gradient_vector<S: Simd>(
    z: &Sizes,
    group: usize,
    k: usize,
    du: *const f32,
    accumulate: bool,
    dw: *mut f32,
    local: *mut f32,
) {
    let Size { channels, filters, .. } = z.size;
    let row = 9 * channels;
    // SAFETY: see the caller; the block holds LANES² ≤ 256 numbers.
    unsafe {
        let zero = S::splat(0.0);
        for c in 0..channels {
            let from = du.add((group * channels + c) * filters + k);
            let mut g = [[zero; 6]; 6];
            for p in 0..POINTS {
                g[p / 6][p % 6] = S::load(from.add(p * z.u));
            }
            let g = both::<S, transform::WeightGradient, _, _>(&g);
            for i in 0..9 {
                S::store(local.add((9 * c + i) * S::LANES), g[i / 3][i % 3]);
            }
        }
        // Back to the filters' rows.
        let dw = dw.add((group * filters + k) * row);
        let mut block = [0.0f32; 256];
        let mut j = 0;
        while j + S::LANES <= row {
            S::transpose(local.add(j * S::LANES), S::LANES, block.as_mut_ptr(), S::LANES);
            for i in 0..S::LANES {
                let (to, from) = (dw.add(i * row + j), S::load(block.as_ptr().add(i * S::LANES)));
                S::store(to, if accumulate { S::add(S::load(to), from) } else { from });
            }
            j += S::LANES;
        }
        for j in j..row {
            for i in 0..S::LANES {
                let (to, from) = (dw.add(i * row + j), *local.add(j * S::LANES + i));
                *to = if accumulate { *to + from } else { from };
            }
        }
    }
}
