use alexnet_core::architecture::LayerKind;
use alexnet_core::arguments::Dropout;
use alexnet_core::random::Philox;
use alexnet_core::shape::DropoutShape;
use alexnet_kernels::Number;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let LayerKind::Dropout { rate } = layer.spec.kind else { continue };
        let len = net.batch * layer.input.len();
        let shape = DropoutShape { len, rate, philox: Philox::new(1), purpose: 2, step: 0, offset: 0 };
        cases.push(
            Case::new("dropout", net.label(layer, ""), move |kernels| {
                let (mut x, step) = (stored(kernels, len)?, kernels.zeros(Number::U32, 1)?);
                Ok(Box::new(move || kernels.dropout(Dropout { shape: &shape, x: &mut x }, &step)))
            })
            .moves(2 * len, 4),
        );
    }
    cases
}

/// Dropout in place: what is dropped is drawn anew in each pass, so that there is no mask. Bound by the random numbers.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::Dropout;
    use alexnet_core::device::Operators;
    use alexnet_core::random::Philox;
    use alexnet_core::shape::DropoutShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            for features in [1024, 4096] {
                let len = batch * features;
                // A rate that leaves the numbers as large as they are, call after call.
                let s = DropoutShape { len, rate: 1e-9, philox: Philox::new(0), purpose: 1, step: 0, offset: 0 };
                let mut x = array(len);
                let group = format!("dropout/{features}/{batch}");
                measure(criterion, &group, "forward", Work::Numbers(2 * len), || {
                    cpu().dropout(Dropout { shape: &s, x: &mut x })
                });
            }
        }
    }
}
