//! The loss of the CPU against the definition in f64.

mod support;

use alexnet_core::arguments::SoftmaxCrossEntropy;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::LossShape;
use alexnet_core::{Error, reference};
use proptest::prelude::*;
use support::*;

fn check(s: &LossShape, logits: &[f32], labels: &[u32], second: Option<(&[u32], f32)>, class_weights: Option<&[f32]>) {
    let (mut losses, mut correct, mut dlogits) = (vec![0.0; s.batch], vec![0.0; s.batch], vec![0.0; logits.len()]);
    let wide_second = second.map(|(labels, weight)| (labels, [f64::from(weight)]));
    let wide_weights = class_weights.map(wide);
    reference::softmax_cross_entropy(SoftmaxCrossEntropy {
        shape: s,
        logits: &wide(logits),
        labels,
        second: wide_second.as_ref().map(|(labels, weight)| (*labels, &weight[..])),
        class_weights: wide_weights.as_deref(),
        losses: &mut losses,
        correct: &mut correct,
        dlogits: Some(&mut dlogits),
    });
    for (level, found) in on_all_alike(|cpu| {
        let (mut losses, mut correct) = (unwritten(cpu, s.batch), unwritten(cpu, s.batch));
        let (mut dlogits, mut to) = (unwritten(cpu, logits.len()), cpu.labels(s.batch).unwrap());
        cpu.write_labels(labels, &mut to).unwrap();
        let x = array(cpu, logits);
        let second = second.map(|(labels, weight)| {
            let mut to = cpu.labels(s.batch).unwrap();
            cpu.write_labels(labels, &mut to).unwrap();
            (to, array(cpu, &[weight]))
        });
        let second = second.as_ref().map(|(labels, weight)| (labels, weight));
        let class_weights = class_weights.map(|weights| array(cpu, weights));
        let class_weights = class_weights.as_ref();
        cpu.softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: s,
            logits: &x,
            labels: &to,
            second,
            class_weights,
            losses: &mut losses,
            correct: &mut correct,
            dlogits: Some(&mut dlogits),
        })
        .unwrap();
        let all = vec![losses.to_vec(), correct.to_vec(), dlogits.to_vec()];
        cpu.softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: s,
            logits: &x,
            labels: &to,
            second,
            class_weights,
            losses: &mut losses,
            correct: &mut correct,
            dlogits: None,
        })
        .unwrap();
        assert_eq!(losses[..], all[0][..], "the loss alone");
        all
    }) {
        // Computed in f64 and rounded once; 1e-12 stands for f64's own errors.
        let bound = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| U * x.abs() + 1e-12).collect() };
        assert_within(&format!("{level} losses"), &found[0], &losses, &bound(&losses));
        assert_within(&format!("{level} dlogits"), &found[2], &dlogits, &bound(&dlogits));
        assert_eq!(wide(&found[1]), correct, "{level} correct");
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn any_shape(
        batch in 1usize..40, classes in 1usize..30, smoothing in 0.0..0.5f64, more in 0usize..9, scale in 0.1..80f32,
        seed: u32, weight in proptest::option::of(0f32..=1.0), weighted: bool,
    ) {
        let s = LossShape { batch, classes, smoothing, divisor: batch + more };
        let logits: Vec<f32> = values(seed.into(), batch * classes).iter().map(|x| x * scale).collect();
        let labels: Vec<u32> = (0..batch as u32).map(|n| n.wrapping_mul(7).wrapping_add(seed) % classes as u32).collect();
        // Now and then the same label twice.
        let second: Vec<u32> = (0..batch as u32).map(|n| (n * 5 + seed % 3) % classes as u32).collect();
        let class_weights = magnitudes(&values(u64::from(seed) + 1, classes));
        let class_weights: Vec<f32> = class_weights.into_iter().map(|weight| weight as f32).collect();
        let class_weights = weighted.then_some(&class_weights[..]);
        check(&s, &logits, &labels, weight.map(|weight| (&second[..], weight)), class_weights);
    }
}

#[test]
fn a_label_that_is_no_class_is_an_error() {
    let s = LossShape { batch: 2, classes: 3, smoothing: 0.0, divisor: 2 };
    for cpus in cpus() {
        let cpu = &cpus[0];
        let mut labels = cpu.labels(2).unwrap();
        cpu.write_labels(&[0, 3], &mut labels).unwrap();
        let (mut losses, mut correct) = (unwritten(cpu, 2), unwritten(cpu, 2));
        let found = cpu.softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: &s,
            logits: &array(cpu, &[0.0; 6]),
            labels: &labels,
            second: None,
            class_weights: None,
            losses: &mut losses,
            correct: &mut correct,
            dlogits: None,
        });
        assert_eq!(found, Err(Error::Operator(alexnet_core::ops::Error::Label { label: 3, image: 1, classes: 3 })));
        let (own, second) = (cpu.labels(2).unwrap(), (&labels, &array(cpu, &[0.5])));
        let found = cpu.softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: &s,
            logits: &array(cpu, &[0.0; 6]),
            labels: &own,
            second: Some(second),
            class_weights: None,
            losses: &mut losses,
            correct: &mut correct,
            dlogits: None,
        });
        assert_eq!(found, Err(Error::Operator(alexnet_core::ops::Error::Label { label: 3, image: 1, classes: 3 })));
    }
}

#[test]
fn a_nan_shows_in_the_loss() {
    let s = LossShape { batch: 1, classes: 3, smoothing: 0.0, divisor: 1 };
    for x in [[f32::NAN, 0.0, 0.0], [0.0, f32::NAN, 0.0]] {
        for (_, found) in on_all_alike(|cpu| {
            let (mut losses, mut correct) = (unwritten(cpu, 1), unwritten(cpu, 1));
            losses.as_mut_slice()[0] = 0.0;
            let labels = cpu.labels(1).unwrap();
            cpu.softmax_cross_entropy(SoftmaxCrossEntropy {
                shape: &s,
                logits: &array(cpu, &x),
                labels: &labels,
                second: None,
                class_weights: None,
                losses: &mut losses,
                correct: &mut correct,
                dlogits: None,
            })
            .unwrap();
            vec![losses.to_vec()]
        }) {
            assert!(found[0][0].is_nan());
        }
    }
}
