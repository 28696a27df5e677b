//! The fully connected layers of the `cifar` network in all directions; `update` is `weight` that does not keep the gradient.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::device::Parameter;
use alexnet_core::shape::LinearShape;
use alexnet_core::{Device, Sgd};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::*;

fn linear(criterion: &mut Criterion) {
    for batch in [32, 128] {
        for (inputs, outputs) in [(1024, 4096), (4096, 4096), (4096, 10)] {
            let s = LinearShape { batch, inputs, outputs };
            let (x, w, b, dy) = (array(s.input_len()), array(s.weight_len()), array(s.outputs), array(s.output_len()));
            let (mut y, mut dx, mut dw, mut db) =
                (array(s.output_len()), array(s.input_len()), array(s.weight_len()), array(s.outputs));
            let mut forward = || cpu().linear_forward(&s, &x, &w, &b, true, &mut y).expect("forward");
            let mut data = || cpu().linear_backward_data(&s, &dy, &w, &mut dx).expect("data");
            let mut weight = || cpu().linear_backward_weight(&s, &x, &dy, false, &mut dw, &mut db).expect("weight");
            // A rate that changes nothing, so that the numbers stay usual ones.
            let rule = Sgd { learning_rate: 0.0, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: false };
            let mut parameter = Parameter {
                name: "w".into(),
                shape: vec![outputs, inputs],
                value: array(s.weight_len()),
                gradient: None,
                momentum: Some(array(s.weight_len())),
                average: None,
            };
            let mut db_of_update = array(s.outputs);
            let mut update = || {
                cpu().linear_backward_update(&s, &x, &dy, &rule, &mut parameter, &mut db_of_update).expect("update");
            };
            let name = format!("{inputs}x{outputs}/{batch}");
            let mut group = criterion.benchmark_group(&name);
            group.sample_size(10).throughput(Throughput::Elements(2 * s.multiply_adds()));
            report(&format!("{name} forward"), s.multiply_adds(), &mut forward);
            group.bench_function("forward", |b| b.iter(&mut forward));
            report(&format!("{name} data"), s.multiply_adds(), &mut data);
            group.bench_function("data", |b| b.iter(&mut data));
            report(&format!("{name} weight"), s.multiply_adds(), &mut weight);
            group.bench_function("weight", |b| b.iter(&mut weight));
            report(&format!("{name} update"), s.multiply_adds(), &mut update);
            group.bench_function("update", |b| b.iter(&mut update));
        }
    }
}

criterion_group!(benches, linear);
criterion_main!(benches);
