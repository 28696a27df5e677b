//! Softmax, loss and gradient.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::SoftmaxCrossEntropy;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::LossShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn softmax_cross_entropy(criterion: &mut Criterion) {
    for batch in BATCHES {
        for classes in [10, 1000] {
            let s = LossShape { batch, classes, smoothing: 0.1, divisor: batch };
            let (logits, mut losses, mut correct) = (array(batch * classes), array(batch), array(batch));
            let (mut labels, mut dlogits) = (cpu().labels(batch).expect("memory"), array(batch * classes));
            cpu().write_labels(&vec![1; batch], &mut labels).expect("room");
            let group = format!("softmax_cross_entropy/{classes}/{batch}");
            measure(criterion, &group, "forward and backward", Work::Numbers(2 * batch * classes), || {
                let dlogits = Some(&mut dlogits);
                cpu().softmax_cross_entropy(SoftmaxCrossEntropy {
                    shape: &s,
                    logits: &logits,
                    labels: &labels,
                    second: None,
                    losses: &mut losses,
                    correct: &mut correct,
                    dlogits,
                })
            });
        }
    }
}

criterion_group!(benches, softmax_cross_entropy);
criterion_main!(benches);
