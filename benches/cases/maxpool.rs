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
                let (mut dx, dy, mut argmax) =
                    (stored(kernels, x)?, stored(kernels, y)?, kernels.zeros(Number::U8, y)?);
                // Every position once in a while.
                let positions: Vec<u8> = (0..y).map(|i| (i * 7 % (shape.kernel * shape.kernel)) as u8).collect();
                kernels.write(&positions, &mut argmax)?;
                Ok(Box::new(move || {
                    kernels.maxpool_backward(MaxPoolBackward { shape: &shape, dy: &dy, argmax: &argmax, dx: &mut dx })
                }))
            })
            .moves(x + y, y),
        );
    }
    cases
}
