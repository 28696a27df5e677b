//! Max pooling and adaptive average pooling.

use crate::arguments::{AvgPoolBackward, AvgPoolForward, MaxPoolBackward, MaxPoolForward, Slices};
use crate::device::Element;
use crate::shape::{AvgPoolShape, MaxPoolShape};

/// Calls `visit(position in the window, x index)` for the pixels of the window at output (n, p, q, c).
fn for_each_in_window(s: &MaxPoolShape, n: usize, p: usize, q: usize, c: usize, mut visit: impl FnMut(u8, usize)) {
    for r in 0..s.kernel {
        for t in 0..s.kernel {
            let (h, w) = (p * s.stride + r, q * s.stride + t);
            if (s.padding..s.padding + s.height).contains(&h) && (s.padding..s.padding + s.width).contains(&w) {
                let x = ((n * s.height + h - s.padding) * s.width + w - s.padding) * s.channels + c;
                visit((r * s.kernel + t) as u8, x);
            }
        }
    }
}

/// Calls `visit(n, p, q, c, y index)` for every output.
fn for_each_output(s: &MaxPoolShape, mut visit: impl FnMut(usize, usize, usize, usize, usize)) {
    let mut y = 0;
    for n in 0..s.batch {
        for p in 0..s.output_height() {
            for q in 0..s.output_width() {
                for c in 0..s.channels {
                    visit(n, p, q, c, y);
                    y += 1;
                }
            }
        }
    }
}

/// See [`MaxPoolForward`].
pub fn maxpool_forward<T: Element>(a: MaxPoolForward<'_, Slices<T>>) {
    let MaxPoolForward { shape: s, x, y, argmax } = a;
    for_each_output(s, |n, p, q, c, yi| {
        let mut best: Option<(u8, T)> = None;
        for_each_in_window(s, n, p, q, c, |position, xi| {
            let value = x[xi];
            if best.is_none_or(|(_, largest)| value > largest || (value.is_nan() && !largest.is_nan())) {
                best = Some((position, value));
            }
        });
        // The padding is at most half the window, so that each window holds a pixel.
        let (position, value) = best.unwrap_or((0, T::neg_infinity()));
        y[yi] = value;
        argmax[yi] = position;
    });
}

/// See [`MaxPoolBackward`].
pub fn maxpool_backward<T: Element>(a: MaxPoolBackward<'_, Slices<T>>) {
    let MaxPoolBackward { shape: s, dy, argmax, mask, dx } = a;
    dx.fill(T::zero());
    for_each_output(s, |n, p, q, c, yi| {
        for_each_in_window(s, n, p, q, c, |position, xi| {
            let masked = mask.is_some_and(|mask| mask[yi] <= T::zero());
            if position == argmax[yi] && !masked {
                dx[xi] += dy[yi];
            }
        });
    });
}

/// Calls `visit(x index, y index, pixels in the window)` for every pixel of every window.
fn for_each_average<T: Element>(s: &AvgPoolShape, mut visit: impl FnMut(usize, usize, T)) {
    for n in 0..s.batch {
        for p in 0..s.output_height {
            for q in 0..s.output_width {
                let rows = AvgPoolShape::window(p, s.height, s.output_height);
                let columns = AvgPoolShape::window(q, s.width, s.output_width);
                let pixels = T::from_f64((rows.len() * columns.len()) as f64);
                for h in rows {
                    for w in columns.clone() {
                        for c in 0..s.channels {
                            let x = ((n * s.height + h) * s.width + w) * s.channels + c;
                            let y = ((n * s.output_height + p) * s.output_width + q) * s.channels + c;
                            visit(x, y, pixels);
                        }
                    }
                }
            }
        }
    }
}

/// See [`AvgPoolForward`].
pub fn avgpool_forward<T: Element>(a: AvgPoolForward<'_, Slices<T>>) {
    let AvgPoolForward { shape: s, x, y } = a;
    y.fill(T::zero());
    for_each_average(s, |xi, yi, pixels: T| y[yi] += x[xi] / pixels);
}

/// See [`AvgPoolBackward`].
pub fn avgpool_backward<T: Element>(a: AvgPoolBackward<'_, Slices<T>>) {
    let AvgPoolBackward { shape: s, dy, dx } = a;
    dx.fill(T::zero());
    for_each_average(s, |xi, yi, pixels: T| dx[xi] += dy[yi] / pixels);
}
