//! Operators on single elements, and the reordering of images to rows.

use crate::device::Element;
use crate::shape::{DropoutShape, FlattenShape};

/// See [`Device::relu_forward`](crate::Device::relu_forward). A NaN stays, as in PyTorch.
pub fn relu_forward<T: Element>(x: &mut [T]) {
    for x in x {
        if *x < T::zero() {
            *x = T::zero();
        }
    }
}

/// See [`Device::relu_backward`](crate::Device::relu_backward).
pub fn relu_backward<T: Element>(y: &[T], dy: &mut [T]) {
    for (dy, &y) in dy.iter_mut().zip(y) {
        if y <= T::zero() {
            *dy = T::zero();
        }
    }
}

/// See [`Device::add`](crate::Device::add).
pub fn add<T: Element>(x: &[T], relu: bool, y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
    if relu {
        relu_forward(y);
    }
}

/// See [`Device::dropout`](crate::Device::dropout).
pub fn dropout<T: Element>(s: &DropoutShape, x: &mut [T]) {
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

/// See [`Device::flatten_forward`](crate::Device::flatten_forward).
pub fn flatten_forward<T: Element>(s: &FlattenShape, x: &[T], y: &mut [T]) {
    for_each_flattened(s, |xi, yi| y[yi] = x[xi]);
}

/// See [`Device::flatten_backward`](crate::Device::flatten_backward).
pub fn flatten_backward<T: Element>(s: &FlattenShape, dy: &[T], dx: &mut [T]) {
    for_each_flattened(s, |xi, yi| dx[xi] = dy[yi]);
}
