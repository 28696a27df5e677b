//! Ranks that are threads of one process, for tests of what runs on ranks.

use std::fmt;
use std::process;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::{Ranks, expect_len, expect_rank};

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

impl Local {
    /// All messages of a call.
    fn call<'a>(
        &self,
        call: &'static str,
        sends: impl Iterator<Item = (usize, &'a [u8])>,
        receives: impl Iterator<Item = (usize, &'a mut [u8])>,
    ) -> Result<()> {
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        for (peer, bytes) in sends {
            expect_rank(call, peer, self.size())?;
            self.to[peer].send((call, bytes.to_vec())).map_err(|_| Error::Ended { call, peer })?;
        }
        for (peer, to) in receives {
            expect_rank(call, peer, self.size())?;
            let (sent, bytes) = from[peer].recv().map_err(|_| Error::Ended { call, peer })?;
            if sent != call || bytes.len() != to.len() {
                let found =
                    if sent == call { format!("{} bytes", bytes.len()) } else { format!("a message of {sent}") };
                return Err(Error::Differs { call, peer, found, expected: to.len() });
            }
            to.copy_from_slice(&bytes);
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
        expect_len("all_gather", all.len(), self.size() * own.len())?;
        let sends = (0..self.size()).map(|peer| (peer, own));
        if own.is_empty() {
            return self.call("all_gather", sends, (0..self.size()).map(|peer| (peer, &mut [][..])));
        }
        self.call("all_gather", sends, all.chunks_exact_mut(own.len()).enumerate())
    }

    fn exchange(&self, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        let receives = receives.iter_mut().map(|(peer, bytes)| (*peer, &mut **bytes));
        self.call("exchange", sends.iter().copied(), receives)
    }

    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        expect_rank("broadcast", from, self.size())?;
        if self.rank != from {
            return self.call("broadcast", [].into_iter(), [(from, bytes)].into_iter());
        }
        let others = (0..self.size()).filter(|&peer| peer != from);
        self.call("broadcast", others.map(|peer| (peer, &*bytes)), [].into_iter())
    }

    fn barrier(&self) -> Result<()> {
        let peers = 0..self.size();
        self.call("barrier", peers.clone().map(|peer| (peer, &[][..])), peers.map(|peer| (peer, &mut [][..])))
    }

    fn abort(&self, code: i32) -> ! {
        process::exit(code)
    }
}
