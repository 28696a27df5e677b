//! The calls of engines that have messages and nothing else.

use std::fmt::Debug;
use std::process;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::tcp::Place;
use crate::timeout::Timeout;
use crate::{Ranks, expect_len, expect_rank};

/// An engine whose calls are messages from rank to rank, which do not wait for their receiver.
pub trait Messages: Send + Sync + Debug {
    /// The engine.
    const NAME: &'static str;

    /// This rank's place in the job.
    fn place(&self) -> Place;
    /// How long a call may wait for a message.
    fn longest(&self) -> &Timeout;
    /// All messages of a call: each is (peer, bytes).
    fn call(&self, call: &'static str, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()>;

    /// A message without bytes from each to each.
    fn meet(&self, call: &'static str) -> Result<()> {
        let size = self.place().size;
        let sends: Vec<(usize, &[u8])> = (0..size).map(|peer| (peer, &[][..])).collect();
        let mut receives: Vec<(usize, &mut [u8])> = (0..size).map(|peer| (peer, &mut [][..])).collect();
        self.call(call, &sends, &mut receives)
    }
}

impl<M: Messages> Ranks for M {
    fn rank(&self) -> usize {
        self.place().rank
    }
    fn size(&self) -> usize {
        self.place().size
    }
    fn local_rank(&self) -> usize {
        self.place().local_rank
    }
    fn local_size(&self) -> usize {
        self.place().local_size
    }
    fn name(&self) -> String {
        M::NAME.into()
    }

    fn all_gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        expect_len("all_gather", all.len(), self.size() * own.len())?;
        if own.is_empty() {
            return self.meet("all_gather");
        }
        let sends: Vec<_> = (0..self.size()).map(|peer| (peer, own)).collect();
        let mut receives: Vec<_> = all.chunks_exact_mut(own.len()).enumerate().collect();
        self.call("all_gather", &sends, &mut receives)
    }
    fn exchange(&self, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        self.call("exchange", sends, receives)
    }
    fn broadcast(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        expect_rank("broadcast", from, self.size())?;
        if self.rank() != from {
            return self.call("broadcast", &[], &mut [(from, bytes)]);
        }
        let others = (0..self.size()).filter(|&peer| peer != from);
        let sends: Vec<_> = others.map(|peer| (peer, &*bytes)).collect();
        self.call("broadcast", &sends, &mut [])
    }
    fn barrier(&self) -> Result<()> {
        self.meet("barrier")
    }

    fn set_timeout(&self, timeout: Duration) {
        self.longest().set(timeout);
    }
    fn timeout(&self) -> Duration {
        self.longest().get()
    }
    fn abort(&self, code: i32) -> ! {
        // The others see that this one has ended.
        process::exit(code)
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

/// The error of a message that does not come.
pub fn late(error: RecvTimeoutError, call: &'static str, peer: usize, timeout: Duration) -> Error {
    match error {
        RecvTimeoutError::Timeout => Error::Timeout { call, peers: vec![peer], seconds: timeout.as_secs() },
        RecvTimeoutError::Disconnected => Error::Ended { call, peer },
    }
}
