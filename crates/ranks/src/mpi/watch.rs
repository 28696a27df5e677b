//! A thread that ends the process if a call of the library does not return.
//!
//! Waiting for other ranks has its own deadline, which is shorter and names them. This is for `MPI_Init_thread`,
//! `MPI_Finalize`, and calls that should return at once.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::error::Error;

unsafe extern "C" {
    /// Ends the process without the handlers of `exit`, which could wait for the library again.
    fn _exit(code: c_int) -> !;
}

/// Is told of a failure after which no call can be made: prints it. Returns if the job ended otherwise.
pub type OnFailure = Arc<dyn Fn(&Error) + Send + Sync>;

/// The call that is under way: its name, when it began, and how long it may take.
type Call = Option<(&'static str, Instant, Duration)>;

/// Watches one call at a time.
pub struct Watch(Arc<Mutex<Call>>);

impl Watch {
    /// Starts the thread; without one nothing is watched.
    pub fn start(on_failure: OnFailure) -> Self {
        let call: Arc<Mutex<Call>> = Arc::default();
        let watched = Arc::downgrade(&call);
        let watch = move || {
            while let Some(call) = watched.upgrade() {
                let now = *call.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((call, since, most)) = now.filter(|(_, since, most)| since.elapsed() > *most) {
                    on_failure(&Error::Stuck { call, seconds: since.elapsed().max(most).as_secs() });
                    end(1);
                }
                drop(call);
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        // No thread: the calls are made all the same.
        let _ = Builder::new().name("ranks".into()).spawn(watch);
        Self(call)
    }

    /// Makes a call that may take `most`, from now or the last [`renew`](Self::renew).
    pub fn call<T>(&self, name: &'static str, most: Duration, call: impl FnOnce() -> T) -> T {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, Instant::now(), most));
        let result = call();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        result
    }

    /// The call gets on.
    pub fn renew(&self) {
        if let Some((_, since, _)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            *since = Instant::now();
        }
    }
}

/// Ends the process at once.
pub fn end(code: i32) -> ! {
    // SAFETY: has no requirements.
    unsafe { _exit(code) }
}
