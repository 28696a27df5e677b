//! The driver that is tested on, random shapes and numbers, and comparison within a bound.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use alexnet_core::Cuda;
use alexnet_core::device::Memory;
use alexnet_core::device::cuda::{Buffer, Precision};
use alexnet_core::random::{Philox, uniform_f32};
use alexnet_kernels::nccl::Nccl;
use alexnet_kernels::{Tf32, nvrtc};
use half::{bf16, f16};
use serde_json::Value;
use warpcheck::harness::Harness;

/// The unit roundoff of float.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

pub const PRECISIONS: [Precision; 4] = Precision::ALL;

/// The GPUs, one a precision, and warpcheck's functions unless it is a real one.
pub struct Gpu {
    devices: [Cuda; 4],
    harness: Option<Harness>,
}

static GPU: OnceLock<Mutex<Gpu>> = OnceLock::new();

/// The GPU, for one test at a time: findings are counted for the whole driver.
pub fn gpu() -> MutexGuard<'static, Gpu> {
    GPU.get_or_init(|| Mutex::new(Gpu::open())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    fn open() -> Gpu {
        let real = std::env::var("ALEXNET_TEST_DRIVER").is_ok_and(|value| value == "cuda");
        if nvrtc::search((!real).then_some(nvrtc::Device { sm: 70, driver: 12_090 })).is_err() {
            nvrtc::fetch().unwrap_or_else(|e| panic!("{e}"));
        }
        let harness = (!real).then(|| Harness::load().unwrap_or_else(|e| panic!("{e}")));
        let devices = PRECISIONS.map(|precision| Cuda::new(0, precision).unwrap_or_else(|e| panic!("{e}")));
        let gpu = Gpu { devices, harness };
        gpu.options("check=all summary=0");
        gpu
    }

    /// The device of this precision.
    pub fn device(&self, precision: Precision) -> &Cuda {
        let index = PRECISIONS.iter().position(|&p| p == precision).expect("a precision of PRECISIONS");
        &self.devices[index]
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

    /// Whether it is warpcheck, whose clock is a model.
    pub fn is_modelled(&self) -> bool {
        self.harness.is_some()
    }

    /// The kernels that `work` launches on warpcheck, and how often; checks are off meanwhile.
    pub fn launches(&self, work: impl FnOnce()) -> BTreeMap<String, u64> {
        self.counters(0, work, |kernel| kernel["launches"].as_u64().unwrap())
    }

    /// The kernels that `work` launches on warpcheck, and how many different bytes they read and write; checks are off meanwhile.
    pub fn bytes(&self, work: impl FnOnce()) -> BTreeMap<String, u64> {
        self.counters(1, work, |kernel| {
            let bytes = ["/counters/unique_bytes_read", "/counters/unique_bytes_written"];
            bytes.iter().map(|path| kernel.pointer(path).and_then(Value::as_u64).unwrap()).sum()
        })
    }

    fn counters(&self, count: u32, work: impl FnOnce(), of: impl Fn(&Value) -> u64) -> BTreeMap<String, u64> {
        let Some(harness) = &self.harness else { return BTreeMap::new() };
        self.options(&format!("check=none count={count}"));
        harness.reset().unwrap();
        work();
        let kernels = harness.counters().unwrap();
        self.options("check=all count=0");
        kernels.iter().map(|kernel| (kernel["name"].as_str().unwrap().to_owned(), of(kernel))).collect()
    }

    /// How many kernels `work` launches on warpcheck, and how many of them may overlap the one before; checks stay on.
    pub fn overlapping(&self, work: impl FnOnce()) -> (u64, u64) {
        let Some(harness) = &self.harness else { return (0, 0) };
        harness.reset().unwrap();
        work();
        let kernels = harness.counters().unwrap();
        let sum = |field: &str| kernels.iter().map(|kernel| kernel[field].as_u64().unwrap()).sum();
        (sum("launches"), sum("programmatic"))
    }

    /// What warpcheck has found, as text.
    pub fn findings(&self) -> Vec<String> {
        let findings = self.harness.iter().flat_map(|harness| harness.findings().unwrap());
        findings.map(|finding| finding["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs `work` under three schedules: the results are the same bits, and nothing is found.
    pub fn run(&self, what: &str, precision: Precision, work: impl Fn(&Cuda) -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let device = self.device(precision);
        let bits = |arrays: &[Vec<f32>]| arrays.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        let first = work(device);
        self.assert_clean(what);
        for seed in [1, 2] {
            self.options(&format!("schedule={seed}"));
            let again = work(device);
            self.assert_clean(what);
            self.options("schedule=");
            assert!(bits(&first) == bits(&again), "{what} {precision:?}: schedule {seed} gives other bits");
        }
        first
    }
}

/// The stand-in for NCCL.
pub fn stand_in() -> &'static Nccl {
    let path = std::env::current_exe().unwrap().with_file_name("libnccl_stand_in.so");
    Nccl::load(&path).unwrap_or_else(|error| panic!("{error}"))
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

/// How far storing `x` may move it.
pub fn roundoff(x: f64, precision: Precision) -> f64 {
    match precision {
        // Half a unit in the last place; below the smallest normal number that is a constant.
        Precision::Fp16 => x.abs() / 2048.0 + 2f64.powi(-25),
        Precision::Bf16 => x.abs() / 256.0,
        Precision::Tf32 => x.abs() / 2048.0,
        Precision::Fp32 => x.abs() * U,
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

/// An array of activations with these contents.
pub fn activations(device: &Cuda, x: &[f32]) -> Buffer {
    let mut buffer = device.activations(x.len()).unwrap();
    device.write(x, &mut buffer).unwrap();
    buffer
}

/// An array of floats with these contents.
pub fn floats(device: &Cuda, x: &[f32]) -> Buffer {
    let mut buffer = device.zeros(x.len()).unwrap();
    device.write(x, &mut buffer).unwrap();
    buffer
}

pub fn read(device: &Cuda, buffer: &Buffer) -> Vec<f32> {
    let mut x = vec![0.0; buffer.len()];
    device.read(buffer, &mut x).unwrap();
    x
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
