//! Steps of several shards on the reference and on the CPU: the definition's bits, at any number of threads.

#[path = "support/shards.rs"]
mod support;

use std::sync::Arc;

use alexnet_core::network::{MicroBatch, Shards, Slot};
use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network, Reference};
use support::{DIVISIONS, SGD, State, architecture, by_definition, network, sharded};

const MOMENTUM: f64 = 0.1;

fn on_cpu(threads: usize, [count, batch, accumulate]: [usize; 3], steps: &[usize]) -> State {
    let shards = Shards::new(count, batch, accumulate).unwrap();
    let mut network = network(Arc::new(Cpu::new(threads).unwrap()), MOMENTUM, shards.max_batch());
    network.keep_average().unwrap();
    sharded(&mut network, shards, steps)
}

fn on_reference([count, batch, accumulate]: [usize; 3], steps: &[usize]) -> State {
    let shards = Shards::new(count, batch, accumulate).unwrap();
    let mut network = network(Arc::new(Reference::<f64>::new()), MOMENTUM, shards.max_batch());
    network.keep_average().unwrap();
    sharded(&mut network, shards, steps)
}

fn assert_same(found: &State, expected: &State, what: &str) {
    for ((name, found), (other, expected)) in found.arrays.iter().zip(&expected.arrays) {
        assert_eq!(name, other);
        let differ = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(differ, 0, "{what}: {differ} of {} elements of {name}", found.len());
    }
    assert_eq!(found.metrics, expected.metrics, "{what}");
}

#[test]
fn the_reference_computes_the_definition() {
    for (division, steps) in DIVISIONS {
        let expected =
            by_definition(Arc::new(Reference::<f64>::new()), division, &steps, |rate, x, e| e + rate * (x - e));
        assert_same(&on_reference(division, &steps), &expected, &format!("{division:?}"));
    }
}

#[test]
fn the_cpu_computes_the_definition_on_any_number_of_threads() {
    for (division, steps) in DIVISIONS {
        let approach = |rate: f64, x: f64, e: f64| {
            let (rate, x, e) = (rate as f32, x as f32, e as f32);
            f64::from(e + rate * (x - e))
        };
        let expected = by_definition(Arc::new(Cpu::new(1).unwrap()), division, &steps, approach);
        for threads in [1, 2, 3] {
            let found = on_cpu(threads, division, &steps);
            assert_same(&found, &expected, &format!("{division:?} on {threads} threads"));
        }
    }
}

/// One step in f32 against f64. Each of the thirteen layers rounds the sums that it computes, of at most images·64 products, and
/// a sum of k products may err by k roundings: relative to the size of the array, in each direction.
#[test]
fn the_cpu_is_the_reference_within_its_roundings() {
    for (division, steps) in DIVISIONS {
        let steps = &steps[..1];
        let (found, expected) = (on_cpu(2, division, steps), on_reference(division, steps));
        let bound = 2.0 * 13.0 * (steps[0] * 64) as f64 * 2f64.powi(-24);
        for ((name, found), (_, expected)) in found.arrays.iter().zip(&expected.arrays) {
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
            let size = norm(&mut expected.iter().copied());
            // A bias before a batch norm has a gradient of zero, and so a momentum of rounding errors.
            let allowed = if size < 1e-6 { 1e-6 } else { bound * size };
            assert!(error <= allowed, "{division:?} {name}: {error:e} of {size:e}");
        }
        assert!((found.metrics.loss - expected.metrics.loss).abs() <= bound * expected.metrics.loss);
    }
}

#[test]
fn one_shard_changes_no_bit() {
    let steps = [6, 6, 4];
    let [mut plain, mut one] = [(); 2].map(|()| network(Arc::new(Cpu::new(2).unwrap()), MOMENTUM, 3));
    let shards = Shards::new(1, 3, 2).unwrap();
    let before = one.memory_plan();
    let found = sharded(&mut one, shards, &steps);
    assert_eq!((one.memory_plan(), one.shards()), (before, None));
    let mut expected = None;
    for (step, images) in (0..).zip(steps) {
        for first in (0..images).step_by(3) {
            let n = 3.min(images - first);
            let piece = alexnet_core::network::Piece {
                images: first..first + n,
                slot: Slot { number: first / 3, accumulate: first > 0, ..Slot::default() },
            };
            support::step(&mut plain, step, &piece, images, first + n == images);
        }
        expected = Some(support::state(&plain));
    }
    assert_same(&found, &expected.unwrap(), "one shard");
}

#[test]
fn the_memory_plan_counts_the_arrays() {
    let mut network = network(Arc::new(Cpu::new(1).unwrap()), MOMENTUM, 2);
    let plan = network.memory_plan();
    for (count, arrays) in [(8, 3), (4, 2), (1, 0), (2, 1)] {
        network.shard(Shards::new(count, 8.min(2 * count), 1).unwrap()).unwrap();
        assert_eq!(network.memory_plan().gradients, (arrays + 1) * plan.gradients, "{count} shards");
    }
    // Frozen layers need none.
    let norm: u64 = network.parameters().iter().filter(|p| p.layer() == "layers.10").map(|p| 4 * p.len() as u64).sum();
    network.freeze(|layer| layer == "layers.10");
    assert_eq!(network.memory_plan().gradients, 2 * (plan.gradients - norm));
}

#[test]
fn what_is_refused() {
    let mut network = network(Arc::new(Cpu::new(1).unwrap()), MOMENTUM, 2);
    let error = |result: alexnet_core::Result<()>| result.unwrap_err().to_string();
    assert!(error(network.update(0, 4, &SGD)).contains("without shards"));
    assert!(error(network.shard(Shards::new(2, 6, 1).unwrap())).contains("a batch of 3 images"));
    network.shard(Shards::new(4, 8, 1).unwrap()).unwrap();
    network.load(&vec![0.5; 2 * 8 * 8 * 3], &[0, 1]).unwrap();
    let micro = |slot| MicroBatch { slot, ..MicroBatch::whole(Philox::new(1), 0, 8, 0.0) };
    assert!(error(network.step(&micro(Slot::default()), Some(&SGD))).contains("Network::update"));
    for slot in [
        Slot { array: 3, ..Slot::default() },
        Slot { array: 1, sums: 2, ..Slot::default() },
        Slot { number: 4, ..Slot::default() },
    ] {
        assert!(error(network.step(&micro(slot), None)).contains("is not one of"), "{slot:?}");
    }
    let mut inference = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture(MOMENTUM), 2, false).unwrap();
    assert!(error(inference.shard(Shards::new(4, 8, 1).unwrap())).contains("made for inference"));
}
