//! Stopping a run by Ctrl-C, SIGTERM, or the end of its terminal (SIGHUP).

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
    /// Requested by the first Ctrl-C or SIGTERM; the second one ends the process at once. SIGHUP requests it too, unless
    /// it is ignored, as under `nohup`; it never ends the process at once, since a closing terminal sends several.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        crate::signals::take();
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal finds the flag unset and sets it, and the second finds it set.
            signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, stop.0.clone())?;
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        #[cfg(unix)]
        if !ignores_hangup() {
            signal_hook::flag::register(signal_hook::consts::SIGHUP, stop.0.clone())?;
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

/// Whether the process was started with SIGHUP ignored. Linux says so in /proc; elsewhere it is taken for granted, so that
/// `nohup` has its effect.
#[cfg(unix)]
pub(crate) fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal_hook::consts::SIGHUP - 1) & 1 == 1)
}
