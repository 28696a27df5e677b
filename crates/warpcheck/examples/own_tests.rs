//! How a crate with CUDA kernels uses warpcheck in its own tests: two tests, one kernel, no GPU.
//!
//! In a crate of your own put `warpcheck` and `cudarc` under `[dev-dependencies]` and these functions into `tests/`. Here
//! the kernel is PTX text; with NVRTC compile CUDA C with `-lineinfo`, so that findings name the line of CUDA C.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, LaunchConfig, PushKernelArg};
use warpcheck::harness::Harness;

/// `x[i] *= 2` for each thread `i`, without a test that `i` is within the array.
const DOUBLE: &str = "
.version 8.0
.target sm_70
.address_size 64
.visible .entry double(.param .u64 x)
{
    .reg .b32 %r<5>;
    .reg .f32 %f<3>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [x];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    mul.wide.u32 %rd3, %r4, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f1, [%rd4];
    add.f32 %f2, %f1, %f1;
    st.global.f32 [%rd4], %f2;
    ret;
}";

/// The driver, for one test at a time: its findings and counters belong to the process.
fn driver() -> MutexGuard<'static, Harness> {
    static DRIVER: OnceLock<Mutex<Harness>> = OnceLock::new();
    let driver = DRIVER.get_or_init(|| Mutex::new(Harness::load().unwrap_or_else(|e| panic!("{e}"))));
    driver.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load() -> (Arc<CudaContext>, CudaFunction) {
    // cudarc looks for libcuda.so and finds warpcheck, which is loaded under this name.
    let context = CudaContext::new(0).expect("a simulated device");
    let module = context.load_module(DOUBLE.into()).expect("valid PTX");
    (context, module.load_function("double").expect("a kernel of the module"))
}

#[cfg_attr(test, test)]
fn doubles_an_array() {
    let driver = driver();
    driver.set_options("count=1").unwrap();
    let (context, double) = load();
    let stream = context.default_stream();
    let mut x = stream.clone_htod(&vec![1.5f32; 1024]).unwrap();
    // SAFETY: the kernel takes a pointer; 4 blocks of 256 threads are 1024 elements.
    unsafe { stream.launch_builder(&double).arg(&mut x).launch(LaunchConfig::for_num_elems(1024)) }.unwrap();
    assert_eq!(stream.clone_dtoh(&x).unwrap(), [3.0; 1024]);
    driver.assert_clean("1024 elements");
    let kernels = driver.counters().unwrap();
    assert_eq!(kernels[0]["name"], "double");
    println!("{} launches, {}", kernels[0]["launches"], kernels[0]["counters"]);
    driver.set_options("count=0").unwrap();
    driver.reset().unwrap();
}

#[cfg_attr(test, test)]
fn an_array_that_is_no_multiple_of_the_block_is_reported() {
    let driver = driver();
    let (context, double) = load();
    let stream = context.new_stream().unwrap();
    let mut x = stream.clone_htod(&vec![1.5f32; 1000]).unwrap();
    let grid = LaunchConfig { grid_dim: (4, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernel takes a pointer; that 24 threads miss the array is what this shows.
    unsafe { stream.launch_builder(&double).arg(&mut x).launch(grid) }.unwrap();
    // The launch fails as on a GPU; warpcheck says why.
    assert!(stream.synchronize().is_err());
    let findings = driver.findings().unwrap();
    assert_eq!(findings[0]["kind"], "out_of_bounds");
    println!("{}", findings[0]["text"].as_str().unwrap());
    driver.reset().unwrap();
}

fn main() {
    doubles_an_array();
    an_array_that_is_no_multiple_of_the_block_is_reported();
}
