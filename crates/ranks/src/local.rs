//! Ranks that are threads of one process, for tests of what runs on ranks.

use std::fmt;
use std::process;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::messages::{Messages, take};
use crate::{Ranks, expect_rank};

/// What one rank sends to another: the name of its call, so that different calls do not go unnoticed, and the bytes.
type Message = (&'static str, Vec<u8>);

/// One of the ranks that [`local`] made.
pub struct Local {
    rank: usize,
    to: Vec<Sender<Message>>,
    /// Held by one thread at a time: the calls of a rank have an order.
    from: Mutex<Vec<Receiver<Message>>>,
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
    ranks.map(|(rank, (to, from))| Local { rank, to, from: Mutex::new(from) }).collect()
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("rank", &self.rank).field("size", &self.to.len()).finish()
    }
}

impl Messages for Local {
    fn own(&self) -> usize {
        self.rank
    }
    fn count(&self) -> usize {
        self.to.len()
    }

    fn call(&self, call: &'static str, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        for &(peer, bytes) in sends {
            expect_rank(call, peer, self.to.len())?;
            self.to[peer].send((call, bytes.to_vec())).map_err(|_| Error::Ended { call, peer })?;
        }
        for (peer, to) in receives {
            let peer = *peer;
            expect_rank(call, peer, self.to.len())?;
            let (sent, bytes) = from[peer].recv().map_err(|_| Error::Ended { call, peer })?;
            take(call, peer, (sent, &bytes), to)?;
        }
        Ok(())
    }
}

impl Ranks for Local {
    fn rank(&self) -> usize {
        self.rank
    }
    fn size(&self) -> usize {
        self.to.len()
    }
    fn local_rank(&self) -> usize {
        self.rank
    }
    fn local_size(&self) -> usize {
        self.to.len()
    }
    fn name(&self) -> String {
        "threads of one process".into()
    }

    fn all_gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        self.gather_all(own, all)
    }
    fn exchange(&self, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        self.call("exchange", sends, receives)
    }
    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        self.send_to_all(from, bytes)
    }
    fn barrier(&self) -> Result<()> {
        self.meet("barrier")
    }

    fn abort(&self, code: i32) -> ! {
        process::exit(code)
    }
}
