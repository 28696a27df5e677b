//! SGD of the CPU against the definition in f64.

mod support;

use std::sync::Arc;

use alexnet_core::device::cpu::Level;
use alexnet_core::device::{Device, Element, Operators, Parameter};
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Cpu, LayerKind, LayerSpec, Network, Reference, Sgd, reference};
use proptest::prelude::*;
use support::*;

proptest! {
    #![proptest_config(cases(100))]
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
        for (level, found) in on_all_alike(|cpu| {
            let mut parameters = [Parameter {
                name: "w".into(),
                shape: shape.clone(),
                value: array(cpu, &w0),
                gradient: Some(array(cpu, &g)),
                momentum: Some(array(cpu, &v0)),
                average: None,
                rate,
            }];
            cpu.sgd(&optimizer, &mut parameters.iter_mut()).unwrap();
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
        let mut parameters = [Parameter {
            name: "w".into(),
            shape: vec![2],
            value,
            gradient: None,
            momentum: None,
            average: None,
            rate: 1.0,
        }];
        cpus[0].sgd(&optimizer, &mut parameters.iter_mut()).unwrap();
        assert_eq!(parameters[0].value[..], [1.0, 2.0]);
    }
}

/// A convolution and a linear layer, whose update the CPU fuses with its gradient, each with a rate of its own: one step
/// against the definition on networks in f64.
#[test]
fn a_layer_moves_by_its_own_rate() {
    const RULE: Sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: true, decay_all: false };
    fn stepped<D: Device>(device: Arc<D>, rates: [f64; 2], from: fn(f32) -> D::Element) -> Vec<Vec<f64>> {
        let kinds = [
            ("features.0", LayerKind::Conv { filters: 4, kernel: 3, stride: 1, padding: 1, groups: 1 }),
            ("flatten", LayerKind::Flatten),
            ("classifier.0", LayerKind::Linear { outputs: 3 }),
        ];
        let layers = kinds.into_iter().map(|(name, kind)| LayerSpec { name: name.into(), kind }).collect();
        let architecture = Architecture { name: "two".into(), image_size: 5, channels: 2, classes: 3, layers };
        let mut network = Network::new(device, architecture, 4, true).unwrap();
        network.initialise(Philox::new(3)).unwrap();
        network.set_rates(|layer| rates[usize::from(layer.starts_with("classifier"))]);
        let images: Vec<_> = values(7, 4 * 5 * 5 * 2).into_iter().map(from).collect();
        network.load(&images, &[0, 1, 2, 0]).unwrap();
        network.step(&MicroBatch::whole(Philox::new(3), 0, 4, 0.1), Some(&RULE)).unwrap();
        let read = |parameter: &Parameter<D::Buffer>| {
            let mut host = vec![D::Element::from_f64(0.0); parameter.len()];
            network.device().read(&parameter.value, &mut host).unwrap();
            host.into_iter().map(Element::to_f64).collect()
        };
        network.parameters().iter().map(read).collect()
    }
    let reference = |rates| stepped(Arc::new(Reference::<f64>::new()), rates, f64::from);
    // v is the same in all: the way w goes is proportional to the rate.
    let (still, whole, found) = (reference([0.0, 0.0]), reference([1.0, 1.0]), reference([0.125, 2.0]));
    for (p, rate) in [0.125, 0.125, 2.0, 2.0].into_iter().enumerate() {
        for ((still, whole), found) in still[p].iter().zip(&whole[p]).zip(&found[p]) {
            assert!((still + rate * (whole - still) - found).abs() < 1e-14, "{p}: {found}");
        }
        assert!(whole[p] != still[p] && found[p] != whole[p]);
    }
    for level in Level::available() {
        let ours = stepped(Arc::new(Cpu::with(2, level).unwrap()), [0.125, 2.0], |x| x);
        for (ours, expected) in ours.iter().flatten().zip(found.iter().flatten()) {
            // Gradients are sums of 100 products of numbers below 1, forward and backward.
            assert!((ours - expected).abs() < 2.0 * 2.0 * 200.0 * U, "{ours} {expected}");
        }
    }
}
