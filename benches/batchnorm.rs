//! Batch normalisation after each convolution of the `cifar` network. Bytes are the least that memory has to move.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::Device;
use alexnet_core::shape::BatchNormShape;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::*;

fn batchnorm(criterion: &mut Criterion) {
    for batch in [32, 128] {
        for (name, side, channels) in [("conv1", 16, 64), ("conv2", 8, 192), ("conv3", 4, 384), ("conv4", 4, 256)] {
            let s = BatchNormShape { rows: batch * side * side, channels, epsilon: 1e-5, momentum: 0.1 };
            let (x, w, b, dy) = (array(s.len()), array(channels), array(channels), array(s.len()));
            let (mut mean, mut variance) = (array(channels), array(channels));
            let (mut statistics, mut y) = (array(2 * channels), array(s.len()));
            let (mut dw, mut db, mut dx) = (array(channels), array(channels), array(s.len()));
            let mut forward = || {
                let running = [&mut mean, &mut variance];
                cpu().batchnorm_forward(&s, &x, &w, &b, true, running, &mut statistics, &mut y).expect("forward");
            };
            let mut group = criterion.benchmark_group(format!("{name}/{batch}"));
            group.sample_size(10).throughput(Throughput::Bytes(12 * s.len() as u64));
            group.bench_function("forward", |b| b.iter(&mut forward));
            let mut backward = || {
                let (dw, db, dx) = (&mut dw, &mut db, &mut dx);
                cpu().batchnorm_backward(&s, &x, &dy, &w, &statistics, false, dw, db, dx).expect("backward");
            };
            group.throughput(Throughput::Bytes(20 * s.len() as u64));
            group.bench_function("backward", |b| b.iter(&mut backward));
            let mut inference = || {
                cpu().batchnorm_inference(&s, &x, &w, &b, &mean, &variance, true, &mut y).expect("inference");
            };
            group.throughput(Throughput::Bytes(8 * s.len() as u64));
            group.bench_function("inference", |b| b.iter(&mut inference));
        }
    }
}

criterion_group!(benches, batchnorm);
criterion_main!(benches);
