//! Softmax cross-entropy. Exponentials and sums are f64, since N·K is small beside any layer. A task computes eight images.

use super::Context;
use super::pool::SyncPtr;
use crate::shape::LossShape;

const IMAGES: usize = 8;

/// What the logits are compared with.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub labels: &'a [u32],
    /// The labels that are mixed in, and the share of the first ones.
    pub second: Option<(&'a [u32], f32)>,
    pub class_weights: Option<&'a [f32]>,
}

/// See [`Operators::softmax_cross_entropy`](crate::device::Operators::softmax_cross_entropy); the caller has checked the labels.
pub fn run(
    context: &Context,
    s: &LossShape,
    logits: &[f32],
    target: Target<'_>,
    [losses, correct]: [&mut [f32]; 2],
    dlogits: Option<&mut [f32]>,
) {
    let Target { labels, second, class_weights } = target;
    let (losses, correct) = (SyncPtr(losses.as_mut_ptr()), SyncPtr(correct.as_mut_ptr()));
    let dlogits = dlogits.map(|d| SyncPtr(d.as_mut_ptr()));
    context.pool.run(s.batch.div_ceil(IMAGES), |task, _| {
        for n in task * IMAGES..s.batch.min((task + 1) * IMAGES) {
            let logits = &logits[n * s.classes..][..s.classes];
            // SAFETY: each task has its own images.
            unsafe {
                let dlogits = dlogits.map(|d| d.slice_mut(n * s.classes, s.classes));
                let label = labels[n] as usize;
                let shares = match second {
                    Some((labels, weight)) => [(label, weight.into()), (labels[n] as usize, 1.0 - f64::from(weight))],
                    None => [(label, 1.0), (label, 0.0)],
                };
                let (loss, right) = image(s, logits, shares, class_weights, dlogits);
                losses.at(n).write(loss);
                correct.at(n).write(right);
            }
        }
    });
}

/// Loss of one image, and 1 if it is classified correctly; the target is a mixture of two labels with their shares.
fn image(
    s: &LossShape,
    logits: &[f32],
    shares: [(usize, f64); 2],
    class_weights: Option<&[f32]>,
    dlogits: Option<&mut [f32]>,
) -> (f32, f32) {
    let other = s.smoothing / s.classes as f64;
    let share = |i: usize, (label, share): (usize, f64)| if i == label { (1.0 - s.smoothing) * share } else { 0.0 };
    let class_weight = |i: usize| class_weights.map_or(1.0, |weights| f64::from(weights[i]));
    let target = |i: usize| class_weight(i) * (other + share(i, shares[0]) + share(i, shares[1]));
    // Without class weights the target's sum is 1, whatever its rounding.
    let total = class_weights.map_or(1.0, |_| (0..s.classes).map(target).sum());
    let largest = logits.iter().enumerate().fold(0, |best, (i, &x)| if x > logits[best] { i } else { best });
    let above = |x: f32| f64::from(x) - f64::from(logits[largest]);
    let sum: f64 = logits.iter().map(|&x| above(x).exp()).sum();
    let log_sum = sum.ln();
    let loss = -logits.iter().enumerate().fold(0.0, |loss, (i, &x)| loss + target(i) * (above(x) - log_sum));
    if let Some(dlogits) = dlogits {
        for (i, (d, &x)) in dlogits.iter_mut().zip(logits).enumerate() {
            *d = ((above(x).exp() / sum * total - target(i)) / s.divisor as f64) as f32;
        }
    }
    let [(first, weight), (second, _)] = shares;
    (loss as f32, if largest == if weight >= 0.5 { first } else { second } { 1.0 } else { 0.0 })
}
