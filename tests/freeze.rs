//! Frozen layers keep their parameters, and the others get the very gradients they get without.

use std::sync::Arc;

use alexnet_core::alexnet::{Options, Variant, architecture};
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Device, Network, Sgd};

fn step(frozen: &[&str]) -> Vec<(String, Vec<f32>)> {
    let options = Options { image: 32, classes: 3, dropout: 0.5, groups: 1 };
    let device = Arc::new(Cpu::new(2).unwrap());
    let mut network = Network::new(device, architecture(Variant::Cifar, options), 2, true).unwrap();
    network.initialise(Philox::new(5)).unwrap();
    let whole = network.memory_plan();
    network.freeze(|layer| frozen.contains(&layer));
    let kept: usize = network.parameters().iter().filter(|p| p.gradient.is_none()).map(|p| p.len() * 4).sum();
    let plan = network.memory_plan();
    assert_eq!((plan.gradients, plan.momentum), (whole.gradients - kept as u64, whole.momentum - kept as u64));
    let images: Vec<f32> = (0..2 * 32 * 32 * 3).map(|i| (i as f32 * 0.71).sin()).collect();
    let rule = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, nesterov: false, decay_all: true };
    network.train(&images, &[2, 0], &MicroBatch::whole(Philox::new(5), 0, 2, 0.0)).unwrap();
    network.update(&rule).unwrap();
    let read = |parameter: &alexnet_core::device::Parameter<_>| {
        let mut values = vec![0.0; parameter.len()];
        network.device().read(&parameter.value, &mut values).unwrap();
        (parameter.name.clone(), values)
    };
    network.parameters().iter().map(read).collect()
}

#[test]
fn what_is_not_frozen_is_trained_as_before() {
    let all = step(&[]);
    let features = ["features.0", "features.3", "features.6", "features.8", "features.10"];
    // From below, in the middle, all but the first: what lies before a trained layer still gets its gradient.
    for frozen in [&features[..], &["features.6", "classifier.4"], &["features.3", "features.6", "classifier.6"]] {
        let part = step(frozen);
        for ((name, trained), (_, values)) in all.iter().zip(&part) {
            let layer = name.rsplit_once('.').unwrap().0;
            assert_eq!(values != trained, frozen.contains(&layer), "{name} with {frozen:?}");
        }
    }
    // With everything frozen a step changes nothing.
    let names: Vec<&str> = all.iter().map(|(name, _)| name.rsplit_once('.').unwrap().0).collect();
    let none = step(&names);
    assert!(all.iter().zip(&none).all(|((_, trained), (_, values))| trained != values));
    assert!(none == step(&names));
}
