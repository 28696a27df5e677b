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

/// What a kept array was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// See [`Array::contents`].
    pub contents: u64,
    /// C.
    pub channels: usize,
    /// K.
    pub filters: usize,
    /// Groups.
    pub groups: usize,
}

/// An array that is kept as long as what it was made from does not change.
struct Kept {
    key: Option<Key>,
    used: u64,
    array: Array<f32>,
}

/// The reserved memory.
pub struct Scratch {
    common: Array<f32>,
    local: Array<f32>,
    threads: usize,
    kept: Vec<Kept>,
    uses: u64,
}

/// Shared memory, the threads' own, the distance from one thread's to the next, and the kept array with whether it
/// is made already.
pub type Parts<'a> = (&'a mut [f32], &'a mut [f32], usize, (bool, &'a mut [f32]));

impl Scratch {
    /// Nothing yet.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self { common: Array::zeros(0)?, local: Array::zeros(0)?, threads, kept: Vec::new(), uses: 0 })
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

    /// Makes room to keep as many arrays of each length as `lengths` lists.
    pub fn reserve_kept(&mut self, lengths: &[usize]) -> Result<()> {
        for (i, &len) in lengths.iter().enumerate() {
            let wanted = lengths[..=i].iter().filter(|&&l| l == len).count();
            if self.kept.iter().filter(|k| k.array.len() == len).count() < wanted {
                self.kept.push(Kept { key: None, used: 0, array: Array::zeros(len)? });
            }
        }
        Ok(())
    }

    /// As [`Scratch::parts`], with the array kept for `key`; if there is none, the one of this length that was not
    /// used for longest, to be made anew.
    pub fn parts_and_kept(&mut self, need: Need, key: Key, len: usize) -> Result<Parts<'_>> {
        self.reserve_kept(&[len])?;
        self.uses += 1;
        let of_len = |k: &&mut Kept| k.array.len() == len;
        let kept = match self.kept.iter_mut().filter(of_len).max_by_key(|k| (k.key == Some(key), u64::MAX - k.used)) {
            Some(kept) => kept,
            None => unreachable!("an array of this length was reserved"),
        };
        let made = kept.key == Some(key);
        (kept.key, kept.used) = (Some(key), self.uses);
        let stride = need.local.next_multiple_of(16);
        Ok((
            &mut self.common.as_mut_slice()[..need.common],
            &mut self.local.as_mut_slice()[..stride * self.threads],
            stride,
            (made, kept.array.as_mut_slice()),
        ))
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let kept: usize = self.kept.iter().map(|k| k.array.bytes()).sum();
        (self.common.bytes() + self.local.bytes() + kept) as u64
    }
}
