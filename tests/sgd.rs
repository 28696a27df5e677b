//! SGD of the CPU against the definition in f64.

mod support;

use alexnet_core::device::Operators;
use alexnet_core::device::Parameter;
use alexnet_core::{Sgd, reference};
use proptest::prelude::*;
use support::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_rule(
        len in prop_oneof![1usize..300, 60_000usize..140_000], learning_rate in 0.0..0.5f64, momentum in 0.0..1f64,
        weight_decay in 0.0..0.1f64, rate in 0.01..2f64, nesterov: bool, decay_all: bool, bias: bool, seed: u32,
    ) {
        // Rounded to f32, as the operator takes them.
        let [learning_rate, momentum, weight_decay] = [learning_rate, momentum, weight_decay].map(|v| f64::from(v as f32));
        let optimizer = Sgd { learning_rate, momentum, weight_decay, nesterov, decay_all };
        // Without `decay_all` a parameter of one dimension does not decay.
        let shape = if bias { vec![len] } else { vec![1, len] };
        let decay = if bias && !decay_all { 0.0 } else { weight_decay };
        let seed = u64::from(seed);
        let (w0, g, v0) = (values(seed, len), values(seed + 1, len), values(seed + 2, len));
        let run = |w: &[f32], sign: f64, wide: fn(&[f32]) -> Vec<f64>| {
            let (mut w, mut v) = (wide(w), wide(&v0));
            let optimizer = Sgd { learning_rate: sign * learning_rate * rate, weight_decay: decay, ..optimizer };
            reference::sgd(&optimizer, &mut w, &wide(&g), &mut v);
            [w, v]
        };
        let expected = run(&w0, 1.0, wide);
        let sums = run(&w0, -1.0, magnitudes);
        for (level, found) in on_all(|cpu| {
            let mut parameters = [Parameter {
                name: "w".into(),
                shape: shape.clone(),
                value: array(cpu, &w0),
                gradient: Some(array(cpu, &g)),
                momentum: Some(array(cpu, &v0)),
                average: None,
                rate,
            }];
            cpu.sgd(&optimizer, &mut parameters).unwrap();
            let [Parameter { value, momentum, .. }] = parameters;
            vec![value.to_vec(), momentum.unwrap().to_vec()]
        }) {
            // At most three products and three sums in a row, one more of each for Nesterov, and the rounding of the rate.
            for i in 0..2 {
                let bound: Vec<f64> = sums[i].iter().map(|sum| 9.0 * U * sum).collect();
                assert_within(&format!("{level} {optimizer:?} {}", ["w", "v"][i]), &found[i], &expected[i], &bound);
            }
        }
    }
}

#[test]
fn a_parameter_without_gradient_stays() {
    let optimizer = Sgd { learning_rate: 1.0, momentum: 0.9, weight_decay: 0.1, nesterov: false, decay_all: true };
    for cpus in cpus() {
        let value = array(&cpus[0], &[1.0, 2.0]);
        let mut parameters =
            [Parameter { name: "w".into(), shape: vec![2], value, gradient: None, momentum: None, average: None, rate: 1.0 }];
        cpus[0].sgd(&optimizer, &mut parameters).unwrap();
        assert_eq!(parameters[0].value[..], [1.0, 2.0]);
    }
}
