//! Trains a small convolutional network of one's own through the library, on the CPU or, with `cuda` as argument, on the
//! first NVIDIA GPU: `cargo run --release --example train_network [cuda]`.

use std::sync::Arc;

use alexnet_core::network::{Metrics, MicroBatch, Network};
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_core::{Architecture, Cpu, Cuda, Device, LayerKind, LayerSpec, Precision, Result, Sgd};

const SIZE: usize = 12;
const CLASSES: usize = 3;
const BATCH: usize = 32;

/// A batch of noisy stripes (N, H, W, 1), horizontal, vertical or diagonal, and which.
fn stripes(philox: Philox, batch: u32) -> (Vec<f32>, Vec<u32>) {
    let labels: Vec<u32> = (0..BATCH as u32).map(|n| philox.word(1, batch, n.into()) % CLASSES as u32).collect();
    let pixel = |i: usize| {
        let (label, y, x) = (labels[i / (SIZE * SIZE)], i / SIZE % SIZE, i % SIZE);
        let stripe = [y % 4 < 2, x % 4 < 2, (x + y) % 4 < 2][label as usize];
        f32::from(u8::from(stripe)) - 0.5 + uniform_f32(philox.word(2, batch, i as u64)) - 0.5
    };
    ((0..BATCH * SIZE * SIZE).map(pixel).collect(), labels)
}

/// Trains for three epochs, then classifies images that the network has not seen.
pub fn train<D: Device<Element = f32>>(device: D) -> Result<()> {
    let kinds = [
        LayerKind::Conv { filters: 8, kernel: 3, stride: 1, padding: 1, groups: 1 },
        LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 },
        LayerKind::Relu,
        LayerKind::MaxPool { kernel: 2, stride: 2, padding: 0 },
        LayerKind::Flatten,
        LayerKind::Dropout { rate: 0.2 },
        LayerKind::Linear { outputs: CLASSES },
    ];
    let layers = kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind });
    let (name, layers) = ("stripes".into(), layers.collect());
    let architecture = Architecture { name, image_size: SIZE, channels: 1, classes: CLASSES, layers };
    println!("{} parameters on {}", architecture.parameter_count()?, device.name());

    let philox = Philox::new(7);
    let mut network = Network::new(Arc::new(device), architecture, BATCH, true)?;
    network.initialise(philox)?;
    network.use_cuda_graph(true);
    let sgd = Sgd { learning_rate: 0.02, momentum: 0.9, weight_decay: 5e-4, nesterov: true, decay_all: false };
    for epoch in 0..3 {
        network.set_metrics(Metrics::default())?;
        for step in epoch * 50..(epoch + 1) * 50 {
            let (images, labels) = stripes(philox, step);
            network.load(&images, &labels)?;
            network.step(&MicroBatch::whole(philox, step, BATCH, 0.1), Some(&sgd))?;
        }
        let Metrics { loss, correct } = network.metrics()?;
        let images = (50 * BATCH) as f64;
        println!("epoch {}: loss {:.3}, accuracy {:.1} %", epoch + 1, loss / images, 100.0 * correct as f64 / images);
    }

    let (images, labels) = stripes(philox, u32::MAX);
    let mut logits = [0.0; BATCH * CLASSES];
    network.predict(&images)?;
    network.read_logits(&mut logits)?;
    let best = |row: &[f32]| (0..CLASSES).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    let correct = logits.chunks(CLASSES).zip(&labels).filter(|(row, label)| best(row) == **label as usize).count();
    println!("{correct} of {BATCH} new images are classified correctly");
    assert!(correct * 10 >= BATCH * 9, "it has not learned");
    Ok(())
}

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("cuda") => train(Cuda::new(0, Precision::Fp16)?),
        _ => train(Cpu::new(0)?),
    }
}
