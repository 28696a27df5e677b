//! Batch normalisation of the `cifar` network's maps.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::Device;
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
                let running = [&mut mean, &mut variance];
                cpu().batchnorm_forward(&s, &x, &w, &b, true, running, &mut statistics, &mut y)
            });
            measure(criterion, &group, "backward", Work::Numbers(5 * s.len()), || {
                let (dw, db, dx) = (&mut dw, &mut db, &mut dx);
                cpu().batchnorm_backward(&s, &x, &dy, &w, &statistics, false, dw, db, dx)
            });
            measure(criterion, &group, "inference", Work::Numbers(2 * s.len()), || {
                cpu().batchnorm_inference(&s, &x, &w, &b, &mean, &variance, true, &mut y)
            });
        }
    }
}

criterion_group!(benches, batchnorm);
criterion_main!(benches);
