//! The addition at the end of a shortcut, with its ReLU.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::Add;
use alexnet_core::device::Operators;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn add(criterion: &mut Criterion) {
    for batch in BATCHES {
        for (name, side, channels) in MAPS {
            let len = batch * side * side * channels;
            let (x, mut y) = (array(len), array(len));
            let group = format!("add/{name}/{batch}");
            measure(criterion, &group, "forward", Work::Numbers(3 * len), || {
                cpu().add(Add { len, x: &x, relu: true, y: &mut y })
            });
        }
    }
}

criterion_group!(benches, add);
criterion_main!(benches);
