//! The max pools of the `cifar` network; the winner's position is a byte.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{MaxPoolBackward, MaxPoolForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::MaxPoolShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn maxpool(criterion: &mut Criterion) {
    for batch in BATCHES {
        for (name, side, channels) in [MAPS[0], MAPS[1], MAPS[4]] {
            let s = MaxPoolShape { batch, height: side, width: side, channels, kernel: 2, stride: 2, padding: 0 };
            let (x, mut y, mut dx) = (array(s.input_len()), array(s.output_len()), array(s.input_len()));
            let mut argmax = cpu().bytes(s.output_len()).expect("memory");
            let numbers = s.input_len() + s.output_len() + s.output_len() / 4;
            let group = format!("maxpool/{name}/{batch}");
            measure(criterion, &group, "forward", Work::Numbers(numbers), || {
                cpu().maxpool_forward(MaxPoolForward { shape: &s, x: &x, y: &mut y, argmax: &mut argmax })
            });
            measure(criterion, &group, "backward", Work::Numbers(numbers), || {
                cpu().maxpool_backward(MaxPoolBackward { shape: &s, dy: &y, argmax: &argmax, dx: &mut dx })
            });
        }
    }
}

criterion_group!(benches, maxpool);
criterion_main!(benches);
