//! Momentum SGD on stored gradients; the linear layers' update is in `linear`.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::device::Operators;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn sgd(criterion: &mut Criterion) {
    for (name, len) in [("convolutions", 2_249_280), ("all", 23_272_266)] {
        let mut parameters = [parameter(len)];
        let group = format!("sgd/{name}");
        measure(criterion, &group, "update", Work::Numbers(5 * len), || cpu().sgd(&RULE, &mut parameters));
    }
}

criterion_group!(benches, sgd);
criterion_main!(benches);
