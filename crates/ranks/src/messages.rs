//! The calls of engines that have messages and nothing else.

use crate::error::{Error, Result};
use crate::{expect_len, expect_rank};

/// An engine whose calls are messages from rank to rank, which do not wait for their receiver.
pub trait Messages {
    /// Number of this rank.
    fn own(&self) -> usize;
    /// Number of ranks.
    fn count(&self) -> usize;
    /// All messages of a call: each is (peer, bytes).
    fn call(&self, call: &'static str, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()>;

    /// See [`Ranks::all_gather`](crate::Ranks::all_gather).
    fn gather_all(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        expect_len("all_gather", all.len(), self.count() * own.len())?;
        if own.is_empty() {
            return self.meet("all_gather");
        }
        let sends: Vec<_> = (0..self.count()).map(|peer| (peer, own)).collect();
        let mut receives: Vec<_> = all.chunks_exact_mut(own.len()).enumerate().collect();
        self.call("all_gather", &sends, &mut receives)
    }

    /// See [`Ranks::broadcast`](crate::Ranks::broadcast).
    fn send_to_all(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        expect_rank("broadcast", from, self.count())?;
        if self.own() != from {
            return self.call("broadcast", &[], &mut [(from, bytes)]);
        }
        let others = (0..self.count()).filter(|&peer| peer != from);
        let sends: Vec<_> = others.map(|peer| (peer, &*bytes)).collect();
        self.call("broadcast", &sends, &mut [])
    }

    /// A message without bytes from each to each, as [`Ranks::barrier`](crate::Ranks::barrier).
    fn meet(&self, call: &'static str) -> Result<()> {
        let sends: Vec<(usize, &[u8])> = (0..self.count()).map(|peer| (peer, &[][..])).collect();
        let mut receives: Vec<(usize, &mut [u8])> = (0..self.count()).map(|peer| (peer, &mut [][..])).collect();
        self.call(call, &sends, &mut receives)
    }
}

/// Takes a message of a call.
pub fn take(call: &'static str, peer: usize, (sent, bytes): (&str, &[u8]), to: &mut [u8]) -> Result<()> {
    if sent != call || bytes.len() != to.len() {
        let found = if sent == call { format!("{} bytes", bytes.len()) } else { format!("a message of {sent}") };
        return Err(Error::Differs { call, peer, found, expected: to.len() });
    }
    to.copy_from_slice(bytes);
    Ok(())
}
