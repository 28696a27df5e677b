//! Timing by the GPU's clock.

use std::time::Duration;

use cudarc::driver::sys::CUevent_flags;

use crate::error::{Error, Result};
use crate::{Array, Kernels};

impl Kernels {
    /// GPU time of all kernels that `work` launches, between two CUDA events. Overwrites `flush` before it starts: an array
    /// larger than the L2 cache evicts the operands, so that the time is that of a cold cache.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Driver`].
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
