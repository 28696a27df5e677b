//! From the convolutions' order of numbers to the linear layers'.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{FlattenBackward, FlattenForward};
use alexnet_core::device::Operators;
use alexnet_core::shape::FlattenShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn flatten(criterion: &mut Criterion) {
    for batch in BATCHES {
        let s = FlattenShape { batch, height: 2, width: 2, channels: 256 };
        let (x, mut y, mut dx) = (array(s.len()), array(s.len()), array(s.len()));
        let (group, numbers) = (format!("flatten/{batch}"), 2 * s.len());
        measure(criterion, &group, "forward", Work::Numbers(numbers), || {
            cpu().flatten_forward(FlattenForward { shape: &s, x: &x, y: &mut y })
        });
        measure(criterion, &group, "backward", Work::Numbers(numbers), || {
            cpu().flatten_backward(FlattenBackward { shape: &s, dy: &y, dx: &mut dx })
        });
    }
}

criterion_group!(benches, flatten);
criterion_main!(benches);
