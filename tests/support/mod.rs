//! Shared by the operators' tests: inputs, devices, and comparison within a derived bound.
#![allow(dead_code)] // Each test is a crate of its own and uses part of this.

use alexnet_core::device::Memory;
use alexnet_core::device::cpu::{Buffer, Level};
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_core::{Cpu, Precision};
use proptest::prelude::ProptestConfig;
use std::sync::OnceLock;

/// Unit roundoff of f32: the maximum relative error of one operation.
pub const U: f64 = 1.0 / (1u32 << 24) as f64;

/// How many random cases a test tries: `most`, or as many as proptest's own variable `PROPTEST_CASES` says, if that is fewer.
pub fn cases(most: u32) -> ProptestConfig {
    let given = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(given.unwrap_or(most).min(most))
}

/// Devices with 1, 2 and 3 threads, for every level of this machine.
pub fn cpus() -> &'static [Vec<Cpu>] {
    cpus_in(Precision::Fp32)
}

/// The precisions of the CPU.
pub const PRECISIONS: [Precision; 2] = [Precision::Fp32, Precision::Bf16];

/// As [`cpus`], in one of [`PRECISIONS`].
pub fn cpus_in(precision: Precision) -> &'static [Vec<Cpu>] {
    static CPUS: OnceLock<[Vec<Vec<Cpu>>; 2]> = OnceLock::new();
    let cpu = |precision, level, threads| {
        let mut cpu = Cpu::with(threads, level).unwrap();
        cpu.set_precision(precision).unwrap();
        cpu
    };
    let cpus = CPUS.get_or_init(|| {
        PRECISIONS.map(|precision| {
            let levels = Level::available().into_iter();
            levels.map(|level| (1..=3).map(|threads| cpu(precision, level, threads)).collect()).collect()
        })
    });
    &cpus[PRECISIONS.iter().position(|&of| of == precision).unwrap()]
}

/// As the operands of the CPU's products are rounded in `precision`.
pub fn rounded(x: &[f32], precision: Precision) -> Vec<f32> {
    match precision {
        Precision::Bf16 => x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect(),
        _ => x.to_vec(),
    }
}

/// Numbers in [−1, 1).
pub fn values(seed: u64, len: usize) -> Vec<f32> {
    let philox = Philox::new(seed);
    (0..len as u64).map(|i| 2.0 * uniform_f32(philox.word(0, 0, i)) - 1.0).collect()
}

/// The same in f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// |x| in f64.
pub fn magnitudes(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x).abs()).collect()
}

/// `x` as an array of the device.
pub fn array(cpu: &Cpu, x: &[f32]) -> Buffer {
    let mut to = cpu.zeros(x.len()).unwrap();
    cpu.write(x, &mut to).unwrap();
    to
}

/// An array of NaN, which shows elements that an operator does not write.
pub fn unwritten(cpu: &Cpu, len: usize) -> Buffer {
    array(cpu, &vec![f32::NAN; len])
}

fn bits(results: &[Vec<f32>]) -> Vec<u32> {
    results.iter().flatten().map(|x| x.to_bits()).collect()
}

/// Runs `operator` on every device and checks that the bits of its results do not depend on the number of threads. Returns the
/// results of every level.
pub fn on_all(operator: impl Fn(&Cpu) -> Vec<Vec<f32>>) -> Vec<(&'static str, Vec<Vec<f32>>)> {
    on_all_in(Precision::Fp32, operator)
}

/// As [`on_all`], in one of [`PRECISIONS`].
pub fn on_all_in(precision: Precision, operator: impl Fn(&Cpu) -> Vec<Vec<f32>>) -> Vec<(&'static str, Vec<Vec<f32>>)> {
    Level::available()
        .into_iter()
        .zip(cpus_in(precision))
        .map(|(level, cpus)| {
            let first = operator(&cpus[0]);
            for cpu in &cpus[1..] {
                assert!(bits(&operator(cpu)) == bits(&first), "{} differs from one thread", cpu.name());
            }
            (level.name(), first)
        })
        .collect()
}

/// As [`on_all`], and the bits are the same at all levels with a fused multiply-add: all but the portable one, the first.
pub fn on_all_fused(operator: impl Fn(&Cpu) -> Vec<Vec<f32>>) -> Vec<(&'static str, Vec<Vec<f32>>)> {
    on_all_fused_in(Precision::Fp32, operator)
}

/// As [`on_all_fused`], in one of [`PRECISIONS`]; in bf16 the products of AMX have other bits.
pub fn on_all_fused_in(
    precision: Precision,
    operator: impl Fn(&Cpu) -> Vec<Vec<f32>>,
) -> Vec<(&'static str, Vec<Vec<f32>>)> {
    let results = on_all_in(precision, operator);
    let other = |level| level == Level::Amx.name() && precision == Precision::Bf16;
    let fused: Vec<_> = results.iter().skip(1).filter(|(level, _)| !other(*level)).collect();
    for pair in fused.windows(2) {
        assert!(bits(&pair[0].1) == bits(&pair[1].1), "{} differs from {}", pair[0].0, pair[1].0);
    }
    results
}

/// As [`on_all`], of an operator whose results have the same bits at every level, the portable one too: all but the sums of
/// products of convolutions and linear layers.
pub fn on_all_alike(operator: impl Fn(&Cpu) -> Vec<Vec<f32>>) -> Vec<(&'static str, Vec<Vec<f32>>)> {
    let results = on_all(operator);
    for (level, found) in &results[1..] {
        assert!(bits(found) == bits(&results[0].1), "{level} differs from {}", results[0].0);
    }
    results
}

/// |found − expected| ≤ bound everywhere.
pub fn assert_within(what: &str, found: &[f32], expected: &[f64], bound: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, ((&found, &expected), &bound)) in found.iter().zip(expected).zip(bound).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= bound, "{what}[{i}] = {found}, expected {expected}: off by {error:e}, allowed {bound:e}");
    }
}
