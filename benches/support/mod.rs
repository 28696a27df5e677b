//! What the benchmarks share: the device, its arrays, and the rate of its multiply-adds to compare with.
#![allow(dead_code)] // Each benchmark is a crate of its own and uses a part.

use alexnet_core::arguments::LinearBackwardWeight;
use alexnet_core::device::Parameter;
use alexnet_core::device::cpu::Buffer;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::shape::LinearShape;
use alexnet_core::{Cpu, Result, Sgd};
use criterion::{Criterion, Throughput};
use std::sync::OnceLock;
use std::time::Instant;

/// All cores, the fastest instructions.
pub fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(|| Cpu::new(0).expect("the CPU"))
}

/// An array of small numbers.
pub fn array(len: usize) -> Buffer {
    let values: Vec<f32> = (0..len).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let mut to = cpu().zeros(len).expect("memory");
    cpu().write(&values, &mut to).expect("room");
    to
}

/// Median seconds of eleven calls.
pub fn seconds(mut call: impl FnMut()) -> f64 {
    call();
    let mut times: Vec<f64> = (0..11)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[5]
}

/// GFLOP/s of a matrix product that stays in the cache, for which nothing but the inner tile matters.
pub fn peak() -> f64 {
    static PEAK: OnceLock<f64> = OnceLock::new();
    *PEAK.get_or_init(|| {
        let s = LinearShape { batch: 120, inputs: 1024, outputs: 1152 };
        let (x, dy, mut dw, mut db) =
            (array(s.input_len()), array(s.output_len()), array(s.weight_len()), array(s.outputs));
        let seconds = seconds(|| {
            cpu()
                .linear_backward_weight(LinearBackwardWeight {
                    shape: &s,
                    x: &x,
                    dy: &dy,
                    accumulate: false,
                    dw: &mut dw,
                    db: &mut db,
                })
                .expect("the product")
        });
        2.0 * s.multiply_adds() as f64 / seconds / 1e9
    })
}

/// Bytes a second of the plain update of 16 million parameters, which is bound by memory.
pub fn bandwidth() -> f64 {
    static BANDWIDTH: OnceLock<f64> = OnceLock::new();
    *BANDWIDTH.get_or_init(|| {
        let mut parameters = [parameter(16 << 20)];
        let seconds = seconds(|| cpu().sgd(&RULE, &mut parameters.iter_mut()).expect("the update"));
        20.0 * (16 << 20) as f64 / seconds
    })
}

/// Changes nothing but the momentum, so that the numbers stay usual ones.
pub const RULE: Sgd = Sgd { learning_rate: 0.0, momentum: 0.9, weight_decay: 5e-4, nesterov: false, decay_all: false };

/// A parameter with all that a training step and a moving average need.
pub fn parameter(len: usize) -> Parameter<Buffer> {
    let [value, gradient, momentum, average] = [(); 4].map(|()| array(len));
    let [gradient, momentum, average] = [gradient, momentum, average].map(Some);
    Parameter { name: "w".into(), shape: vec![len, 1], value, gradient, momentum, average, rate: 1.0 }
}

/// What a call has to do.
#[derive(Clone, Copy)]
pub enum Work {
    /// Multiply-adds of the direct algorithm: Winograd's may exceed the peak.
    MultiplyAdds(u64),
    /// Numbers that are read or written, of four bytes each; from a cache they may come faster than from memory.
    Numbers(usize),
}

/// Times a call: prints its rate and the share of [`peak`] or [`bandwidth`], then leaves it to criterion.
pub fn measure(criterion: &mut Criterion, group: &str, name: &str, work: Work, mut call: impl FnMut() -> Result<()>) {
    let mut call = || call().expect(name);
    let each = seconds(&mut call);
    let (throughput, amount, most, unit) = match work {
        Work::MultiplyAdds(n) => (Throughput::Elements(2 * n), 2.0 * n as f64, peak() * 1e9, "GFLOP/s"),
        Work::Numbers(n) => (Throughput::Bytes(4 * n as u64), 4.0 * n as f64, bandwidth(), "GB/s"),
    };
    let rate = amount / each;
    let (share, device) = (100.0 * rate / most, cpu().name());
    println!("{group} {name}: {:.1} {unit}, {share:.0} % of {:.1} ({device})", rate / 1e9, most / 1e9);
    let mut group = criterion.benchmark_group(group);
    group.sample_size(10).throughput(throughput).bench_function(name, |b| b.iter(&mut call));
}

/// Feature maps of the `cifar` network, by the convolution that makes them: side and channels.
pub const MAPS: [(&str, usize, usize); 5] =
    [("conv1", 16, 64), ("conv2", 8, 192), ("conv3", 4, 384), ("conv4", 4, 256), ("conv5", 4, 256)];
/// Batches.
pub const BATCHES: [usize; 2] = [32, 128];
