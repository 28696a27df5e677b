//! Streams, events and host functions through the unmodified cudarc: order, waiting, asking.

mod client;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use std::ffi::c_void;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const OK: CUresult = CUresult::CUDA_SUCCESS;

fn context() -> Arc<CudaContext> {
    client::driver(&[]);
    CudaContext::new(0).unwrap()
}

/// Holds a stream up: what is queued behind waits until the sender is used or dropped.
fn hold(stream: &CudaStream) -> Sender<()> {
    unsafe extern "C" fn wait(data: *mut c_void) {
        // SAFETY: the box was leaked below for this call alone.
        let receiver = unsafe { Box::from_raw(data.cast::<Receiver<()>>()) };
        // A dropped sender releases as well.
        let _ = receiver.recv_timeout(Duration::from_secs(60));
    }
    let (sender, receiver) = channel::<()>();
    let data = Box::into_raw(Box::new(receiver)).cast();
    // SAFETY: the function takes what it is given, once.
    assert_eq!(unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(wait), data) }, OK);
    sender
}

fn query(stream: sys::CUstream) -> CUresult {
    // SAFETY: a plain call of the driver.
    unsafe { sys::cuStreamQuery(stream) }
}

#[test]
fn work_behind_a_host_function_waits_and_queries_say_so() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let mut data = stream.clone_htod(&[1u32; 4]).unwrap();
    let event = context.new_event(None).unwrap();
    assert_eq!(query(stream.cu_stream()), OK);
    assert!(event.is_complete(), "an event that was never recorded is done");
    let release = hold(&stream);
    stream.memset_zeros(&mut data).unwrap();
    event.record(&stream).unwrap();
    assert_eq!(query(stream.cu_stream()), CUresult::CUDA_ERROR_NOT_READY);
    assert_eq!(event.try_is_complete(), Ok(false));
    release.send(()).unwrap();
    event.synchronize().unwrap();
    assert_eq!(query(stream.cu_stream()), OK);
    assert_eq!(event.try_is_complete(), Ok(true));
    assert_eq!(stream.clone_dtoh(&data).unwrap(), [0; 4]);
}

#[test]
fn pageable_memory_is_read_before_the_call_returns() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let mut target = stream.alloc_zeros::<u32>(1000).unwrap();
    let release = hold(&stream);
    let mut source = vec![7u32; 1000];
    stream.memcpy_htod(&source, &mut target).unwrap();
    source.fill(8);
    release.send(()).unwrap();
    assert_eq!(stream.clone_dtoh(&target).unwrap(), vec![7; 1000]);
}

#[test]
fn pageable_memory_is_read_before_the_call_returns_though_another_stream_holds_the_copy_back() {
    let context = context();
    let mut blocking = std::ptr::null_mut();
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuStreamCreate(&mut blocking, 0) }, OK);
    let mut address = 0;
    // SAFETY: as above.
    assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut address, 4000) }, OK);
    let release = hold(&context.default_stream());
    let mut source = vec![7u32; 1000];
    // SAFETY: both have so many bytes.
    let answer = unsafe { sys::cuMemcpyHtoDAsync_v2(address, source.as_ptr().cast(), 4000, blocking) };
    assert_eq!(answer, OK);
    source.fill(8);
    release.send(()).unwrap();
    let mut found = vec![0u32; 1000];
    // SAFETY: as above; the call waits for both streams.
    assert_eq!(unsafe { sys::cuMemcpyDtoH_v2(found.as_mut_ptr().cast(), address, 4000) }, OK);
    assert_eq!(found, vec![7; 1000]);
    // SAFETY: the stream and the memory are used no more.
    unsafe {
        assert_eq!(sys::cuStreamDestroy_v2(blocking), OK);
        assert_eq!(sys::cuMemFree_v2(address), OK);
    }
}

#[test]
fn an_event_holds_another_stream_back() {
    let context = context();
    let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    // SAFETY: the streams are ordered by the event below.
    unsafe { context.disable_event_tracking() };
    let mut data = first.clone_htod(&[1u32]).unwrap();
    let release = hold(&first);
    first.memcpy_htod(&[2u32], &mut data).unwrap();
    let event = first.record_event(None).unwrap();
    second.wait(&event).unwrap();
    assert_eq!(query(second.cu_stream()), CUresult::CUDA_ERROR_NOT_READY);
    let copy = second.clone_dtod(&data).unwrap();
    release.send(()).unwrap();
    assert_eq!(second.clone_dtoh(&copy).unwrap(), [2]);
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_and_not_for_others() {
    let context = context();
    context.bind_to_thread().unwrap();
    let mut blocking = std::ptr::null_mut();
    // SAFETY: plain calls of the driver.
    assert_eq!(unsafe { sys::cuStreamCreate(&mut blocking, 0) }, OK);
    let non_blocking = context.new_stream().unwrap();
    let legacy = std::ptr::null_mut();
    let event = || {
        let mut event = std::ptr::null_mut();
        // SAFETY: plain calls of the driver.
        unsafe {
            assert_eq!(sys::cuEventCreate(&mut event, 0), OK);
            assert_eq!(sys::cuEventRecord(event, legacy), OK);
        }
        event
    };
    let done = |event| {
        // SAFETY: a plain call of the driver.
        let answer = unsafe { sys::cuEventQuery(event) };
        assert!(matches!(answer, OK | CUresult::CUDA_ERROR_NOT_READY), "{answer:?}");
        answer == OK
    };
    let release = hold(&non_blocking);
    assert!(done(event()), "a non-blocking stream holds nobody up");
    drop(release);
    non_blocking.synchronize().unwrap();

    unsafe extern "C" fn wait(data: *mut c_void) {
        // SAFETY: the box was leaked below for this call alone.
        let receiver = unsafe { Box::from_raw(data.cast::<Receiver<()>>()) };
        // A dropped sender releases as well.
        let _ = receiver.recv_timeout(Duration::from_secs(60));
    }
    let (release, receiver) = channel::<()>();
    let data = Box::into_raw(Box::new(receiver)).cast();
    // SAFETY: the function takes what it is given, once.
    assert_eq!(unsafe { sys::cuLaunchHostFunc(blocking, Some(wait), data) }, OK);
    let behind = event();
    assert!(!done(behind), "the legacy stream waits for a blocking one");
    drop(release);
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventSynchronize(behind), OK);
        assert_eq!(query(blocking), OK);
        assert_eq!(sys::cuStreamDestroy_v2(blocking), OK);
        assert_eq!(query(blocking), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuStreamDestroy_v2(legacy), CUresult::CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn host_functions_run_in_order_and_must_not_call_the_driver() {
    static SEEN: Mutex<Vec<(usize, CUresult)>> = Mutex::new(Vec::new());
    unsafe extern "C" fn note(data: *mut c_void) {
        let mut count = 0;
        // SAFETY: a plain call of the driver, which is forbidden here.
        let answer = unsafe { sys::cuDeviceGetCount(&mut count) };
        SEEN.lock().unwrap().push((data as usize, answer));
    }
    let context = context();
    let stream = context.new_stream().unwrap();
    for number in 0..20 {
        // SAFETY: the data is a number.
        let answer = unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(note), number as *mut c_void) };
        assert_eq!(answer, OK);
    }
    stream.synchronize().unwrap();
    let expected: Vec<_> = (0..20).map(|n| (n, CUresult::CUDA_ERROR_NOT_PERMITTED)).collect();
    assert_eq!(*SEEN.lock().unwrap(), expected);
    // SAFETY: a plain call of the driver.
    let none = unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), None, std::ptr::null_mut()) };
    assert_eq!(none, CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn a_callback_learns_its_stream_and_state() {
    static SEEN: Mutex<Vec<(usize, CUresult)>> = Mutex::new(Vec::new());
    unsafe extern "C" fn note(stream: sys::CUstream, status: CUresult, _: *mut c_void) {
        SEEN.lock().unwrap().push((stream as usize, status));
    }
    let context = context();
    let stream = context.new_stream().unwrap();
    let handle = stream.cu_stream();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuStreamAddCallback(handle, Some(note), std::ptr::null_mut(), 0), OK);
        let answer = sys::cuStreamAddCallback(handle, Some(note), std::ptr::null_mut(), 1);
        assert_eq!(answer, CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    stream.synchronize().unwrap();
    assert_eq!(*SEEN.lock().unwrap(), [(handle as usize, OK)]);
}

#[test]
fn events_measure_modelled_time() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let mut data = stream.alloc_zeros::<u8>(16 << 20).unwrap();
    let start = stream.record_event(timed).unwrap();
    stream.memset_zeros(&mut data).unwrap();
    let middle = stream.record_event(timed).unwrap();
    let host = stream.clone_dtoh(&data).unwrap();
    let end = stream.record_event(timed).unwrap();
    assert_eq!(host.len(), 16 << 20);
    // 2 µs and 16 MiB at 85 % of 1555 GB/s; 6 µs and 16 MiB at 24 GB/s.
    let fill = start.elapsed_ms(&middle).unwrap();
    let copy = middle.elapsed_ms(&end).unwrap();
    assert!((fill - 0.014693).abs() < 1e-5, "{fill}");
    assert!((copy - 0.705050).abs() < 1e-4, "{copy}");

    let untimed = stream.record_event(None).unwrap();
    let error = start.elapsed_ms(&untimed).unwrap_err().0;
    assert_eq!(error, CUresult::CUDA_ERROR_INVALID_HANDLE);
    let never = context.new_event(timed).unwrap();
    let error = start.elapsed_ms(&never).unwrap_err().0;
    assert_eq!(error, CUresult::CUDA_ERROR_INVALID_HANDLE);
}

#[test]
fn elapsed_time_is_not_ready_while_work_waits() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(timed).unwrap();
    let release = hold(&stream);
    let end = stream.record_event(timed).unwrap();
    let mut ms = 0.0;
    // SAFETY: plain calls of the driver.
    let answer = unsafe { sys::cuEventElapsedTime(&mut ms, start.cu_event(), end.cu_event()) };
    assert_eq!(answer, CUresult::CUDA_ERROR_NOT_READY);
    release.send(()).unwrap();
    assert!(start.elapsed_ms(&end).unwrap() > 0.0);
}

#[test]
fn streams_know_what_they_are() {
    let context = context();
    context.bind_to_thread().unwrap();
    let (mut stream, mut flags, mut priority) = (std::ptr::null_mut(), 9, 9);
    let (mut owner, mut id, mut other) = (std::ptr::null_mut(), 0, 0);
    let (mut least, mut greatest) = (9, 9);
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuCtxGetStreamPriorityRange(&mut least, &mut greatest), OK);
        assert_eq!((least, greatest), (0, -5));
        assert_eq!(sys::cuStreamCreateWithPriority(&mut stream, 1, -100), OK);
        assert_eq!(sys::cuStreamGetPriority(stream, &mut priority), OK);
        assert_eq!(sys::cuStreamGetFlags(stream, &mut flags), OK);
        assert_eq!((priority, flags), (-5, 1));
        assert_eq!(sys::cuStreamGetCtx(stream, &mut owner), OK);
        assert_eq!(owner, context.cu_ctx());
        assert_eq!(sys::cuStreamGetId(stream, &mut id), OK);
        assert_eq!(sys::cuStreamGetId(std::ptr::null_mut(), &mut other), OK);
        assert_ne!(id, other);
        let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
        assert_eq!(sys::cuStreamCreate(&mut stream.clone(), 2), invalid);
        assert_eq!(sys::cuStreamCreate(std::ptr::null_mut(), 0), invalid);
        assert_eq!(sys::cuStreamDestroy_v2(stream), OK);
        let mut event = std::ptr::null_mut();
        assert_eq!(sys::cuEventCreate(&mut event, 8), invalid);
        assert_eq!(sys::cuEventCreate(&mut event, 4), invalid);
        assert_eq!(sys::cuEventCreate(&mut event, 0), OK);
        assert_eq!(sys::cuEventDestroy_v2(event), OK);
        let gone = CUresult::CUDA_ERROR_INVALID_HANDLE;
        assert_eq!(sys::cuEventRecord(event, std::ptr::null_mut()), gone);
        assert_eq!(sys::cuStreamWaitEvent(std::ptr::null_mut(), event, 0), gone);
    }
}

#[test]
fn a_stream_that_goes_still_finishes_its_work() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let other = context.new_stream().unwrap();
    // SAFETY: the streams are ordered by the event below.
    unsafe { context.disable_event_tracking() };
    let mut data = other.alloc_zeros::<u32>(8).unwrap();
    other.synchronize().unwrap();
    let release = hold(&stream);
    stream.memcpy_htod(&[5u32; 8], &mut data).unwrap();
    let event = stream.record_event(None).unwrap();
    drop(stream);
    release.send(()).unwrap();
    other.wait(&event).unwrap();
    assert_eq!(other.clone_dtoh(&data).unwrap(), [5; 8]);
}

#[test]
fn many_threads_use_many_streams_at_once() {
    let context = context();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let context = context.clone();
            scope.spawn(move || {
                let stream = context.new_stream().unwrap();
                for round in 0..50u32 {
                    let value = thread * 1000 + round;
                    let source = vec![value; 257];
                    let data = stream.clone_htod(&source).unwrap();
                    let copy = stream.clone_dtod(&data).unwrap();
                    assert_eq!(stream.clone_dtoh(&copy).unwrap(), source);
                }
            });
        }
    });
}

#[test]
fn threads_share_one_stream_without_losing_order() {
    let context = context();
    let stream = context.new_stream().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let stream = stream.clone();
            scope.spawn(move || {
                let mut data = stream.alloc_zeros::<u32>(64).unwrap();
                for round in 0..100 {
                    stream.memcpy_htod(&[thread << 16 | round; 64], &mut data).unwrap();
                    let back = stream.clone_dtoh(&data).unwrap();
                    assert_eq!(back, [thread << 16 | round; 64]);
                }
            });
        }
    });
}
