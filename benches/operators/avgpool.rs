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

/// The adaptive average pool of `torchvision`, from the map of another image size.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{AvgPoolBackward, AvgPoolForward};
    use alexnet_core::device::Operators;
    use alexnet_core::shape::AvgPoolShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            let s = AvgPoolShape { batch, height: 13, width: 13, channels: 256, output_height: 6, output_width: 6 };
            let (x, mut y, mut dx) = (array(s.input_len()), array(s.output_len()), array(s.input_len()));
            let (group, numbers) = (format!("avgpool/{batch}"), s.input_len() + s.output_len());
            measure(criterion, &group, "forward", Work::Numbers(numbers), || {
                cpu().avgpool_forward(AvgPoolForward { shape: &s, x: &x, y: &mut y })
            });
            measure(criterion, &group, "backward", Work::Numbers(numbers), || {
                cpu().avgpool_backward(AvgPoolBackward { shape: &s, dy: &y, dx: &mut dx })
            });
        }
    }
}
