//! The transformations of an image's tiles and of a vector of filters, between the arrays of the network and the arrays of
//! tile positions. A vector holds channels or filters; those left over are transformed one by one.
//!
//! The arrays of tile positions are stored as micro-panels (two vectors wide): panel by panel, row by row. A row is a tile, or
//! a channel in U and dU; the columns of a group begin with a micro-panel.

use super::transform::{self, Transform, row};
use super::{FILTERS, POSITIONS, Sizes};
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

/// An array of the expression's values for 0 to one less than the number, which is written out: closures cannot be `#[inline(always)]`,
/// and a loop that is not unrolled puts the vectors into memory.
#[rustfmt::skip]
macro_rules! each_of {
    (3, |$i:ident| $each:expr) => { [{ let $i = 0; $each }, { let $i = 1; $each }, { let $i = 2; $each }] };
    (4, |$i:ident| $each:expr) => {
        [{ let $i = 0; $each }, { let $i = 1; $each }, { let $i = 2; $each }, { let $i = 3; $each }]
    };
    (6, |$i:ident| $each:expr) => {
        [{ let $i = 0; $each }, { let $i = 1; $each }, { let $i = 2; $each },
         { let $i = 3; $each }, { let $i = 4; $each }, { let $i = 5; $each }]
    };
}

/// Loads the vectors of all tile positions, `stride` from each other, and transforms them column by column, so that few are in
/// registers at once. Prefetches those `ahead` of them: 36 streams are more than the hardware prefetcher follows.
///
/// # Safety
/// There are 36 vectors, `stride` floats from each other; those `ahead` need not exist.
#[inline(always)]
unsafe fn load_columns<S: Simd, T: Transform<S, 6, N>, const N: usize>(
    from: *const f32,
    stride: usize,
    ahead: usize,
) -> [[S::V; N]; 6] {
    // SAFETY: see the caller.
    unsafe {
        each_of!(6, |j| T::of(each_of!(6, |i| {
            let from = from.add((6 * i + j) * stride);
            S::prefetch(from.wrapping_add(ahead));
            S::load(from)
        })))
    }
}

/// Transforms the rows of a tile whose columns were transformed before, and stores them as operands at the tile positions,
/// `stride` elements from each other. Prefetches as [`load_columns`] does.
///
/// # Safety
/// As for [`load_columns`].
#[inline(always)]
unsafe fn store_rows<S: Simd, O: Operand, T: Transform<S, N, 6>, const N: usize>(
    columns: &[[S::V; 6]; N],
    to: *mut O::Stored,
    stride: usize,
    ahead: usize,
) {
    // SAFETY: see the caller.
    unsafe {
        each_of!(6, |i| {
            let row = row::<S, T, N, 6>(columns, i);
            each_of!(6, |j| {
                let to = to.add((6 * i + j) * stride);
                S::prefetch(to.wrapping_add(ahead).cast());
                O::store::<S>(to, row[j]);
            });
        });
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
            for p in 0..POSITIONS {
                O::store::<Scalar>(to.add(p * stride), 0.0);
            }
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
        let columns = each_of!(6, |q| {
            let w = (w + q).wrapping_sub(s.padding);
            <transform::Image as Transform<S, 6, 6>>::of(each_of!(6, |r| {
                let h = (h + r).wrapping_sub(s.padding);
                if h < s.height && w < s.width {
                    let x = x.add((h * s.width + w) * s.channels);
                    // The same pixel of the next image: an image is too short for the hardware prefetcher.
                    S::prefetch(x.wrapping_add(z.size.image));
                    S::load(x)
                } else {
                    S::splat(0.0)
                }
            }))
        });
        let (stride, ahead) = (z.v_stride * O::PER_WORD, z.capacity * 2 * S::LANES);
        store_rows::<S, O, transform::Image, 6>(&columns, to, stride, ahead);
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
        let columns = each_of!(4, |j| <transform::OutputGradient as Transform<S, 4, 6>>::of(each_of!(4, |i| {
            if p + i < z.size.height && q + j < z.size.width {
                let dy = dy.add(((p + i) * z.size.width + q + j) * s.filters);
                S::prefetch(dy.wrapping_add(z.size.output));
                S::load(dy)
            } else {
                S::splat(0.0)
            }
        })));
        let (stride, ahead) = (z.y_stride * O::PER_WORD, z.capacity * 2 * S::LANES);
        store_rows::<S, O, transform::OutputGradient, 4>(&columns, to, stride, ahead);
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
        let columns = load_columns::<S, transform::Output, 4>(from, z.m_stride, z.capacity * 2 * S::LANES);
        let b = S::load(b);
        each_of!(4, |i| {
            let out = row::<S, transform::Output, 6, 4>(&columns, i);
            each_of!(4, |j| {
                if p + i < z.size.height && q + j < z.size.width {
                    let sum = S::add(out[j], b);
                    let y = y.add(((p + i) * z.size.width + q + j) * s.filters);
                    S::store(y, if relu { S::max0(sum) } else { sum });
                }
            });
        });
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
        let columns = load_columns::<S, transform::ImageGradient, 6>(from, z.z_stride, z.capacity * 2 * S::LANES);
        // A tile shares two rows with the one above and two columns with the one on its left, which came before.
        let (above, left) = (t >= z.tiles_per_row, !t.is_multiple_of(z.tiles_per_row));
        each_of!(6, |r| {
            let h = (h + r).wrapping_sub(s.padding);
            let out = row::<S, transform::ImageGradient, 6, 6>(&columns, r);
            each_of!(6, |q| {
                let w = (w + q).wrapping_sub(s.padding);
                if h < s.height && w < s.width {
                    let to = dx.add((h * s.width + w) * s.channels);
                    let shared = above && r < 2 || left && q < 2;
                    S::store(to, if shared { S::add(S::load(to), out[q]) } else { out[q] });
                }
            });
        });
    }
}

/// Channels between the one that is loaded or stored and the one that is prefetched.
const AHEAD: usize = 4;
/// Channels whose weights are transposed at once: few enough that these stay in the second-level cache.
const CHANNELS: usize = 64;
/// Floats of scratch memory for weights that are transposed.
pub const LOCAL: usize = 9 * CHANNELS * FILTERS;

/// Filters `first`.. of a group, `len` of them.
#[derive(Clone, Copy)]
pub struct Filters {
    pub group: usize,
    pub first: usize,
    pub len: usize,
}

impl Filters {
    /// Those that fill vectors of `lanes`, and the rest.
    #[inline(always)]
    fn split(self, lanes: usize) -> [Filters; 2] {
        let len = self.len - self.len % lanes;
        [Filters { len, ..self }, Filters { first: self.first + len, len: self.len - len, ..self }]
    }
}

dispatch! {
    /// # Safety
    /// `w` are the weights, `u` the array U, `local` has [`LOCAL`] floats; there are at most [`FILTERS`] filters.
    pub unsafe fn weight_tiles(z: &Sizes, filters: Filters, w: Values, u: *mut f32, local: *mut f32) = product weight_tiles_body
}
#[inline(always)]
unsafe fn weight_tiles_body<S: Simd, O: Operand>(z: &Sizes, filters: Filters, w: Values, u: *mut f32, local: *mut f32) {
    let [vectors, rest] = filters.split(S::LANES);
    let end = filters.first + filters.len;
    // SAFETY: the filters exist, in w and in U.
    unsafe {
        weight_vectors::<S, S, O>(z, vectors, w, u.cast(), local);
        weight_vectors::<S, Scalar, O>(z, rest, w, u.cast(), local);
        if end == z.size.filters {
            for c in 0..z.size.channels {
                let size = [1, end, z.filters];
                let to = u.cast::<O::Stored>().add(offset::<S>(z.size.channels, 0, filters.group * z.filters));
                store_zeros::<S, O>(to, z.u_stride * O::PER_WORD, size, [z.size.channels, c]);
            }
        }
    }
}

/// U of filters that fill vectors of V, channel by channel: the vectors of a micro-panel follow each other, since the processor
/// fetches cache lines in pairs.
///
/// # Safety
/// As for [`weight_tiles`].
#[inline(always)]
unsafe fn weight_vectors<S: Simd, V: Simd, O: Operand>(
    z: &Sizes,
    Filters { group, first, len }: Filters,
    w: Values,
    u: *mut O::Stored,
    local: *mut f32,
) {
    let row = 2 * S::LANES;
    // SAFETY: see the caller.
    unsafe {
        for from in (0..z.size.channels).step_by(CHANNELS) {
            let channels = CHANNELS.min(z.size.channels - from);
            // The filters' rows (channel, window) become columns: a vector for each channel and window position.
            for k in (0..len).step_by(V::LANES) {
                let (row, to) = (group * z.size.filters + first + k, local.add(9 * CHANNELS * k));
                w.vectors::<V>(9 * z.size.channels, row, V::LANES, 9 * from..9 * (from + channels), to);
            }
            for c in 0..channels {
                for k in (0..len).step_by(V::LANES) {
                    let g = local.add(9 * (CHANNELS * k + c * V::LANES));
                    let columns = each_of!(3, |j| <transform::Weight as Transform<V, 3, 6>>::of(each_of!(3, |i| {
                        V::load(g.add((3 * i + j) * V::LANES))
                    })));
                    let to = u.add(offset::<S>(z.size.channels, from + c, group * z.filters + first + k));
                    store_rows::<V, O, transform::Weight, 3>(&columns, to, z.u_stride * O::PER_WORD, AHEAD * row);
                }
            }
        }
    }
}

dispatch! {
    /// # Safety
    /// `du` is the array dU, `dw` the weights' gradient, `local` has [`LOCAL`] floats; there are at most [`FILTERS`] filters.
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
    let [vectors, rest] = filters.split(S::LANES);
    // SAFETY: the filters exist, in dw and in dU.
    unsafe {
        weight_gradient_vectors::<S, S>(z, vectors, du, accumulate, dw, local);
        weight_gradient_vectors::<S, Scalar>(z, rest, du, accumulate, dw, local);
    }
}

/// dw of filters that fill vectors of V, in the order of [`weight_vectors`].
///
/// # Safety
/// As for [`weight_gradient_tiles`].
#[inline(always)]
unsafe fn weight_gradient_vectors<S: Simd, V: Simd>(
    z: &Sizes,
    Filters { group, first, len }: Filters,
    du: *const f32,
    accumulate: bool,
    dw: *mut f32,
    local: *mut f32,
) {
    let row = 2 * S::LANES;
    // SAFETY: see the caller.
    unsafe {
        for from in (0..z.size.channels).step_by(CHANNELS) {
            let channels = CHANNELS.min(z.size.channels - from);
            for c in 0..channels {
                for k in (0..len).step_by(V::LANES) {
                    let du = du.add(offset::<S>(z.size.channels, from + c, group * z.filters + first + k));
                    let columns = load_columns::<V, transform::WeightGradient, 3>(du, z.du_stride, AHEAD * row);
                    let g = local.add(9 * (CHANNELS * k + c * V::LANES));
                    each_of!(3, |i| {
                        let gradient = transform::row::<V, transform::WeightGradient, 6, 3>(&columns, i);
                        each_of!(3, |j| V::store(g.add((3 * i + j) * V::LANES), gradient[j]));
                    });
                }
            }
            for k in (0..len).step_by(V::LANES) {
                let to = dw.add(((group * z.size.filters + first + k) * z.size.channels + from) * 9);
                transpose_back::<V>(local.add(9 * CHANNELS * k), 9 * channels, accumulate, to, 9 * z.size.channels);
            }
        }
    }
}

/// Vectors of filters become rows of `len` floats, `stride` from each other.
///
/// # Safety
/// There are `len` vectors, and LANES rows.
#[inline(always)]
unsafe fn transpose_back<S: Simd>(from: *const f32, len: usize, accumulate: bool, to: *mut f32, stride: usize) {
    // SAFETY: see the caller; the block holds LANES² ≤ 256 floats.
    unsafe {
        let mut block = [0.0f32; 256];
        let mut j = 0;
        while j + S::LANES <= len {
            S::transpose(from.add(j * S::LANES), S::LANES, block.as_mut_ptr(), S::LANES);
            for i in 0..S::LANES {
                let (to, from) = (to.add(i * stride + j), S::load(block.as_ptr().add(i * S::LANES)));
                S::store(to, if accumulate { S::add(S::load(to), from) } else { from });
            }
            j += S::LANES;
        }
        for j in j..len {
            for i in 0..S::LANES {
                let (to, from) = (to.add(i * stride + j), *from.add(j * S::LANES + i));
                *to = if accumulate { *to + from } else { from };
            }
        }
    }
}
