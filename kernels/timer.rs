//! How long the GPU takes.

use std::time::Duration;

use cudarc::driver::sys::CUevent_flags;

use crate::error::{Error, Result};
use crate::{Array, Kernels};

impl Kernels {
    /// What the GPU takes for all that `work` launches, by the events of its own clock. Before it starts, `flush` is
    /// overwritten: an array larger than the second-level cache leaves nothing of the operands there.
    ///
    /// # Errors
    /// That of the work; the driver's.
    pub fn time(&self, flush: &mut Array, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let fail = |error| Error::driver("events", error);
        let _turn = self.turn();
        self.clear(flush)?;
        let event = || self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(fail);
        let start = event()?;
        work()?;
        let end = event()?;
        let milliseconds = start.elapsed_ms(&end).map_err(fail)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds) / 1e3))
    }
}
