//! The moving average of the weights.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::device::Operators;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn ema(criterion: &mut Criterion) {
    let mut parameters = [parameter(23_272_266)];
    let numbers = 3 * 23_272_266;
    measure(criterion, "ema/all", "update", Work::Numbers(numbers), || cpu().ema(0.999, &mut parameters));
}

criterion_group!(benches, ema);
criterion_main!(benches);
