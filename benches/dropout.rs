//! Dropout in place: what is dropped is drawn anew in each pass, so that there is no mask. Bound by the random numbers.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::Dropout;
use alexnet_core::device::Operators;
use alexnet_core::random::Philox;
use alexnet_core::shape::DropoutShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn dropout(criterion: &mut Criterion) {
    for batch in BATCHES {
        for features in [1024, 4096] {
            let len = batch * features;
            // A rate that leaves the numbers as large as they are, call after call.
            let s = DropoutShape { len, rate: 1e-9, philox: Philox::new(0), purpose: 1, step: 0, offset: 0 };
            let mut x = array(len);
            let group = format!("dropout/{features}/{batch}");
            measure(criterion, &group, "forward", Work::Numbers(2 * len), || {
                cpu().dropout(Dropout { shape: &s, x: &mut x })
            });
        }
    }
}

criterion_group!(benches, dropout);
criterion_main!(benches);
