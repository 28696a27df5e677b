//! The adaptive average pool of `torchvision`, from the map of another image size.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{AvgPoolBackward, AvgPoolForward};
use alexnet_core::device::Operators;
use alexnet_core::shape::AvgPoolShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn avgpool(criterion: &mut Criterion) {
    for batch in BATCHES {
        let s = AvgPoolShape { batch, height: 13, width: 13, channels: 256, output_height: 6, output_width: 6 };
        let (x, mut y, mut dx) = (array(s.input_len()), array(s.output_len()), array(s.input_len()));
        let (group, numbers) = (format!("avgpool/{batch}"), s.input_len() + s.output_len());
        measure(criterion, &group, "forward", Work::Numbers(numbers), || {
            cpu().avgpool_forward(AvgPoolForward { shape: &s, x: &x, y: &mut y })
        });
        measure(criterion, &group, "backward", Work::Numbers(numbers), || {
            cpu().avgpool_backward(AvgPoolBackward { shape: &s, dy: &y, dx: &mut dx })
        });
    }
}

criterion_group!(benches, avgpool);
criterion_main!(benches);
