use alexnet_core::architecture::LayerKind;
use alexnet_core::arguments::Add;

use super::{Case, Net, stored};

/// What `--residual` adds to every convolution that keeps the shape.
pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in net.layers.iter().filter(|layer| matches!(layer.spec.kind, LayerKind::Conv { .. })) {
        if layer.input != layer.output {
            continue;
        }
        let len = net.batch * layer.output.len();
        cases.push(
            Case::new("add", net.label(layer, "shortcut"), move |kernels| {
                let (x, mut y) = (stored(kernels, len)?, stored(kernels, len)?);
                Ok(Box::new(move || kernels.add(Add { len, x: &x, relu: true, y: &mut y })))
            })
            .moves(3 * len, 0),
        );
    }
    cases
}

/// The addition at the end of a shortcut, with its ReLU.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::Add;
    use alexnet_core::device::Operators;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            for (name, side, channels) in MAPS {
                let len = batch * side * side * channels;
                let (x, mut y) = (array(len), array(len));
                let group = format!("add/{name}/{batch}");
                measure(criterion, &group, "forward", Work::Numbers(3 * len), || {
                    cpu().add(Add { len, x: &x, relu: true, y: &mut y })
                });
            }
        }
    }
}
