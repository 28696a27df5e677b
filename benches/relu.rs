//! ReLU on its own; the layers clamp in their last pass, and need only its gradient.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{ReluBackward, ReluForward};
use alexnet_core::device::Operators;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn relu(criterion: &mut Criterion) {
    for batch in BATCHES {
        for (name, side, channels) in MAPS {
            let len = batch * side * side * channels;
            let (y, mut x) = (array(len), array(len));
            let group = format!("relu/{name}/{batch}");
            measure(criterion, &group, "forward", Work::Numbers(2 * len), || {
                cpu().relu_forward(ReluForward { len, x: &mut x })
            });
            measure(criterion, &group, "backward", Work::Numbers(3 * len), || {
                cpu().relu_backward(ReluBackward { len, y: &y, dy: &mut x })
            });
        }
    }
}

criterion_group!(benches, relu);
criterion_main!(benches);
