use alexnet_core::architecture::LayerKind;
use alexnet_kernels::{Dropout, Number};

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let LayerKind::Dropout { rate } = layer.spec.kind else { continue };
        let len = net.batch * layer.input.len();
        let (rate, scale) = (rate as f32, (1.0 / (1.0 - rate)) as f32);
        let shape = Dropout { len, rate, scale, seed: 1, purpose: 2, offset: 0 };
        cases.push(
            Case::new("dropout", net.label(layer, ""), move |kernels| {
                let (mut x, step) = (stored(kernels, len)?, kernels.zeros(Number::U32, 1)?);
                Ok(Box::new(move || kernels.dropout(&shape, &step, &mut x)))
            })
            .moves(2 * len, 4),
        );
    }
    cases
}
