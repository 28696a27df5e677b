//! Which thread may use the stream.
//!
//! Whatever is put on a stream while a graph is captured becomes part of the graph, whichever thread put it there. So a
//! thread holds its turn from the beginning of a capture to its end, and every operation on the stream takes one.

use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A lock which the thread that holds it can take again.
#[derive(Debug, Default)]
pub(crate) struct TurnLock {
    /// The thread, and how many turns it holds.
    holder: Mutex<Option<(ThreadId, usize)>>,
    free: Condvar,
}

/// The calling thread's turn on the stream; other threads wait until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Turn<'a> {
    lock: &'a TurnLock,
    /// Must be dropped by the thread that took it.
    not_send: PhantomData<*const ()>,
}

impl TurnLock {
    /// Waits until no other thread holds a turn.
    pub fn take(&self) -> Turn<'_> {
        let this = thread::current().id();
        let mut holder = self.holder();
        while holder.is_some_and(|(thread, _)| thread != this) {
            holder = self.free.wait(holder).unwrap_or_else(PoisonError::into_inner);
        }
        *holder = Some((this, holder.map_or(0, |(_, turns)| turns) + 1));
        Turn { lock: self, not_send: PhantomData }
    }

    fn holder(&self) -> MutexGuard<'_, Option<(ThreadId, usize)>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut holder = self.lock.holder();
        *holder = holder.map(|(thread, turns)| (thread, turns - 1)).filter(|&(_, turns)| turns > 0);
        if holder.is_none() {
            self.lock.free.notify_one();
        }
    }
}
