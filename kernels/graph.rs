//! CUDA graphs: captures a sequence of launches once, and replays it.

use std::sync::atomic::Ordering;

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use crate::error::{Error, Result};
use crate::{Kernels, lock};

/// Captured launches. Holds the addresses of their arrays, not the arrays.
pub struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, one at a time; every use takes `&mut`.
unsafe impl Send for Graph {}
// SAFETY: a shared reference allows nothing.
unsafe impl Sync for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}

impl Kernels {
    /// Whether launches can be captured: not with `ALEXNET_SYNC=1`, which waits for each.
    pub fn captures(&self) -> bool {
        !self.sync
    }

    /// Captures the launches of `work` without running them. `work` must not allocate or copy from or to the host. Other
    /// threads' operators wait until the capture ends.
    ///
    /// # Errors
    /// [`Error::Driver`] if something in it cannot be captured.
    pub fn capture(&self, work: impl FnOnce()) -> Result<Graph> {
        let fail = |call: &'static str| move |error| Error::driver(call, error);
        let _turn = self.turn();
        // Of this thread only: kernels on another GPU may allocate meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(fail("cuStreamBeginCapture"))?;
        self.capturing.store(true, Ordering::Relaxed);
        work();
        self.capturing.store(false, Ordering::Relaxed);
        match self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(fail("cuStreamEndCapture"))? {
            Some(graph) => Ok(Graph(graph)),
            None => Err(Error::Argument {
                operator: "capture",
                argument: "work",
                reason: "contains something that cannot be captured".into(),
            }),
        }
    }

    /// Launches the captured kernels in order on the kernels' stream.
    ///
    /// # Safety
    /// The graph was captured from these kernels, and the arrays that were arguments in it still exist.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn launch_graph(&self, graph: &mut Graph) -> Result<()> {
        let _turn = self.turn();
        self.failure.check()?;
        graph.0.launch().map_err(|e| Error::driver_later("launch of the step's graph", e, self.sync))?;
        let watch = lock(&self.watch).upgrade();
        watch.map_or(Ok(()), |watch| self.expect(&watch))
    }
}
