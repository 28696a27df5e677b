//! Steps of several shards: the definition's bits in every precision, as a graph and eagerly, also with a step that is left out.

#[path = "../support/shards.rs"]
mod support;

use std::sync::Arc;

use alexnet_core::Cuda;
use alexnet_core::device::cuda::Precision;
use alexnet_core::device::{Operators, Scaler};
use alexnet_core::network::Shards;

use crate::support::{U, gpu};
use support::{DIVISIONS, State, by_definition, network, sharded};

fn device(precision: Precision, scale: f32) -> Arc<Cuda> {
    let device = Cuda::new(0, precision).unwrap();
    device.set_scaling(&Scaler { scale, ..Scaler::default() }).unwrap();
    Arc::new(device)
}

/// The state, the graphs that were captured, and the updates that were left out.
fn train(precision: Precision, scale: f32, [count, batch, accumulate]: [usize; 3], steps: &[usize], graph: bool) -> (State, usize, u32) {
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
            assert!(found.to_bits() == expected.to_bits() || close, "{what}: element {i} of {name}: {found:e} {expected:e}");
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
            let (replayed, captured, _) = train(precision, 1024.0, *division, steps, true);
            assert!(captured > division[0], "{what}: {captured} graphs");
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
    let scale = 2f32.powi(24);
    let expected = by_definition(device(Precision::Fp16, scale), division, &steps, approach);
    let (eager, _, skipped) = train(Precision::Fp16, scale, division, &steps, false);
    assert!((1..4).contains(&skipped), "{skipped} of 4 left out");
    assert_same(&eager, &expected, "left out");
    let (replayed, _, again) = train(Precision::Fp16, scale, division, &steps, true);
    assert!(replayed == eager && again == skipped, "other bits as a graph");
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
