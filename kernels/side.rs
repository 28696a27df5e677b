//! Two pieces of work side by side, on two streams: together they fill a GPU that each alone would leave half idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError};

use crate::Kernels;
use crate::error::{Error, Result};

/// The second stream.
pub(crate) struct Side {
    stream: Arc<CudaStream>,
    /// Where it leaves the first stream, and where it joins it again.
    fork: CudaEvent,
    join: CudaEvent,
    /// Whether launches go to it. Changes within a turn only.
    active: AtomicBool,
}

impl Side {
    pub fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let active = AtomicBool::new(false);
        Ok(Self {
            stream: context.new_stream()?,
            fork: context.new_event(None)?,
            join: context.new_event(None)?,
            active,
        })
    }
}

impl Kernels {
    /// Launches `first` and, beside it, `second`; what is launched later waits for both. Also in a [capture](Kernels::capture).
    ///
    /// Both are closures that exist at the same time, so that neither can change an array that the other uses.
    ///
    /// # Errors
    /// The driver's.
    pub fn side_by_side(&self, first: impl FnOnce(), second: impl FnOnce()) -> Result<()> {
        let fail = |error| Error::driver_later("order of two streams", error, self.sync);
        let _turn = self.turn();
        if self.side() == 1 {
            first();
            second();
            return Ok(());
        }
        let Side { stream, fork, join, active } = &self.side;
        fork.record(&self.stream).and_then(|()| stream.wait(fork)).map_err(fail)?;
        active.store(true, Ordering::Relaxed);
        second();
        active.store(false, Ordering::Relaxed);
        first();
        join.record(stream).and_then(|()| self.stream.wait(join)).map_err(fail)
    }

    /// 1 within the second work of [`Kernels::side_by_side`], otherwise 0: of what two products at a time must not share,
    /// such as a workspace, there are two.
    pub fn side(&self) -> usize {
        usize::from(self.side.active.load(Ordering::Relaxed))
    }

    /// The stream that work goes to; for a thread that has its turn.
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        if self.side() == 1 { &self.side.stream } else { &self.stream }
    }
}
