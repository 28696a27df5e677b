//! Memory that operators work in, reserved before the first step so that a step allocates nothing.

use super::array::Array;
use super::pool::SyncPtr;
use crate::Result;
use std::marker::PhantomData;

/// Floats that an operator works in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceSize {
    /// Shared by all threads.
    pub shared: usize,
    /// For each thread.
    pub per_thread: usize,
}

impl WorkspaceSize {
    /// Elementwise maximum: enough for either operator.
    pub fn max(self, other: WorkspaceSize) -> WorkspaceSize {
        let (shared, per_thread) = (self.shared.max(other.shared), self.per_thread.max(other.per_thread));
        WorkspaceSize { shared, per_thread }
    }

    /// Bytes for this many threads.
    pub fn bytes(self, threads: usize) -> u64 {
        ((self.shared + self.stride() * threads) * size_of::<f32>()) as u64
    }

    /// Distance between the threads' memories, a whole number of cache lines.
    fn stride(self) -> usize {
        self.per_thread.next_multiple_of(16)
    }
}

/// Identifies what a cached array was computed from.
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

/// A cached array, valid as long as what it was computed from does not change.
struct Entry {
    key: Option<Key>,
    used: u64,
    array: Array<f32>,
}

/// A cached array as its user gets it.
pub struct Cached<'a> {
    /// Whether it holds what belongs to the key; otherwise the user computes it.
    pub valid: bool,
    pub values: &'a mut [f32],
}

/// The memories of all threads.
#[derive(Clone, Copy)]
pub struct PerThread<'a> {
    start: SyncPtr<f32>,
    stride: usize,
    memory: PhantomData<&'a [f32]>,
}

impl<'a> PerThread<'a> {
    /// The memory of `thread`, at least [`WorkspaceSize::per_thread`] floats.
    ///
    /// # Safety
    /// `thread` is a thread of the pool, and one task of it at a time uses its memory.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, thread: usize) -> &'a mut [f32] {
        // SAFETY: one stride of memory per thread was reserved.
        unsafe { self.start.slice_mut(thread * self.stride, self.stride) }
    }
}

/// The reserved memory.
pub struct Workspace {
    shared: Array<f32>,
    per_thread: Array<f32>,
    threads: usize,
    cache: Vec<Entry>,
    uses: u64,
}

impl Workspace {
    /// Empty.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self { shared: Array::zeros(0)?, per_thread: Array::zeros(0)?, threads, cache: Vec::new(), uses: 0 })
    }

    /// Grows to `size`; allocates only if it has never been that large.
    pub fn reserve(&mut self, size: WorkspaceSize) -> Result<()> {
        let grow = |array: &mut Array<f32>, len: usize| {
            if len > array.len() {
                *array = Array::zeros(0)?; // Frees the old memory first.
                *array = Array::zeros(len)?;
            }
            Ok(())
        };
        grow(&mut self.shared, size.shared)?;
        grow(&mut self.per_thread, size.stride() * self.threads)
    }

    /// Reserves `size` and splits it into the shared and the threads' memory.
    pub fn split(&mut self, size: WorkspaceSize) -> Result<(&mut [f32], PerThread<'_>)> {
        self.reserve(size)?;
        let start = SyncPtr(self.per_thread.as_mut_slice().as_mut_ptr());
        let local = PerThread { start, stride: size.stride(), memory: PhantomData };
        Ok((&mut self.shared.as_mut_slice()[..size.shared], local))
    }

    /// Reserves as many cached arrays of each length as `lengths` lists.
    pub fn reserve_cache(&mut self, lengths: &[usize]) -> Result<()> {
        for (i, &len) in lengths.iter().enumerate() {
            let wanted = lengths[..=i].iter().filter(|&&l| l == len).count();
            if self.cache.iter().filter(|entry| entry.array.len() == len).count() < wanted {
                self.cache.push(Entry { key: None, used: 0, array: Array::zeros(len)? });
            }
        }
        Ok(())
    }

    /// As [`Workspace::split`], with the array cached for `key`; if there is none, the least recently used one of length
    /// `len`, to be computed again.
    pub fn split_with_cache(
        &mut self,
        size: WorkspaceSize,
        key: Key,
        len: usize,
    ) -> Result<(&mut [f32], PerThread<'_>, Cached<'_>)> {
        self.reserve_cache(&[len])?;
        self.reserve(size)?;
        self.uses += 1;
        let of_len = |entry: &&mut Entry| entry.array.len() == len;
        let preferred = |entry: &&mut Entry| (entry.key == Some(key), u64::MAX - entry.used);
        let Some(entry) = self.cache.iter_mut().filter(of_len).max_by_key(preferred) else {
            unreachable!("an array of this length was reserved")
        };
        let valid = entry.key == Some(key);
        (entry.key, entry.used) = (Some(key), self.uses);
        let start = SyncPtr(self.per_thread.as_mut_slice().as_mut_ptr());
        let local = PerThread { start, stride: size.stride(), memory: PhantomData };
        let shared = &mut self.shared.as_mut_slice()[..size.shared];
        Ok((shared, local, Cached { valid, values: entry.array.as_mut_slice() }))
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let cache: usize = self.cache.iter().map(|entry| entry.array.bytes()).sum();
        (self.shared.bytes() + self.per_thread.bytes() + cache) as u64
    }
}
