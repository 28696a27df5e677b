use alexnet_core::arguments::{AvgPoolBackward, AvgPoolForward};
use alexnet_core::shape::Operation;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let Operation::AvgPool(shape) = layer.operation(net.batch) else { continue };
        let (x, y) = (shape.input_len(), shape.output_len());
        cases.push(
            Case::new("avgpool", net.label(layer, "forward"), move |kernels| {
                let (x, mut y) = (stored(kernels, x)?, stored(kernels, y)?);
                Ok(Box::new(move || kernels.avgpool_forward(AvgPoolForward { shape: &shape, x: &x, y: &mut y })))
            })
            .moves(x + y, 0),
        );
        cases.push(
            Case::new("avgpool", net.label(layer, "backward"), move |kernels| {
                let (mut dx, dy) = (stored(kernels, x)?, stored(kernels, y)?);
                Ok(Box::new(move || kernels.avgpool_backward(AvgPoolBackward { shape: &shape, dy: &dy, dx: &mut dx })))
            })
            .moves(x + y, 0),
        );
    }
    cases
}
