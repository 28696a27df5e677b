//! The transformations of an image's tiles and of a vector of filters, between the arrays of the network and the arrays of
//! tile positions. A vector holds channels or filters; those left over are transformed one by one.
//!
//! The arrays of tile positions are stored as micro-panels (two vectors wide): panel by panel, row by row. A row is a tile, or
//! a channel in U and dU; the columns of a group begin with a micro-panel.

use super::transform::{self, both};
use super::{POSITIONS, Sizes};
use crate::device::cpu::gemm::operand::Operand;
use crate::device::cpu::simd::portable::Scalar;
use crate::device::cpu::simd::{Simd, dispatch};
use crate::device::cpu::weights::Values;
use crate::shape::ConvShape;

/// Offset of a row and column in an array of micro-panels with `rows` rows.
#[inline(always)]
pub fn offset<S: Simd>(rows: usize, row: usize, column: usize) -> usize {
    let panel = 2 * S::LANES;
    (column / panel * rows + row) * panel + column % panel
}

/// Calls a function for all `n` channels of each group, a vector of them at a time; a group has `padded` columns.
macro_rules! each_vector {
    ($groups:expr, $n:expr, $padded:expr, |$channel:ident, $column:ident| $call:ident $(::<$operand:ident>)? ($($arg:expr),*)) => {
        for group in 0..$groups {
            let mut c = 0;
            while c + S::LANES <= $n {
                let ($channel, $column) = (group * $n + c, group * $padded + c);
                $call::<S $(, $operand)?>($($arg),*);
                c += S::LANES;
            }
            for c in c..$n {
                let ($channel, $column) = (group * $n + c, group * $padded + c);
                $call::<Scalar $(, $operand)?>($($arg),*);
            }
        }
    };
}

/// Loads the vectors of all tile positions, `stride` from each other, and prefetches those `ahead` of them: 36 streams are
/// more than the hardware prefetcher follows.
///
/// # Safety
/// There are 36 vectors, `stride` floats from each other; those `ahead` need not exist.
#[inline(always)]
unsafe fn load_positions<S: Simd>(from: *const f32, stride: usize, ahead: usize) -> [[S::V; 6]; 6] {
    // A macro, because closures cannot be `#[inline(always)]` and `[zero; 6]` would emit stores.
    #[rustfmt::skip]
    macro_rules! six {
        (|$i:ident| $each:expr) => {
            [{ let $i = 0; $each }, { let $i = 1; $each }, { let $i = 2; $each },
             { let $i = 3; $each }, { let $i = 4; $each }, { let $i = 5; $each }]
        };
    }
    // SAFETY: see the caller.
    unsafe {
        six!(|i| six!(|j| {
            let from = from.add((6 * i + j) * stride);
            S::prefetch(from.wrapping_add(ahead));
            S::load(from)
        }))
    }
}

/// Stores the vectors of all tile positions as operands, `stride` elements from each other, and prefetches as
/// [`load_positions`] does.
#[inline(always)]
unsafe fn store_positions<S: Simd, O: Operand>(all: &[[S::V; 6]; 6], to: *mut O::Stored, stride: usize, ahead: usize) {
    // SAFETY: see the caller.
    unsafe {
        for p in 0..POSITIONS {
            let to = to.add(p * stride);
            S::prefetch(to.wrapping_add(ahead).cast());
            O::store::<S>(to, all[p / 6][p % 6]);
        }
    }
}

/// Stores zeros in the columns beyond the `n` of each group that products read; `padded` columns lie between groups.
///
/// # Safety
/// `to` is an array of `stride` elements per position whose micro-panels have room for `rows` rows, `row` one of them.
#[inline(always)]
unsafe fn store_zeros<S: Simd, O: Operand>(
    to: *mut O::Stored,
    stride: usize,
    [groups, n, padded]: [usize; 3],
    [rows, row]: [usize; 2],
) {
    for (group, c) in (0..groups).flat_map(|group| O::zeros(n).map(move |c| (group, c))) {
        // SAFETY: see the caller.
        unsafe {
            let to = to.add(offset::<S>(rows, row, group * padded + c));
            store_positions::<Scalar, O>(&[[0.0; 6]; 6], to, stride, 0);
        }
    }
}

dispatch! {
    /// # Safety
    /// `x` is an image, `v` the array V with room for image `i`.
    pub unsafe fn image_tiles(s: &ConvShape, z: &Sizes, i: usize, x: *const f32, v: *mut f32) = product image_tiles_body
}
#[inline(always)]
unsafe fn image_tiles_body<S: Simd, O: Operand>(s: &ConvShape, z: &Sizes, i: usize, x: *const f32, v: *mut f32) {
    // SAFETY: pixels are read only inside the image; tile i·tiles + t has its place in each position of V.
    unsafe {
        for t in 0..z.tiles {
            let row = i * z.tiles + t;
            each_vector!(s.groups, z.size.channels, z.channels, |c, column| image_tile::<O>(
                s,
                z,
                t,
                x.add(c),
                v.cast::<O::Stored>().add(offset::<S>(z.capacity, row, column))
            ));
            let size = [s.groups, z.size.channels, z.channels];
            store_zeros::<S, O>(v.cast(), z.v_stride * O::PER_WORD, size, [z.capacity, row]);
        }
    }
}

/// Row and column of a tile's first pixel in the padded image.
#[inline(always)]
fn corner(z: &Sizes, t: usize) -> (usize, usize) {
    (t / z.tiles_per_row * 4, t % z.tiles_per_row * 4)
}

/// # Safety
/// As for [`image_tiles`], of which `t` is a tile; `x` is at the vector's channels.
#[inline(always)]
unsafe fn image_tile<S: Simd, O: Operand>(s: &ConvShape, z: &Sizes, t: usize, x: *const f32, to: *mut O::Stored) {
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
                    let x = x.add((h * s.width + w) * s.channels);
                    // The same pixel of the next image: an image is too short for the hardware prefetcher.
                    S::prefetch(x.wrapping_add(z.size.image));
                    *d = S::load(x);
                }
            }
        }
        let v = both::<S, transform::Image, _, _>(&d);
        store_positions::<S, O>(&v, to, z.v_stride * O::PER_WORD, z.capacity * 2 * S::LANES);
    }
}

dispatch! {
    /// # Safety
    /// `dy` is an image's gradient of the output, `y` the array Y with room for image `i`.
    pub unsafe fn output_gradient_tiles(s: &ConvShape, z: &Sizes, i: usize, dy: *const f32, y: *mut f32) = product output_gradient_tiles_body
}
#[inline(always)]
unsafe fn output_gradient_tiles_body<S: Simd, O: Operand>(
    s: &ConvShape,
    z: &Sizes,
    i: usize,
    dy: *const f32,
    y: *mut f32,
) {
    // SAFETY: as for `image_tiles_body`.
    unsafe {
        for t in 0..z.tiles {
            let row = i * z.tiles + t;
            each_vector!(s.groups, z.size.filters, z.filters, |k, column| output_gradient_tile::<O>(
                s,
                z,
                t,
                dy.add(k),
                y.cast::<O::Stored>().add(offset::<S>(z.capacity, row, column))
            ));
            let size = [s.groups, z.size.filters, z.filters];
            store_zeros::<S, O>(y.cast(), z.y_stride * O::PER_WORD, size, [z.capacity, row]);
        }
    }
}

/// # Safety
/// As for [`output_gradient_tiles`], of which `t` is a tile; `dy` is at the vector's channels.
#[inline(always)]
unsafe fn output_gradient_tile<S: Simd, O: Operand>(
    s: &ConvShape,
    z: &Sizes,
    t: usize,
    dy: *const f32,
    to: *mut O::Stored,
) {
    let (p, q) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let zero = S::splat(0.0);
        let mut d = [[zero; 4]; 4];
        for (i, d) in d.iter_mut().enumerate() {
            for (j, d) in d.iter_mut().enumerate() {
                if p + i < z.size.height && q + j < z.size.width {
                    let dy = dy.add(((p + i) * z.size.width + q + j) * s.filters);
                    S::prefetch(dy.wrapping_add(z.size.output));
                    *d = S::load(dy);
                }
            }
        }
        let y = both::<S, transform::OutputGradient, _, _>(&d);
        store_positions::<S, O>(&y, to, z.y_stride * O::PER_WORD, z.capacity * 2 * S::LANES);
    }
}

dispatch! {
    /// # Safety
    /// `m` is the array M with image `i`, `y` an image of the output, and there is a bias per filter.
    pub unsafe fn output_tiles(s: &ConvShape, z: &Sizes, i: usize, m: *const f32, bias_relu: (&[f32], bool), y: *mut f32) = output_tiles_body
}
#[inline(always)]
unsafe fn output_tiles_body<S: Simd>(
    s: &ConvShape,
    z: &Sizes,
    i: usize,
    m: *const f32,
    (b, relu): (&[f32], bool),
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
                m.add(offset::<S>(z.capacity, row, column)),
                b.as_ptr().add(k),
                relu,
                y.add(k)
            ));
        }
    }
}

/// # Safety
/// As for [`output_tiles`], of which `t` is a tile; `y` is at the vector's channels.
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
        let out = both::<S, transform::Output, _, _>(&load_positions::<S>(from, z.m_stride, z.capacity * 2 * S::LANES));
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
                v.add(offset::<S>(z.capacity, row, column)),
                dx.add(c)
            ));
        }
    }
}

/// # Safety
/// As for [`image_gradient_tiles`], of which `t` is a tile; `dx` is at the vector's channels.
#[inline(always)]
unsafe fn image_gradient_tile<S: Simd>(s: &ConvShape, z: &Sizes, t: usize, from: *const f32, dx: *mut f32) {
    let (h, w) = corner(z, t);
    // SAFETY: see the caller.
    unsafe {
        let out = both::<S, transform::ImageGradient, _, _>(&load_positions::<S>(
            from,
            z.z_stride,
            z.capacity * 2 * S::LANES,
        ));
        // A tile shares two rows with the one above and two columns with the one on its left, which came before.
        let (above, left) = (t >= z.tiles_per_row, !t.is_multiple_of(z.tiles_per_row));
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

/// Channels between the one that is loaded or stored and the one that is prefetched.
const AHEAD: usize = 4;

/// Filters `first`.. of a group, `len` of them.
#[derive(Clone, Copy)]
pub struct Filters {
    pub group: usize,
    pub first: usize,
    pub len: usize,
}

dispatch! {
    /// # Safety
    /// `w` are the weights, `u` the array U, `local` has room for 9·C/groups·16 floats.
    pub unsafe fn weight_tiles(z: &Sizes, filters: Filters, w: Values, u: *mut f32, local: *mut f32) = product weight_tiles_body
}
#[inline(always)]
unsafe fn weight_tiles_body<S: Simd, O: Operand>(z: &Sizes, filters: Filters, w: Values, u: *mut f32, local: *mut f32) {
    let Filters { group, first: mut k, len } = filters;
    let (first, end) = (group * z.size.filters, k + len);
    // SAFETY: the filters exist, in w and in U.
    unsafe {
        let to = |k| u.cast::<O::Stored>().add(offset::<S>(z.size.channels, 0, group * z.filters + k));
        while k + S::LANES <= end {
            weight_vector::<S, O>(z, first + k, w, to(k), 2 * S::LANES, local);
            k += S::LANES;
        }
        for k in k..end {
            weight_vector::<Scalar, O>(z, first + k, w, to(k), 2 * S::LANES, local);
        }
        if end == z.size.filters {
            for c in 0..z.size.channels {
                let size = [1, end, z.filters];
                store_zeros::<S, O>(to(0), z.u_stride * O::PER_WORD, size, [z.size.channels, c]);
            }
        }
    }
}

/// U of LANES filters from filter `k` on; `row` elements lie between the channels of U.
///
/// # Safety
/// As for [`weight_tiles`], of whose filters these are.
#[inline(always)]
unsafe fn weight_vector<S: Simd, O: Operand>(
    z: &Sizes,
    k: usize,
    w: Values,
    u: *mut O::Stored,
    row: usize,
    local: *mut f32,
) {
    let channels = z.size.channels;
    let len = 9 * channels;
    // SAFETY: see the caller.
    unsafe {
        // The filters' rows (channel, window) become columns: a vector for each channel and window position.
        w.vectors::<S>(len, k, S::LANES, 0..len, local);
        let zero = S::splat(0.0);
        for c in 0..channels {
            let mut g = [[zero; 3]; 3];
            for i in 0..9 {
                g[i / 3][i % 3] = S::load(local.add((9 * c + i) * S::LANES));
            }
            let all = both::<S, transform::Weight, _, _>(&g);
            store_positions::<S, O>(&all, u.add(c * row), z.u_stride * O::PER_WORD, AHEAD * row);
        }
    }
}

dispatch! {
    /// # Safety
    /// `du` is the array dU, `dw` the weights' gradient, `local` has room for 9·C/groups·16 floats.
    pub unsafe fn weight_gradient_tiles(z: &Sizes, filters: Filters, du: *const f32, accumulate: bool, dw: *mut f32, local: *mut f32) = weight_gradient_tiles_body
}
#[inline(always)]
unsafe fn weight_gradient_tiles_body<S: Simd>(
    z: &Sizes,
    filters: Filters,
    du: *const f32,
    accumulate: bool,
    dw: *mut f32,
    local: *mut f32,
) {
    let Filters { group, first: mut k, len } = filters;
    let (row, end) = (9 * z.size.channels, k + len);
    // SAFETY: the filters exist, in dw and in dU.
    unsafe {
        let from = |k| du.add(offset::<S>(z.size.channels, 0, group * z.filters + k));
        let to = |k| dw.add((group * z.size.filters + k) * row);
        while k + S::LANES <= end {
            weight_gradient_vector::<S>(z, from(k), 2 * S::LANES, accumulate, to(k), local);
            k += S::LANES;
        }
        for k in k..end {
            weight_gradient_vector::<Scalar>(z, from(k), 2 * S::LANES, accumulate, to(k), local);
        }
    }
}

/// dw of LANES filters; `row` floats lie between the channels of dU.
///
/// # Safety
/// As for [`weight_gradient_tiles`], of whose filters these are.
#[inline(always)]
unsafe fn weight_gradient_vector<S: Simd>(
    z: &Sizes,
    du: *const f32,
    row: usize,
    accumulate: bool,
    dw: *mut f32,
    local: *mut f32,
) {
    let channels = z.size.channels;
    let len = 9 * channels;
    // SAFETY: see the caller; the block holds LANES² ≤ 256 floats.
    unsafe {
        for c in 0..channels {
            let g = load_positions::<S>(du.add(c * row), z.du_stride, AHEAD * row);
            let g = both::<S, transform::WeightGradient, _, _>(&g);
            for i in 0..9 {
                S::store(local.add((9 * c + i) * S::LANES), g[i / 3][i % 3]);
            }
        }
        // Back to the filters' rows.
        let mut block = [0.0f32; 256];
        let mut j = 0;
        while j + S::LANES <= len {
            S::transpose(local.add(j * S::LANES), S::LANES, block.as_mut_ptr(), S::LANES);
            for i in 0..S::LANES {
                let (to, from) = (dw.add(i * len + j), S::load(block.as_ptr().add(i * S::LANES)));
                S::store(to, if accumulate { S::add(S::load(to), from) } else { from });
            }
            j += S::LANES;
        }
        for j in j..len {
            for i in 0..S::LANES {
                let (to, from) = (dw.add(i * len + j), *local.add(j * S::LANES + i));
                *to = if accumulate { *to + from } else { from };
            }
        }
    }
}
