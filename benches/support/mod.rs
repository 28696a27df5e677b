//! What the benchmarks share: the device, its arrays, and the rate of its multiply-adds to compare with.
#![allow(dead_code)] // Each benchmark is a crate of its own and uses a part.

use alexnet_core::device::cpu::Array;
use alexnet_core::shape::LinearShape;
use alexnet_core::{Cpu, Device};
use std::sync::OnceLock;
use std::time::Instant;

/// All cores, the fastest instructions.
pub fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(|| Cpu::new(0).expect("the CPU"))
}

/// An array of small numbers.
pub fn array(len: usize) -> Array<f32> {
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
        let seconds =
            seconds(|| cpu().linear_backward_weight(&s, &x, &dy, false, &mut dw, &mut db).expect("the product"));
        2.0 * s.multiply_adds() as f64 / seconds / 1e9
    })
}

/// Prints what a call reaches and its share of [`peak`]; `multiply_adds` are those of the direct algorithm.
pub fn report(name: &str, multiply_adds: u64, call: impl FnMut()) {
    let rate = 2.0 * multiply_adds as f64 / seconds(call) / 1e9;
    println!("{name}: {rate:.1} GFLOP/s, {:.0} % of {:.1} ({})", 100.0 * rate / peak(), peak(), cpu().name());
}
