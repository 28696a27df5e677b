//! How long a call may wait for other ranks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::TIMEOUT;

/// A time that another thread may set.
#[derive(Debug)]
pub struct Timeout {
    milliseconds: AtomicU64,
}

impl Default for Timeout {
    fn default() -> Self {
        Self::new(TIMEOUT)
    }
}

impl Timeout {
    pub fn new(time: Duration) -> Self {
        Self { milliseconds: AtomicU64::new(time.as_millis() as u64) }
    }
    pub fn set(&self, time: Duration) {
        self.milliseconds.store(time.as_millis() as u64, Ordering::Relaxed);
    }
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }
}
