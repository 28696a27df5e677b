//! The fully connected layer.

use super::relu_forward;
use crate::device::Element;
use crate::shape::LinearShape;

/// See [`Device::linear_forward`](crate::Device::linear_forward).
pub fn linear_forward<T: Element>(s: &LinearShape, x: &[T], w: &[T], b: &[T], relu: bool, y: &mut [T]) {
    for n in 0..s.batch {
        for o in 0..s.outputs {
            let products = (0..s.inputs).map(|i| x[n * s.inputs + i] * w[o * s.inputs + i]);
            y[n * s.outputs + o] = products.fold(b[o], |sum, product| sum + product);
        }
    }
    if relu {
        relu_forward(y);
    }
}

/// See [`Device::linear_backward_data`](crate::Device::linear_backward_data).
pub fn linear_backward_data<T: Element>(s: &LinearShape, dy: &[T], w: &[T], dx: &mut [T]) {
    dx.fill(T::zero());
    for n in 0..s.batch {
        for o in 0..s.outputs {
            for i in 0..s.inputs {
                dx[n * s.inputs + i] += dy[n * s.outputs + o] * w[o * s.inputs + i];
            }
        }
    }
}

/// See [`Device::linear_backward_weight`](crate::Device::linear_backward_weight).
pub fn linear_backward_weight<T: Element>(
    s: &LinearShape,
    x: &[T],
    dy: &[T],
    accumulate: bool,
    dw: &mut [T],
    db: &mut [T],
) {
    if !accumulate {
        dw.fill(T::zero());
        db.fill(T::zero());
    }
    for n in 0..s.batch {
        for o in 0..s.outputs {
            let dy = dy[n * s.outputs + o];
            db[o] += dy;
            for i in 0..s.inputs {
                dw[o * s.inputs + i] += dy * x[n * s.inputs + i];
            }
        }
    }
}
