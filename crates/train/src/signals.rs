//! Signals that wait until a child process and its files are cleaned up.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGXCPU};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// What the handlers of [`Held`] share.
#[derive(Clone, Default)]
struct Shared {
    /// Whether a signal ends the process at once, as if there were no handler.
    at_once: Arc<AtomicBool>,
    /// The signal that came.
    came: Arc<AtomicUsize>,
}

static SHARED: OnceLock<Shared> = OnceLock::new();
/// Whether others handle the signals: [`Stop`](crate::run::Stop).
static TAKEN: AtomicBool = AtomicBool::new(false);

/// While it lives, Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and SIGXCPU do not end the process; if one came, dropping it does.
pub struct Held(Shared);

impl Held {
    /// Holds the signals that are not ignored.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn new() -> io::Result<Self> {
        let shared = match SHARED.get() {
            Some(shared) => shared.clone(),
            None => {
                let shared = Shared::default();
                let mut signals = vec![SIGINT, SIGTERM];
                #[cfg(unix)]
                signals
                    .extend([SIGHUP, SIGUSR1, SIGXCPU].iter().filter(|&&signal| !crate::run::stop::is_ignored(signal)));
                for signal in signals {
                    flag::register_usize(signal, shared.came.clone(), signal as usize)?;
                    flag::register_conditional_default(signal, shared.at_once.clone())?;
                }
                SHARED.get_or_init(|| shared).clone()
            }
        };
        shared.came.store(0, Ordering::Relaxed);
        shared.at_once.store(false, Ordering::SeqCst);
        Ok(Self(shared))
    }

    /// Whether a signal came.
    pub fn is_ended(&self) -> bool {
        self.0.came.load(Ordering::Relaxed) != 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.at_once.store(!TAKEN.load(Ordering::Relaxed), Ordering::SeqCst);
        let signal = self.0.came.load(Ordering::SeqCst);
        if signal != 0 {
            // Does not return.
            let _ = low_level::emulate_default_handler(signal as i32);
        }
    }
}

/// From here on, others handle the signals.
pub fn take() {
    TAKEN.store(true, Ordering::Relaxed);
    if let Some(shared) = SHARED.get() {
        shared.at_once.store(false, Ordering::SeqCst);
    }
}
