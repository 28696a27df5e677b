use alexnet_core::arguments::SoftmaxCrossEntropy;
use alexnet_core::shape::LossShape;
use alexnet_kernels::Number;

use super::{Case, Net, floats, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let (batch, classes) = (net.batch, net.layers.last().map_or(0, |layer| layer.output.len()));
    let shape = LossShape { batch, classes, smoothing: 0.1, divisor: batch };
    let case = Case::new("softmax_cross_entropy", format!("{} loss", net.name), move |kernels| {
        let (logits, mut dlogits) = (stored(kernels, batch * classes)?, stored(kernels, batch * classes)?);
        let (labels, scale) = (kernels.zeros(Number::U32, batch)?, floats(kernels, 1)?);
        let (mut losses, mut correct) = (floats(kernels, batch)?, floats(kernels, batch)?);
        Ok(Box::new(move || {
            let dlogits = Some(&mut dlogits);
            kernels.softmax_cross_entropy(
                SoftmaxCrossEntropy {
                    shape: &shape,
                    logits: &logits,
                    labels: &labels,
                    second: None,
                    class_weights: None,
                    losses: &mut losses,
                    correct: &mut correct,
                    dlogits,
                },
                &scale,
            )
        }))
    });
    vec![case.moves(2 * batch * classes, 12 * batch + 4)]
}

/// Softmax, loss and gradient.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::SoftmaxCrossEntropy;
    use alexnet_core::device::{Memory, Operators};
    use alexnet_core::shape::LossShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
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
                        class_weights: None,
                        losses: &mut losses,
                        correct: &mut correct,
                        dlogits,
                    })
                });
            }
        }
    }
}
