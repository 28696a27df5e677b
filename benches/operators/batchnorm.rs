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

/// Batch normalisation of the `cifar` network's maps.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{BatchNormBackward, BatchNormForward, BatchNormInference};
    use alexnet_core::device::Operators;
    use alexnet_core::shape::BatchNormShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            for (name, side, channels) in MAPS {
                let s = BatchNormShape { rows: batch * side * side, channels, epsilon: 1e-5, momentum: 0.1 };
                let (x, w, b, dy) = (array(s.len()), array(channels), array(channels), array(s.len()));
                let (mut mean, mut variance) = (array(channels), array(channels));
                let (mut statistics, mut y) = (array(2 * channels), array(s.len()));
                let (mut dw, mut db, mut dx) = (array(channels), array(channels), array(s.len()));
                let group = format!("batchnorm/{name}/{batch}");
                measure(criterion, &group, "forward", Work::Numbers(3 * s.len()), || {
                    cpu().batchnorm_forward(BatchNormForward {
                        shape: &s,
                        x: &x,
                        w: &w,
                        b: &b,
                        relu: true,
                        running_mean: &mut mean,
                        running_variance: &mut variance,
                        statistics: &mut statistics,
                        y: &mut y,
                    })
                });
                measure(criterion, &group, "backward", Work::Numbers(5 * s.len()), || {
                    let (dw, db, dx) = (&mut dw, &mut db, &mut dx);
                    cpu().batchnorm_backward(BatchNormBackward {
                        shape: &s,
                        x: &x,
                        dy: &dy,
                        w: &w,
                        statistics: &statistics,
                        accumulate: false,
                        dw,
                        db,
                        dx,
                    })
                });
                measure(criterion, &group, "inference", Work::Numbers(2 * s.len()), || {
                    cpu().batchnorm_inference(BatchNormInference {
                        shape: &s,
                        x: &x,
                        w: &w,
                        b: &b,
                        mean: &mean,
                        variance: &variance,
                        relu: true,
                        y: &mut y,
                    })
                });
            }
        }
    }
}
