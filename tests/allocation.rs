//! A step allocates nothing: after `prepare` and one round, no operator of the CPU asks for memory.

mod support;

use alexnet_core::architecture::Operation;
use alexnet_core::device::Parameter;
use alexnet_core::random::Philox;
use alexnet_core::shape::{
    BatchNormShape, ConvShape, DropoutShape, FlattenShape, LinearShape, LossShape, LrnShape, MaxPoolShape,
};
use alexnet_core::{Device, Sgd};
use std::alloc::{GlobalAlloc, Layout, System};
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

// Without the test harness, whose own thread allocates at any moment.
fn main() {
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
    let rule = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.1, nesterov: true, decay_all: true };
    let operations = [
        Operation::Conv(direct),
        Operation::Conv(winograd),
        Operation::Linear(linear),
        Operation::Lrn(lrn),
        Operation::BatchNorm(batchnorm),
    ];
    for cpus in cpus() {
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
            }];
            assert!(cpu.uses_winograd(&winograd) && !cpu.uses_winograd(&direct));
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for batch in [5, 5, 3] {
                for s in [direct, winograd] {
                    let s = ConvShape { batch, ..s };
                    cpu.conv_forward(&s, &x, &w, &db, true, &mut y).unwrap();
                    cpu.conv_backward_data(&s, &y, &w, &mut dx).unwrap();
                    cpu.conv_backward_weight(&s, &x, &y, true, &mut dw, &mut db).unwrap();
                    cpu.conv_backward(&s, &x, &w, &y, true, &mut dw, &mut db, &mut dx).unwrap();
                }
                let s = LinearShape { batch, ..linear };
                cpu.linear_forward(&s, &x, &w, &db, true, &mut y).unwrap();
                cpu.linear_backward_data(&s, &y, &w, &mut dx).unwrap();
                cpu.linear_backward_weight(&s, &x, &y, false, &mut dw, &mut db).unwrap();
                cpu.lrn_forward(&lrn, &x, &mut y).unwrap();
                cpu.lrn_backward(&lrn, &x, &y, &mut dx).unwrap();
                let (running, statistics) = ([&mut mean, &mut variance], &mut statistics);
                cpu.batchnorm_forward(&batchnorm, &x, &w, &db, true, running, statistics, &mut y).unwrap();
                cpu.batchnorm_backward(&batchnorm, &x, &y, &w, statistics, true, &mut dw, &mut db, &mut dx).unwrap();
                cpu.batchnorm_inference(&batchnorm, &x, &w, &db, &mean, &variance, true, &mut y).unwrap();
                cpu.batchnorm_inference_backward(&batchnorm, &y, &w, &variance, &mut dx).unwrap();
                cpu.maxpool_forward(&pool, &x, &mut y, &mut argmax).unwrap();
                cpu.maxpool_backward(&pool, &y, &argmax, &mut dx).unwrap();
                cpu.add(20_000, &x, true, &mut y).unwrap();
                cpu.relu_forward(20_000, &mut y).unwrap();
                cpu.relu_backward(20_000, &y, &mut dx).unwrap();
                cpu.flatten_forward(&flatten, &x, &mut y).unwrap();
                cpu.dropout(&dropout, &mut y).unwrap();
                cpu.softmax_cross_entropy(&loss, &x, &labels, None, &mut dw, &mut db, Some(&mut dx)).unwrap();
                cpu.sgd(&rule, &mut parameters).unwrap();
                cpu.ema(0.9, &mut parameters).unwrap();
                cpu.write(&[0.5; 3], &mut w).unwrap();
            }
            let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(count, 0, "{} allocated {count} times", cpu.name());
        }
    }
}
