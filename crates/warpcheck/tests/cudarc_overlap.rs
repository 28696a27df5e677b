//! Programmatic dependent launch through cudarc: the attribute in streams and graphs, and what the race check makes of it.

mod client;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const OK: CUresult = CUresult::CUDA_SUCCESS;
const LOCAL: sys::CUstreamCaptureMode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;

/// `add` adds 1 to a word after waiting; `early` does so before waiting.
const KERNELS: &str = "
.version 8.0
.target sm_90
.address_size 64
.visible .entry add(.param .u64 x)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    griddepcontrol.wait;
    griddepcontrol.launch_dependents;
    ld.param.u64 %rd1, [x];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [%rd2];
    add.u32 %r2, %r1, 1;
    st.global.u32 [%rd2], %r2;
    ret;
}
.visible .entry early(.param .u64 x)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    griddepcontrol.launch_dependents;
    ld.param.u64 %rd1, [x];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [%rd2];
    add.u32 %r2, %r1, 1;
    st.global.u32 [%rd2], %r2;
    griddepcontrol.wait;
    ret;
}";

/// The driver, for one test at a time, and what a test launches with.
struct Bench {
    driver: &'static client::Driver,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    kernels: [sys::CUfunction; 2],
    _modules: Vec<Arc<cudarc::driver::CudaModule>>,
    _alone: MutexGuard<'static, ()>,
}

const ADD: usize = 0;
const EARLY: usize = 1;

impl Bench {
    fn new() -> Bench {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let driver = client::driver(&[("WARPCHECK_PROFILE", "h100")]);
        let context = CudaContext::new(0).unwrap();
        // SAFETY: each test orders its streams by events.
        unsafe { context.disable_event_tracking() };
        driver.reset();
        let module = context.load_module(KERNELS.into()).unwrap();
        let mut kernels = [std::ptr::null_mut(); 2];
        for (kernel, name) in kernels.iter_mut().zip(["add", "early"]) {
            *kernel = module.load_function(name).unwrap().cu_function();
        }
        let stream = context.new_stream().unwrap();
        Bench { driver, context, stream, kernels, _modules: vec![module], _alone: alone }
    }

    /// Launches one thread, with the attribute or without.
    fn launch(&self, stream: &CudaStream, kernel: usize, mut x: u64, programmatic: bool) {
        // SAFETY: all zero is a valid attribute, which is filled below.
        let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attribute.value.programmaticStreamSerializationAllowed = i32::from(programmatic);
        let config = sys::CUlaunchConfig {
            gridDimX: 1,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 1,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: stream.cu_stream(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        let mut arguments = [(&mut x as *mut u64).cast::<c_void>()];
        // SAFETY: the kernels take a pointer.
        let answer = unsafe {
            sys::cuLaunchKernelEx(&config, self.kernels[kernel], arguments.as_mut_ptr(), std::ptr::null_mut())
        };
        assert_eq!(answer, OK);
    }

    /// A word of zero.
    fn word(&self) -> u64 {
        self.context.bind_to_thread().unwrap();
        let mut x = 0;
        // SAFETY: plain calls of the driver.
        unsafe {
            assert_eq!(sys::cuMemAlloc_v2(&mut x, 4), OK);
            assert_eq!(sys::cuMemsetD32_v2(x, 0, 1), OK);
        }
        x
    }

    fn fill(&self, x: u64) {
        // SAFETY: a plain call of the driver.
        assert_eq!(unsafe { sys::cuMemsetD32Async(x, 0, 1, self.stream.cu_stream()) }, OK);
    }

    /// What was found: the text of each finding.
    fn findings(&self) -> Vec<String> {
        self.stream.synchronize().unwrap();
        let findings = self.driver.json("warpcheck_findings_json");
        findings.as_array().unwrap().iter().map(|f| f["text"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_kernel_that_waits_is_clean_and_one_that_does_not_is_found() {
    let bench = Bench::new();
    let x = bench.word();
    for _ in 0..3 {
        bench.launch(&bench.stream, ADD, x, true);
    }
    assert_eq!(bench.findings(), [""; 0]);
    bench.launch(&bench.stream, EARLY, x, true);
    let findings = bench.findings();
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].contains("data race: read of 4 bytes"), "{findings:?}");
    assert!(findings[0].contains("by kernel add block (0,0,0) thread (0,0,0), which may still run"), "{findings:?}");
}

#[test]
fn only_the_attribute_allows_an_overlap() {
    let bench = Bench::new();
    let x = bench.word();
    bench.launch(&bench.stream, ADD, x, true);
    bench.launch(&bench.stream, EARLY, x, false);
    bench.launch(&bench.stream, ADD, x, true);
    bench.fill(x);
    bench.launch(&bench.stream, EARLY, x, true);
    assert_eq!(bench.findings(), [""; 0], "a launch without it, and one after a fill");
}

#[test]
fn an_event_between_two_kernels_does_not_order_them() {
    let bench = Bench::new();
    let x = bench.word();
    let event = bench.context.new_event(None).unwrap();
    bench.launch(&bench.stream, ADD, x, true);
    event.record(&bench.stream).unwrap();
    bench.launch(&bench.stream, EARLY, x, true);
    assert_eq!(bench.findings().len(), 2);
}

#[test]
fn a_wait_for_another_stream_does() {
    let bench = Bench::new();
    let x = bench.word();
    let other = bench.context.new_stream().unwrap();
    let event = bench.context.new_event(None).unwrap();
    bench.launch(&other, ADD, x, true);
    event.record(&other).unwrap();
    bench.stream.wait(&event).unwrap();
    bench.launch(&bench.stream, EARLY, x, true);
    assert_eq!(bench.findings(), [""; 0]);
}

/// The edges of a graph: from, to, and whether it is programmatic.
fn edges(graph: sys::CUgraph) -> Vec<(usize, usize, bool)> {
    let (mut count, mut nodes) = (16, [std::ptr::null_mut(); 16]);
    let (mut from, mut to) = (nodes, nodes);
    // SAFETY: all zero is a valid edge; the lists have room for the small graphs of these tests.
    let mut data: [sys::CUgraphEdgeData; 16] = unsafe { std::mem::zeroed() };
    let mut edges = 16;
    // SAFETY: as above.
    unsafe {
        assert_eq!(sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count), OK);
        let answer = sys::cuGraphGetEdges_v2(graph, from.as_mut_ptr(), to.as_mut_ptr(), data.as_mut_ptr(), &mut edges);
        assert_eq!(answer, OK);
    }
    let place = |node| nodes.iter().position(|known| *known == node).unwrap();
    let programmatic = |data: &sys::CUgraphEdgeData| match (data.from_port, data.type_) {
        (1, 1) => true,
        (0, 0) => false,
        other => panic!("{other:?}"),
    };
    (0..edges).map(|i| (place(from[i]), place(to[i]), programmatic(&data[i]))).collect()
}

#[test]
fn a_capture_makes_programmatic_edges() {
    let bench = Bench::new();
    let (x, y) = (bench.word(), bench.word());
    let side = bench.context.new_stream().unwrap();
    let [fork, join] = [0; 2].map(|_| bench.context.new_event(None).unwrap());
    bench.stream.begin_capture(LOCAL).unwrap();
    bench.launch(&bench.stream, ADD, x, true);
    bench.launch(&bench.stream, ADD, x, true);
    fork.record(&bench.stream).unwrap();
    side.wait(&fork).unwrap();
    bench.launch(&side, ADD, y, true);
    bench.launch(&bench.stream, ADD, x, true);
    join.record(&side).unwrap();
    bench.stream.wait(&join).unwrap();
    bench.launch(&bench.stream, ADD, x, true);
    bench.fill(x);
    bench.launch(&bench.stream, ADD, x, true);
    let graph = bench.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    let expected = [
        (0, 1, true),
        (1, 2, false), // the fork
        (1, 3, true),
        (3, 4, true),
        (2, 4, false), // the join
        (4, 5, false), // the fill
        (5, 6, false),
    ];
    assert_eq!(edges(graph.cu_graph()), expected);
    for _ in 0..2 {
        graph.launch().unwrap();
    }
    assert_eq!(bench.findings(), [""; 0]);
    // What a query without edge data would lose is an error.
    let (mut from, mut to, mut count) = ([std::ptr::null_mut(); 16], [std::ptr::null_mut(); 16], 16);
    // SAFETY: the lists have room.
    let answer = unsafe { sys::cuGraphGetEdges(graph.cu_graph(), from.as_mut_ptr(), to.as_mut_ptr(), &mut count) };
    assert_eq!(answer, CUresult::CUDA_ERROR_LOSSY_QUERY);
}

#[test]
fn a_replayed_graph_is_checked() {
    let bench = Bench::new();
    let x = bench.word();
    bench.stream.begin_capture(LOCAL).unwrap();
    bench.launch(&bench.stream, EARLY, x, true);
    bench.launch(&bench.stream, ADD, x, true);
    let graph = bench.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    // Nothing overlaps the graph: its first kernel has no predecessor, whose reads and writes it could meet.
    for _ in 0..2 {
        graph.launch().unwrap();
    }
    assert_eq!(bench.findings(), [""; 0]);
    bench.stream.begin_capture(LOCAL).unwrap();
    bench.launch(&bench.stream, ADD, x, true);
    bench.launch(&bench.stream, EARLY, x, true);
    let graph = bench.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    graph.launch().unwrap();
    assert_eq!(bench.findings().len(), 2);
}

#[test]
fn edges_can_be_built_by_hand() {
    let bench = Bench::new();
    let mut x = bench.word();
    let mut arguments = [(&mut x as *mut u64).cast::<c_void>()];
    // SAFETY: all zero is valid in these structures; the kernels take a pointer, and the lists have the lengths given.
    unsafe {
        let mut graph = std::ptr::null_mut();
        assert_eq!(sys::cuGraphCreate(&mut graph, 0), OK);
        let mut nodes = [std::ptr::null_mut(); 2];
        for (node, kernel) in nodes.iter_mut().zip([ADD, EARLY]) {
            let mut params: sys::CUDA_KERNEL_NODE_PARAMS = std::mem::zeroed();
            params.func = bench.kernels[kernel];
            (params.gridDimX, params.gridDimY, params.gridDimZ) = (1, 1, 1);
            (params.blockDimX, params.blockDimY, params.blockDimZ) = (1, 1, 1);
            params.kernelParams = arguments.as_mut_ptr();
            assert_eq!(sys::cuGraphAddKernelNode_v2(node, graph, std::ptr::null(), 0, &params), OK);
        }
        let mut data: sys::CUgraphEdgeData = std::mem::zeroed();
        (data.from_port, data.type_) = (1, 1);
        let add = |data: &sys::CUgraphEdgeData| sys::cuGraphAddDependencies_v2(graph, &nodes[0], &nodes[1], data, 1);
        let mut wrong = data;
        wrong.from_port = 7;
        assert_eq!(add(&wrong), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(add(&data), OK);
        assert_eq!(edges(graph), [(0, 1, true)]);
        let mut exec = std::ptr::null_mut();
        assert_eq!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0), OK);
        assert_eq!(sys::cuGraphLaunch(exec, bench.stream.cu_stream()), OK);
        assert_eq!(bench.findings().len(), 2);
        let remove = sys::cuGraphRemoveDependencies_v2(graph, &nodes[0], &nodes[1], &data, 1);
        assert_eq!((remove, edges(graph).len()), (OK, 0));
    }
}

#[test]
fn launches_with_the_attribute_are_counted() {
    let bench = Bench::new();
    let x = bench.word();
    bench.launch(&bench.stream, ADD, x, true);
    bench.launch(&bench.stream, ADD, x, false);
    bench.stream.synchronize().unwrap();
    let kernels = bench.driver.json("warpcheck_counters_json");
    assert_eq!((&kernels[0]["launches"], &kernels[0]["programmatic"]), (&2.into(), &1.into()), "{kernels}");
}
