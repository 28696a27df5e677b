//! The loss.

use crate::arguments::{Slices, SoftmaxCrossEntropy};
use crate::device::Element;

/// See [`SoftmaxCrossEntropy`].
///
/// ln softmax is computed as x − max − ln Σ exp(x − max), so that no exponential overflows.
pub fn softmax_cross_entropy<T: Element>(a: SoftmaxCrossEntropy<'_, Slices<T>>) {
    let SoftmaxCrossEntropy { shape: s, logits, labels, second, class_weights, losses, correct, mut dlogits } = a;
    let other = T::from_f64(s.smoothing / s.classes as f64);
    let own = T::from_f64(1.0 - s.smoothing);
    for (n, logits) in logits.chunks_exact(s.classes).enumerate() {
        let label = labels[n] as usize;
        let (other_label, weight) =
            second.map_or((label, T::one()), |(labels, weight)| (labels[n] as usize, weight[0]));
        let largest = logits.iter().enumerate().fold(0, |best, (i, &x)| if x > logits[best] { i } else { best });
        let sum = logits.iter().fold(T::zero(), |sum, &x| sum + (x - logits[largest]).exp());
        let share = |i: usize, of: usize, weight: T| if i == of { own * weight } else { T::zero() };
        let class_weight = |i: usize| class_weights.map_or(T::one(), |weights| weights[i]);
        let target =
            |i: usize| class_weight(i) * (other + share(i, label, weight) + share(i, other_label, T::one() - weight));
        let total =
            if class_weights.is_some() { (0..s.classes).fold(T::zero(), |sum, i| sum + target(i)) } else { T::one() };
        losses[n] = T::zero();
        for (i, &x) in logits.iter().enumerate() {
            losses[n] -= target(i) * (x - logits[largest] - sum.ln());
        }
        let heavier = if weight >= T::from_f64(0.5) { label } else { other_label };
        correct[n] = if largest == heavier { T::one() } else { T::zero() };
        if let Some(dlogits) = dlogits.as_deref_mut() {
            let divisor = T::from_f64(s.divisor as f64);
            for (i, &x) in logits.iter().enumerate() {
                dlogits[n * s.classes + i] = ((x - logits[largest]).exp() / sum * total - target(i)) / divisor;
            }
        }
    }
}
