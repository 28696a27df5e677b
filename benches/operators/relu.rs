use alexnet_core::architecture::LayerKind;
use alexnet_core::arguments::{ReluBackward, ReluForward};

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in net.layers.iter().filter(|layer| layer.spec.kind == LayerKind::Relu) {
        let len = net.batch * layer.input.len();
        cases.push(
            Case::new("relu", net.label(layer, "forward"), move |kernels| {
                let mut x = stored(kernels, len)?;
                Ok(Box::new(move || kernels.relu_forward(ReluForward { len, x: &mut x })))
            })
            .moves(2 * len, 0),
        );
        cases.push(
            Case::new("relu", net.label(layer, "backward"), move |kernels| {
                let (y, mut dy) = (stored(kernels, len)?, stored(kernels, len)?);
                Ok(Box::new(move || kernels.relu_backward(ReluBackward { len, y: &y, dy: &mut dy })))
            })
            .moves(3 * len, 0),
        );
    }
    cases
}

/// ReLU on its own; the layers clamp in their last pass, and need only its gradient.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{ReluBackward, ReluForward};
    use alexnet_core::device::Operators;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            for (name, side, channels) in MAPS {
                let len = batch * side * side * channels;
                let (y, mut x) = (array(len), array(len));
                let group = format!("relu/{name}/{batch}");
                measure(criterion, &group, "forward", Work::Numbers(2 * len), || {
                    cpu().relu_forward(ReluForward { len, x: &mut x })
                });
                measure(criterion, &group, "backward", Work::Numbers(3 * len), || {
                    cpu().relu_backward(ReluBackward { len, y: &y, dy: &mut x })
                });
            }
        }
    }
}
