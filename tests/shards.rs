//! Steps of several shards on the reference and on the CPU: the definition's bits, at any number of threads.

#[path = "support/shards.rs"]
mod support;

use std::sync::Arc;

use alexnet_core::device::exchange::Division;
use alexnet_core::network::{MicroBatch, Piece, Shards, Slot};
use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Cpu, LayerKind, LayerSpec, Network, Reference};
use alexnet_ranks::{Ranks, local};
use support::{DIVISIONS, SGD, State, architecture, by_definition, network, sharded, sharded_among, single};

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
            let piece = Piece {
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
        network.shard(Shards::new(count, 8.min(2 * count), 1).unwrap(), single()).unwrap();
        assert_eq!(network.memory_plan().gradients, (arrays + 1) * plan.gradients, "{count} shards");
    }
    // Frozen layers need none.
    let frozen: u64 =
        network.parameters().iter().filter(|p| p.layer() == "layers.10").map(|p| 4 * p.len() as u64).sum();
    network.freeze(|layer| layer == "layers.10");
    assert_eq!((network.shards(), network.memory_plan().gradients), (None, plan.gradients - frozen));
    network.shard(Shards::new(2, 4, 1).unwrap(), single()).unwrap();
    assert_eq!(network.memory_plan().gradients, 2 * (plan.gradients - frozen));
}

#[test]
fn what_is_refused() {
    let mut network = network(Arc::new(Cpu::new(1).unwrap()), MOMENTUM, 2);
    let error = |result: alexnet_core::Result<()>| result.unwrap_err().to_string();
    assert!(error(network.update(0, 4, &SGD)).contains("without shards"));
    let error_of = |network: &mut Network<Cpu>, count, batch| {
        network.shard(Shards::new(count, batch, 1).unwrap(), single()).unwrap_err().to_string()
    };
    assert!(error_of(&mut network, 2, 6).contains("a batch of 3 images"));
    network.shard(Shards::new(4, 8, 1).unwrap(), single()).unwrap();
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
    assert!(error_of(&mut inference, 4, 8).contains("made for inference"));
}

/// What each of `size` ranks, threads of this process, comes to; `work` gets its number of threads and its ranks.
fn on_ranks<R: Send>(size: usize, work: impl Fn(usize, Arc<dyn Ranks>) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |(rank, ranks)| scope.spawn(move || work(1 + rank % 2, Arc::new(ranks)));
        let threads: Vec<_> = local(size).into_iter().enumerate().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn any_number_of_ranks_has_the_bits_of_one_process() {
    for (division @ [count, batch, accumulate], steps) in DIVISIONS {
        let expected = on_cpu(1, division, &steps);
        let shards = Shards::new(count, batch, accumulate).unwrap();
        for size in [1, 2, 4, 8].into_iter().filter(|&size| size <= count) {
            let found = on_ranks(size, |threads, ranks| {
                let mut network = network(Arc::new(Cpu::new(threads).unwrap()), MOMENTUM, shards.max_batch());
                network.keep_average().unwrap();
                sharded_among(&mut network, shards, ranks, &steps)
            });
            for (rank, found) in found.iter().enumerate() {
                assert_same(found, &expected, &format!("{division:?}: rank {rank} of {size}"));
            }
        }
    }
}

/// Parameters that are large enough to be divided, in slices that are no whole number of blocks.
#[test]
fn large_parameters_are_divided() {
    let kinds = [
        LayerKind::Flatten,
        LayerKind::Linear { outputs: 301 },
        LayerKind::Relu,
        LayerKind::Linear { outputs: 257 },
        LayerKind::Relu,
        LayerKind::Linear { outputs: 4 },
    ];
    let layers = kinds.iter().enumerate().map(|(i, &kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
    let architecture = Architecture { name: "large".into(), image_size: 8, channels: 3, classes: 4, layers };
    let shards = Shards::new(8, 19, 1).unwrap();
    let train = |threads, ranks| {
        let device = Arc::new(Cpu::new(threads).unwrap());
        let mut network = Network::new(device, architecture.clone(), shards.max_batch(), true).unwrap();
        network.initialise(Philox::new(4)).unwrap();
        let state = sharded_among(&mut network, shards, ranks, &[19, 19, 12, 3]);
        (state, network.memory_plan().gradients)
    };
    let (expected, _) = train(2, single());
    let gradients = 4 * architecture.parameter_count().unwrap() as u64;
    for size in [2, 4, 8] {
        let large = [192 * 301, 301 * 257];
        assert!(large.iter().all(|&len| (0..size).all(|rank| !Division::of(len, size, 0).range(rank).is_empty())));
        let found = on_ranks(size, train);
        for (rank, (found, _)) in found.iter().enumerate() {
            assert_same(found, &expected, &format!("rank {rank} of {size}"));
        }
        // Sums of the own shards, and of every element the gradients of the other ranks at its owner.
        let (all, own) = (found.iter().map(|(_, bytes)| bytes).sum::<u64>(), (8 / size).ilog2() as u64);
        let (least, padding) = (size as u64 * (1 + own) * gradients + (size as u64 - 1) * gradients, 6 * 4 * 64);
        assert!((least..least + size as u64 * size as u64 * padding).contains(&all), "{size} ranks: {all}, {least}");
    }
}

#[test]
fn a_rank_whose_shards_have_no_images_takes_part() {
    let shards = Shards::new(8, 8, 1).unwrap();
    let steps = [1, 2, 8];
    let expected = on_cpu(1, [8, 8, 1], &steps);
    let found = on_ranks(8, |threads, ranks| {
        let mut network = network(Arc::new(Cpu::new(threads).unwrap()), MOMENTUM, 1);
        network.keep_average().unwrap();
        sharded_among(&mut network, shards, ranks, &steps)
    });
    found.iter().for_each(|found| assert_same(found, &expected, "few images"));
}

/// On one rank alone the loss is infinite: no rank updates a weight.
#[test]
fn a_loss_that_is_infinite_on_one_rank_updates_none() {
    let shards = Shards::new(2, 4, 1).unwrap();
    let found = on_ranks(2, |threads, ranks| {
        let mut network = network(Arc::new(Cpu::new(threads).unwrap()), MOMENTUM, shards.max_batch());
        let shards = network.shard(shards, ranks).unwrap();
        let before = support::state(&network);
        for piece in shards.pieces(4) {
            let value = if shards.rank() == 1 { f32::INFINITY } else { 0.5 };
            network.load(&vec![value; 2 * 8 * 8 * 3], &[0, 1]).unwrap();
            let micro = MicroBatch::whole(Philox::new(1), 0, 4, 0.0);
            network.step(&MicroBatch { first_image: piece.images.start, slot: piece.slot, ..micro }, None).unwrap();
        }
        network.update(0, 4, &SGD).unwrap();
        let trained = |state: &State| {
            state.arrays.iter().filter(|(name, _)| !name.contains("running")).cloned().collect::<Vec<_>>()
        };
        (trained(&before) == trained(&support::state(&network)), network.metrics().unwrap().loss)
    });
    assert!(found.iter().all(|(same, loss)| *same && !loss.is_finite()), "{found:?}");
}

#[test]
fn ranks_that_cannot_divide_the_shards_are_refused() {
    let errors = on_ranks(4, |_, ranks| {
        let mut network = network(Arc::new(Cpu::new(1).unwrap()), MOMENTUM, 4);
        network.shard(Shards::new(2, 8, 1).unwrap(), ranks).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("4 processes for 2 shards")), "{errors:?}");
}
