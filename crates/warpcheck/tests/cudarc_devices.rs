//! Devices and contexts through the unmodified cudarc: two devices, current contexts, peers.

mod client;

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUresult};
use std::sync::{Arc, Mutex, MutexGuard};

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

/// The tests of primary contexts count how often one is retained: they take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    client::driver(&[("WARPCHECK_DEVICES", "2"), ("WARPCHECK_PROFILE", "h100")]);
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn device(ordinal: usize) -> Arc<CudaContext> {
    CudaContext::new(ordinal).unwrap()
}

fn current() -> sys::CUcontext {
    let mut context = std::ptr::null_mut();
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuCtxGetCurrent(&mut context) }, OK);
    context
}

#[test]
fn both_devices_are_what_the_profile_says() {
    let _turn = turn();
    assert_eq!(CudaContext::device_count(), Ok(2));
    let (one, two) = (device(0), device(1));
    assert_eq!(one.name().unwrap(), "NVIDIA H100 80GB HBM3");
    assert_eq!(one.compute_capability().unwrap(), (9, 0));
    assert_ne!(one.uuid().unwrap().bytes, two.uuid().unwrap().bytes);
    use sys::CUdevice_attribute::*;
    let attribute = |kind| two.attribute(kind).unwrap();
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 132);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK), 48 << 10);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), 227 << 10);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED), 1);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH), 0);
    assert_eq!(CudaContext::new(2).unwrap_err().0, CUresult::CUDA_ERROR_INVALID_DEVICE);

    let mut number = 0;
    let mut text = [1; 5];
    let mut bus = [0; 20];
    // SAFETY: the places have the lengths given.
    unsafe {
        assert_eq!(sys::cuDeviceGetName(text.as_mut_ptr(), 5, 0), OK);
        assert_eq!(text.map(|c| c as u8), *b"NVID\0");
        assert_eq!(sys::cuDeviceGetName(text.as_mut_ptr(), 0, 0), INVALID);
        assert_eq!(sys::cuDeviceGetPCIBusId(bus.as_mut_ptr(), 20, 1), OK);
        assert_eq!(sys::cuDeviceGetByPCIBusId(&mut number, bus.as_ptr()), OK);
        assert_eq!(number, 1);
        let odd = std::mem::transmute::<u32, sys::CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX as u32);
        assert_eq!(sys::cuDeviceGetAttribute(&mut number, odd, 0), INVALID);
        assert_eq!(
            sys::cuDeviceGetAttribute(&mut number, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 2),
            CUresult::CUDA_ERROR_INVALID_DEVICE
        );
        assert_eq!(sys::cuInit(1), INVALID);
        assert_eq!(sys::cuDriverGetVersion(&mut number), OK);
        assert_eq!(number, 12090);
    }
}

#[test]
fn memory_of_one_device_is_not_that_of_the_other() {
    let _turn = turn();
    let (one, two) = (device(0), device(1));
    let used = |context: &Arc<CudaContext>| {
        let (free, total) = context.mem_get_info().unwrap();
        total - free
    };
    let before = (used(&one), used(&two));
    let (stream_one, stream_two) = (one.default_stream(), two.default_stream());
    let data = stream_one.clone_htod(&[3u8; 1 << 20]).unwrap();
    assert_eq!((used(&one), used(&two)), (before.0 + (1 << 20), before.1));
    let copy = stream_two.clone_dtod(&data).unwrap();
    drop(data);
    assert_eq!((used(&one), used(&two)), (before.0, before.1 + (1 << 20)));
    assert_eq!(stream_two.clone_dtoh(&copy).unwrap(), vec![3; 1 << 20]);
    let mut ordinal = 9;
    let (address, _sync) = cudarc::driver::DevicePtr::device_ptr(&copy, &stream_two);
    use sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL as ORDINAL;
    // SAFETY: the place has four bytes.
    let answer = unsafe { sys::cuPointerGetAttribute((&mut ordinal as *mut i32).cast(), ORDINAL, address) };
    assert_eq!((answer, ordinal), (OK, 1));
}

#[test]
fn contexts_are_pushed_popped_and_destroyed() {
    let _turn = turn();
    device(0).bind_to_thread().unwrap();
    let (mut a, mut b, mut popped) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    let mut number = 9;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuCtxSetCurrent(std::ptr::null_mut()), OK);
        assert_eq!(current(), std::ptr::null_mut());
        assert_eq!(sys::cuCtxSynchronize(), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuMemAlloc_v2(&mut 0, 4), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        let none = sys::cuCtxPopCurrent_v2(&mut popped);
        assert_eq!(none, CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuCtxCreate_v2(&mut a, 0, 0), OK);
        assert_eq!(current(), a);
        assert_eq!(sys::cuCtxCreate_v4(&mut b, std::ptr::null_mut(), 4, 1), OK);
        assert_eq!(current(), b);
        assert_eq!(sys::cuCtxGetDevice(&mut number), OK);
        assert_eq!(number, 1);
        let mut flags = 0;
        assert_eq!(sys::cuCtxGetFlags(&mut flags), OK);
        assert_eq!(flags, 4);
        assert_eq!(sys::cuCtxCreate_v2(&mut popped, 3, 0), INVALID);
        assert_eq!(sys::cuCtxCreate_v2(&mut popped, 0, 7), CUresult::CUDA_ERROR_INVALID_DEVICE);
        assert_eq!(sys::cuCtxPushCurrent_v2(a), OK);
        assert_eq!(sys::cuCtxPopCurrent_v2(&mut popped), OK);
        assert_eq!((popped, current()), (a, b));
        let (mut id_a, mut id_b) = (0, 0);
        assert_eq!(sys::cuCtxGetId(a, &mut id_a), OK);
        assert_eq!(sys::cuCtxGetId(b, &mut id_b), OK);
        assert_ne!(id_a, id_b);

        // What was made on a context goes with it.
        let (mut address, mut stream, mut event) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), OK);
        assert_eq!(sys::cuStreamCreate(&mut stream, 0), OK);
        assert_eq!(sys::cuEventCreate(&mut event, 0), OK);
        assert_eq!(sys::cuCtxDestroy_v2(b), OK);
        assert_eq!(current(), a);
        assert_eq!(sys::cuMemsetD8_v2(address, 0, 64), INVALID);
        assert_eq!(sys::cuStreamQuery(stream), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuEventQuery(event), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuCtxSetCurrent(b), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuCtxDestroy_v2(b), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuCtxDestroy_v2(a), OK);
        assert_eq!(sys::cuCtxDestroy_v2(std::ptr::null_mut()), INVALID);
    }
}

#[test]
fn a_destroyed_context_that_is_current_elsewhere_says_so() {
    let _turn = turn();
    let mut context = std::ptr::null_mut();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuInit(0), OK);
        assert_eq!(sys::cuCtxCreate_v2(&mut context, 0, 0), OK);
        let address = context as usize;
        std::thread::spawn(move || assert_eq!(sys::cuCtxDestroy_v2(address as _), OK)).join().unwrap();
        assert_eq!(sys::cuMemAlloc_v2(&mut 0, 4), CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED);
        assert_eq!(sys::cuCtxPopCurrent_v2(&mut context), OK);
    }
}

#[test]
fn the_primary_context_lives_while_somebody_retains_it() {
    let _turn = turn();
    let (mut flags, mut active) = (0, 9);
    let (mut first, mut second) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuInit(0), OK);
        assert_eq!(sys::cuDevicePrimaryCtxGetState(1, &mut flags, &mut active), OK);
        assert_eq!(active, 0);
        let never = sys::cuDevicePrimaryCtxRelease_v2(1);
        assert_eq!(never, CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuDevicePrimaryCtxRetain(&mut first, 1), OK);
        assert_eq!(sys::cuDevicePrimaryCtxRetain(&mut second, 1), OK);
        assert_eq!(first, second);
        assert_eq!(sys::cuDevicePrimaryCtxSetFlags_v2(1, 4), OK);
        assert_eq!(sys::cuDevicePrimaryCtxGetState(1, &mut flags, &mut active), OK);
        assert_eq!((flags, active), (4, 1));
        assert_eq!(sys::cuCtxDestroy_v2(first), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuDevicePrimaryCtxRelease_v2(1), OK);
        assert_eq!(sys::cuDevicePrimaryCtxGetState(1, &mut flags, &mut active), OK);
        assert_eq!(active, 1);
        assert_eq!(sys::cuDevicePrimaryCtxReset_v2(1), OK);
        assert_eq!(sys::cuDevicePrimaryCtxGetState(1, &mut flags, &mut active), OK);
        assert_eq!(active, 0);
    }
}

#[test]
fn peers_are_let_in_once() {
    let _turn = turn();
    let (one, two) = (device(0), device(1));
    one.bind_to_thread().unwrap();
    let mut can = 9;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuDeviceCanAccessPeer(&mut can, 0, 1), OK);
        assert_eq!(can, 1);
        assert_eq!(sys::cuDeviceCanAccessPeer(&mut can, 0, 0), OK);
        assert_eq!(can, 0);
        assert_eq!(sys::cuCtxEnablePeerAccess(two.cu_ctx(), 0), OK);
        assert_eq!(sys::cuCtxEnablePeerAccess(two.cu_ctx(), 0), CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
        assert_eq!(sys::cuCtxEnablePeerAccess(two.cu_ctx(), 1), INVALID);
        assert_eq!(sys::cuCtxEnablePeerAccess(one.cu_ctx(), 0), CUresult::CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuCtxDisablePeerAccess(two.cu_ctx()), OK);
        assert_eq!(sys::cuCtxDisablePeerAccess(two.cu_ctx()), CUresult::CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    }
}

#[test]
fn handles_of_another_context_are_refused() {
    let _turn = turn();
    let (one, two) = (device(0), device(1));
    let stream = two.new_stream().unwrap();
    one.bind_to_thread().unwrap();
    let mut event = std::ptr::null_mut();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventCreate(&mut event, 0), OK);
        let answer = sys::cuEventRecord(event, stream.cu_stream());
        assert_eq!(answer, CUresult::CUDA_ERROR_INVALID_HANDLE);
        // Waiting for an event of another device is allowed.
        assert_eq!(sys::cuEventRecord(event, std::ptr::null_mut()), OK);
        assert_eq!(sys::cuStreamWaitEvent(stream.cu_stream(), event, 0), OK);
        assert_eq!(sys::cuEventDestroy_v2(event), OK);
    }
}

#[test]
fn limits_are_kept_and_unknown_ones_refused() {
    let _turn = turn();
    let context = device(0);
    use sys::CUlimit::*;
    let stack = context.get_limit(CU_LIMIT_STACK_SIZE).unwrap();
    assert_eq!(stack, 1024);
    context.set_limit(CU_LIMIT_STACK_SIZE, 4096).unwrap();
    assert_eq!(context.get_limit(CU_LIMIT_STACK_SIZE).unwrap(), 4096);
    context.set_limit(CU_LIMIT_STACK_SIZE, stack).unwrap();
    let error = context.get_limit(CU_LIMIT_SHMEM_SIZE).unwrap_err().0;
    assert_eq!(error, CUresult::CUDA_ERROR_UNSUPPORTED_LIMIT);
    assert_eq!(context.get_limit(CU_LIMIT_MAX).unwrap_err().0, INVALID);
    let shared = sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_SHARED;
    context.set_cache_config(shared).unwrap();
    assert_eq!(context.get_cache_config().unwrap(), shared);
}
