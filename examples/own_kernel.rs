//! Writes a CUDA kernel, compiles it with NVRTC, launches it, checks it against plain Rust and times it.
//!
//! On a machine with an NVIDIA GPU (no CUDA toolkit needed; NVRTC is downloaded with pip if it is not installed):
//!
//! ```text
//! cargo run --release -p alexnet-kernels --example own_kernel
//! ```
//!
//! Without a GPU, on the CUDA driver for the CPU, which also checks the kernel for races and accesses out of bounds:
//!
//! ```text
//! warpcheck run -- cargo run --release -p alexnet-kernels --example own_kernel
//! ```

use alexnet_kernels::nvrtc::{self, Code, Nvrtc};
use alexnet_kernels::{Unit, probe};
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

/// y = a·x + y for arrays of n floats; one thread per element.
const SOURCE: &str = r#"
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"#;

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Fails with an error if there is no driver or no GPU, where `CudaContext::new` would panic.
    let (driver, _) = probe::driver()?;
    let context = CudaContext::new(0)?;
    let (major, minor) = context.compute_capability()?;

    // Compile: PTX works everywhere, `Code::Cubin` skips the driver's compiler but needs a GPU.
    let device = nvrtc::Device { sm: (10 * major + minor) as u32, driver };
    let found = nvrtc::search(Some(device)).or_else(|_| nvrtc::fetch().and_then(|_| nvrtc::search(Some(device))))?;
    let nvrtc = found.nvrtc;
    let target = nvrtc.target(Code::Ptx, device.sm);
    let unit = Unit { name: "saxpy", source: SOURCE, hash: "" };
    let compiled = nvrtc.compile(&unit, target, &Nvrtc::options(target, &[]))?;
    let saxpy = context.load_module(Ptx::from_binary(compiled.image))?.load_function("saxpy")?;

    // Copy the operands to the GPU and launch once. The length fills no whole number of blocks: the last one has a tail.
    let (n, a) = (1_000_003i32, 2.5f32);
    let x: Vec<f32> = (0..n).map(|i| (i % 1000) as f32 / 7.0).collect();
    let y: Vec<f32> = (0..n).map(|i| (i % 31) as f32).collect();
    let stream = context.new_stream()?;
    let (x_gpu, mut y_gpu) = (stream.clone_htod(&x)?, stream.clone_htod(&y)?);
    let grid = LaunchConfig { grid_dim: ((n as u32).div_ceil(256), 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    let launch = |y_gpu: &mut _| {
        let mut launch = stream.launch_builder(&saxpy);
        launch.arg(&a).arg(&x_gpu).arg(y_gpu).arg(&n);
        // SAFETY: these are the kernel's arguments, in order; it accesses only the first `n` elements.
        unsafe { launch.launch(grid) }.map(drop)
    };
    launch(&mut y_gpu)?;

    // Check. NVRTC contracts a·x + y to one fused multiply-add, as `mul_add` computes: the results are equal bit for bit.
    let found = stream.clone_dtoh(&y_gpu)?;
    for (i, &found) in found.iter().enumerate() {
        let expected = a.mul_add(x[i], y[i]);
        assert_eq!(found, expected, "element {i}");
    }
    println!("{n} elements are right");

    // Time: the median of ten launches, by the GPU's clock.
    let mut milliseconds = Vec::new();
    for _ in 0..10 {
        let start = stream.record_event(Some(CU_EVENT_DEFAULT))?;
        launch(&mut y_gpu)?;
        let end = stream.record_event(Some(CU_EVENT_DEFAULT))?;
        milliseconds.push(start.elapsed_ms(&end)?);
    }
    milliseconds.sort_by(f32::total_cmp);
    // Two arrays are read and one is written.
    let (time, bytes) = (milliseconds[5], 12.0 * n as f32);
    let device = if probe::is_warpcheck() { "warpcheck, not a GPU" } else { &context.name()? };
    println!("{time:.3} ms, {:.1} GB/s on {device}", bytes / time / 1e6);
    Ok(())
}
