//! A step allocates nothing: after `prepare` and one round, no operator of the CPU asks for memory.

#[path = "support/shards.rs"]
mod shards;
mod support;

use alexnet_core::Cpu;
use alexnet_core::Sgd;
use alexnet_core::architecture::Operation;
use alexnet_core::arguments::{
    Add, BatchNormBackward, BatchNormForward, BatchNormInference, BatchNormInferenceBackward, ConvBackward,
    ConvBackwardData, ConvBackwardWeight, ConvForward, Dropout, FlattenForward, LinearBackwardData,
    LinearBackwardWeight, LinearForward, LrnBackward, LrnForward, MaxPoolBackward, MaxPoolForward, ReluBackward,
    ReluForward, SoftmaxCrossEntropy,
};
use alexnet_core::device::Parameter;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::network::{MicroBatch, Shards};
use alexnet_core::random::Philox;
use alexnet_core::shape::{
    BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape, LrnShape, MaxPoolShape,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

struct Counting;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Steps of several shards: their micro-batches, sums, batch norms' moments and updates.
fn a_sharded_step_allocates_nothing(division: Shards, steps: [usize; 4]) {
    let mut network = shards::network(Arc::new(Cpu::new(2).unwrap()), 0.1, division.max_batch());
    network.keep_average().unwrap();
    shards::sharded(&mut network, division, &steps[..2]);
    let images = vec![0.5; division.max_batch() * 8 * 8 * 3];
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for (step, n) in (2..).zip(steps[2..].iter().copied()) {
        for piece in division.pieces(n) {
            let len = piece.images.len();
            network.load(&images[..len * 8 * 8 * 3], &[1, 2][..len]).unwrap();
            let micro = MicroBatch::whole(Philox::new(1), step, n, 0.1);
            network.step(&MicroBatch { first_image: piece.images.start, slot: piece.slot, ..micro }, None).unwrap();
        }
        network.update(step, n, &shards::SGD).unwrap();
        network.ema(0.9).unwrap();
    }
    let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(count, 0, "two steps of four shards allocated {count} times");
}

// Without the test harness, whose own thread allocates at any moment.
fn main() {
    // Its threads, which fill new weights, allocate as they start, which may be late on a busy machine.
    rayon::broadcast(|_| ());
    a_sharded_step_allocates_nothing(Shards::new(4, 8, 2).unwrap(), [16, 9, 16, 11]);
    a_sharded_step_allocates_nothing(shards::synchronised(4, 8), [8, 5, 8, 7]);
    let direct = ConvShape {
        batch: 5,
        height: 9,
        width: 9,
        channels: 3,
        filters: 20,
        kernel: 3,
        stride: 2,
        padding: 1,
        groups: 1,
    };
    let winograd = ConvShape { channels: 20, filters: 24, stride: 1, ..direct };
    let linear = LinearShape { batch: 5, inputs: 80, outputs: 10 };
    let lrn = LrnShape { pixels: 405, channels: 20, size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
    let batchnorm = BatchNormShape { rows: 405, channels: 20, epsilon: 1e-5, momentum: 0.1 };
    let pool = MaxPoolShape { batch: 5, height: 9, width: 9, channels: 20, kernel: 2, stride: 2, padding: 0 };
    let flatten = FlattenShape { batch: 5, height: 2, width: 2, channels: 20 };
    let loss = LossShape { batch: 5, classes: 10, smoothing: 0.1, divisor: 5 };
    let dropout = DropoutShape { len: 400, rate: 0.5, philox: Philox::new(1), purpose: 1, step: 1, offset: 3 };
    let optimizer = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.1, nesterov: true, decay_all: true };
    let operations = [
        Operation::Conv(direct),
        Operation::Conv(winograd),
        Operation::Linear(linear),
        Operation::Lrn(lrn),
        Operation::BatchNorm(batchnorm),
    ];
    for cpus in PRECISIONS.into_iter().flat_map(cpus_in) {
        for cpu in cpus {
            cpu.prepare(&operations, true).unwrap();
            let large = || array(cpu, &values(1, 20_000));
            let (x, mut y, mut dx, mut dw, mut db, mut w) = (large(), large(), large(), large(), large(), large());
            let (mut mean, mut variance, mut statistics) = (large(), large(), large());
            let (mut argmax, labels) = (cpu.bytes(20_000).unwrap(), cpu.labels(5).unwrap());
            let mut parameters = [Parameter {
                name: "w".into(),
                shape: vec![20_000],
                value: large(),
                gradient: Some(large()),
                momentum: Some(large()),
                average: Some(large()),
                rate: 1.0,
            }];
            assert!(cpu.uses_winograd(&winograd) && !cpu.uses_winograd(&direct));
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for batch in [5, 5, 3] {
                for s in [direct, winograd] {
                    let s = ConvShape { batch, ..s };
                    cpu.conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &db, relu: true, y: &mut y }).unwrap();
                    cpu.conv_backward_data(ConvBackwardData { shape: &s, dy: &y, w: &w, mask: Some(&x), dx: &mut dx })
                        .unwrap();
                    cpu.conv_backward_weight(ConvBackwardWeight {
                        shape: &s,
                        x: &x,
                        dy: &y,
                        accumulate: true,
                        test: false,
                        dw: &mut dw,
                        db: &mut db,
                    })
                    .unwrap();
                    cpu.conv_backward(ConvBackward {
                        shape: &s,
                        x: &x,
                        w: &w,
                        dy: &y,
                        accumulate: true,
                        test: false,
                        masks: true,
                        dw: &mut dw,
                        db: &mut db,
                        dx: &mut dx,
                    })
                    .unwrap();
                }
                let s = LinearShape { batch, ..linear };
                cpu.linear_forward(LinearForward {
                    shape: &s,
                    relu: true,
                    dropout: Some(&dropout),
                    x: &x,
                    w: &w,
                    b: &db,
                    y: &mut y,
                })
                .unwrap();
                cpu.linear_backward_data(LinearBackwardData {
                    shape: &s,
                    dropout: Some(&dropout),
                    dy: &y,
                    w: &w,
                    mask: Some(&x),
                    dx: &mut dx,
                })
                .unwrap();
                cpu.linear_backward_weight(LinearBackwardWeight {
                    shape: &s,
                    x: &x,
                    dy: &y,
                    accumulate: false,
                    dw: &mut dw,
                    db: &mut db,
                })
                .unwrap();
                cpu.lrn_forward(LrnForward { shape: &lrn, x: &x, y: &mut y }).unwrap();
                cpu.lrn_backward(LrnBackward { shape: &lrn, x: &x, dy: &y, dx: &mut dx }).unwrap();
                cpu.batchnorm_forward(BatchNormForward {
                    shape: &batchnorm,
                    x: &x,
                    w: &w,
                    b: &db,
                    relu: true,
                    running_mean: &mut mean,
                    running_variance: &mut variance,
                    statistics: &mut statistics,
                    y: &mut y,
                })
                .unwrap();
                cpu.batchnorm_backward(BatchNormBackward {
                    shape: &batchnorm,
                    x: &x,
                    dy: &y,
                    w: &w,
                    statistics: &statistics,
                    accumulate: true,
                    dw: &mut dw,
                    db: &mut db,
                    dx: &mut dx,
                })
                .unwrap();
                cpu.batchnorm_inference(BatchNormInference {
                    shape: &batchnorm,
                    x: &x,
                    w: &w,
                    b: &db,
                    mean: &mean,
                    variance: &variance,
                    relu: true,
                    y: &mut y,
                })
                .unwrap();
                cpu.batchnorm_inference_backward(BatchNormInferenceBackward {
                    shape: &batchnorm,
                    dy: &y,
                    w: &w,
                    variance: &variance,
                    dx: &mut dx,
                })
                .unwrap();
                cpu.maxpool_forward(MaxPoolForward { shape: &pool, x: &x, y: &mut y, argmax: &mut argmax }).unwrap();
                cpu.maxpool_backward(MaxPoolBackward {
                    shape: &pool,
                    dy: &y,
                    argmax: &argmax,
                    mask: None,
                    dx: &mut dx,
                })
                .unwrap();
                cpu.add(Add { len: 20_000, x: &x, relu: true, y: &mut y }).unwrap();
                cpu.relu_forward(ReluForward { len: 20_000, x: &mut y }).unwrap();
                cpu.relu_backward(ReluBackward { len: 20_000, y: &y, dy: &mut dx }).unwrap();
                cpu.flatten_forward(FlattenForward { shape: &flatten, x: &x, y: &mut y }).unwrap();
                cpu.dropout(Dropout { shape: &dropout, x: &mut y }).unwrap();
                cpu.softmax_cross_entropy(SoftmaxCrossEntropy {
                    shape: &loss,
                    logits: &x,
                    labels: &labels,
                    second: None,
                    class_weights: None,
                    losses: &mut dw,
                    correct: &mut db,
                    dlogits: Some(&mut dx),
                })
                .unwrap();
                cpu.sgd(&optimizer, &mut parameters.iter_mut()).unwrap();
                cpu.ema(0.9, &mut parameters).unwrap();
                cpu.write(&[0.5; 3], &mut w).unwrap();
            }
            let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(count, 0, "{} allocated {count} times", cpu.name());
        }
    }
}
