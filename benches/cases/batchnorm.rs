use alexnet_core::architecture::LayerKind;
use alexnet_core::arguments::{BatchNormBackward, BatchNormForward, BatchNormInference};
use alexnet_core::shape::BatchNormShape;
use alexnet_kernels::Kernels;

use super::{Case, Net, floats, stored};

/// What `--batch-norm` puts after the convolutions.
pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in net.layers.iter().filter(|layer| matches!(layer.spec.kind, LayerKind::Conv { .. })) {
        let (rows, channels) = (net.batch * layer.output.height * layer.output.width, layer.output.channels);
        let shape = BatchNormShape { rows, channels, epsilon: 1e-5, momentum: 0.1 };
        let len = rows * channels;
        cases.push(
            Case::new("batchnorm", net.label(layer, "forward"), move |kernels| {
                let (x, mut y) = (stored(kernels, len)?, stored(kernels, len)?);
                let (w, b) = (floats(kernels, channels)?, floats(kernels, channels)?);
                let (mut mean, mut variance) = (floats(kernels, channels)?, floats(kernels, channels)?);
                let (mut statistics, mut workspace) =
                    (floats(kernels, 2 * channels)?, floats(kernels, Kernels::batchnorm_workspace(&shape))?);
                Ok(Box::new(move || {
                    let (statistics, workspace) = (&mut statistics, &mut workspace);
                    kernels.batchnorm_forward(
                        BatchNormForward {
                            shape: &shape,
                            x: &x,
                            w: &w,
                            b: &b,
                            relu: true,
                            running_mean: &mut mean,
                            running_variance: &mut variance,
                            statistics,
                            y: &mut y,
                        },
                        workspace,
                    )
                }))
            })
            .moves(3 * len, 0),
        );
        cases.push(
            Case::new("batchnorm", net.label(layer, "backward"), move |kernels| {
                let (x, dy, mut dx) = (stored(kernels, len)?, stored(kernels, len)?, stored(kernels, len)?);
                let (w, statistics) = (floats(kernels, channels)?, floats(kernels, 2 * channels)?);
                let (mut dw, mut db) = (floats(kernels, channels)?, floats(kernels, channels)?);
                let mut workspace = floats(kernels, Kernels::batchnorm_workspace(&shape))?;
                Ok(Box::new(move || {
                    let (dw, db, dx, workspace) = (&mut dw, &mut db, &mut dx, &mut workspace);
                    kernels.batchnorm_backward(
                        BatchNormBackward {
                            shape: &shape,
                            x: &x,
                            dy: &dy,
                            w: &w,
                            statistics: &statistics,
                            accumulate: false,
                            dw,
                            db,
                            dx,
                        },
                        workspace,
                    )
                }))
            })
            .moves(5 * len, 0),
        );
        cases.push(
            Case::new("batchnorm", net.label(layer, "inference"), move |kernels| {
                let (x, mut y) = (stored(kernels, len)?, stored(kernels, len)?);
                let (w, b) = (floats(kernels, channels)?, floats(kernels, channels)?);
                // Ones: a variance is not below 0.
                let (mean, mut variance) = (floats(kernels, channels)?, floats(kernels, channels)?);
                kernels.write(&vec![1.0f32; channels], &mut variance)?;
                Ok(Box::new(move || {
                    kernels.batchnorm_inference(BatchNormInference {
                        shape: &shape,
                        x: &x,
                        w: &w,
                        b: &b,
                        mean: &mean,
                        variance: &variance,
                        relu: true,
                        y: &mut y,
                    })
                }))
            })
            .moves(2 * len, 0),
        );
    }
    cases
}
