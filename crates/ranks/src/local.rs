//! Ranks that are threads of one process, for tests of what runs on ranks.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Result};
use crate::expect_rank;
use crate::messages::{Messages, late, take};
use crate::tcp::Place;
use crate::timeout::Timeout;

/// What one rank sends to another: the name of its call, so that different calls do not go unnoticed, and the bytes.
type Message = (&'static str, Vec<u8>);

/// One of the ranks that [`local`] made.
pub struct Local {
    rank: usize,
    to: Vec<Sender<Message>>,
    /// Held by one thread at a time: the calls of a rank have an order.
    from: Mutex<Vec<Receiver<Message>>>,
    timeout: Timeout,
}

/// `size` ranks for as many threads of this process; a channel leads from each to each. Messages do not wait for their
/// receiver. When one is dropped, the calls of others that wait for it fail.
pub fn local(size: usize) -> Vec<Local> {
    let mut to: Vec<Vec<Sender<Message>>> = vec![Vec::new(); size];
    let mut from: Vec<Vec<Receiver<Message>>> = Vec::new();
    for _ in 0..size {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        to.iter_mut().zip(senders).for_each(|(to, sender)| to.push(sender));
        from.push(receivers);
    }
    let ranks = to.into_iter().zip(from).enumerate();
    ranks.map(|(rank, (to, from))| Local { rank, to, from: Mutex::new(from), timeout: Timeout::default() }).collect()
}

/// Runs `body` on `size` ranks, threads of this process; its results in their order.
///
/// # Panics
/// If `body` does.
pub fn on_all<T: Send>(size: usize, body: impl Fn(Local) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let body = &body;
        let threads: Vec<_> = local(size).into_iter().map(|ranks| scope.spawn(move || body(ranks))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, T>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        threads.into_iter().map(join).collect()
    })
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("rank", &self.rank).field("size", &self.to.len()).finish()
    }
}

impl Messages for Local {
    const NAME: &'static str = "threads of one process";

    fn place(&self) -> Place {
        let (rank, size) = (self.rank, self.to.len());
        Place { rank, size, local_rank: rank, local_size: size }
    }
    fn longest(&self) -> &Timeout {
        &self.timeout
    }

    fn call(&self, call: &'static str, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        for &(peer, bytes) in sends {
            expect_rank(call, peer, self.to.len())?;
            self.to[peer].send((call, bytes.to_vec())).map_err(|_| Error::Ended { call, peer })?;
        }
        let timeout = self.timeout.get();
        for (peer, to) in receives {
            let peer = *peer;
            expect_rank(call, peer, self.to.len())?;
            let (sent, bytes) = from[peer].recv_timeout(timeout).map_err(|error| late(error, call, peer, timeout))?;
            take(call, peer, (sent, &bytes), to)?;
        }
        Ok(())
    }
}
