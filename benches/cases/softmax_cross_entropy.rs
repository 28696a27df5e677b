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
