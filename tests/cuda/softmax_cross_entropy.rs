use alexnet_core::arguments::SoftmaxCrossEntropy;
use alexnet_core::device::cuda::Precision;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::reference;
use alexnet_core::shape::LossShape;

use crate::support::{PRECISIONS, U, activations, assert_close, floats, gpu, numbers, read, roundoff, stored, wide};

#[test]
fn loss_hits_and_gradient() {
    let gpu = gpu();
    for (weighted, precision) in
        [false, true].into_iter().flat_map(|weighted| PRECISIONS.map(|precision| (weighted, precision)))
    {
        // One class; rows that fill no warp; AlexNet's; more than a block's shared memory holds.
        for (batch, classes) in [(1, 1), (3, 2), (33, 10), (5, 33), (2, 1000), (17, 700), (2, 9000)] {
            let (plain, with_weights) = (
                [(0.0, None), (0.1, None), (0.0, Some(0.3)), (0.1, Some(0.8f32)), (0.1, Some(1.0))],
                [(0.0, None), (0.1, Some(0.8))],
            );
            for &(smoothing, weight) in if weighted { &with_weights[..] } else { &plain } {
                let class_weight = |class: usize| if weighted { 0.25 * (class % 8) as f32 } else { 1.0 };
                let class_weights: Vec<f32> = (0..classes).map(class_weight).collect();
                let s = LossShape { batch, classes, smoothing, divisor: batch + 1 };
                let spread: f32 = if classes > 100 { 8.0 } else { 3.0 };
                let logits: Vec<f32> =
                    numbers(1, batch * classes, precision).iter().map(|x| stored(x * spread, precision)).collect();
                let labels: Vec<u32> = (0..batch).map(|n| (n * 7 % classes) as u32).collect();
                let second: Vec<u32> = (0..batch).map(|n| (n * 3 / 2 % classes) as u32).collect();
                let what = format!("{s:?} {precision:?} {weight:?} {weighted}");
                let found = gpu.run(&what, precision, |device| {
                    let x = activations(device, &logits);
                    let mut on_device = device.labels(batch).unwrap();
                    device.write_labels(&labels, &mut on_device).unwrap();
                    let (mut losses, mut correct) = (device.zeros(batch).unwrap(), device.zeros(batch).unwrap());
                    let mut dx = device.activations(batch * classes).unwrap();
                    let second = weight.map(|weight| {
                        let mut labels = device.labels(batch).unwrap();
                        device.write_labels(&second, &mut labels).unwrap();
                        (labels, floats(device, &[weight]))
                    });
                    let second = second.as_ref().map(|(labels, weight)| (labels, weight));
                    let on_device_weights = weighted.then(|| floats(device, &class_weights));
                    let mut run = |dx| {
                        device
                            .softmax_cross_entropy(SoftmaxCrossEntropy {
                                shape: &s,
                                logits: &x,
                                labels: &on_device,
                                second,
                                class_weights: on_device_weights.as_ref(),
                                losses: &mut losses,
                                correct: &mut correct,
                                dlogits: dx,
                            })
                            .unwrap();
                        (read(device, &losses), read(device, &correct))
                    };
                    let (first, correct) = run(Some(&mut dx));
                    assert_eq!(first, run(None).0, "the loss does not depend on the gradient");
                    vec![first, correct, read(device, &dx)]
                });
                let (mut losses, mut correct) = (vec![0f64; batch], vec![0f64; batch]);
                let mut dx = vec![0f64; logits.len()];
                let logits = wide(&logits);
                let both = weight.map(|weight| (&second[..], [f64::from(weight)]));
                let (l, c, class_weights) = (&mut losses, &mut correct, wide(&class_weights));
                reference::softmax_cross_entropy(SoftmaxCrossEntropy {
                    shape: &s,
                    logits: &logits,
                    labels: &labels,
                    second: both.as_ref().map(|(labels, weight)| (*labels, &weight[..])),
                    class_weights: weighted.then_some(&class_weights[..]),
                    losses: l,
                    correct: c,
                    dlogits: Some(&mut dx),
                });
                assert_eq!(wide(&found[1]), correct, "{what}");
                // No difference to the largest is more than `d`. An exponential is off by 2u and by its argument's
                // error, d·u, of itself; the sum of K of them by K·u more; a logarithm by 2u of itself. The labels' part
                // is of d at most: two differences, 1 − λ, two products, their sum, its product and the last difference.
                let (k, d) = (classes as f64, 2.0 * f64::from(spread));
                let others = if smoothing > 0.0 { (k + 8.0) * d } else { 0.0 };
                let loss = (d + 2.0 + k) + 2.0 * k.ln() + 9.0 * d + others + 2.0 * (k.ln() + 2.0 * d);
                // With class weights every term is of 1.75 times that at most, and rounded once more; their weighted sum is
                // off by k + 8 roundings.
                let (most, sum, more) = if weighted { (1.75, k + 8.0, 2.0) } else { (1.0, 0.0, 0.0) };
                let loss = most * (loss + sum * k.ln() + more * 2.0 * d);
                assert_close(&what, &found[0], &losses, |_| loss * U);
                // softmax is off by both, of itself; then the target of five roundings and more, a difference with it and a
                // division. In half
                // precision all is multiplied by the loss's scale, a power of two, which is exact before rounding.
                let scale = if precision == Precision::Fp16 { 65536.0 } else { 1.0 };
                let divisor = s.divisor as f64;
                let scaled: Vec<f64> = dx.iter().map(|x| x * scale).collect();
                assert_close(&what, &found[2], &scaled, |i| {
                    let share = |labels: &[u32], share: f64| match i % classes == labels[i / classes] as usize {
                        true => (1.0 - smoothing) * share,
                        false => 0.0,
                    };
                    let weight = f64::from(weight.unwrap_or(1.0));
                    let target = smoothing / k + share(&labels, weight) + share(&second, 1.0 - weight);
                    let target = class_weights[i % classes] * target;
                    let softmax = dx[i] * divisor + target;
                    let error =
                        softmax * (k + 2.0 * d + 6.0 + sum) + (6.0 + more) * target + 2.0 * (softmax - target).abs();
                    error * U / divisor * scale + roundoff(scaled[i], precision)
                });
            }
        }
    }
}
