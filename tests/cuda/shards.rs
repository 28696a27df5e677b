//! Steps of several shards: the definition's bits in every precision, as a graph and eagerly, also with a step that is left out.

#[path = "../support/shards.rs"]
mod support;

use std::sync::Arc;

use alexnet_core::Cuda;
use alexnet_core::device::cuda::Precision;
use alexnet_core::device::{Operators, Scaler};
use alexnet_core::network::Shards;

use alexnet_kernels::nccl::Nccl;
use alexnet_ranks::on_all;

use crate::support::{U, gpu, stand_in};
use support::{DIVISIONS, State, by_definition, network, sharded, synchronised};

/// At this scale the gradient of a logit, up to 1/8 in a batch of eight, is more than half precision holds.
const OVERFLOWS: f32 = 1048576.0;

fn device(precision: Precision, scale: f32) -> Arc<Cuda> {
    device_with(None, precision, scale)
}

fn device_with(nccl: Option<&'static Nccl>, precision: Precision, scale: f32) -> Arc<Cuda> {
    let mut device = Cuda::new(0, precision).unwrap();
    device.set_nccl(nccl);
    device.set_scaling(&Scaler { scale, ..Scaler::default() }).unwrap();
    Arc::new(device)
}

/// The state, the graphs that were captured, and the updates that were left out.
fn train(
    precision: Precision,
    scale: f32,
    [count, batch, accumulate]: [usize; 3],
    steps: &[usize],
    graph: bool,
) -> (State, usize, u32) {
    let shards = Shards::new(count, batch, accumulate).unwrap();
    let device = device(precision, scale);
    let mut network = network(device.clone(), 0.1, shards.max_batch());
    network.keep_average().unwrap();
    network.use_cuda_graph(graph);
    let state = sharded(&mut network, shards, steps);
    (state, network.captured_graphs(), device.scaler().unwrap().skipped)
}

fn assert_same(found: &State, expected: &State, what: &str) {
    for ((name, found), (_, expected)) in found.arrays.iter().zip(&expected.arrays) {
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            // A compiler may fuse the multiplication and the addition by which a running statistic moves.
            let close = name.contains("running_") && (found - expected).abs() <= 16.0 * U * expected.abs().max(1.0);
            assert!(
                found.to_bits() == expected.to_bits() || close,
                "{what}: element {i} of {name}: {found:e} {expected:e}"
            );
        }
    }
    assert_eq!(found.metrics, expected.metrics, "{what}");
}

fn approach(rate: f64, x: f64, e: f64) -> f64 {
    let (rate, x, e) = (rate as f32, x as f32, e as f32);
    f64::from(rate.mul_add(x - e, e))
}

#[test]
fn every_precision_computes_the_definition_eagerly_and_as_a_graph() {
    let gpu = gpu();
    for precision in Precision::ALL {
        for (division, steps) in &DIVISIONS[if precision == Precision::Fp32 { 0..3 } else { 1..2 }] {
            let what = format!("{precision:?} {division:?}");
            let expected = by_definition(device(precision, 1024.0), *division, steps, approach);
            let (eager, none, skipped) = train(precision, 1024.0, *division, steps, false);
            assert_eq!((none, skipped), (0, 0), "{what}");
            assert_same(&eager, &expected, &what);
            // Every second step is mixed: each of its micro-batches is a graph of its own.
            let alike = [division[1] * division[2]; 5];
            let (eager, ..) = train(precision, 1024.0, *division, &alike, false);
            let (replayed, captured, _) = train(precision, 1024.0, *division, &alike, true);
            assert_eq!(captured, 2 * Shards::new(division[0], division[1], division[2]).unwrap().slots() + 1, "{what}");
            assert!(replayed == eager, "{what}: other bits as a graph");
        }
    }
    gpu.assert_clean("shards");
}

/// A scale at which the gradients of the first steps overflow: the sum of the shards is tested, and nothing changes but the
/// running statistics and the scale.
#[test]
fn a_step_that_overflows_is_left_out() {
    let gpu = gpu();
    let (division, steps) = ([4, 8, 1], [8; 4]);
    let scale = OVERFLOWS;
    let expected = by_definition(device(Precision::Fp16, scale), division, &steps, approach);
    let (eager, _, skipped) = train(Precision::Fp16, scale, division, &steps, false);
    assert!((1..4).contains(&skipped), "{skipped} of 4 left out");
    assert_same(&eager, &expected, "left out");
    let (replayed, _, again) = train(Precision::Fp16, scale, division, &steps, true);
    assert!(replayed == eager && again == skipped, "other bits as a graph");
    gpu.assert_clean("shards");
}

fn shards_of([count, batch, accumulate]: [usize; 3]) -> Shards {
    Shards::new(count, batch, accumulate).unwrap()
}

/// What ranks, threads here, each with a device of its own, come to: their state, and what the last steps allocated.
fn on_ranks(
    size: usize,
    nccl: Option<&'static Nccl>,
    (precision, scale): (Precision, f32),
    graph: bool,
    shards: Shards,
    steps: &[usize],
) -> Vec<(State, u64)> {
    on_all(size, |ranks| {
        let device = device_with(nccl, precision, scale);
        let mut network = network(device.clone(), 0.1, shards.max_batch());
        network.keep_average().unwrap();
        network.use_cuda_graph(graph);
        let (first, rest) = steps.split_at(2);
        let own = support::sharded_among(&mut network, shards, Arc::new(ranks), first);
        assert!(own.metrics.loss > 0.0);
        assert_eq!(network.engine().unwrap().starts_with("NCCL"), nccl.is_some());
        let before = device.kernels().allocations();
        let divided = network.shards().unwrap();
        for (step, &images) in (2..).zip(rest) {
            support::sharded_step(&mut network, divided, step, images);
        }
        let allocated = device.kernels().allocations() - before;
        network.gather_momentum().unwrap();
        (support::state(&network), allocated)
    })
}

#[test]
fn any_number_of_ranks_has_the_bits_of_one_process() {
    let gpu = gpu();
    // The race check tells the launches of thirty at a time apart; here that many may begin on other threads while one runs.
    gpu.options("check=mem,init,sync");
    for (precision, scale, (division, steps), sizes) in [
        // Each rank's shard is whole: its linear layers' gradients are sent in the backward pass.
        (Precision::Fp32, 1.0, ([2, 5, 1], [5; 6]), &[2][..]),
        (Precision::Fp32, 1.0, ([4, 8, 1], [8, 8, 5, 2, 8, 8]), &[2, 4]),
        (Precision::Fp32, 1.0, ([4, 9, 2], [18, 18, 11, 3, 18, 18]), &[2, 4]),
        (Precision::Fp32, 1.0, ([8, 8, 1], [8, 8, 1, 3, 8, 8]), &[8]),
        (Precision::Bf16, 1.0, ([4, 8, 1], [8, 8, 5, 2, 8, 8]), &[2]),
        // With updates that are left out, on all ranks.
        (Precision::Fp16, OVERFLOWS, ([4, 8, 1], [8; 6]), &[2, 4]),
    ] {
        let (expected, _, skipped) = train(precision, scale, division, &steps, true);
        assert_eq!(skipped > 0, precision == Precision::Fp16);
        for &size in sizes {
            for (nccl, graph) in [(Some(stand_in()), true), (Some(stand_in()), false), (None, true)] {
                let found = on_ranks(size, nccl, (precision, scale), graph, shards_of(division), &steps);
                for (rank, (found, allocated)) in found.iter().enumerate() {
                    let what = format!("{precision:?} {division:?}: rank {rank} of {size}, {nccl:?}, graph: {graph}");
                    assert!(*found == expected, "{what}: other bits");
                    assert_eq!(*allocated, 0, "{what}");
                }
            }
        }
    }
    gpu.assert_clean("shards");
    gpu.options("check=all");
}

/// Batch norms over the whole step: the bits of one process at any number of ranks, those of the definition within roundings.
#[test]
fn synchronised_batch_norms_do_not_depend_on_the_ranks() {
    let gpu = gpu();
    gpu.options("check=mem,init,sync");
    for (precision, scale, sizes) in
        [(Precision::Fp32, 1.0, &[2, 4][..]), (Precision::Bf16, 1.0, &[2]), (Precision::Fp16, OVERFLOWS, &[4])]
    {
        let (shards, steps) = (synchronised(4, 8), [8, 8, 5, 2]);
        let device = device(precision, scale);
        let mut network = network(device.clone(), 0.1, shards.max_batch());
        network.keep_average().unwrap();
        let expected = sharded(&mut network, shards, &steps);
        assert_eq!(device.scaler().unwrap().skipped > 0, precision == Precision::Fp16);
        for &size in sizes {
            for nccl in [Some(stand_in()), None] {
                let found = on_ranks(size, nccl, (precision, scale), true, shards, &steps);
                for (rank, (found, allocated)) in found.iter().enumerate() {
                    let what = format!("{precision:?}, rank {rank} of {size}, {nccl:?}");
                    assert!(*found == expected, "{what}: other bits");
                    assert_eq!(*allocated, 0, "{what}");
                }
            }
        }
    }
    gpu.assert_clean("shards");
    gpu.options("check=all");
}

/// One step in f32 against f64. Each of the thirteen layers rounds sums of at most images·64 products, in each direction.
#[test]
fn synchronised_batch_norms_are_those_of_the_reference() {
    let gpu = gpu();
    let shards = synchronised(4, 8);
    let mut network = network(device(Precision::Fp32, 1.0), 0.1, shards.max_batch());
    let found = sharded(&mut network, shards, &[8]);
    let mut network = support::network(Arc::new(alexnet_core::Reference::<f64>::new()), 0.1, shards.max_batch());
    let expected = sharded(&mut network, shards, &[8]);
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    for ((name, found), (_, expected)) in found.arrays.iter().zip(&expected.arrays) {
        let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        // A bias before a batch norm has a gradient of zero, and so a momentum of rounding errors.
        let allowed = 26.0 * 512.0 * U * norm(&mut expected.iter().copied()).max(1e-2);
        assert!(error <= allowed, "{name}: {error:e}, {allowed:e}");
    }
    gpu.assert_clean("shards");
}

#[test]
fn a_sharded_step_allocates_nothing() {
    let gpu = gpu();
    let device = device(Precision::Fp32, 1.0);
    let shards = Shards::new(4, 8, 1).unwrap();
    let mut network = network(device.clone(), 0.1, shards.max_batch());
    network.use_cuda_graph(true);
    sharded(&mut network, shards, &[8; 3]);
    let before = device.kernels().allocations();
    for step in 3..5 {
        support::sharded_step(&mut network, shards, step, 8);
    }
    network.metrics().unwrap();
    assert_eq!(device.kernels().allocations(), before);
    gpu.assert_clean("shards");
}
