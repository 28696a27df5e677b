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

/// From the convolutions' order of numbers to the linear layers'.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{FlattenBackward, FlattenForward};
    use alexnet_core::device::Operators;
    use alexnet_core::shape::FlattenShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            let s = FlattenShape { batch, height: 2, width: 2, channels: 256 };
            let (x, mut y, mut dx) = (array(s.len()), array(s.len()), array(s.len()));
            let (group, numbers) = (format!("flatten/{batch}"), 2 * s.len());
            measure(criterion, &group, "forward", Work::Numbers(numbers), || {
                cpu().flatten_forward(FlattenForward { shape: &s, x: &x, y: &mut y })
            });
            measure(criterion, &group, "backward", Work::Numbers(numbers), || {
                cpu().flatten_backward(FlattenBackward { shape: &s, dy: &y, dx: &mut dx })
            });
        }
    }
}
