//! Faults through the unmodified cudarc: the code, that it sticks, what the harness is told.
//! Each test breaks a context of its own.

mod client;

use cudarc::driver::PushKernelArg;
use cudarc::driver::sys::{self, CUresult};
use std::ffi::{CString, c_void};
use std::sync::{Mutex, MutexGuard};

const OK: CUresult = CUresult::CUDA_SUCCESS;

/// The findings are those of the process: the tests take turns.
fn turn(options: &str) -> (MutexGuard<'static, ()>, &'static client::Driver) {
    static TURN: Mutex<()> = Mutex::new(());
    let driver = client::driver(&[]);
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuInit(0) }, OK);
    assert_eq!(driver.set_options("check=all count=0 budget=100000 blocking=0 on_fault=stop"), OK);
    assert_eq!(driver.set_options(options), OK);
    driver.reset();
    (turn, driver)
}

/// A context that may break, current on this thread.
struct Context(sys::CUcontext);

impl Context {
    fn new() -> Context {
        let mut context = std::ptr::null_mut();
        // SAFETY: a plain call of the driver.
        assert_eq!(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) }, OK);
        Context(context)
    }

    fn function(&self, name: &str) -> sys::CUfunction {
        let (text, name) = (CString::new(client::SMALL).unwrap(), CString::new(name).unwrap());
        let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the texts end with NUL.
        unsafe {
            assert_eq!(sys::cuModuleLoadData(&mut module, text.as_ptr().cast()), OK);
            assert_eq!(sys::cuModuleGetFunction(&mut function, module, name.as_ptr()), OK);
        }
        function
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is this value's own.
        assert_eq!(unsafe { sys::cuCtxDestroy_v2(self.0) }, OK);
    }
}

fn launch(function: sys::CUfunction, mut p: u64) -> CUresult {
    let mut arguments = [(&mut p as *mut u64).cast::<c_void>()];
    let null = std::ptr::null_mut();
    // SAFETY: the kernels take a pointer or nothing; a wrong one is what is tested.
    unsafe { sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null, arguments.as_mut_ptr(), null.cast()) }
}

fn synchronize() -> CUresult {
    // SAFETY: a plain call of the driver.
    unsafe { sys::cuCtxSynchronize() }
}

#[test]
fn a_context_goes_on_after_a_fault_if_told_so() {
    let (_turn, driver) = turn("on_fault=continue");
    let context = Context::new();
    let store = context.function("store");
    let mut address = 0;
    let mut value = 0u32;
    // SAFETY: plain calls of the driver; the place has four bytes.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), OK);
        assert_eq!(launch(store, 8), OK);
        assert_eq!(synchronize(), OK);
        assert_eq!(driver.findings(), 1);
        assert_eq!(launch(store, address), OK);
        assert_eq!(sys::cuMemcpyDtoH_v2((&mut value as *mut u32).cast(), address, 4), OK);
        assert_eq!((value, driver.findings()), (1, 1));
        assert_eq!(sys::cuMemFree_v2(address), OK);
    }
}

#[test]
fn a_kernel_that_cannot_run_costs_itself_not_its_module() {
    let (_turn, _driver) = turn("");
    let _context = Context::new();
    let texture = "tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [%rd1, {%f5, %f6}];";
    let text = |other: &str| {
        CString::new(format!(
            ".version 8.0\n.target sm_70\n.address_size 64\n.global .texref old;\n\
             .visible .entry store(.param .u64 p)\n{{\n.reg .b64 %rd<3>;\n.reg .b32 %r<2>;\nld.param.u64 %rd1, [p];\n\
             cvta.to.global.u64 %rd2, %rd1;\nmov.u32 %r1, 7;\nst.global.u32 [%rd2], %r1;\nret;\n}}\n\
             .visible .entry other(.param .u64 p)\n{{\n.reg .f32 %f<7>;\n.reg .b64 %rd<3>;\nld.param.u64 %rd1, [p];\n{other}\nret;\n}}\n"
        ))
        .unwrap()
    };
    let log = |text: &CString| {
        let (mut module, mut log, mut room) = (std::ptr::null_mut(), vec![0u8; 512], 512usize);
        let mut keys =
            [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(room)];
        // SAFETY: the text ends with NUL, the log has its room.
        let answer = unsafe {
            sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, keys.as_mut_ptr(), values.as_mut_ptr())
        };
        room = values[1].addr();
        (answer, module, String::from_utf8_lossy(&log[..room.min(512)]).into_owned())
    };
    let (answer, module, told) = log(&text(texture));
    assert_eq!(answer, OK);
    assert!(told.contains("kernel other cannot run") && told.contains("tex.2d"), "{told}");
    let (mut store, mut other, mut address, mut value) = (std::ptr::null_mut(), std::ptr::null_mut(), 0, 0u32);
    // SAFETY: the texts end with NUL.
    unsafe {
        assert_eq!(sys::cuModuleGetFunction(&mut store, module, c"store".as_ptr()), OK);
        let unsupported = CUresult::CUDA_ERROR_NOT_SUPPORTED;
        assert_eq!(sys::cuModuleGetFunction(&mut other, module, c"other".as_ptr()), unsupported);
        assert_eq!(sys::cuModuleGetFunction(&mut other, module, c"none".as_ptr()), CUresult::CUDA_ERROR_NOT_FOUND);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 4), OK);
        assert_eq!(launch(store, address), OK);
        assert_eq!(sys::cuMemcpyDtoH_v2((&mut value as *mut u32).cast(), address, 4), OK);
        assert_eq!(sys::cuMemFree_v2(address), OK);
    }
    assert_eq!(value, 7);
    // What no driver takes is refused with its module, and so is machine code, with the way out.
    assert_eq!(log(&text("ld.param.u64 %rd1, [nothing];")).0, CUresult::CUDA_ERROR_INVALID_PTX);
    let cubin = CString::new([0x7f, b'E', b'L', b'F', 2, 1, 1, 7]).unwrap();
    let (answer, _, told) = log(&cubin);
    assert_eq!(answer, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert!(told.contains("cubin") && told.contains("nvcc -ptx"), "{told}");
}

#[test]
fn a_fault_shows_at_the_next_call_and_sticks_to_its_context() {
    let (_turn, driver) = turn("");
    let good = Context::new();
    let broken = Context::new();
    let store = broken.function("store");
    let mut address = 0;
    let fault = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), OK);
        assert_eq!(launch(store, address), OK);
        assert_eq!(synchronize(), OK);
        assert_eq!(launch(store, 0x1234_5678_0000), OK, "the launch itself is asynchronous");
        assert_eq!(launch(store, address), OK, "nobody has waited for the fault yet");
        assert_eq!(synchronize(), fault);
        assert_eq!(synchronize(), fault);
        assert_eq!(launch(store, address), fault);
        assert_eq!(sys::cuMemAlloc_v2(&mut 0, 64), fault);
        assert_eq!(sys::cuMemcpyDtoH_v2((&mut address.clone() as *mut u64).cast(), address, 8), fault);
        assert_eq!(sys::cuStreamSynchronize(std::ptr::null_mut()), fault);
        assert_eq!(sys::cuMemFree_v2(address), fault);
        // Another context is as good as before.
        assert_eq!(sys::cuCtxPushCurrent_v2(good.0), OK);
        assert_eq!(synchronize(), OK);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), OK);
        assert_eq!(sys::cuMemFree_v2(address), OK);
        assert_eq!(sys::cuCtxPopCurrent_v2(std::ptr::null_mut()), OK);
    }
    assert_eq!(driver.findings(), 1);
    let findings = driver.json("warpcheck_findings_json");
    assert_eq!(findings[0]["kernel"], "store");
    assert_eq!(findings[0]["kind"], "wild_address");
    assert_eq!(findings[0]["address"], 0x1234_5678_0000u64);
}

#[test]
fn a_callback_behind_a_fault_is_told_of_it() {
    static SEEN: Mutex<Vec<CUresult>> = Mutex::new(Vec::new());
    unsafe extern "C" fn note(_: sys::CUstream, status: CUresult, _: *mut c_void) {
        SEEN.lock().unwrap().push(status);
    }
    let (_turn, _) = turn("");
    let context = Context::new();
    let store = context.function("store");
    let null = std::ptr::null_mut();
    assert_eq!(launch(store, 2), OK);
    // SAFETY: plain calls of the driver.
    assert_eq!(unsafe { sys::cuStreamAddCallback(null, Some(note), null.cast(), 0) }, OK);
    assert_eq!(synchronize(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(*SEEN.lock().unwrap(), [CUresult::CUDA_ERROR_ILLEGAL_ADDRESS]);
}

#[test]
fn a_blocking_launch_answers_with_its_own_fault() {
    let (_turn, _) = turn("blocking=1");
    let context = Context::new();
    let store = context.function("store");
    assert_eq!(launch(store, 2), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
}

#[test]
fn each_fault_has_its_code() {
    let (_turn, driver) = turn("");
    let address = |context: &Context| {
        let mut address = 0;
        // SAFETY: a plain call of the driver.
        assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 64) }, OK);
        (context.function("store"), address)
    };
    {
        let context = Context::new();
        let (store, address) = address(&context);
        assert_eq!(launch(store, address + 2), OK);
        assert_eq!(synchronize(), CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);
    }
    {
        let context = Context::new();
        let (store, address) = address(&context);
        // SAFETY: a plain call of the driver.
        assert_eq!(unsafe { sys::cuMemFree_v2(address) }, OK);
        assert_eq!(launch(store, address), OK);
        assert_eq!(synchronize(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    {
        let context = Context::new();
        let spin = context.function("spin");
        assert_eq!(launch(spin, 0), OK);
        assert_eq!(synchronize(), CUresult::CUDA_ERROR_LAUNCH_TIMEOUT);
    }
    let kinds: Vec<_> = driver
        .json("warpcheck_findings_json")
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["misaligned", "use_after_free", "budget"]);
}

#[test]
fn without_checks_nothing_is_reported_and_the_launch_still_fails() {
    let (_turn, driver) = turn("check=none");
    let context = Context::new();
    let store = context.function("store");
    assert_eq!(launch(store, 0), OK);
    assert_eq!(synchronize(), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(driver.findings(), 0);
}

#[test]
fn a_released_primary_context_comes_back_healthy() {
    let (_turn, _) = turn("check=none");
    for _ in 0..2 {
        let context = cudarc::driver::CudaContext::new(0).unwrap();
        let ptx = cudarc::nvrtc::Ptx::from_src(client::SMALL);
        let store = context.load_module(ptx).unwrap().load_function("store").unwrap();
        let stream = context.default_stream();
        let null = 0u64;
        let mut launch = stream.launch_builder(&store);
        launch.arg(&null);
        let one = cudarc::driver::LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the null pointer is what is tested.
        unsafe { launch.launch(one) }.unwrap();
        assert_eq!(context.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}

#[test]
fn counters_are_kept_where_asked_for() {
    let (_turn, driver) = turn("count=1");
    let context = Context::new();
    let store = context.function("store");
    let mut address = 0;
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 64) }, OK);
    for _ in 0..3 {
        assert_eq!(launch(store, address), OK);
    }
    let kernels = driver.json("warpcheck_counters_json");
    assert_eq!(kernels[0]["name"], "store");
    assert_eq!(kernels[0]["launches"], 3);
    assert_eq!(kernels[0]["threads"], 3);
    let counters = &kernels[0]["counters"];
    assert_eq!(counters["global_store"]["requests"], 3);
    assert_eq!(counters["global_store"]["sectors"], 3);
    assert_eq!(counters["unique_bytes_written"], 12);
    // 2.5 µs a launch, and next to nothing for a store.
    assert!((7500.0..7600.0).contains(&kernels[0]["time_ns"].as_f64().unwrap()), "{kernels}");
    drop(context);
}
