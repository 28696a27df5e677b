//! Kernels on warpcheck with all its checks on, or on a real GPU with ALEXNET_TEST_DRIVER=cuda.
#![allow(dead_code)] // Each test binary uses its part.

pub mod counters;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use alexnet_core::random::{Philox, uniform_f32};
use alexnet_kernels::{Array, Kernels, Number, Precision, Tf32, Winograd, nvrtc};
use half::{bf16, f16};
use warpcheck::harness::Harness;

/// The driver, and a device for each precision.
pub struct Driver {
    kernels: [OnceLock<Kernels>; 4],
    winograd: OnceLock<Kernels>,
    harness: Option<Harness>,
}

static DRIVER: OnceLock<Mutex<Driver>> = OnceLock::new();

/// The driver, for one test at a time: findings are counted for all of it.
pub fn driver() -> MutexGuard<'static, Driver> {
    DRIVER.get_or_init(|| Mutex::new(Driver::open())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    fn open() -> Driver {
        let real = std::env::var("ALEXNET_TEST_DRIVER").is_ok_and(|value| value == "cuda");
        if nvrtc::search((!real).then_some(nvrtc::Device { sm: 70, driver: 12_090 })).is_err() {
            nvrtc::fetch().unwrap_or_else(|e| panic!("{e}"));
        }
        let harness = (!real).then(|| Harness::load().unwrap_or_else(|e| panic!("{e}")));
        let driver = Driver { kernels: Default::default(), winograd: OnceLock::new(), harness };
        driver.kernels(Precision::Fp32);
        driver.options("check=all summary=0");
        driver
    }

    /// The device of this precision.
    pub fn kernels(&self, precision: Precision) -> &Kernels {
        let index = Precision::ALL.iter().position(|&p| p == precision).unwrap();
        self.kernels[index].get_or_init(|| Kernels::new(0, precision).unwrap_or_else(|e| panic!("{e}")))
    }

    /// One in fp32 that uses Winograd's algorithm wherever it can.
    pub fn winograd(&self) -> &Kernels {
        self.winograd.get_or_init(|| {
            let mut kernels = Kernels::new(0, Precision::Fp32).unwrap_or_else(|e| panic!("{e}"));
            kernels.set_winograd(Winograd::Always);
            kernels
        })
    }

    /// Sets warpcheck's options.
    pub fn options(&self, options: &str) {
        if let Some(harness) = &self.harness {
            harness.set_options(options).unwrap_or_else(|e| panic!("{options}: {e}"));
        }
    }

    /// Panics with what was found, if anything was.
    pub fn assert_clean(&self, what: &str) {
        if let Some(harness) = &self.harness {
            harness.assert_clean(what);
        }
    }

    /// Whether the driver is warpcheck.
    pub fn is_soft(&self) -> bool {
        self.harness.is_some()
    }

    /// What `work` costs, by kernel.
    pub fn counters(&self, work: impl FnOnce()) -> serde_json::Value {
        let Some(harness) = &self.harness else {
            work();
            return serde_json::Value::Array(Vec::new());
        };
        self.options("check=none count=1");
        harness.reset().unwrap();
        work();
        let counters = harness.counters().unwrap();
        self.options("check=all count=0");
        counters.into()
    }

    /// Runs `work` under three schedules: the results are the same bits, and nothing is found.
    pub fn run(&self, what: &str, precision: Precision, work: impl Fn(&Kernels) -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        self.run_on(self.kernels(precision), what, work)
    }

    /// The same on a device of [`Driver::kernels`] or [`Driver::winograd`].
    pub fn run_on(&self, kernels: &Kernels, what: &str, work: impl Fn(&Kernels) -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let bits = |arrays: &[Vec<f32>]| arrays.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        let first = work(kernels);
        self.assert_clean(what);
        for seed in [1, 2] {
            self.options(&format!("schedule={seed}"));
            let again = work(kernels);
            self.options("schedule=");
            self.assert_clean(what);
            assert!(bits(&first) == bits(&again), "{what}: schedule {seed} gives other bits");
        }
        first
    }
}

/// Runs a test of this binary again in processes of its own, whose warpcheck is another device: an older one has other
/// instructions, and takes other paths through the kernels.
pub fn again_on(profiles: &[&str], test: &str) {
    if !driver().is_soft() {
        return;
    }
    for profile in profiles {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", test]).env("WARPCHECK_PROFILE", profile).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "on {profile}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("1 passed"), "on {profile}: {test} did not run: {text}");
    }
}

/// What a number becomes in storage.
pub fn stored(x: f32, precision: Precision) -> f32 {
    match precision {
        Precision::Fp16 => f16::from_f32(x).to_f32(),
        Precision::Bf16 => bf16::from_f32(x).to_f32(),
        Precision::Tf32 => Tf32::from_f32(x).to_f32(),
        Precision::Fp32 => x,
    }
}

/// `len` numbers in [-1, 1) that storage holds exactly.
pub fn numbers(seed: u64, len: usize, precision: Precision) -> Vec<f32> {
    let philox = Philox::new(seed);
    (0..len).map(|i| stored(uniform_f32(philox.word(77, 0, i as u64)) * 2.0 - 1.0, precision)).collect()
}

/// A number from `first` to `last`, for shapes.
pub fn pick(seed: u64, index: u64, first: usize, last: usize) -> usize {
    first + (Philox::new(seed).word(78, 0, index) as usize) % (last - first + 1)
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

pub fn absolute(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.abs()).collect()
}

/// An array of floats with these contents.
pub fn floats(kernels: &Kernels, x: &[f32]) -> Array {
    let mut array = kernels.zeros(Number::F32, x.len()).unwrap();
    kernels.write(x, &mut array).unwrap();
    array
}

/// An array of the storage's number.
pub fn stored_array(kernels: &Kernels, x: &[f32]) -> Array {
    let mut array = kernels.zeros(kernels.storage(), x.len()).unwrap();
    match kernels.storage() {
        Number::F16 => kernels.write_rounded::<f16>(x, &mut array, 0, &mut Vec::new()),
        Number::Bf16 => kernels.write_rounded::<bf16>(x, &mut array, 0, &mut Vec::new()),
        Number::Tf32 => kernels.write_rounded::<Tf32>(x, &mut array, 0, &mut Vec::new()),
        _ => kernels.write(x, &mut array),
    }
    .unwrap();
    array
}

pub fn read(kernels: &Kernels, array: &Array) -> Vec<f32> {
    let mut x = vec![0.0; array.len()];
    match array.number() {
        Number::F16 => kernels.read_widened::<f16>(array, 0, &mut x),
        Number::Bf16 => kernels.read_widened::<bf16>(array, 0, &mut x),
        Number::Tf32 => kernels.read_widened::<Tf32>(array, 0, &mut x),
        _ => kernels.read(array, &mut x),
    }
    .unwrap();
    x
}

/// How far a sum of `terms` products, whose absolute values sum to `sum`, may lie from the true one: a rounding of
/// 2⁻²⁴ for each addition and each step of the epilogue; tensor cores may cut off instead of rounding, so twice that.
pub fn bound(terms: usize, sum: f64, precision: Precision) -> f64 {
    let roundings = (terms + 80) as f64 * 2f64.powi(-24);
    roundings * sum * if precision == Precision::Fp32 { 1.0 } else { 2.0 }
}

/// How far storing `x` may move it.
pub fn roundoff(x: f64, number: Number) -> f64 {
    match number {
        // Half a unit in the last place; below the smallest normal number that is a constant.
        Number::F16 => x.abs() / 2048.0 + 2f64.powi(-25),
        Number::Bf16 => x.abs() / 256.0,
        Number::Tf32 => x.abs() / 2048.0,
        _ => 0.0,
    }
}

/// Each element within its bound.
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= bound(i),
            "{what}: element {i} is {found:e}, expected {expected:e}: {error:e} > {:e}",
            bound(i)
        );
    }
}
