//! The convolutions of the `cifar` network in all directions. FLOPs are the direct algorithm's, so that Winograd's may
//! exceed the peak.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::Device;
use alexnet_core::shape::ConvShape;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::*;

fn conv(criterion: &mut Criterion) {
    for batch in [32, 128] {
        for (name, side, channels, filters, stride) in [
            ("conv1", 32, 3, 64, 2),
            ("conv2", 8, 64, 192, 1),
            ("conv3", 4, 192, 384, 1),
            ("conv4", 4, 384, 256, 1),
            ("conv5", 4, 256, 256, 1),
        ] {
            let s = ConvShape {
                batch,
                height: side,
                width: side,
                channels,
                filters,
                kernel: 3,
                stride,
                padding: 1,
                groups: 1,
            };
            let (x, w, b, dy) = (array(s.input_len()), array(s.weight_len()), array(s.filters), array(s.output_len()));
            let (mut y, mut dx, mut dw, mut db) =
                (array(s.output_len()), array(s.input_len()), array(s.weight_len()), array(s.filters));
            let mut forward = || cpu().conv_forward(&s, &x, &w, &b, true, &mut y).expect("forward");
            let mut data = || cpu().conv_backward_data(&s, &dy, &w, &mut dx).expect("data");
            let mut weight = || cpu().conv_backward_weight(&s, &x, &dy, false, &mut dw, &mut db).expect("weight");
            let mut group = criterion.benchmark_group(format!("{name}/{batch}"));
            group.sample_size(10).throughput(Throughput::Elements(2 * s.multiply_adds()));
            report(&format!("{name}/{batch} forward"), s.multiply_adds(), &mut forward);
            group.bench_function("forward", |b| b.iter(&mut forward));
            report(&format!("{name}/{batch} data"), s.multiply_adds(), &mut data);
            group.bench_function("data", |b| b.iter(&mut data));
            report(&format!("{name}/{batch} weight"), s.multiply_adds(), &mut weight);
            group.bench_function("weight", |b| b.iter(&mut weight));
            let mut both =
                || cpu().conv_backward(&s, &x, &w, &dy, false, &mut dw, &mut db, &mut dx).expect("both gradients");
            report(&format!("{name}/{batch} both gradients"), 2 * s.multiply_adds(), &mut both);
            group.bench_function("both gradients", |b| b.iter(&mut both));
        }
    }
}

criterion_group!(benches, conv);
criterion_main!(benches);
