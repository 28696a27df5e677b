//! Two training steps of a small batch, as text with the bits of their results: equal on all processors whose vectors have a
//! fused multiply-add.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use alexnet_core::alexnet::{self, Options, Variant};
use alexnet_core::device::cpu::Level;
use alexnet_core::network::MicroBatch;
use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network, Sgd};

/// Loss, logits, and a hash of all weights with their momentum and average, for two of the variants.
pub fn fingerprint(level: Level) -> String {
    let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: false };
    let run = |(variant, residual)| {
        let architecture = alexnet::architecture(variant, Options { residual, ..Options::new(32, 10) });
        let mut network = Network::new(Arc::new(Cpu::with(2, level).unwrap()), architecture, 3, true).unwrap();
        network.initialise(Philox::new(7)).unwrap();
        network.keep_average().unwrap();
        // No `sin`: its last bit depends on the C library.
        let images: Vec<f32> =
            (0..3 * network.architecture().image_len()).map(|i| (i * 37 % 199) as f32 / 100.0 - 1.0).collect();
        for step in 0..2 {
            network.load(&images, &[0, 3, 9]).unwrap();
            network.step(&MicroBatch::whole(Philox::new(7), step, 3, 0.1), Some(&sgd)).unwrap();
            network.ema(0.9).unwrap();
        }
        network.predict(&images).unwrap();
        let mut logits = [0.0; 3 * 10];
        network.read_logits(&mut logits).unwrap();
        let mut hash = DefaultHasher::new();
        for p in network.parameters() {
            for array in [Some(&p.value), p.momentum.as_ref(), p.average.as_ref()].into_iter().flatten() {
                array.iter().for_each(|x| hash.write_u32(x.to_bits()));
            }
        }
        format!("{variant:?}: {:?}, {logits:?}, {:x}", network.metrics().unwrap(), hash.finish())
    };
    [(Variant::Modern, true), (Variant::Cifar, false)].map(run).join("; ")
}
