//! Stream capture: operations become nodes of a graph instead of running.

use super::context::Context;
use super::ffi::{In, Out, api};
use super::graph::Graph;
use super::queue::Stream;
use super::result::{CuResult, DriverResult};
use super::state::Driver;
use super::stream;
use super::table::{Handle, lock, next_id};
use super::work::Work;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_uint;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;

/// A node, by the client's handle.
pub(super) type NodeId = Handle;

const GLOBAL: u32 = 0;
const RELAXED: u32 = 2;

thread_local! {
    /// The thread's capture mode (`CUstreamCaptureMode`): which of its calls invalidate captures.
    static MODE: Cell<u32> = const { Cell::new(GLOBAL) };
    /// The list that `cuStreamGetCaptureInfo` last gave a pointer to.
    static SHOWN: RefCell<Vec<NodeId>> = const { RefCell::new(Vec::new()) };
}

/// One capture: the stream that began it and all streams that joined.
#[derive(Debug)]
pub(super) struct Capture {
    id: u64,
    /// The stream that began the capture and must end it.
    origin: u64,
    context_handle: Handle,
    mode: u32,
    thread: ThreadId,
    graph: Arc<Graph>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    invalid: bool,
    over: bool,
    /// For each stream that takes part, the nodes that its next one depends on.
    fronts: HashMap<u64, Front>,
}

#[derive(Debug)]
struct Front {
    stream: Weak<Stream>,
    after: Vec<NodeId>,
    /// Of these the stream's own last node, if that is a kernel.
    kernel: Option<NodeId>,
}

impl Capture {
    /// Records an operation of a participating stream.
    pub fn record(&self, driver: &Driver, stream: &Arc<Stream>, work: Work) -> DriverResult {
        let after = self.front(stream)?;
        let kernel = matches!(work, Work::Kernel(_));
        let programmatic = self.last_kernel(stream).filter(|_| work.is_programmatic()).into_iter().collect();
        let node = self.graph.add(driver, work, after, programmatic)?;
        self.set_front(stream, vec![node], kernel.then_some(node));
        Ok(())
    }

    /// Makes the graph own memory that was allocated during the capture.
    pub fn own(&self, address: u64) {
        self.graph.own(address);
    }

    /// The nodes that a stream's next node depends on.
    pub fn front(&self, stream: &Stream) -> DriverResult<Vec<NodeId>> {
        let state = lock(&self.state);
        if state.invalid {
            return Err(CuResult::STREAM_CAPTURE_INVALIDATED);
        }
        Ok(state.fronts.get(&stream.id).map(|front| front.after.clone()).unwrap_or_default())
    }

    fn set_front(&self, stream: &Arc<Stream>, after: Vec<NodeId>, kernel: Option<NodeId>) {
        let front = Front { stream: Arc::downgrade(stream), after, kernel };
        lock(&self.state).fronts.insert(stream.id, front);
    }

    /// The stream's own last node, if that is a kernel.
    fn last_kernel(&self, stream: &Stream) -> Option<NodeId> {
        lock(&self.state).fronts.get(&stream.id).and_then(|front| front.kernel)
    }

    /// Adds a stream to the capture; its next node depends on these.
    pub fn join(self: &Arc<Self>, stream: &Arc<Stream>, after: &[NodeId]) -> DriverResult {
        if self.is_over() {
            return Err(CuResult::STREAM_CAPTURE_ISOLATION);
        }
        if stream.is_legacy() {
            self.invalidate();
            return Err(CuResult::STREAM_CAPTURE_IMPLICIT);
        }
        let mut front = self.front(stream)?;
        for node in after {
            if !front.contains(node) {
                front.push(*node);
            }
        }
        self.set_front(stream, front, self.last_kernel(stream));
        stream.set_capture(Some(self.clone()));
        Ok(())
    }

    /// Invalidates the capture: ending it returns an error.
    pub fn invalidate(&self) {
        lock(&self.state).invalid = true;
    }

    /// Whether the capture has ended.
    pub fn is_over(&self) -> bool {
        lock(&self.state).over
    }

    /// Ends the capture: releases all streams; returns whether all work was joined.
    fn end(&self) -> DriverResult {
        let mut state = lock(&self.state);
        state.over = true;
        let origin = state.fronts.get(&self.origin).map(|front| front.after.clone());
        let joined = self.graph.ancestors(&origin.unwrap_or_default());
        let mut unjoined = false;
        for (id, front) in state.fronts.drain() {
            if let Some(stream) = front.stream.upgrade() {
                stream.set_capture(None);
            }
            unjoined |= id != self.origin && front.after.iter().any(|node| !joined.contains(node));
        }
        if state.invalid {
            Err(CuResult::STREAM_CAPTURE_INVALIDATED)
        } else if unjoined {
            Err(CuResult::STREAM_CAPTURE_UNJOINED)
        } else {
            Ok(())
        }
    }
}

/// The active captures of the process.
#[derive(Debug, Default)]
pub(super) struct Captures {
    count: AtomicUsize,
    list: Mutex<Vec<Arc<Capture>>>,
}

impl Captures {
    fn add(&self, capture: Arc<Capture>) {
        lock(&self.list).push(capture);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    fn remove(&self, id: u64) {
        lock(&self.list).retain(|capture| capture.id != id);
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// A stream is destroyed: a capture that it began ends badly; in another's, what it has recorded remains, to be joined.
    pub fn abandon(&self, driver: &Driver, stream: &Stream) {
        let Some(capture) = stream.capture() else { return };
        if capture.origin == stream.id {
            capture.invalidate();
            // That it ends badly is known.
            let _ = capture.end();
            self.remove(capture.id);
            // The client may have destroyed its graph already.
            let _ = Graph::destroy(driver, capture.graph.handle);
        } else {
            stream.set_capture(None);
        }
    }

    /// Invalidates the captures that match and returns an error if there are any.
    fn refuse(&self, code: CuResult, fits: impl Fn(&Capture) -> bool) -> DriverResult {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut answer = Ok(());
        for capture in lock(&self.list).iter().filter(|capture| fits(capture)) {
            capture.invalidate();
            answer = Err(code);
        }
        answer
    }

    /// For calls that CUDA calls potentially unsafe: the thread's capture mode decides.
    pub fn forbid(&self) -> DriverResult {
        let (mode, thread) = (MODE.get(), std::thread::current().id());
        self.refuse(CuResult::STREAM_CAPTURE_UNSUPPORTED, |capture| {
            mode != RELAXED
                && ((capture.thread == thread && capture.mode != RELAXED) || (mode == GLOBAL && capture.mode == GLOBAL))
        })
    }

    /// For calls that wait for a whole context.
    pub fn refuse_context(&self, context: &Context) -> DriverResult {
        self.refuse(CuResult::STREAM_CAPTURE_UNSUPPORTED, |capture| capture.context_handle == context.handle)
    }

    /// For work on the legacy stream, which would wait for the blocking streams being captured.
    pub fn refuse_implicit(&self, stream: &Stream, context: &Context) -> DriverResult {
        if !stream.is_legacy() {
            return Ok(());
        }
        self.refuse(CuResult::STREAM_CAPTURE_IMPLICIT, |capture| {
            capture.context_handle == context.handle
                && lock(&capture.state)
                    .fronts
                    .values()
                    .filter_map(|front| front.stream.upgrade())
                    .any(|stream| stream.is_blocking())
        })
    }

    /// For calls that wait for a stream or ask about it.
    pub fn refuse_wait(&self, stream: &Stream, context: &Context) -> DriverResult {
        if let Some(capture) = stream.capture() {
            capture.invalidate();
            return Err(CuResult::STREAM_CAPTURE_UNSUPPORTED);
        }
        self.refuse_implicit(stream, context)?;
        self.forbid()
    }
}

fn begin(
    driver: &'static Driver,
    handle: Handle,
    graph: Option<Arc<Graph>>,
    after: Vec<NodeId>,
    mode: u32,
) -> DriverResult {
    if mode > RELAXED {
        return Err(CuResult::INVALID_VALUE);
    }
    let stream = stream::named(driver, handle)?;
    stream.context()?.check_error()?;
    if stream.is_legacy() {
        return Err(CuResult::STREAM_CAPTURE_UNSUPPORTED);
    }
    if stream.capture().is_some() {
        return Err(CuResult::ILLEGAL_STATE);
    }
    let capture = Arc::new(Capture {
        id: next_id(),
        origin: stream.id,
        context_handle: stream.context_handle,
        mode,
        thread: std::thread::current().id(),
        graph: graph.unwrap_or_else(|| Graph::create(driver)),
        state: Mutex::default(),
    });
    driver.captures.add(capture.clone());
    capture.set_front(&stream, after, None);
    stream.set_capture(Some(capture));
    Ok(())
}

/// The results of `cuStreamGetCaptureInfo` that the client asked for.
struct Info {
    status: Out<c_uint>,
    id: Out<u64>,
    graph: Out<Handle>,
    after: Out<*const NodeId>,
    edges: Out<usize>,
    count: Out<usize>,
}

fn info(driver: &Driver, handle: Handle, info: Info) -> DriverResult {
    let stream = stream::named(driver, handle)?;
    info.status.required()?;
    let Some(capture) = stream.capture() else {
        driver.captures.refuse_implicit(&stream, &*stream.context()?)?;
        return info.status.set(0);
    };
    info.edges.set_if(0);
    if lock(&capture.state).invalid {
        return info.status.set(2);
    }
    info.id.set_if(capture.id);
    info.graph.set_if(capture.graph.handle);
    let after = capture.front(&stream)?;
    info.count.set_if(after.len());
    info.after.set_if(SHOWN.with_borrow_mut(|shown| {
        *shown = after;
        shown.as_ptr()
    }));
    info.status.set(1)
}

fn update(driver: &Driver, handle: Handle, nodes: In<NodeId>, count: usize, flags: u32) -> DriverResult {
    let stream = stream::named(driver, handle)?;
    let capture = stream.capture().ok_or(CuResult::ILLEGAL_STATE)?;
    let nodes = nodes.list(count)?;
    if flags > 1 || nodes.iter().any(|node| !capture.graph.has(*node)) {
        return Err(CuResult::INVALID_VALUE);
    }
    let mut front = if flags == 0 { capture.front(&stream)? } else { Vec::new() };
    front.extend(nodes);
    let kernel = capture.last_kernel(&stream).filter(|kernel| front.contains(kernel));
    capture.set_front(&stream, front, kernel);
    Ok(())
}

api! {
    /// Starts to record the work of a stream.
    fn cuStreamBeginCapture_v2[driver](stream: Handle, mode: c_uint) {
        begin(driver, stream, None, Vec::new(), mode)
    }

    /// Starts to record the work of a stream into an existing graph.
    fn cuStreamBeginCaptureToGraph[driver](
        stream: Handle, graph: Handle, after: In<NodeId>, _edges: In<u64>, count: usize, mode: c_uint,
    ) {
        let graph = driver.graphs.get(graph)?;
        let after = after.list(count)?;
        if after.iter().any(|node| !graph.has(*node)) {
            return Err(CuResult::INVALID_VALUE);
        }
        begin(driver, stream, Some(graph), after, mode)
    }

    /// Ends a capture with the graph of what was recorded.
    fn cuStreamEndCapture[driver](handle: Handle, out: Out<Handle>) {
        out.required()?;
        out.set_if(0);
        let stream = stream::named(driver, handle)?;
        let capture = stream.capture().ok_or(CuResult::ILLEGAL_STATE)?;
        if capture.origin != stream.id {
            capture.invalidate();
            return Err(CuResult::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != RELAXED && capture.thread != std::thread::current().id() {
            return Err(CuResult::STREAM_CAPTURE_WRONG_THREAD);
        }
        let answer = capture.end();
        driver.captures.remove(capture.id);
        if answer.is_err() {
            Graph::destroy(driver, capture.graph.handle)?;
            return answer;
        }
        out.set(capture.graph.handle)
    }

    /// Whether a stream is being captured.
    fn cuStreamIsCapturing[driver](handle: Handle, status: Out<c_uint>) {
        status.required()?;
        let stream = stream::named(driver, handle)?;
        driver.captures.refuse_implicit(&stream, &*stream.context()?)?;
        status.set(match stream.capture() {
            None => 0,
            Some(capture) if lock(&capture.state).invalid => 2,
            Some(_) => 1,
        })
    }

    /// The state of a stream's capture.
    fn cuStreamGetCaptureInfo_v2[driver](
        stream: Handle, status: Out<c_uint>, id: Out<u64>, graph: Out<Handle>,
        after: Out<*const NodeId>, count: Out<usize>,
    ) {
        let edges = Out::nowhere();
        info(driver, stream, Info { status, id, graph, after, edges, count })
    }

    /// The state of a stream's capture; edges carry no data.
    fn cuStreamGetCaptureInfo_v3[driver](
        stream: Handle, status: Out<c_uint>, id: Out<u64>, graph: Out<Handle>,
        after: Out<*const NodeId>, edges: Out<usize>, count: Out<usize>,
    ) {
        info(driver, stream, Info { status, id, graph, after, edges, count })
    }

    /// Changes what a capturing stream's next node depends on.
    fn cuStreamUpdateCaptureDependencies[driver](
        stream: Handle, nodes: In<NodeId>, count: usize, flags: c_uint,
    ) {
        update(driver, stream, nodes, count, flags)
    }

    /// Changes what a capturing stream's next node depends on; edges carry no data.
    fn cuStreamUpdateCaptureDependencies_v2[driver](
        stream: Handle, nodes: In<NodeId>, _edges: In<u64>, count: usize, flags: c_uint,
    ) {
        update(driver, stream, nodes, count, flags)
    }

    /// Swaps the thread's mode for the one given.
    fn cuThreadExchangeStreamCaptureMode[_driver](mode: Out<c_uint>) {
        let new = mode.get()?;
        if new > RELAXED {
            return Err(CuResult::INVALID_VALUE);
        }
        mode.set(MODE.replace(new))
    }
}
