//! Stopping a run by Ctrl-C, SIGTERM, the end of its terminal (SIGHUP), and the signals with which batch systems announce
//! the end of its time (SIGUSR1, SIGXCPU).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGXCPU, SIGXFSZ};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The exit code of an interrupted run.
pub const INTERRUPTED: i32 = 130;

/// A request to stop the run, shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Requested by the first Ctrl-C or SIGTERM; the second one ends the process at once, if it is the only one of its job: a
    /// launcher passes on what the terminal sent too. SIGHUP, SIGUSR1 and SIGXCPU request it too, unless they are ignored, as
    /// SIGHUP is under `nohup`; they never end the process at once, since they come several times.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub fn on_signals(alone: bool) -> io::Result<Self> {
        let stop = Self::default();
        crate::signals::take();
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal finds the flag unset and sets it, and the second finds it set.
            if alone {
                signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, stop.0.clone())?;
            }
            signal_hook::flag::register(signal, stop.0.clone())?;
        }
        #[cfg(unix)]
        for signal in [SIGHUP, SIGUSR1, SIGXCPU].into_iter().filter(|&signal| !is_ignored(signal)) {
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

/// Makes a write beyond the limit on the size of files (`ulimit -f`) fail; by default a signal, SIGXFSZ, ends the process
/// without a word.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn survive_file_limit() -> io::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

/// Whether the process was started with a signal ignored. Linux says so in /proc; elsewhere it is taken for granted, so
/// that `nohup` has its effect.
#[cfg(unix)]
pub(crate) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.map_or(signal == SIGHUP, |mask| mask >> (signal - 1) & 1 == 1)
}
