use alexnet_core::architecture::LayerKind;
use alexnet_kernels::AvgPool;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let LayerKind::AdaptiveAvgPool { side } = layer.spec.kind else { continue };
        let shape = AvgPool {
            batch: net.batch,
            height: layer.input.height,
            width: layer.input.width,
            channels: layer.input.channels,
            out_height: side,
            out_width: side,
        };
        let (x, y) = (net.batch * layer.input.len(), net.batch * layer.output.len());
        cases.push(
            Case::new("avgpool", net.label(layer, "forward"), move |kernels| {
                let (x, mut y) = (stored(kernels, x)?, stored(kernels, y)?);
                Ok(Box::new(move || kernels.avgpool_forward(&shape, &x, &mut y)))
            })
            .moves(x + y, 0),
        );
        cases.push(
            Case::new("avgpool", net.label(layer, "backward"), move |kernels| {
                let (mut dx, dy) = (stored(kernels, x)?, stored(kernels, y)?);
                Ok(Box::new(move || kernels.avgpool_backward(&shape, &dy, &mut dx)))
            })
            .moves(x + y, 0),
        );
    }
    cases
}
