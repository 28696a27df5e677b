//! The average of the weights: the CPU against the definition in f64, the definition against PyTorch, and the network.

mod support;

use alexnet_core::device::{Memory, Operators};
use std::sync::Arc;

use alexnet_core::alexnet::{Options, Variant, architecture};
use alexnet_core::device::Parameter;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network, Sgd, reference};
use proptest::prelude::*;
use support::*;

proptest! {
    #![proptest_config(cases(60))]
    #[test]
    fn any_decay(len in prop_oneof![1usize..300, 60_000usize..140_000], decay in 0.0..1f64, seed: u32) {
        let seed = u64::from(seed);
        let (w, e) = (values(seed, len), values(seed + 1, len));
        let mut expected = wide(&e);
        reference::ema(decay, &wide(&w), &mut expected);
        for (level, found) in on_all_alike(|cpu| {
            let (value, average) = (array(cpu, &w), Some(array(cpu, &e)));
            let mut parameters =
                [Parameter { name: "w".into(), shape: vec![len], value, gradient: None, momentum: None, average, rate: 1.0 }];
            cpu.ema(decay, &mut parameters).unwrap();
            assert_eq!(parameters[0].value[..], w[..]);
            vec![parameters[0].average.as_ref().unwrap().to_vec()]
        }) {
            // The factor, the difference and the product are rounded, then the sum.
            let bound: Vec<f64> = (0..len)
                .map(|i| 1.001 * U * (3.0 * (1.0 - decay) * (f64::from(w[i]) - f64::from(e[i])).abs() + expected[i].abs()))
                .collect();
            assert_within(&format!("{level} {decay}"), &found[0], &expected, &bound);
        }
    }
}

#[test]
fn as_pytorch_averages() {
    // average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)) in float64, whose
    // first update copies the weights (1, −2, 0.3); after updates with (2, −2, 0.1) and (−1, 5, 0).
    let mut average = [1.0, -2.0, 0.3f64];
    reference::ema(0.9, &[2.0, -2.0, 0.1], &mut average);
    reference::ema(0.9, &[-1.0, 5.0, 0.0], &mut average);
    for (found, torch) in average.iter().zip([0.8900000000000001, -1.3000000000000003, 0.252]) {
        assert!((found - torch).abs() <= 1e-15, "{found}, PyTorch {torch}");
    }
}

#[test]
fn an_average_that_equals_its_weight_stays() {
    for cpus in cpus() {
        for decay in [0.9, 0.99, 0.999, 0.9999] {
            let numbers = values(1, 1000);
            let [value, average] = [(); 2].map(|()| array(&cpus[0], &numbers));
            let (shape, average) = (vec![1000], Some(average));
            let mut parameters =
                [Parameter { name: "w".into(), shape, value, gradient: None, momentum: None, average, rate: 1.0 }];
            cpus[0].ema(decay, &mut parameters).unwrap();
            assert_eq!(parameters[0].average.as_ref().unwrap()[..], numbers[..]);
        }
    }
}

#[test]
fn a_network_is_evaluated_with_its_average() {
    let options = Options::new(32, 3);
    let device = Arc::new(Cpu::new(2).unwrap());
    let network = |training| {
        let mut network = Network::new(device.clone(), architecture(Variant::Cifar, options), 2, training).unwrap();
        network.initialise(Philox::new(5)).unwrap();
        network
    };
    let images: Vec<f32> = (0..2 * 32 * 32 * 3).map(|i| (i as f32 * 0.71).sin()).collect();
    let logits = |network: &mut Network<Cpu>| {
        network.predict(&images).unwrap();
        let mut logits = [0.0; 6];
        network.read_logits(&mut logits).unwrap();
        logits
    };
    let mut trained = network(true);
    trained.freeze(|layer| layer == "features.0");
    let plan = trained.memory_plan();
    trained.keep_average().unwrap();
    // The frozen layer needs none, and a second call begins anew with the same memory.
    trained.keep_average().unwrap();
    let frozen = 4 * (64 * 3 * 3 * 3 + 64);
    assert_eq!(trained.memory_plan().average, plan.parameters - frozen);
    assert_eq!(trained.memory_plan().total(), plan.total() + plan.parameters - frozen);

    let mut expected = network(false);
    let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: false };
    for step in 0..3 {
        trained.load(&images, &[2, 0]).unwrap();
        trained.step(&MicroBatch::whole(Philox::new(5), step, 2, 0.0), Some(&optimizer)).unwrap();
        trained.ema(0.5).unwrap();
        let (_, averages) = expected.device_and_parameters();
        for (average, parameter) in averages.iter_mut().zip(trained.parameters()) {
            let mut host = vec![0.0; average.len()];
            device.read(&average.value, &mut host).unwrap();
            reference::ema(0.5, &parameter.value, &mut host);
            device.write(&host, &mut average.value).unwrap();
        }
    }
    let own = logits(&mut trained);
    let averaged = trained.averaged(logits);
    assert_eq!(averaged, logits(&mut expected));
    assert_ne!(averaged, own);
    assert_eq!(logits(&mut trained), own);
}
