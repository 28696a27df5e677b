//! A training step of the CPU in bf16 against the reference in f64.

mod support;

use alexnet_core::device::cpu::Level;
use alexnet_core::gradcheck::network::gradients;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::shape::ConvShape;
use alexnet_core::{Architecture, Cpu, Device, LayerKind, LayerSpec, Network, Precision, Reference};
use std::sync::Arc;
use support::*;

const BATCH: usize = 6;
const IMAGE: usize = 8;

/// Without a ReLU or a maximum, at whose kinks a rounding may change a gradient by any amount.
fn network<D: Device>(device: D, from: impl Fn(f32) -> D::Element) -> Network<D> {
    let conv = |filters, stride| LayerKind::Conv { filters, kernel: 3, stride, padding: 1, groups: 1 };
    let linear = |outputs| LayerKind::Linear { outputs };
    let kinds = [conv(16, 2), conv(24, 1), LayerKind::Flatten, linear(40), linear(5)];
    let layers = kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind });
    let layers = layers.collect();
    let architecture = Architecture { name: "small".into(), image_size: IMAGE, channels: 3, classes: 5, layers };
    let mut network = Network::new(Arc::new(device), architecture, BATCH, true).unwrap();
    let (device, parameters) = network.device_and_parameters();
    for (p, parameter) in parameters.iter_mut().enumerate() {
        let fan = (parameter.len() / parameter.shape[0]).max(4) as f32;
        let scale = (3.0 / fan).sqrt();
        let value: Vec<_> = values(40 + p as u64, parameter.len()).into_iter().map(|x| from(x * scale)).collect();
        device.write(&value, &mut parameter.value).unwrap();
    }
    network
}

#[test]
fn a_step_is_the_reference_within_its_roundings() {
    let images = values(5, BATCH * IMAGE * IMAGE * 3);
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 5).collect();
    let micro = MicroBatch::whole(Philox::new(11), 0, BATCH, 0.1);
    let mut reference = network(Reference::<f64>::new(), f64::from);
    let expected = gradients(&mut reference, &wide(&images), &labels, &micro).unwrap();
    // Forward and backward each of three layers with direct sums rounds two operands; one with Winograd's algorithm errs by
    // 0.024 at most (see `winograd/mod.rs`).
    let bound = 2.0 * (3.0 * 2.0 / 256.0 + 0.024);
    for level in Level::available() {
        let mut cpu = Cpu::with(2, level).unwrap();
        cpu.set_precision(Precision::Bf16).unwrap();
        let (height, width, channels, filters, kernel) = (4, 4, 16, 24, 3);
        let s = ConvShape { batch: BATCH, height, width, channels, filters, kernel, stride: 1, padding: 1, groups: 1 };
        assert!(cpu.uses_winograd(&s));
        let mut network = network(cpu, |x| x);
        let loss = gradients(&mut network, &images, &labels, &micro).unwrap().loss;
        assert!((loss - expected.loss).abs() < bound * expected.loss, "{level:?}: {loss} {}", expected.loss);
        for (found, expected) in network.parameters().iter().zip(reference.parameters()) {
            let name = &expected.name;
            let [found, expected] = [wide(found.gradient.as_ref().unwrap()), expected.gradient.clone().unwrap()];
            let differences: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let error = norm(&differences) / norm(&expected);
            eprintln!("{level:?} {name}: {error:.2e} of {bound:.2e}");
            assert!(error < bound, "{level:?} {name}: {error:e}");
            // The roundings are seen.
            assert!(error > 1e-4, "{level:?} {name}: {error:e}");
        }
    }
}
