//! Convolution.

use super::pointwise::{clamp, mask_by};
use crate::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward, Slices};
use crate::device::Element;
use crate::shape::ConvShape;

/// Calls `visit(x index, w index, y index)` for every product x·w that belongs to an element of y.
fn for_each_product(s: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (p_end, q_end) = (s.output_height(), s.output_width());
    let (channels, filters) = (s.channels / s.groups, s.filters / s.groups);
    for n in 0..s.batch {
        for p in 0..p_end {
            for q in 0..q_end {
                for k in 0..s.filters {
                    let first_channel = k / filters * channels;
                    let y = ((n * p_end + p) * q_end + q) * s.filters + k;
                    for c in 0..channels {
                        for r in 0..s.kernel {
                            for t in 0..s.kernel {
                                let (h, w) = (p * s.stride + r, q * s.stride + t);
                                let inside = (s.padding..s.padding + s.height).contains(&h)
                                    && (s.padding..s.padding + s.width).contains(&w);
                                if inside {
                                    let (h, w) = (h - s.padding, w - s.padding);
                                    let x = ((n * s.height + h) * s.width + w) * s.channels + first_channel + c;
                                    visit(x, ((k * channels + c) * s.kernel + r) * s.kernel + t, y);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// See [`ConvForward`].
pub fn conv_forward<T: Element>(a: ConvForward<'_, Slices<T>>) {
    let ConvForward { shape: s, x, w, b, relu, y } = a;
    for (i, y) in y.iter_mut().enumerate() {
        *y = b[i % s.filters];
    }
    for_each_product(s, |xi, wi, yi| y[yi] += x[xi] * w[wi]);
    if relu {
        clamp(y);
    }
}

/// See [`ConvBackwardData`].
pub fn conv_backward_data<T: Element>(a: ConvBackwardData<'_, Slices<T>>) {
    let ConvBackwardData { shape: s, dy, w, mask, dx } = a;
    dx.fill(T::zero());
    for_each_product(s, |xi, wi, yi| dx[xi] += dy[yi] * w[wi]);
    mask_by(mask, dx);
}

/// See [`ConvBackwardWeight`].
pub fn conv_backward_weight<T: Element>(a: ConvBackwardWeight<'_, Slices<T>>) {
    let ConvBackwardWeight { shape: s, x, dy, accumulate, dw, db, .. } = a;
    if !accumulate {
        dw.fill(T::zero());
        db.fill(T::zero());
    }
    for_each_product(s, |xi, wi, yi| dw[wi] += dy[yi] * x[xi]);
    for (i, &dy) in dy.iter().enumerate() {
        db[i % s.filters] += dy;
    }
}
