//! The memory that operators work in, reserved once so that a step allocates nothing.

use super::array::Array;
use crate::Result;

/// Numbers an operator works in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Shared by all threads.
    pub common: usize,
    /// Of each thread's own.
    pub local: usize,
}

impl Need {
    /// What serves both, one after the other.
    pub fn or(self, other: Need) -> Need {
        Need { common: self.common.max(other.common), local: self.local.max(other.local) }
    }
}

/// The reserved memory.
pub struct Scratch {
    common: Array<f32>,
    local: Array<f32>,
    threads: usize,
}

impl Scratch {
    /// Nothing yet.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self { common: Array::zeros(0)?, local: Array::zeros(0)?, threads })
    }

    /// Makes room for `need`; allocates only if it never was that large.
    pub fn reserve(&mut self, need: Need) -> Result<()> {
        if need.common > self.common.len() {
            self.common = Array::zeros(0)?; // Gives the old back first.
            self.common = Array::zeros(need.common)?;
        }
        let local = need.local.next_multiple_of(16) * self.threads;
        if local > self.local.len() {
            self.local = Array::zeros(0)?;
            self.local = Array::zeros(local)?;
        }
        Ok(())
    }

    /// The shared memory, and the threads' own with the distance from one thread's to the next.
    pub fn parts(&mut self, need: Need) -> (&mut [f32], &mut [f32], usize) {
        let stride = need.local.next_multiple_of(16);
        (
            &mut self.common.as_mut_slice()[..need.common],
            &mut self.local.as_mut_slice()[..stride * self.threads],
            stride,
        )
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        (self.common.bytes() + self.local.bytes()) as u64
    }
}
