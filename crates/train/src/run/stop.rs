//! Stopping a run by Ctrl-C or SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// The exit code of an interrupted run.
pub const INTERRUPTED: i32 = 130;

/// A request to stop the run, shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Requested by the first Ctrl-C or SIGTERM; the second one ends the process at once.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal finds the flag unset and sets it, and the second finds it set.
            signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, stop.0.clone())?;
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        Ok(stop)
    }

    /// Requests the stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the stop was requested.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
