//! Modelled time through the unmodified cudarc: what events measure, in streams and graphs.

mod client;

use cudarc::driver::sys::{self, CUstreamCaptureMode as Mode};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::sync::Arc;

const LOCAL: Mode = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const NO_FLAGS: sys::CUgraphInstantiate_flags = sys::CUgraphInstantiate_flags(0);

/// A context of a driver that counts. One test at a time: another's launches would change what the second-level cache holds.
fn context() -> (Arc<CudaContext>, std::sync::MutexGuard<'static, ()>) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(|failed| failed.into_inner());
    client::driver(&[("WARPCHECK_COUNT", "1")]);
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the tests order their streams by events.
    unsafe { context.disable_event_tracking() };
    (context, turn)
}

#[test]
fn events_measure_the_time_that_the_report_has_of_a_kernel() {
    let (context, _turn) = context();
    let driver = client::driver(&[]);
    // No other test has a kernel of this name.
    let module = context.load_module(Ptx::from_src(client::SAXPY.replace("saxpy", "timed"))).unwrap();
    let kernel = module.load_function("timed").unwrap();
    let stream = context.new_stream().unwrap();
    let (x, mut y) = (stream.alloc_zeros::<f32>(1 << 16).unwrap(), stream.alloc_zeros::<f32>(1 << 16).unwrap());
    let mut launch = || {
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&x).arg(&mut y).arg(&2.0f32).arg(&(1u32 << 16));
        // SAFETY: the arrays have as many elements as the kernel is told.
        unsafe { launch.launch(LaunchConfig::for_num_elems(1 << 16)) }.unwrap();
    };
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    // What a launch leaves in the second-level cache makes the next one faster, but not the third.
    launch();
    stream.synchronize().unwrap();
    driver.reset();
    let start = stream.record_event(timed).unwrap();
    launch();
    let middle = stream.record_event(timed).unwrap();
    stream.begin_capture(LOCAL).unwrap();
    launch();
    launch();
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    graph.launch().unwrap();
    let end = stream.record_event(timed).unwrap();
    let (alone, in_graph) = (start.elapsed_ms(&middle).unwrap(), middle.elapsed_ms(&end).unwrap());
    // A quarter of a megabyte written; a launch costs 2.5 µs, a node of a graph 1.3 µs.
    let units = f64::from(alone) * 1e6 - 2500.0;
    assert!((198.0..300.0).contains(&units), "{units} ns");
    assert!((f64::from(in_graph) * 1e6 - 2.0 * (units + 1300.0)).abs() < 1.0, "{in_graph} ms");
    let kernels = driver.json("warpcheck_counters_json");
    let kernel = kernels.as_array().unwrap().iter().find(|kernel| kernel["name"] == "timed").unwrap();
    let time = kernel["time_ns"].as_f64().unwrap();
    assert!((time - f64::from(alone + in_graph) * 1e6).abs() < 1.0, "{time} ns in the report");
}

#[test]
fn kernels_side_by_side_in_a_graph_share_the_device() {
    const N: u32 = 1 << 20;
    let (context, _turn) = context();
    let module = context.load_module(Ptx::from_src(client::SAXPY)).unwrap();
    let kernel = module.load_function("saxpy").unwrap();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let x = one.alloc_zeros::<f32>(N as usize).unwrap();
    let [mut y, mut z] = [(); 2].map(|()| one.alloc_zeros::<f32>(N as usize).unwrap());
    one.synchronize().unwrap();
    let launch = |stream: &CudaStream, to: &mut CudaSlice<f32>| {
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&x).arg(to).arg(&2.0f32).arg(&N);
        // SAFETY: the arrays have as many elements as the kernel is told.
        unsafe { launch.launch(LaunchConfig::for_num_elems(N)) }.unwrap();
    };
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    launch(&one, &mut y);
    launch(&one, &mut z);
    let start = one.record_event(timed).unwrap();
    launch(&one, &mut y);
    let middle = one.record_event(timed).unwrap();
    one.begin_capture(LOCAL).unwrap();
    two.join(&one).unwrap();
    launch(&one, &mut y);
    launch(&two, &mut z);
    one.join(&two).unwrap();
    one.end_capture(NO_FLAGS).unwrap().unwrap().launch().unwrap();
    let end = one.record_event(timed).unwrap();
    let units = f64::from(start.elapsed_ms(&middle).unwrap()) * 1e6 - 2500.0;
    let both = f64::from(middle.elapsed_ms(&end).unwrap()) * 1e6;
    // All arrays are in the second-level cache; memory takes what is written. The gap before one is hidden by the other.
    assert!(units > 3000.0 && (1.98..2.02).contains(&(both / units)), "{units} ns alone, {both} ns both");
}
