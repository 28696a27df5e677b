//! warpcheck's counters relative to their ideal values.

use serde_json::Value;

/// Counters of one kernel.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The kernel.
    pub kernel: String,
    /// 32-byte sectors of global memory that its requests touched, relative to the minimum for their bytes.
    pub sectors: f64,
    /// Shared memory wavefronts, relative to those without bank conflicts; 0 for a kernel without shared memory.
    pub wavefronts: f64,
    /// Bytes of the sectors touched, relative to the distinct bytes read or written.
    pub traffic: f64,
    /// Distinct bytes read or written.
    pub unique_bytes: u64,
    /// Floating-point operations outside tensor cores.
    pub operations: u64,
    /// Tensor core operations.
    pub tensor_operations: u64,
    /// Tensor core operations per shared memory wavefront; 0 without shared memory.
    pub tensor_per_wavefront: f64,
}

impl Counted {
    fn new(kernel: &Value) -> Self {
        let counters = &kernel["counters"];
        let count = |path: &str| counters.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path}"));
        let sum = |parts: [&str; 2], key: &str| parts.iter().map(|part| count(&format!("/{part}/{key}"))).sum::<u64>();
        let ratio = |found: u64, ideal: u64| if ideal == 0 { 0.0 } else { found as f64 / ideal as f64 };
        let (global, shared) = (["global_load", "global_store"], ["shared_load", "shared_store"]);
        let unique_bytes = count("/unique_bytes_read") + count("/unique_bytes_written");
        Self {
            kernel: kernel["name"].as_str().expect("a name").to_owned(),
            sectors: ratio(sum(global, "sectors"), sum(global, "ideal_sectors")),
            wavefronts: ratio(sum(shared, "wavefronts"), sum(shared, "ideal_wavefronts")),
            traffic: ratio(32 * sum(global, "sectors"), unique_bytes),
            unique_bytes,
            operations: count("/flops_f32"),
            tensor_operations: count("/flops_tensor"),
            tensor_per_wavefront: ratio(count("/flops_tensor"), sum(shared, "wavefronts")),
        }
    }

    /// Of all kernels in warpcheck's report.
    pub fn all(counters: &Value) -> Vec<Self> {
        counters.as_array().expect("an array of kernels").iter().map(Self::new).collect()
    }
}
