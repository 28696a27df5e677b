//! Local response normalisation of `original`.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{LrnBackward, LrnForward};
use alexnet_core::device::Operators;
use alexnet_core::shape::LrnShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn lrn(criterion: &mut Criterion) {
    for batch in [1, 8] {
        for (name, side, channels) in [("conv1", 55, 96), ("conv2", 27, 256)] {
            let s = LrnShape { pixels: batch * side * side, channels, size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
            let (x, mut y, mut dx) = (array(s.len()), array(s.len()), array(s.len()));
            let group = format!("lrn/{name}/{batch}");
            measure(criterion, &group, "forward", Work::Numbers(2 * s.len()), || {
                cpu().lrn_forward(LrnForward { shape: &s, x: &x, y: &mut y })
            });
            measure(criterion, &group, "backward", Work::Numbers(3 * s.len()), || {
                cpu().lrn_backward(LrnBackward { shape: &s, x: &x, dy: &y, dx: &mut dx })
            });
        }
    }
}

criterion_group!(benches, lrn);
criterion_main!(benches);
