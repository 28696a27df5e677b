//! Which thread may use the stream.
//!
//! Whatever is put on a stream while a graph is captured becomes part of the graph, whichever thread put it there. So a
//! thread holds its turn from the beginning of a capture to its end, and every operation on the stream takes one.

use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A lock which the thread that holds it can take again, and which threads get in the order in which they ask.
#[derive(Debug, Default)]
pub(crate) struct TurnLock {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The thread, and how many turns it holds.
    holder: Option<(ThreadId, usize)>,
    /// The ticket of the next thread that asks, and the one that is served.
    next: u64,
    served: u64,
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
        let mut state = self.state();
        match &mut state.holder {
            Some((thread, turns)) if *thread == this => *turns += 1,
            _ => {
                let ticket = state.next;
                state.next += 1;
                while state.served != ticket {
                    state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.holder = Some((this, 1));
            }
        }
        Turn { lock: self, not_send: PhantomData }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.lock.state();
        state.holder = state.holder.map(|(thread, turns)| (thread, turns - 1)).filter(|&(_, turns)| turns > 0);
        if state.holder.is_none() {
            state.served += 1;
            self.lock.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_as_often_as_it_likes_and_in_order() {
        let (lock, seen) = (TurnLock::default(), Mutex::new(Vec::new()));
        let outer = lock.take();
        thread::scope(|scope| {
            for number in 0..3 {
                let waiting = lock.state().next;
                let (lock, seen) = (&lock, &seen);
                scope.spawn(move || {
                    let _outer = lock.take();
                    let _inner = lock.take();
                    seen.lock().unwrap().push(number);
                });
                while lock.state().next == waiting {
                    thread::yield_now();
                }
            }
            drop(lock.take());
            seen.lock().unwrap().push(7);
            drop(outer);
        });
        assert_eq!(*seen.lock().unwrap(), [7, 0, 1, 2]);
        assert!(lock.state().holder.is_none());
    }
}
