//! Timing by the GPU's clock.

use std::time::Duration;

use cudarc::driver::CudaEvent;
use cudarc::driver::sys::CUevent_flags;

use crate::error::{Error, Result};
use crate::{Array, Kernels};

/// A point in the stream, with the time when the GPU gets there.
#[derive(Debug)]
pub struct Event(CudaEvent);

fn fail(error: cudarc::driver::DriverError) -> Error {
    Error::driver("events", error)
}

impl Event {
    /// The GPU's time from this event to a later one; waits for both.
    ///
    /// # Errors
    /// That of the work before; the driver's.
    pub fn until(&self, later: &Event) -> Result<Duration> {
        let milliseconds = self.0.elapsed_ms(&later.0).map_err(fail)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds) / 1e3))
    }
}

impl Kernels {
    /// Records an event after all that was launched so far.
    ///
    /// # Errors
    /// The driver's.
    pub fn event(&self) -> Result<Event> {
        let _turn = self.turn();
        Ok(Event(self.stream().record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(fail)?))
    }

    /// GPU time of all kernels that `work` launches, between two CUDA events. Overwrites `flush` before it starts: an array
    /// larger than the L2 cache evicts the operands, so that the time is that of a cold cache.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Driver`].
    pub fn time(&self, flush: &mut Array, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let _turn = self.turn();
        self.clear(flush)?;
        let start = self.event()?;
        work()?;
        start.until(&self.event()?)
    }
}
