use alexnet_core::architecture::LayerKind;
use alexnet_kernels::{MaxPool, Number};

use super::{Case, Net, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let LayerKind::MaxPool { kernel, stride, padding } = layer.spec.kind else { continue };
        let shape = MaxPool {
            batch: net.batch,
            height: layer.input.height,
            width: layer.input.width,
            channels: layer.input.channels,
            kernel,
            stride,
            padding,
            out_height: layer.output.height,
            out_width: layer.output.width,
        };
        let (x, y) = (net.batch * layer.input.len(), net.batch * layer.output.len());
        cases.push(
            Case::new("maxpool", net.label(layer, "forward"), move |kernels| {
                let (x, mut argmax, mut y) = (stored(kernels, x)?, kernels.zeros(Number::U8, y)?, stored(kernels, y)?);
                Ok(Box::new(move || kernels.maxpool_forward(&shape, &x, &mut y, &mut argmax)))
            })
            .moves(x + y, y),
        );
        cases.push(
            Case::new("maxpool", net.label(layer, "backward"), move |kernels| {
                let (mut dx, dy, mut argmax) =
                    (stored(kernels, x)?, stored(kernels, y)?, kernels.zeros(Number::U8, y)?);
                // Every position once in a while.
                let positions: Vec<u8> = (0..y).map(|i| (i * 7 % (kernel * kernel)) as u8).collect();
                kernels.write(&positions, &mut argmax)?;
                Ok(Box::new(move || kernels.maxpool_backward(&shape, &dy, &argmax, &mut dx)))
            })
            .moves(x + y, y),
        );
    }
    cases
}
