use alexnet_core::arguments::{FlattenBackward, FlattenForward};
use alexnet_core::shape::Operation;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let Operation::Flatten(shape) = layer.operation(net.batch) else { continue };
        let len = shape.len();
        cases.push(
            Case::new("flatten", net.label(layer, "forward"), move |kernels| {
                let (x, mut y) = (stored(kernels, len)?, stored(kernels, len)?);
                Ok(Box::new(move || kernels.flatten_forward(FlattenForward { shape: &shape, x: &x, y: &mut y })))
            })
            .moves(2 * len, 0),
        );
        cases.push(
            Case::new("flatten", net.label(layer, "backward"), move |kernels| {
                let (dy, mut dx) = (stored(kernels, len)?, stored(kernels, len)?);
                Ok(Box::new(move || kernels.flatten_backward(FlattenBackward { shape: &shape, dy: &dy, dx: &mut dx })))
            })
            .moves(2 * len, 0),
        );
    }
    cases
}
