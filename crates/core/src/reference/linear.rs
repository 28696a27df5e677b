//! The fully connected layer.

use super::pointwise::{clamp, dropout, mask_by};
use crate::arguments::{Dropout, LinearBackwardData, LinearBackwardWeight, LinearForward, Slices};
use crate::device::Element;

/// See [`LinearForward`].
pub fn linear_forward<T: Element>(a: LinearForward<'_, Slices<T>>) {
    let LinearForward { shape: s, x, w, b, relu, dropout: mask, y } = a;
    for n in 0..s.batch {
        for o in 0..s.outputs {
            let products = (0..s.inputs).map(|i| x[n * s.inputs + i] * w[o * s.inputs + i]);
            y[n * s.outputs + o] = products.fold(b[o], |sum, product| sum + product);
        }
    }
    if relu {
        clamp(y);
    }
    if let Some(shape) = mask {
        dropout(Dropout { shape, x: y });
    }
}

/// See [`LinearBackwardData`].
pub fn linear_backward_data<T: Element>(a: LinearBackwardData<'_, Slices<T>>) {
    let LinearBackwardData { shape: s, dropout: drops, dy, w, mask, dx } = a;
    dx.fill(T::zero());
    for n in 0..s.batch {
        for o in 0..s.outputs {
            for i in 0..s.inputs {
                dx[n * s.inputs + i] += dy[n * s.outputs + o] * w[o * s.inputs + i];
            }
        }
    }
    if let Some(shape) = drops {
        dropout(Dropout { shape, x: dx });
    }
    mask_by(mask, dx);
}

/// See [`LinearBackwardWeight`].
pub fn linear_backward_weight<T: Element>(a: LinearBackwardWeight<'_, Slices<T>>) {
    let LinearBackwardWeight { shape: s, x, dy, accumulate, dw, db } = a;
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
