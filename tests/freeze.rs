//! Frozen layers keep their parameters, and the others get the very gradients they get without.

use alexnet_core::device::Memory;
use alexnet_core::device::Operators;
use std::sync::Arc;

use alexnet_core::alexnet::{Options, Variant, architecture};
use alexnet_core::gradcheck::network::gradients;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Cpu, LayerKind, LayerSpec, Network, Sgd};

fn step(frozen: &[&str]) -> Vec<(String, Vec<f32>)> {
    let options = Options::new(32, 3);
    let device = Arc::new(Cpu::new(2).unwrap());
    let mut network = Network::new(device, architecture(Variant::Cifar, options), 2, true).unwrap();
    network.initialise(Philox::new(5)).unwrap();
    let whole = network.memory_plan();
    network.freeze(|layer| frozen.contains(&layer));
    let kept: usize = network.parameters().iter().filter(|p| p.gradient.is_none()).map(|p| p.len() * 4).sum();
    let plan = network.memory_plan();
    assert_eq!((plan.gradients, plan.momentum), (whole.gradients - kept as u64, whole.momentum - kept as u64));
    let images: Vec<f32> = (0..2 * 32 * 32 * 3).map(|i| (i as f32 * 0.71).sin()).collect();
    let optimizer = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, nesterov: false, decay_all: true };
    network.load(&images, &[2, 0]).unwrap();
    network.step(&MicroBatch::whole(Philox::new(5), 0, 2, 0.0), Some(&optimizer)).unwrap();
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

/// Convolution, batch norm and ReLU, twice, before a linear layer.
fn normalised(frozen: &[&str]) -> Network<Cpu> {
    let conv = LayerKind::Conv { filters: 6, kernel: 3, stride: 1, padding: 1, groups: 1 };
    let norm = LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 };
    let end = [LayerKind::Flatten, LayerKind::Linear { outputs: 3 }];
    let kinds = [&[conv, norm, LayerKind::Relu].repeat(2), &end[..]].concat();
    let layers =
        kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
    let architecture = Architecture { name: "normalised".into(), image_size: 5, channels: 3, classes: 3, layers };
    let mut network = Network::new(Arc::new(Cpu::new(2).unwrap()), architecture, 4, true).unwrap();
    network.initialise(Philox::new(5)).unwrap();
    network.freeze(|layer| frozen.contains(&layer));
    network
}

fn pixels(seed: f32) -> Vec<f32> {
    (0..4 * 5 * 5 * 3).map(|i| (i as f32 * seed).sin()).collect()
}

fn values(network: &Network<Cpu>) -> Vec<(String, Vec<f32>)> {
    network.parameters().iter().map(|p| (p.name.clone(), p.value.to_vec())).collect()
}

fn logits(network: &Network<Cpu>) -> [f32; 12] {
    let mut logits = [0.0; 12];
    network.read_logits(&mut logits).unwrap();
    logits
}

#[test]
fn a_frozen_batch_norm_keeps_its_statistics_and_normalises_by_them() {
    let names = ["layers.0", "layers.1", "layers.3", "layers.4", "layers.7"];
    let micro = MicroBatch::whole(Philox::new(5), 0, 4, 0.0);
    let optimizer = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, nesterov: false, decay_all: true };
    for frozen in [&[][..], &["layers.1"], &["layers.4"], &["layers.0", "layers.1"]] {
        let mut network = normalised(frozen);
        let before = values(&network);
        network.load(&pixels(0.71), &[2, 0, 1, 0]).unwrap();
        network.step(&micro, Some(&optimizer)).unwrap();
        let trained = logits(&network);
        for ((name, now), (_, before)) in values(&network).iter().zip(&before) {
            let layer = name.rsplit_once('.').unwrap().0;
            assert!(names.contains(&layer));
            // The bias before a batch norm that subtracts its mean has no gradient but rounding.
            assert_eq!(now == before, frozen.contains(&layer), "{name} with {frozen:?}");
        }
        // With its own batch's statistics a trained one gives another loss than with the running ones.
        let mut evaluated = normalised(frozen);
        evaluated.predict(&pixels(0.71)).unwrap();
        assert_ne!(logits(&evaluated), trained);
    }
    // All batch norms frozen: training's forward pass is evaluation's.
    let mut network = normalised(&["layers.1", "layers.4"]);
    gradients(&mut network, &pixels(0.71), &[2, 0, 1, 0], &micro).unwrap();
    let trained = logits(&network);
    network.predict(&pixels(0.71)).unwrap();
    assert_eq!(logits(&network), trained);
}

#[test]
fn running_statistics_are_no_parameters_to_train() {
    let network = normalised(&[]);
    for parameter in network.parameters() {
        let statistic = parameter.name.contains("running");
        assert_eq!((parameter.gradient.is_none(), parameter.momentum.is_none()), (statistic, statistic));
    }
    let trained: usize = network.parameters().iter().filter(|p| p.gradient.is_some()).map(|p| p.len()).sum();
    // Four bytes a gradient, a momentum and a weight; the running statistics are held as well, 2·6 in each layer.
    let plan = network.memory_plan();
    assert_eq!(plan.gradients, 4 * trained as u64);
    assert_eq!(plan.parameters, 4 * (trained as u64 + 24));
}

/// dL/dw of a convolution under a frozen batch norm, by central differences.
#[test]
fn what_lies_under_a_frozen_batch_norm_gets_its_gradient() {
    let mut network = normalised(&["layers.1", "layers.4"]);
    // Statistics and factors that are not their start.
    for (p, parameter) in network.device_and_parameters().1.iter_mut().enumerate() {
        let spread = |(i, x): (usize, &mut f32)| *x = *x * 1.3 + 0.1 * ((i + p) as f32).sin();
        parameter.value.as_mut_slice().iter_mut().enumerate().for_each(spread);
    }
    let (x, labels, micro) = (pixels(0.37), [2, 0, 1, 0], MicroBatch::whole(Philox::new(5), 0, 4, 0.0));
    gradients(&mut network, &x, &labels, &micro).unwrap();
    let gradient = network.parameters()[0].gradient.as_ref().unwrap().to_vec();
    let largest = gradient.iter().fold(0.0f32, |most, g| most.max(g.abs()));
    let index = gradient.iter().position(|g| g.abs() == largest).unwrap();
    let mut loss = |change: f32| {
        network.device_and_parameters().1[0].value.as_mut_slice()[index] += change;
        gradients(&mut network, &x, &labels, &micro).unwrap().loss / 4.0
    };
    let step = 1e-2;
    let (above, below) = (loss(step), loss(-2.0 * step));
    let numeric = (above - below) / (2.0 * f64::from(step));
    // Losses of about 1 in float: a difference errs by 1e-7 / 1e-2, and its own curvature is of the second order.
    let error = (numeric - f64::from(gradient[index])).abs();
    assert!(error < 0.02 * numeric.abs() && numeric.abs() > 0.01, "{numeric} {}", gradient[index]);
}

#[test]
fn a_pass_that_updates_has_the_bits_of_a_pass_and_an_update() {
    let optimizer = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, nesterov: true, decay_all: false };
    let run = |within: bool, frozen: &[&str]| {
        let mut network = normalised(frozen);
        for step in 0..3 {
            let micro = MicroBatch::whole(Philox::new(5), step, 4, 0.1);
            network.load(&pixels(0.7), &[0, 1, 2, 0]).unwrap();
            network.step(&micro, within.then_some(&optimizer)).unwrap();
            if !within {
                let (device, parameters) = network.device_and_parameters();
                device.sgd(&optimizer, &mut parameters.iter_mut()).unwrap();
            }
        }
        values(&network)
    };
    for frozen in [&[][..], &["layers.0"], &["layers.7"]] {
        assert!(run(true, frozen) == run(false, frozen), "{frozen:?}");
    }
}

#[test]
fn a_pass_that_updates_leaves_all_as_it_was_if_the_loss_is_not_finite() {
    let optimizer = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, nesterov: false, decay_all: false };
    let mut network = normalised(&[]);
    let trained = |network: &Network<Cpu>| {
        values(network).into_iter().filter(|(name, _)| !name.contains("running")).collect::<Vec<_>>()
    };
    let before = trained(&network);
    network.load(&vec![f32::NAN; 4 * 5 * 5 * 3], &[0, 1, 2, 0]).unwrap();
    let micro = MicroBatch::whole(Philox::new(5), 0, 4, 0.0);
    network.step(&micro, Some(&optimizer)).unwrap();
    assert!(network.metrics().unwrap().loss.is_nan());
    assert!(trained(&network) == before);
}
