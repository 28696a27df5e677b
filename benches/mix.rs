//! MixUp and CutMix of a batch of images.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::MixPairs;
use alexnet_core::device::Operators;
use alexnet_core::shape::{Mix, MixShape};
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn mix(criterion: &mut Criterion) {
    for batch in BATCHES {
        let blend = Mix::Blend { weight: 0.5 };
        let paste = Mix::Paste { left: 8, top: 8, right: 24, bottom: 24 };
        for (name, mix, pixels) in [("blend", blend, 32 * 32), ("paste", paste, 16 * 16)] {
            let s = MixShape { batch, side: 32, channels: 3, mix };
            let mut x = array(s.len());
            let numbers = 2 * batch * pixels * 3;
            measure(criterion, &format!("mix/{batch}"), name, Work::Numbers(numbers), || {
                cpu().mix(MixPairs { shape: &s, x: &mut x })
            });
        }
    }
}

criterion_group!(benches, mix);
criterion_main!(benches);
