//! The transformations of an image's tiles and of a vector of filters, between the arrays of the network
//! and the arrays of points. A vector holds channels or filters; what does not fill one goes one by one.
//!
//! The arrays of points lie in panels as wide as the matrix product's tile (two vectors): panel by panel, row by row. A row
//! is a tile, or a channel in U and dU; the columns of a group begin with a panel.

use super::transform::{self, both};
use super::{POINTS, Sizes};
use crate::device::cpu::conv::Size;
use crate::device::cpu::simd::portable::Scalar;
use crate::device::cpu::simd::{Simd, dispatch};
use crate::shape::ConvShape;

/// Place of a row and column in an array of panels with `rows` rows.
#[inline(always)]
fn place<S: Simd>(rows: usize, row: usize, column: usize) -> usize {
    let panel = 2 * S::LANES;
    (column / panel * rows + row) * panel + column % panel
}

/// Calls a function for all `n` channels of each group, as many at once as fill a vector; the columns of a group
/// are `padded`.
macro_rules! each_vector {
    ($groups:expr, $n:expr, $padded:expr, |$channel:ident, $column:ident| $call:ident($($arg:expr),*)) => {
        for group in 0..$groups {
            let mut c = 0;
            while c + S::LANES <= $n {
                let ($channel, $column) = (group * $n + c, group * $padded + c);
                $call::<S>($($arg),*);
                c += S::LANES;
            }
            for c in c..$n {
                let ($channel, $column) = (group * $n + c, group * $padded + c);
                $call::<Scalar>($($arg),*);
            }
        }
    };
}

/// The vectors of all points, `apart` from each other. What lies `ahead` of them is asked for: the points are so many that
/// the processor does not foresee what comes next in each.
#[inline(always)]
unsafe fn points<S: Simd>(from: *const f32, apart: usize, ahead: usize) -> [[S::V; 6]; 6] {
    // Neither a closure, which has no `#[inline(always)]`, nor an array of zeros first, which would be written.
    macro_rules! six {
        (|$i:ident| $each:expr) => {
            [
                {
                    let $i = 0;
                    $each
                },
                {
                    let $i = 1;
                    $each
                },
                {
                    let $i = 2;
                    $each
                },
                {
                    let $i = 3;
                    $each
                },
                {
                    let $i = 4;
                    $each
                },
                {
                    let $i = 5;
                    $each
                },
            ]
        };
    }
    // SAFETY: see the caller.
    unsafe {
        six!(|i| six!(|j| {
            let from = from.add((6 * i + j) * apart);
            S::prefetch(from.wrapping_add(ahead));
            S::load(from)
        }))
    }
}

/// Stores the vectors of all points, as [`points`] finds them.
#[inline(always)]
unsafe fn store_points<S: Simd>(all: &[[S::V; 6]; 6], to: *mut f32, apart: usize, ahead: usize) {
    // SAFETY: see the caller.
    unsafe {
        for p in 0..POINTS {
            let to = to.add(p * apart);
            S::prefetch(to.wrapping_add(ahead));
            S::store(to, all[p / 6][p % 6]);
        }
    }
}

dispatch! {
    /// # Safety
    /// `x` is an image, `v` the array V with room for image `i`.
    pub unsafe fn image_tiles(s: &ConvShape, z: &Sizes, i: usize, x: *const f32, v: *mut f32) = image_tiles_body
}
#[inline(always)]
unsafe fn image_tiles_body<S: Simd>(s: &ConvShape, z: &Sizes, i: usize, x: *const f32, v: *mut f32) {
    // SAFETY: pixels are read only inside the image; tile i·tiles + t has its place in each point of V.
    unsafe {
        for t in 0..z.tiles {
            let row = i * z.tiles + t;
            each_vector!(s.groups, z.size.channels, z.channels, |c, column| image_tile(
                s,
                z,
                t,
                x.add(c),
                v.add(place::<S>(z.most, row, column))
            ));
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
        store_points::<S>(&both::<S, transform::Image, _, _>(&d), to, z.v, z.most * 2 * S::LANES);
    }
}

dispatch! {
    /// # Safety
    /// `dy` is an image's gradient of the output, `y` the array Y with room for image `i`.
    pub unsafe fn output_gradient_tiles(s: &ConvShape, z: &Sizes, i: usize, dy: *const f32, y: *mut f32) = output_gradient_tiles_body
}
#[inline(always)]
unsafe fn output_gradient_tiles_body<S: Simd>(s: &ConvShape, z: &Sizes, i: usize, dy: *const f32, y: *mut f32) {
    // SAFETY: as for `image_tiles_body`.
    unsafe {
        for t in 0..z.tiles {
            let row = i * z.tiles + t;
            each_vector!(s.groups, z.size.filters, z.filters, |k, column| output_gradient_tile(
                s,
                z,
                t,
                dy.add(k),
                y.add(place::<S>(z.most, row, column))
            ));
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
        store_points::<S>(&both::<S, transform::OutputGradient, _, _>(&d), to, z.y, z.most * 2 * S::LANES);
    }
}

dispatch! {
    /// # Safety
    /// `m` is the array M with image `i`, `y` an image of the output.
    pub unsafe fn output_tiles(s: &ConvShape, z: &Sizes, i: usize, m: *const f32, b: &[f32], relu: bool, y: *mut f32) = output_tiles_body
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
            let row = i * z.tiles + t;
            each_vector!(s.groups, z.size.filters, z.filters, |k, column| output_tile(
                s,
                z,
                t,
                m.add(place::<S>(z.most, row, column)),
                b.as_ptr().add(k),
                relu,
                y.add(k)
            ));
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
        let out = both::<S, transform::Output, _, _>(&points::<S>(from, z.y, z.most * 2 * S::LANES));
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
    pub unsafe fn image_gradient_tiles(s: &ConvShape, z: &Sizes, i: usize, v: *const f32, dx: *mut f32) = image_gradient_tiles_body
}
#[inline(always)]
unsafe fn image_gradient_tiles_body<S: Simd>(s: &ConvShape, z: &Sizes, i: usize, v: *const f32, dx: *mut f32) {
    // SAFETY: as for `image_tiles_body`.
    unsafe {
        if z.tiles == 0 {
            // The padded image is smaller than the window.
            std::slice::from_raw_parts_mut(dx, z.size.image).fill(0.0);
        }
        for t in 0..z.tiles {
            let row = i * z.tiles + t;
            each_vector!(s.groups, z.size.channels, z.channels, |c, column| image_gradient_tile(
                s,
                z,
                t,
                v.add(place::<S>(z.most, row, column)),
                dx.add(c)
            ));
        }
    }
}

#[inline(always)]
unsafe fn image_gradient_tile<S: Simd>(s: &ConvShape, z: &Sizes, t: usize, from: *const f32, dx: *mut f32) {
    let (h, w) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let out = both::<S, transform::ImageGradient, _, _>(&points::<S>(from, z.v, z.most * 2 * S::LANES));
        // A tile shares two rows with the one above and two columns with the one on its left, which came before.
        let (above, left) = (t >= z.across, !t.is_multiple_of(z.across));
        for (r, out) in out.iter().enumerate() {
            let h = (h + r).wrapping_sub(s.padding);
            for (q, &out) in out.iter().enumerate() {
                let w = (w + q).wrapping_sub(s.padding);
                if h < s.height && w < s.width {
                    let to = dx.add((h * s.width + w) * s.channels);
                    let shared = above && r < 2 || left && q < 2;
                    S::store(to, if shared { S::add(S::load(to), out) } else { out });
                }
            }
        }
    }
}

/// Channels between one whose numbers are used and one whose lines are asked for.
const AHEAD: usize = 4;

dispatch! {
    /// # Safety
    /// `w` are the weights, `u` the array U, `local` has room for 9·C/groups·16 numbers.
    pub unsafe fn weight_tiles(s: &ConvShape, z: &Sizes, group: usize, k: usize, filters: usize, w: *const f32, u: *mut f32, local: *mut f32) = weight_tiles_body
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
        let to = |k| u.add(place::<S>(z.size.channels, 0, group * z.filters + k));
        while k + S::LANES <= end {
            weight_vector::<S>(z, group, k, w, to(k), 2 * S::LANES, local);
            k += S::LANES;
        }
        for k in k..end {
            weight_vector::<Scalar>(z, group, k, w, to(k), 2 * S::LANES, local);
        }
    }
}

#[inline(always)]
unsafe fn weight_vector<S: Simd>(
    z: &Sizes,
    group: usize,
    k: usize,
    w: *const f32,
    u: *mut f32,
    between: usize,
    local: *mut f32,
) {
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
            store_points::<S>(&both::<S, transform::Weight, _, _>(&g), u.add(c * between), z.u, AHEAD * between);
        }
    }
}

dispatch! {
    /// # Safety
    /// `du` is the array dU, `dw` the weights' gradient, `local` has room for 9·C/groups·16 numbers.
    pub unsafe fn weight_gradient_tiles(s: &ConvShape, z: &Sizes, group: usize, k: usize, filters: usize, du: *const f32, accumulate: bool, dw: *mut f32, local: *mut f32) = weight_gradient_tiles_body
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
        let from = |k| du.add(place::<S>(z.size.channels, 0, group * z.filters + k));
        while k + S::LANES <= end {
            weight_gradient_vector::<S>(z, group, k, from(k), 2 * S::LANES, accumulate, dw, local);
            k += S::LANES;
        }
        for k in k..end {
            weight_gradient_vector::<Scalar>(z, group, k, from(k), 2 * S::LANES, accumulate, dw, local);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weight_gradient_vector<S: Simd>(
    z: &Sizes,
    group: usize,
    k: usize,
    du: *const f32,
    between: usize,
    accumulate: bool,
    dw: *mut f32,
    local: *mut f32,
) {
    let Size { channels, filters, .. } = z.size;
    let row = 9 * channels;
    // SAFETY: see the caller; the block holds LANES² ≤ 256 numbers.
    unsafe {
        for c in 0..channels {
            let g = points::<S>(du.add(c * between), z.u, AHEAD * between);
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
