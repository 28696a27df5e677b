//! Whole training steps: the CUDA device against the CPU's and against the reference in f64.

use std::sync::Arc;

use alexnet_core::device::Device;
use alexnet_core::device::cuda::Precision;
use alexnet_core::gradcheck::network::gradients;
use alexnet_core::network::{Metrics, MicroBatch};
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_core::{Architecture, Cpu, Cuda, LayerKind, LayerSpec, Network, Reference, Sgd};

use crate::support::{U, gpu};

pub const BATCH: usize = 3;
pub const CLASSES: usize = 4;
pub const IMAGE: usize = 21;

/// AlexNet's order of layers with every kind of layer, a few channels wide; widths that fill packs and that do not.
pub fn architecture() -> Architecture {
    let conv = |filters, kernel, stride, padding, groups| LayerKind::Conv { filters, kernel, stride, padding, groups };
    let pool = LayerKind::MaxPool { kernel: 3, stride: 2, padding: 0 };
    let dropout = LayerKind::Dropout { rate: 0.5 };
    let kinds = [
        conv(8, 5, 2, 2, 1),
        LayerKind::Relu,
        LayerKind::Lrn { size: 5, alpha: 0.1, beta: 0.75, k: 2.0 },
        pool,
        conv(6, 3, 1, 1, 2),
        LayerKind::Relu,
        conv(12, 3, 1, 1, 1),
        LayerKind::Relu,
        pool,
        LayerKind::AdaptiveAvgPool { side: 2 },
        LayerKind::Flatten,
        dropout,
        LayerKind::Linear { outputs: 16 },
        LayerKind::Relu,
        dropout,
        LayerKind::Linear { outputs: 13 },
        LayerKind::Relu,
        LayerKind::Linear { outputs: CLASSES },
    ];
    let layers = kinds.iter().enumerate().map(|(i, &kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
    Architecture { name: "small".into(), image_size: IMAGE, channels: 3, classes: CLASSES, layers }
}

/// Products in the longest sum of each layer with weights, forward (c·r²) and backward by weight (n·p·q).
const LONGEST: f64 = (BATCH * 11 * 11) as f64;
const LAYERS: f64 = 18.0;

pub fn values(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let philox = Philox::new(seed);
    (0..len).map(|i| (uniform_f32(philox.word(9, 0, i as u64)) * 2.0 - 1.0) * scale).collect()
}

/// Steps of training; the results, then every gradient and weight.
fn steps<D: Device>(device: Arc<D>, from: impl Fn(f32) -> D::Element, to: impl Fn(D::Element) -> f64) -> Steps {
    let mut network = Network::new(device, architecture(), BATCH, true).unwrap();
    let (device, parameters) = network.device_and_parameters();
    for (p, parameter) in parameters.iter_mut().enumerate() {
        let len = parameter.len();
        // Weights of 0.01 would make gradients that are all noise.
        let fan = (len / parameter.shape[0]).max(4) as f32;
        let value: Vec<_> = values(40 + p as u64, len, (3.0 / fan).sqrt()).into_iter().map(&from).collect();
        device.write(&value, &mut parameter.value).unwrap();
    }
    let images: Vec<_> = values(5, BATCH * IMAGE * IMAGE * 3, 1.0).into_iter().map(&from).collect();
    let optimizer = Sgd { learning_rate: 0.01, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: true };
    let mut found = Steps { results: Vec::new(), gradients: Vec::new(), weights: Vec::new() };
    for step in 0..2 {
        let micro = MicroBatch::whole(Philox::new(11), step, BATCH, 0.1);
        found.results.push(gradients(&mut network, &images, &[1, 0, 3], &micro).unwrap());
        let read = |buffer: &D::Buffer, len: usize| {
            let mut host = vec![from(0.0); len];
            network.device().read(buffer, &mut host).unwrap();
            host.into_iter().map(&to).collect::<Vec<f64>>()
        };
        if step == 0 {
            found.gradients =
                network.parameters().iter().map(|p| read(p.gradient.as_ref().unwrap(), p.len())).collect();
        }
        network.step(&micro, Some(&optimizer)).unwrap();
    }
    let mut host;
    for p in network.parameters() {
        host = vec![from(0.0); p.len()];
        network.device().read(&p.value, &mut host).unwrap();
        found.weights.push(host.into_iter().map(&to).collect());
    }
    found
}

#[derive(Debug, PartialEq)]
struct Steps {
    results: Vec<Metrics>,
    gradients: Vec<Vec<f64>>,
    weights: Vec<Vec<f64>>,
}

fn norm(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The share of the norm that `a` differs from `b` by.
pub fn difference(a: &[f64], b: &[f64]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a - b)) / norm(b.iter().copied())
}

#[test]
fn a_step_is_the_cpus_and_the_references() {
    let gpu = gpu();
    let run = || {
        let device = Arc::new(Cuda::new(0, Precision::Fp32).unwrap());
        let found = steps(device, |x| x, f64::from);
        gpu.assert_clean("network");
        found
    };
    let cuda = run();
    gpu.options("schedule=3");
    assert!(cuda == run(), "another schedule, other bits");
    gpu.options("schedule=");
    let cpu = steps(Arc::new(Cpu::new(1).unwrap()), |x| x, f64::from);
    let reference = steps(Arc::new(Reference::<f64>::new()), f64::from, |x| x);
    // In the norm a layer's sums of k products are off by k·u of the sum of the products' sizes, which with k signs at
    // random is √k of the sum itself; a layer's error passes on to the layers after it and back again.
    let bound = 2.0 * LAYERS * LONGEST * LONGEST.sqrt() * U;
    assert!(bound < 0.02, "a bound that says something");
    for other in [&cpu, &reference] {
        assert_eq!(cuda.results.len(), other.results.len());
        for (a, b) in cuda.results.iter().zip(&other.results) {
            assert_eq!(a.correct, b.correct);
            assert!((a.loss - b.loss).abs() < bound * b.loss, "{a:?} {b:?}");
        }
        for (i, (a, b)) in cuda.gradients.iter().zip(&other.gradients).enumerate() {
            // Another dropout mask would differ by as much as the gradient itself.
            assert!(difference(a, b) < bound, "gradient {i}: {:e} > {bound:e}", difference(a, b));
        }
        for (i, (a, b)) in cuda.weights.iter().zip(&other.weights).enumerate() {
            assert!(difference(a, b) < bound, "weight {i}: {:e} > {bound:e}", difference(a, b));
        }
    }
}
