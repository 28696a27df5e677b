//! Stream capture and graphs through the unmodified cudarc: recorded and not run, replayed,
//! and every way in which a capture goes wrong.

mod client;

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode as Mode};
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;

const OK: CUresult = CUresult::CUDA_SUCCESS;
const LOCAL: Mode = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const NO_FLAGS: sys::CUgraphInstantiate_flags = sys::CUgraphInstantiate_flags(0);

fn context() -> Arc<CudaContext> {
    client::driver(&[]);
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each test uses one stream, or orders its streams by events.
    unsafe { context.disable_event_tracking() };
    context
}

fn event(context: &CudaContext) -> sys::CUevent {
    context.bind_to_thread().unwrap();
    let mut event = std::ptr::null_mut();
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuEventCreate(&mut event, 2) }, OK);
    event
}

fn end(stream: &CudaStream) -> Result<sys::CUgraph, CUresult> {
    let mut graph = std::ptr::null_mut();
    // SAFETY: a plain call of the driver.
    match unsafe { sys::cuStreamEndCapture(stream.cu_stream(), &mut graph) } {
        OK => Ok(graph),
        error => {
            assert!(graph.is_null());
            Err(error)
        }
    }
}

fn nodes(graph: sys::CUgraph) -> Vec<sys::CUgraphNode> {
    let mut count = 0;
    // SAFETY: the list has the length that the driver asked for.
    unsafe {
        assert_eq!(sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count), OK);
        let mut nodes = vec![std::ptr::null_mut(); count];
        assert_eq!(sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count), OK);
        nodes
    }
}

fn kind(node: sys::CUgraphNode) -> u32 {
    let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuGraphNodeGetType(node, &mut kind) }, OK);
    kind as u32
}

fn edges(graph: sys::CUgraph) -> Vec<(usize, usize)> {
    let mut count = 0;
    // SAFETY: the lists have the length that the driver asked for.
    unsafe {
        let none = std::ptr::null_mut();
        assert_eq!(sys::cuGraphGetEdges(graph, none, none, &mut count), OK);
        let mut from: Vec<sys::CUgraphNode> = vec![std::ptr::null_mut(); count];
        let mut to = from.clone();
        let answer = sys::cuGraphGetEdges(graph, from.as_mut_ptr(), to.as_mut_ptr(), &mut count);
        assert_eq!(answer, OK);
        let nodes = nodes(graph);
        let place = |node| nodes.iter().position(|known| *known == node).unwrap();
        from.into_iter().zip(to).map(|(from, to)| (place(from), place(to))).collect()
    }
}

#[test]
fn capture_records_and_does_not_run() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let mut data = stream.clone_htod(&[1u32; 4]).unwrap();
    stream.begin_capture(LOCAL).unwrap();
    assert_eq!(stream.capture_status().unwrap(), sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    stream.memset_zeros(&mut data).unwrap();
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    assert_eq!(stream.capture_status().unwrap(), sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    assert_eq!(stream.clone_dtoh(&data).unwrap(), [1; 4], "nothing has run");
    for _ in 0..2 {
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&data).unwrap(), [0; 4]);
        stream.memcpy_htod(&[9u32; 4], &mut data).unwrap();
    }
    assert_eq!(nodes(graph.cu_graph()).into_iter().map(kind).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_fork_and_a_join_become_edges() {
    let context = context();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut a = one.clone_htod(&[1u32]).unwrap();
    let mut b = one.clone_htod(&[2u32]).unwrap();
    one.synchronize().unwrap();
    let (fork, join) = (event(&context), event(&context));
    one.begin_capture(LOCAL).unwrap();
    one.memset_zeros(&mut a).unwrap();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventRecord(fork, one.cu_stream()), OK);
        assert_eq!(sys::cuStreamWaitEvent(two.cu_stream(), fork, 0), OK);
    }
    two.memset_zeros(&mut b).unwrap();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventRecord(join, two.cu_stream()), OK);
        assert_eq!(sys::cuStreamWaitEvent(one.cu_stream(), join, 0), OK);
    }
    one.memset_zeros(&mut a).unwrap();
    let graph = end(&one).unwrap();
    let edges = edges(graph);
    let count = nodes(graph).len();
    assert!(edges.contains(&(0, 1)), "the fork: {edges:?}");
    assert!(edges.contains(&(1, count - 1)), "the join: {edges:?}");
    let mut roots = 0;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuGraphGetRootNodes(graph, std::ptr::null_mut(), &mut roots), OK);
        assert_eq!(roots, 1);
        assert_eq!(sys::cuGraphDestroy(graph), OK);
        assert_eq!(sys::cuGraphDestroy(graph), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
}

#[test]
fn a_stream_may_go_before_the_capture_that_it_joined_ends() {
    let context = context();
    let one = context.new_stream().unwrap();
    let mut data = one.alloc_zeros::<u32>(4).unwrap();
    let data_pointer = {
        use cudarc::driver::DevicePtrMut;
        data.device_ptr_mut(&one).0
    };
    one.synchronize().unwrap();
    let (fork, join) = (event(&context), event(&context));
    for joined in [true, false] {
        let mut two = std::ptr::null_mut();
        one.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        // SAFETY: plain calls of the driver.
        unsafe {
            assert_eq!(sys::cuStreamCreate(&mut two, 1), OK);
            assert_eq!(sys::cuEventRecord(fork, one.cu_stream()), OK);
            assert_eq!(sys::cuStreamWaitEvent(two, fork, 0), OK);
            assert_eq!(sys::cuMemsetD8Async(data_pointer, 1, 16, two), OK);
            if joined {
                assert_eq!(sys::cuEventRecord(join, two), OK);
                assert_eq!(sys::cuStreamWaitEvent(one.cu_stream(), join, 0), OK);
            }
            assert_eq!(sys::cuStreamDestroy_v2(two), OK);
        }
        match (joined, end(&one)) {
            (true, Ok(graph)) => {
                assert_eq!(nodes(graph).len(), 1);
                // SAFETY: the graph has just been made.
                assert_eq!(unsafe { sys::cuGraphDestroy(graph) }, OK);
            }
            (false, Err(code)) => assert_eq!(code, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED),
            (_, other) => panic!("joined: {joined}, {other:?}"),
        }
    }
}

#[test]
fn work_that_was_not_joined_spoils_the_end() {
    let context = context();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut data = one.alloc_zeros::<u32>(4).unwrap();
    one.synchronize().unwrap();
    let fork = event(&context);
    one.begin_capture(LOCAL).unwrap();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventRecord(fork, one.cu_stream()), OK);
        assert_eq!(sys::cuStreamWaitEvent(two.cu_stream(), fork, 0), OK);
    }
    two.memset_zeros(&mut data).unwrap();
    assert_eq!(end(&two).unwrap_err(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    assert!(end(&one).is_err());
    one.begin_capture(LOCAL).unwrap();
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventRecord(fork, one.cu_stream()), OK);
        assert_eq!(sys::cuStreamWaitEvent(two.cu_stream(), fork, 0), OK);
    }
    two.memset_zeros(&mut data).unwrap();
    assert_eq!(end(&one).unwrap_err(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    two.memset_zeros(&mut data).unwrap();
    two.synchronize().unwrap();
}

#[test]
fn waiting_for_a_capturing_stream_is_refused_and_spoils_it() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let refused = CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    type Call = fn(&CudaStream) -> CUresult;
    // SAFETY: plain calls of the driver, all of them refused.
    let calls: [Call; 4] = [
        |stream| unsafe { sys::cuStreamSynchronize(stream.cu_stream()) },
        |stream| unsafe { sys::cuStreamQuery(stream.cu_stream()) },
        |_| unsafe { sys::cuCtxSynchronize() },
        |_| unsafe { sys::cuMemAlloc_v2(&mut 0, 64) },
    ];
    for call in calls {
        stream.begin_capture(LOCAL).unwrap();
        assert_eq!(call(&stream), refused);
        assert_eq!(stream.capture_status().unwrap(), sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_INVALIDATED);
        // SAFETY: a plain call of the driver.
        let more = unsafe { sys::cuMemsetD8Async(0x1000, 0, 0, stream.cu_stream()) };
        assert_eq!(more, OK, "an empty fill is none");
        assert_eq!(end(&stream).unwrap_err(), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    stream.synchronize().unwrap();
}

#[test]
fn a_capture_begins_and_ends_once_on_a_stream_that_can() {
    let context = context();
    let stream = context.new_stream().unwrap();
    context.bind_to_thread().unwrap();
    assert_eq!(end(&stream).unwrap_err(), CUresult::CUDA_ERROR_ILLEGAL_STATE);
    // SAFETY: plain calls of the driver.
    unsafe {
        let legacy = std::ptr::null_mut();
        let answer = sys::cuStreamBeginCapture_v2(legacy, LOCAL);
        assert_eq!(answer, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    stream.begin_capture(LOCAL).unwrap();
    let again = stream.begin_capture(LOCAL).unwrap_err().0;
    assert_eq!(again, CUresult::CUDA_ERROR_ILLEGAL_STATE);
    let elsewhere = std::thread::scope(|scope| {
        let stream = &stream;
        scope
            .spawn(move || {
                stream.context().bind_to_thread().unwrap();
                end(stream).unwrap_err()
            })
            .join()
            .unwrap()
    });
    assert_eq!(elsewhere, CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    let graph = end(&stream).unwrap();
    assert!(nodes(graph).is_empty());
    // SAFETY: a plain call of the driver.
    assert_eq!(unsafe { sys::cuGraphDestroy(graph) }, OK);
}

#[test]
fn events_do_not_cross_the_border_of_a_capture() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let other = context.new_stream().unwrap();
    let outside = event(&context);
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuEventRecord(outside, other.cu_stream()), OK);
        stream.begin_capture(LOCAL).unwrap();
        assert_eq!(
            sys::cuStreamWaitEvent(stream.cu_stream(), outside, 0),
            CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION
        );
        assert!(end(&stream).is_err());
        stream.begin_capture(LOCAL).unwrap();
        let inside = event(&context);
        assert_eq!(sys::cuEventRecord(inside, stream.cu_stream()), OK);
        other.begin_capture(LOCAL).unwrap();
        assert_eq!(sys::cuStreamWaitEvent(other.cu_stream(), inside, 0), CUresult::CUDA_ERROR_STREAM_CAPTURE_MERGE);
        assert!(end(&other).is_err() && end(&stream).is_err());
        assert_eq!(sys::cuEventSynchronize(inside), CUresult::CUDA_ERROR_CAPTURED_EVENT);
    }
}

#[test]
fn the_legacy_stream_must_not_wait_for_a_capture() {
    let context = context();
    context.bind_to_thread().unwrap();
    let mut stream = std::ptr::null_mut();
    let mut data = 0;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut data, 64), OK);
        assert_eq!(sys::cuStreamCreate(&mut stream, 0), OK);
        let relaxed = Mode::CU_STREAM_CAPTURE_MODE_RELAXED;
        assert_eq!(sys::cuStreamBeginCapture_v2(stream, relaxed), OK);
        assert_eq!(sys::cuMemsetD8Async(data, 0, 64, stream), OK);
        assert_eq!(
            sys::cuMemsetD8Async(data, 0, 64, std::ptr::null_mut()),
            CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
        );
        let mut graph = std::ptr::null_mut();
        let answer = sys::cuStreamEndCapture(stream, &mut graph);
        assert_eq!(answer, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        assert_eq!(sys::cuStreamDestroy_v2(stream), OK);
        assert_eq!(sys::cuMemFree_v2(data), OK);
    }
}

#[test]
fn a_relaxed_capture_allows_allocation_meanwhile() {
    let context = context();
    let stream = context.new_stream().unwrap();
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    let mut address = 0;
    let mut mode = Mode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), OK);
        assert_eq!(sys::cuMemFree_v2(address), OK);
        assert_eq!(sys::cuThreadExchangeStreamCaptureMode(&mut mode), OK);
        assert_eq!(mode, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL);
        assert_eq!(sys::cuThreadExchangeStreamCaptureMode(&mut mode), OK);
        let graph = end(&stream).unwrap();
        assert_eq!(sys::cuGraphDestroy(graph), OK);
    }
}

/// With and without the event that would make the second stream's copy come before the first stream's fill.
#[test]
fn schedules_show_a_missing_edge() {
    let driver = client::driver(&[]);
    let context = context();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut a = one.clone_htod(&[7u32]).unwrap();
    let mut b = one.clone_htod(&[0u32]).unwrap();
    one.synchronize().unwrap();
    let (fork, join) = (event(&context), event(&context));
    let mut results = |joins: bool| {
        let order = |event, from: &CudaStream, to: &CudaStream| {
            // SAFETY: plain calls of the driver.
            unsafe {
                assert_eq!(sys::cuEventRecord(event, from.cu_stream()), OK);
                assert_eq!(sys::cuStreamWaitEvent(to.cu_stream(), event, 0), OK);
            }
        };
        one.begin_capture(LOCAL).unwrap();
        order(fork, &one, &two);
        two.memcpy_dtod(&a, &mut b).unwrap();
        if joins {
            order(join, &two, &one);
        }
        one.memset_zeros(&mut a).unwrap();
        order(join, &two, &one);
        let graph = one.end_capture(NO_FLAGS).unwrap().unwrap();
        let mut results = Vec::new();
        for schedule in ["schedule=", "schedule=0", "schedule=1", "schedule=2"] {
            one.memcpy_htod(&[7u32], &mut a).unwrap();
            assert_eq!(driver.set_options(schedule), OK);
            graph.launch().unwrap();
            results.push(one.clone_dtoh(&b).unwrap()[0]);
        }
        assert_eq!(driver.set_options("schedule="), OK);
        results
    };
    assert_eq!(results(true), [7; 4]);
    let found = results(false);
    assert_eq!((found[0], found.contains(&0)), (7, true), "{found:?}");
}

#[test]
fn memory_allocated_in_a_capture_belongs_to_the_graph() {
    let context = context();
    let stream = context.new_stream().unwrap();
    let mut target = stream.alloc_zeros::<u32>(4).unwrap();
    stream.synchronize().unwrap();
    stream.begin_capture(LOCAL).unwrap();
    // SAFETY: filled before it is read, in the graph.
    let mut inner = unsafe { stream.alloc::<u32>(4) }.unwrap();
    stream.memset_zeros(&mut inner).unwrap();
    stream.memcpy_dtod(&inner, &mut target).unwrap();
    drop(inner);
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    let kinds: Vec<u32> = nodes(graph.cu_graph()).into_iter().map(kind).collect();
    assert_eq!(kinds, [10, 2, 1, 11]);
    for _ in 0..3 {
        stream.memcpy_htod(&[6u32; 4], &mut target).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&target).unwrap(), [0; 4]);
    }
}

#[test]
fn graphs_are_built_by_hand_changed_and_updated() {
    let context = context();
    context.bind_to_thread().unwrap();
    let stream = context.new_stream().unwrap();
    let data = stream.clone_htod(&[0u32; 8]).unwrap();
    let (address, _sync) = cudarc::driver::DevicePtr::device_ptr(&data, &stream);
    let fill = |value, words: usize, at: u64| sys::CUDA_MEMSET_NODE_PARAMS {
        dst: address + at,
        pitch: 0,
        value,
        elementSize: 4,
        width: words,
        height: 1,
    };
    // SAFETY: plain calls of the driver; all lists have the lengths given.
    unsafe {
        let none = std::ptr::null();
        let (mut graph, mut first, mut second) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(sys::cuGraphCreate(&mut graph, 0), OK);
        let add = |node: &mut _, after: &[sys::CUgraphNode], params: &_| {
            sys::cuGraphAddMemsetNode(node, graph, after.as_ptr(), after.len(), params, context.cu_ctx())
        };
        assert_eq!(add(&mut first, &[], &fill(1, 8, 0)), OK);
        assert_eq!(add(&mut second, &[first], &fill(2, 4, 0)), OK);
        let stranger = 0x1234 as sys::CUgraphNode;
        assert_eq!(add(&mut stranger.clone(), &[stranger], &fill(2, 4, 0)), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(add(&mut stranger.clone(), &[], &fill(2, 9, 0)), CUresult::CUDA_ERROR_INVALID_VALUE);
        // A circle is refused.
        assert_eq!(sys::cuGraphAddDependencies(graph, &second, &first, 1), CUresult::CUDA_ERROR_INVALID_VALUE);
        let mut exec = std::ptr::null_mut();
        assert_eq!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0), OK);
        let run = |exec| {
            assert_eq!(sys::cuGraphLaunch(exec, stream.cu_stream()), OK);
            let mut back = [0u32; 8];
            assert_eq!(sys::cuStreamSynchronize(stream.cu_stream()), OK);
            assert_eq!(sys::cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), address, 32), OK);
            back
        };
        assert_eq!(run(exec), [2, 2, 2, 2, 1, 1, 1, 1]);
        // The instantiated graph alone.
        assert_eq!(sys::cuGraphExecMemsetNodeSetParams(exec, second, &fill(3, 2, 0), context.cu_ctx()), OK);
        assert_eq!(run(exec), [3, 3, 1, 1, 1, 1, 1, 1]);
        assert_eq!(sys::cuGraphNodeSetEnabled(exec, second, 0), OK);
        assert_eq!(run(exec), [1; 8]);
        assert_eq!(sys::cuGraphNodeSetEnabled(exec, second, 1), OK);
        // The graph, and what was made of it updated from it.
        assert_eq!(sys::cuGraphMemsetNodeSetParams(first, &fill(5, 8, 0)), OK);
        let mut result = sys::CUgraphExecUpdateResultInfo {
            result: sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR,
            errorNode: std::ptr::null_mut(),
            errorFromNode: std::ptr::null_mut(),
        };
        assert_eq!(sys::cuGraphExecUpdate_v2(exec, graph, &mut result), OK);
        assert_eq!(run(exec), [2, 2, 2, 2, 5, 5, 5, 5]);
        // A clone knows its originals, and another shape is no update.
        let (mut clone, mut copied) = (std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(sys::cuGraphClone(&mut clone, graph), OK);
        assert_eq!(sys::cuGraphNodeFindInClone(&mut copied, second, clone), OK);
        assert_eq!(sys::cuGraphDestroyNode(copied), OK);
        assert_eq!(nodes(clone).len(), 1);
        assert_eq!(nodes(graph).len(), 2);
        assert_eq!(sys::cuGraphExecUpdate_v2(exec, clone, &mut result), CUresult::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        assert_eq!(result.result, sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
        // A graph in a graph.
        let (mut outer, mut child, mut outer_exec) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(sys::cuGraphCreate(&mut outer, 0), OK);
        assert_eq!(sys::cuGraphAddChildGraphNode(&mut child, outer, none, 0, clone), OK);
        assert_eq!(kind(child), 4);
        assert_eq!(sys::cuGraphInstantiateWithFlags(&mut outer_exec, outer, 0), OK);
        assert_eq!(run(outer_exec), [5; 8]);
        for graph in [graph, clone, outer] {
            assert_eq!(sys::cuGraphDestroy(graph), OK);
        }
        assert_eq!(run(exec), [2, 2, 2, 2, 5, 5, 5, 5], "an instantiated graph outlives its graph");
        for exec in [exec, outer_exec] {
            assert_eq!(sys::cuGraphExecDestroy(exec), OK);
        }
        assert_eq!(sys::cuGraphLaunch(exec, stream.cu_stream()), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
}

#[test]
fn host_functions_in_graphs_run_at_every_launch() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn call(_: *mut std::ffi::c_void) {
        CALLS.fetch_add(1, Ordering::SeqCst);
    }
    let context = context();
    let stream = context.new_stream().unwrap();
    stream.begin_capture(LOCAL).unwrap();
    // SAFETY: the function takes nothing.
    let answer = unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(call), std::ptr::null_mut()) };
    assert_eq!(answer, OK);
    let graph = stream.end_capture(NO_FLAGS).unwrap().unwrap();
    assert_eq!(CALLS.load(Ordering::SeqCst), 0);
    for _ in 0..5 {
        graph.launch().unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(CALLS.load(Ordering::SeqCst), 5);
}

#[test]
fn a_capturing_stream_that_goes_takes_its_capture_along() {
    let context = context();
    let stream = context.new_stream().unwrap();
    stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    drop(stream);
    let mut address = 0;
    // SAFETY: plain calls of the driver.
    unsafe {
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 64), OK, "nothing is being captured any more");
        assert_eq!(sys::cuMemFree_v2(address), OK);
    }
}
