//! Batch normalisation of the `cifar` network's maps.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{BatchNormBackward, BatchNormForward, BatchNormInference};
use alexnet_core::device::Operators;
use alexnet_core::shape::BatchNormShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn batchnorm(criterion: &mut Criterion) {
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

criterion_group!(benches, batchnorm);
criterion_main!(benches);
