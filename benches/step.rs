//! One training step of `cifar`, at batch 128 unless another is given, launched kernel by kernel: under warpcheck its counters by
//! kernel, a JSON object per line. `.ci/gpu predict` keeps them, and `.ci/gpu ncu` measures the same step on a GPU.
//!
//! `cargo bench -p alexnet-kernels --bench step -- fp16 512`

#[path = "../tests/driver/mod.rs"]
mod driver;

use std::sync::Arc;

use alexnet_core::alexnet::{Options, Variant, architecture};
use alexnet_core::device::Memory;
use alexnet_core::network::{Images, MicroBatch};
use alexnet_core::random::Philox;
use alexnet_core::shape::{AugmentShape, Draw};
use alexnet_core::{Cuda, Network, Result, Sgd};
use alexnet_kernels::Precision;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let batch = words.iter().find_map(|word| word.parse().ok()).unwrap_or(128);
    let precisions = Precision::ALL.map(|precision| (format!("{precision:?}").to_lowercase(), precision));
    for (_, precision) in precisions.iter().filter(|(name, _)| words.contains(name)) {
        if let Err(error) = step(*precision, batch) {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

fn step(precision: Precision, batch: usize) -> Result<()> {
    let driver = driver::driver();
    let variant = Variant::Cifar;
    let (side, device) = (variant.image_size(), Arc::new(Cuda::new(0, precision)?));
    let mut network = Network::new(device.clone(), architecture(variant, Options::new(side, 10)), batch, true)?;
    network.initialise(Philox::new(1))?;
    let shape = AugmentShape {
        padding: 4,
        flip: true,
        mean: [0.5; 3],
        std: [0.25; 3],
        ..AugmentShape::plain(batch, side, Philox::new(1))
    };
    let pixels: Vec<u8> = (0..batch * shape.image_len()).map(|i| (i * 31 % 251) as u8).collect();
    let draws: Vec<Draw> = (0..batch as u32).map(|index| Draw { index, repeat: 0 }).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|n| n % 10).collect();
    let sgd = Sgd { learning_rate: 0.01, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: false };
    let mut done = Ok(());
    let counters = driver.counters(|| {
        done = network
            .load_bytes(Images::Batch(&pixels), &shape, &draws, &labels)
            .and_then(|()| network.step(&MicroBatch::whole(Philox::new(1), 0, batch, 0.0), Some(&sgd)))
            .and_then(|()| network.metrics().map(drop));
    });
    done?;
    eprintln!("a step on {}", device.name());
    counters.as_array().into_iter().flatten().for_each(|kernel| println!("{kernel}"));
    Ok(())
}
