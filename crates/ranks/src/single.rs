//! One rank.

use std::process;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::{Ranks, TIMEOUT, expect_len, expect_rank};

/// The only rank of its job.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Ranks for Single {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn local_rank(&self) -> usize {
        0
    }
    fn local_size(&self) -> usize {
        1
    }
    fn name(&self) -> String {
        "one process".into()
    }

    fn all_gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        expect_len("all_gather", all.len(), own.len())?;
        all.copy_from_slice(own);
        Ok(())
    }

    fn exchange(&self, sends: &[(usize, &[u8])], receives: &mut [(usize, &mut [u8])]) -> Result<()> {
        let peers = sends.iter().map(|send| send.0).chain(receives.iter().map(|receive| receive.0));
        peers.into_iter().try_for_each(|peer| expect_rank("exchange", peer, 1))?;
        expect_len("exchange", receives.len(), sends.len())?;
        for ((_, from), (_, to)) in sends.iter().zip(receives) {
            if from.len() != to.len() {
                let found = format!("{} bytes", from.len());
                return Err(Error::Differs { call: "exchange", peer: 0, found, expected: to.len() });
            }
            to.copy_from_slice(from);
        }
        Ok(())
    }

    fn broadcast(&self, from: usize, _: &mut [u8]) -> Result<()> {
        expect_rank("broadcast", from, 1)
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn set_timeout(&self, _: Duration) {}
    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    fn abort(&self, code: i32) -> ! {
        process::exit(code)
    }
}
