use alexnet_core::arguments::{LrnBackward, LrnForward};
use alexnet_core::shape::Operation;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let Operation::Lrn(shape) = layer.operation(net.batch) else { continue };
        let len = shape.len();
        cases.push(
            Case::new("lrn", net.label(layer, "forward"), move |kernels| {
                let (x, mut y) = (stored(kernels, len)?, stored(kernels, len)?);
                Ok(Box::new(move || kernels.lrn_forward(LrnForward { shape: &shape, x: &x, y: &mut y })))
            })
            .moves(2 * len, 0),
        );
        cases.push(
            Case::new("lrn", net.label(layer, "backward"), move |kernels| {
                let (x, dy, mut dx) = (stored(kernels, len)?, stored(kernels, len)?, stored(kernels, len)?);
                Ok(Box::new(move || kernels.lrn_backward(LrnBackward { shape: &shape, x: &x, dy: &dy, dx: &mut dx })))
            })
            .moves(3 * len, 0),
        );
    }
    cases
}
