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
