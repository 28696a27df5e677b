//! A stretch of launches, captured once as a CUDA graph and replayed.

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use crate::Kernels;
use crate::error::{Error, Result};

/// Launches as they were captured. It holds the addresses of the arrays it was captured with, not the arrays.
pub struct Graph(CudaGraph);

// SAFETY: a graph may be used from any thread, by one at a time; every use of it takes `&mut`.
unsafe impl Send for Graph {}
// SAFETY: nothing can be done with a shared one.
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

    /// Captures what `work` launches, without running it. It must neither allocate nor copy from or to the host. Other
    /// threads' operators wait meanwhile.
    ///
    /// # Errors
    /// The driver's, if something in it cannot be captured.
    pub fn capture(&self, work: impl FnOnce()) -> Result<Graph> {
        let fail = |call: &'static str| move |error| Error::driver(call, error);
        let _turn = self.turn();
        // Of this thread only: kernels on another GPU may allocate meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(fail("cuStreamBeginCapture"))?;
        work();
        match self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(fail("cuStreamEndCapture"))? {
            Some(graph) => Ok(Graph(graph)),
            None => Err(Error::Argument {
                operator: "capture",
                argument: "work",
                reason: "contains something that cannot be captured".into(),
            }),
        }
    }

    /// Launches all that was captured, in its order, on the kernels' stream.
    ///
    /// # Safety
    /// The graph is of these kernels, and every array that was an argument while it was captured is still there.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn replay(&self, graph: &mut Graph) -> Result<()> {
        let _turn = self.turn();
        graph.0.launch().map_err(|e| Error::driver_later("launch of the step's graph", e, self.sync))
    }
}
