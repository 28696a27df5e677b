//! Operators on single elements, and the reordering of images to rows.

use crate::arguments::{Add, Dropout, FlattenBackward, FlattenForward, ReluBackward, ReluForward, Slices};
use crate::device::Element;
use crate::shape::FlattenShape;

/// max(x, 0); a NaN stays.
pub(super) fn clamp<T: Element>(x: &mut [T]) {
    for x in x {
        if *x < T::zero() {
            *x = T::zero();
        }
    }
}

/// See [`ReluForward`]. A NaN stays, as in PyTorch.
pub fn relu_forward<T: Element>(a: ReluForward<'_, Slices<T>>) {
    clamp(&mut a.x[..a.len]);
}

/// See [`ReluBackward`].
pub fn relu_backward<T: Element>(a: ReluBackward<'_, Slices<T>>) {
    mask_by(Some(a.y), &mut a.dy[..a.len]);
}

/// dy = 0 where y ≤ 0, if there is a y; where y is NaN, dy stays.
pub(super) fn mask_by<T: Element>(y: Option<&[T]>, dy: &mut [T]) {
    for (dy, &y) in dy.iter_mut().zip(y.unwrap_or_default()) {
        if y <= T::zero() {
            *dy = T::zero();
        }
    }
}

/// See [`Add`].
pub fn add<T: Element>(a: Add<'_, Slices<T>>) {
    let y = &mut a.y[..a.len];
    for (y, &x) in y.iter_mut().zip(a.x) {
        *y += x;
    }
    if a.relu {
        clamp(y);
    }
}

/// See [`Dropout`].
pub fn dropout<T: Element>(a: Dropout<'_, Slices<T>>) {
    let Dropout { shape: s, x } = a;
    for (i, x) in x.iter_mut().enumerate() {
        *x *= T::from_f64(s.factor(i).into());
    }
}

/// Calls `visit(NHWC index, NCHW index)` for every element.
fn for_each_flattened(s: &FlattenShape, mut visit: impl FnMut(usize, usize)) {
    for n in 0..s.batch {
        for h in 0..s.height {
            for w in 0..s.width {
                for c in 0..s.channels {
                    let nhwc = ((n * s.height + h) * s.width + w) * s.channels + c;
                    visit(nhwc, ((n * s.channels + c) * s.height + h) * s.width + w);
                }
            }
        }
    }
}

/// See [`FlattenForward`].
pub fn flatten_forward<T: Element>(a: FlattenForward<'_, Slices<T>>) {
    let FlattenForward { shape: s, x, y } = a;
    for_each_flattened(s, |xi, yi| y[yi] = x[xi]);
}

/// See [`FlattenBackward`].
pub fn flatten_backward<T: Element>(a: FlattenBackward<'_, Slices<T>>) {
    let FlattenBackward { shape: s, dy, dx } = a;
    for_each_flattened(s, |xi, yi| dx[xi] = dy[yi]);
}
