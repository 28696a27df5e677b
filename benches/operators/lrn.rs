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

/// Local response normalisation of `original`.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{LrnBackward, LrnForward};
    use alexnet_core::device::Operators;
    use alexnet_core::shape::LrnShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in [1, 8] {
            for (name, side, channels) in [("conv1", 55, 96), ("conv2", 27, 256)] {
                let s = LrnShape { pixels: batch * side * side, channels, size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
                let (x, mut y, mut dx) = (array(s.len()), array(s.len()), array(s.len()));
                let group = format!("lrn/{name}/{batch}");
                measure(criterion, &group, "forward", Work::Numbers(2 * s.len()), || {
                    cpu().lrn_forward(LrnForward { shape: &s, x: &x, y: &mut y })
                });
                measure(criterion, &group, "backward", Work::Numbers(3 * s.len()), || {
                    cpu().lrn_backward(LrnBackward { shape: &s, x: &x, dy: &y, dx: &mut dx })
                });
            }
        }
    }
}
