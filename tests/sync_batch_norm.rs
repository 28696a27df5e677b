//! Batch norms over a whole step of several shards: what one shard would compute, its gradients, and the bits of any number of ranks.

#[path = "support/shards.rs"]
mod support;

use std::sync::Arc;

use alexnet_core::device::{Device, Memory};
use alexnet_core::network::{MicroBatch, Shards};
use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Error, Network, Reference, Sgd};
use alexnet_ranks::{Ranks, local};
use support::{SGD, State, network, sharded_step, single, state, synchronised};

const MOMENTUM: f64 = 0.1;
/// Full steps, an uneven one and one of fewer images than shards.
const STEPS: [usize; 4] = [8, 8, 5, 2];

/// Trains these steps; images are not mixed, which works on a micro-batch.
fn train<D: Device>(device: Arc<D>, shards: Shards, ranks: Arc<dyn Ranks>, steps: &[usize]) -> State {
    let mut network = network(device, MOMENTUM, shards.max_batch());
    network.keep_average().unwrap();
    let shards = network.shard(shards, ranks).unwrap();
    for (step, &images) in (0..).step_by(2).zip(steps) {
        sharded_step(&mut network, shards, step, images);
    }
    network.gather_momentum().unwrap();
    state(&network)
}

/// The largest difference of an array, relative to its size and to `bound`.
fn worst(found: &State, expected: &State, bound: f64) -> (f64, String) {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let arrays = found.arrays.iter().zip(&expected.arrays).map(|((name, found), (_, expected))| {
        let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        // A bias before a batch norm has a gradient of zero, and so a momentum of rounding errors.
        (error / (bound * norm(&mut expected.iter().copied()).max(1e-2)), name.clone())
    });
    arrays.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// Against one shard, whose batch norms see the whole step by themselves. Each of the thirteen layers rounds sums of at most
/// images·64 products in each direction, and what one step has rounded goes through those after it.
fn assert_is_one_shard<D: Device>(device: impl Fn() -> Arc<D>, rounding: f64, steps: &[usize]) {
    let bound = (steps.len() * 2 * 13 * 8 * 64) as f64 * rounding;
    let expected = train(device(), Shards::new(1, 8, 1).unwrap(), single(), steps);
    for count in [2, 4, 8] {
        let found = train(device(), synchronised(count, 8), single(), steps);
        let (error, name) = worst(&found, &expected, bound);
        assert!(error <= 1.0, "{count} shards: {name} is off by {error} bounds");
        let loss = (found.metrics.loss - expected.metrics.loss).abs();
        assert!(loss <= bound * expected.metrics.loss, "{count} shards: loss {loss}");
        // The bound tells them from batch norms of the shards.
        if count < 8 {
            let parts = train(device(), Shards::new(count, 8, 1).unwrap(), single(), steps);
            assert!(worst(&parts, &expected, bound).0 > 2.0, "{count} shards");
        }
    }
}

#[test]
fn the_reference_normalises_as_one_shard_does() {
    assert_is_one_shard(|| Arc::new(Reference::<f64>::new()), 2f64.powi(-53), &STEPS);
}

#[test]
fn the_cpu_normalises_as_one_shard_does() {
    assert_is_one_shard(|| Arc::new(Cpu::new(2).unwrap()), 2f64.powi(-24), &STEPS[..1]);
}

/// The mean loss of one step, with one weight changed, and the gradients, which a first step leaves as the momentum.
fn step(count: usize, images: usize, change: Option<(usize, usize, f64)>) -> (f64, Vec<(String, Vec<f64>)>) {
    let shards = synchronised(count, 8);
    let mut network: Network<Reference<f64>> = network(Arc::new(Reference::new()), MOMENTUM, shards.max_batch());
    if let Some((p, i, by)) = change {
        let (device, parameters) = network.device_and_parameters();
        let mut value = [0.0];
        device.read_at(&parameters[p].value, i, &mut value).unwrap();
        device.write_at(&[value[0] + by], &mut parameters[p].value, i).unwrap();
    }
    let shards = network.shard(shards, single()).unwrap();
    for piece in shards.pieces(images) {
        let pixel = |i: usize| ((i * 7919 + piece.images.start * 104_729) % 1000) as f64 / 500.0 - 1.0;
        let pixels: Vec<f64> = (0..piece.images.len() * 192).map(pixel).collect();
        let labels: Vec<u32> = piece.images.clone().map(|i| i as u32 % 4).collect();
        network.load(&pixels, &labels).unwrap();
        let micro = MicroBatch::whole(Philox::new(7), 0, images, 0.1);
        network.step(&MicroBatch { first_image: piece.images.start, slot: piece.slot, ..micro }, None).unwrap();
    }
    let sgd = Sgd { learning_rate: 0.0, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: false };
    network.update(0, images, &sgd).unwrap();
    let momenta = network.parameters().iter().filter_map(|p| Some((p.name.clone(), p.momentum.clone()?)));
    (network.metrics().unwrap().loss / images as f64, momenta.collect())
}

/// Central differences of the loss of the whole step. Their own error is ε²/6 of a third derivative and 2⁻⁵³/ε of the loss.
#[test]
fn the_gradients_are_those_of_the_loss_of_the_step() {
    const E: f64 = 1e-5;
    for (count, images) in [(4, 8), (4, 7), (8, 3)] {
        let (_, gradients) = step(count, images, None);
        let named = network(Arc::new(Reference::<f64>::new()), MOMENTUM, 1);
        for (name, gradient) in gradients {
            let p = named.parameters().iter().position(|parameter| parameter.name == name).unwrap();
            for i in (0..gradient.len()).step_by(gradient.len().div_ceil(5)) {
                let [above, below] = [E, -E].map(|by| step(count, images, Some((p, i, by))).0);
                let (numerical, found) = ((above - below) / (2.0 * E), gradient[i]);
                let error = (numerical - found).abs();
                assert!(error <= 1e-7 + 1e-5 * found.abs(), "{count} shards, {name}[{i}]: {found} {numerical}");
            }
        }
    }
}

#[test]
fn any_number_of_ranks_and_threads_has_the_bits_of_one_process() {
    for (count, batch, steps) in [(2, 5, [5, 5, 3, 1]), (4, 8, STEPS), (8, 8, [8, 8, 7, 3])] {
        let shards = synchronised(count, batch);
        let train = |threads, ranks| {
            let mut network = network(Arc::new(Cpu::new(threads).unwrap()), MOMENTUM, shards.max_batch());
            network.keep_average().unwrap();
            support::sharded_among(&mut network, shards, ranks, &steps)
        };
        let expected = train(1, single());
        assert!(train(3, single()) == expected, "{count} shards: other bits on three threads");
        for size in [2, 4, 8].into_iter().filter(|&size| size <= count) {
            std::thread::scope(|scope| {
                let start = |(rank, ranks)| scope.spawn(move || train(1 + rank % 2, Arc::new(ranks)));
                let threads: Vec<_> = local(size).into_iter().enumerate().map(start).collect();
                for (rank, thread) in threads.into_iter().enumerate() {
                    assert!(thread.join().unwrap() == expected, "{count} shards: other bits on rank {rank} of {size}");
                }
            });
        }
    }
}

/// A frozen batch norm normalises by its running statistics, whatever the others do.
#[test]
fn a_frozen_batch_norm_stays_out() {
    let run = |count| {
        let mut network = network(Arc::new(Reference::<f64>::new()), MOMENTUM, 8);
        network.freeze(|layer| layer == "layers.1" || layer == "layers.0");
        let shards = if count == 1 { Shards::new(1, 8, 1).unwrap() } else { synchronised(count, 8) };
        let shards = network.shard(shards, single()).unwrap();
        sharded_step(&mut network, shards, 0, 8);
        state(&network)
    };
    let (one, four) = (run(1), run(4));
    assert!(worst(&four, &one, 26.0 * 512.0 * 2f64.powi(-53)).0 <= 1.0);
    let running = |state: &State| {
        state.arrays.iter().filter(|(name, _)| name.starts_with("layers.1.")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(running(&one), running(&four));
}

#[test]
fn what_is_refused() {
    let refused = Shards::new(2, 8, 3).unwrap().with_sync_batch_norm();
    assert_eq!(refused, Err(Error::Together { batches: 3 }));
    // One shard is the whole step.
    assert!(!synchronised(1, 8).together());
    let mut network = network(Arc::new(Cpu::new(1).unwrap()), MOMENTUM, 4);
    let plan = network.memory_plan();
    let shards = network.shard(synchronised(2, 8), single()).unwrap();
    assert_eq!(network.memory_plan().activations, 2 * plan.activations);
    let [first, second] = [0, 1].map(|i| shards.pieces(8).nth(i).unwrap());
    let micro = |piece: &alexnet_core::network::Piece| MicroBatch {
        first_image: piece.images.start,
        slot: piece.slot,
        ..MicroBatch::whole(Philox::new(1), 0, 8, 0.0)
    };
    let load = |network: &mut Network<Cpu>| network.load(&vec![0.5; 4 * 192], &[0, 1, 2, 3]);
    let error = |result: alexnet_core::Result<()>| result.unwrap_err().to_string();
    load(&mut network).unwrap();
    network.step(&micro(&first), None).unwrap();
    assert!(error(network.step(&micro(&second), None)).contains("is not the next one"));
    assert!(error(network.update(0, 8, &SGD)).contains("1 micro-batches are loaded"));
    // The step is over.
    load(&mut network).unwrap();
    network.step(&micro(&first), None).unwrap();
    load(&mut network).unwrap();
    assert!(error(network.step(&micro(&first), None)).contains("is not the next one"));
    network.step(&micro(&second), None).unwrap();
    assert!(error(load(&mut network)).contains("`Network::update` comes next"));
    network.update(0, 8, &SGD).unwrap();
    network.shard(Shards::new(1, 4, 1).unwrap(), single()).unwrap();
    assert_eq!(network.memory_plan(), plan);
}
