use alexnet_core::arguments::{MaxPoolBackward, MaxPoolForward};
use alexnet_core::shape::Operation;
use alexnet_kernels::Number;

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let Operation::MaxPool(shape) = layer.operation(net.batch) else { continue };
        let (x, y) = (shape.input_len(), shape.output_len());
        cases.push(
            Case::new("maxpool", net.label(layer, "forward"), move |kernels| {
                let (x, mut argmax, mut y) = (stored(kernels, x)?, kernels.zeros(Number::U8, y)?, stored(kernels, y)?);
                Ok(Box::new(move || {
                    kernels.maxpool_forward(MaxPoolForward { shape: &shape, x: &x, y: &mut y, argmax: &mut argmax })
                }))
            })
            .moves(x + y, y),
        );
        cases.push(
            Case::new("maxpool", net.label(layer, "backward"), move |kernels| {
                let (mut dx, dy, mask) = (stored(kernels, x)?, stored(kernels, y)?, stored(kernels, y)?);
                let mut argmax = kernels.zeros(Number::U8, y)?;
                // Every position once in a while.
                let positions: Vec<u8> = (0..y).map(|i| (i * 7 % (shape.kernel * shape.kernel)) as u8).collect();
                kernels.write(&positions, &mut argmax)?;
                Ok(Box::new(move || {
                    let mask = Some(&mask);
                    kernels.maxpool_backward(MaxPoolBackward {
                        shape: &shape,
                        dy: &dy,
                        argmax: &argmax,
                        mask,
                        dx: &mut dx,
                    })
                }))
            })
            .moves(x + 2 * y, y),
        );
    }
    cases
}

/// The max pools of the `cifar` network; the winner's position is a byte.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{MaxPoolBackward, MaxPoolForward};
    use alexnet_core::device::{Memory, Operators};
    use alexnet_core::shape::MaxPoolShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            for (name, side, channels) in [MAPS[0], MAPS[1], MAPS[4]] {
                let s = MaxPoolShape { batch, height: side, width: side, channels, kernel: 2, stride: 2, padding: 0 };
                let (x, mut y, mut dx) = (array(s.input_len()), array(s.output_len()), array(s.input_len()));
                let mut argmax = cpu().bytes(s.output_len()).expect("memory");
                let numbers = s.input_len() + s.output_len() + s.output_len() / 4;
                let group = format!("maxpool/{name}/{batch}");
                measure(criterion, &group, "forward", Work::Numbers(numbers), || {
                    cpu().maxpool_forward(MaxPoolForward { shape: &s, x: &x, y: &mut y, argmax: &mut argmax })
                });
                measure(criterion, &group, "backward", Work::Numbers(numbers), || {
                    cpu().maxpool_backward(MaxPoolBackward {
                        shape: &s,
                        dy: &y,
                        argmax: &argmax,
                        mask: None,
                        dx: &mut dx,
                    })
                });
            }
        }
    }
}
