use alexnet_core::device::{Memory, Operators};
use std::sync::Arc;

use alexnet_core::device::Parameter;
use alexnet_core::device::cuda::Precision;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::{Cuda, Network, Sgd, reference};

use crate::network::{BATCH, CLASSES, IMAGE, architecture, values};
use crate::support::{PRECISIONS, U, assert_close, floats, gpu, numbers, read, wide};

/// Around the kernel's chunk of 4096.
const LENGTHS: [usize; 6] = [1, 3, 4095, 4096, 4097, 10_001];

#[test]
fn every_average_of_more_than_one_launch() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for decay in [0.1, 0.999] {
            let found = gpu.run("ema", precision, |device| {
                let parameter = |(i, &len): (u64, &usize)| {
                    let mut average = device.weights(&[1, len]).unwrap();
                    device.write(&numbers(i, len, Precision::Fp32), &mut average).unwrap();
                    let value = floats(device, &numbers(100 + i, len, Precision::Fp32));
                    let (name, shape, average) = (format!("p{i}"), vec![len], Some(average));
                    Parameter { name, shape, value, gradient: None, momentum: None, average, rate: 1.0 }
                };
                let mut parameters: Vec<_> = (0..70).zip(LENGTHS.iter().cycle()).map(parameter).collect();
                device.ema(decay, &mut parameters).unwrap();
                parameters.iter().map(|p| read(device, p.average.as_ref().unwrap())).collect()
            });
            for (i, &len) in (0..70).zip(LENGTHS.iter().cycle()) {
                let [e, w] = [i, 100 + i].map(|seed| wide(&numbers(seed, len, Precision::Fp32)));
                let mut expected = e.clone();
                reference::ema(decay, &w, &mut expected);
                // The factor, the difference and the product are rounded, then the sum.
                assert_close("e", &found[i as usize], &expected, |j| {
                    1.001 * U * (3.0 * (1.0 - decay) * (w[j] - e[j]).abs() + expected[j].abs())
                });
            }
        }
    }
}

/// The copies that the tensor cores read follow the average, and recorded steps go on beside it.
#[test]
fn a_network_is_evaluated_with_its_average() {
    let gpu = gpu();
    let optimizer = Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 5e-4, nesterov: true, decay_all: false };
    let images = values(5, BATCH * IMAGE * IMAGE * 3, 1.0);
    let logits = |network: &mut Network<Cuda>| {
        network.predict(&images).unwrap();
        let mut logits = [0.0; BATCH * CLASSES];
        network.read_logits(&mut logits).unwrap();
        logits
    };
    for precision in PRECISIONS {
        let device = Arc::new(Cuda::new(0, precision).unwrap());
        let network = |training| {
            let mut network = Network::new(device.clone(), architecture(), BATCH, training).unwrap();
            let (device, parameters) = network.device_and_parameters();
            for (p, parameter) in (40..).zip(parameters) {
                let len = parameter.len();
                let scale = (3.0 / (len / parameter.shape[0]).max(4) as f32).sqrt();
                device.write(&values(p, len, scale), &mut parameter.value).unwrap();
            }
            network
        };
        let mut trained = network(true);
        trained.use_cuda_graph(true);
        trained.keep_average().unwrap();
        let mut expected = network(false);
        for step in 0..4 {
            trained.load(&images, &[1, 0, 3]).unwrap();
            trained.step(&MicroBatch::whole(Philox::new(11), step, BATCH, 0.0), Some(&optimizer)).unwrap();
            trained.ema(0.5).unwrap();
            let (_, averages) = expected.device_and_parameters();
            for (average, parameter) in averages.iter_mut().zip(trained.parameters()) {
                device.write(&read(&device, parameter.average.as_ref().unwrap()), &mut average.value).unwrap();
            }
            let own = logits(&mut trained);
            let averaged = trained.averaged(logits);
            assert_eq!(averaged, logits(&mut expected), "{precision:?}, step {step}");
            assert_ne!(averaged, own);
            assert_eq!(logits(&mut trained), own);
        }
        // The step, and inference with the weights and with their average.
        assert_eq!(trained.captured_graphs(), 3);
    }
    gpu.assert_clean("ema");
}
