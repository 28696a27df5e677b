//! One allocation: its addresses, its bytes, and which of them were written.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use super::mapping::Mapping;

/// The kind of an allocation, which decides the access rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Device memory; the host cannot dereference its pointers.
    Device,
    /// Unified memory: the same address on both sides.
    Managed,
    /// Page-locked host memory, visible to the device at the same address.
    Pinned,
    /// Memory that the process owns and registered with the driver.
    Registered,
    /// A `.global` variable of a module.
    Global,
    /// A `.const` variable of a module, or its strings: kernels may only read it.
    Const,
}

/// A description of an allocation, for findings and leak lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationInfo {
    /// First address.
    pub base: u64,
    /// Requested bytes.
    pub size: u64,
    /// Its kind.
    pub kind: Kind,
    /// The device that it belongs to.
    pub device: u32,
    /// The label given by the allocating call.
    pub label: String,
    /// Whether it has been freed.
    pub freed: bool,
    /// Sequence number of the allocation in the process, from 1.
    pub serial: u64,
}

/// An allocation with its bytes. Launches hold it by `Arc`, so that its memory outlives a premature free.
#[derive(Debug)]
pub struct Allocation {
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) kind: Kind,
    pub(crate) device: u32,
    pub(crate) label: String,
    pub(crate) serial: u64,
    pub(crate) host: *mut u8,
    /// One bit per byte, set when written; `None` if the host can write unobserved.
    pub(crate) written: Option<Mapping>,
    /// Shadow of the race check, two words per word of memory, allocated on first use: that of the even ages and that of the odd.
    pub(crate) shadow: [OnceLock<Option<Mapping>>; 2],
    /// The age of the newest launch.
    pub(crate) age: AtomicU64,
    #[allow(dead_code)] // Held for its Drop.
    pub(crate) backing: Backing,
}

/// What keeps an allocation's bytes mapped.
#[derive(Debug)]
#[allow(dead_code)] // Held for its Drop.
pub(crate) enum Backing {
    Own(Mapping),
    Window { reserve: Arc<Mapping>, offset: usize, bytes: usize },
    Foreign,
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Backing::Window { reserve, offset, bytes } = self {
            reserve.close(*offset, *bytes);
        }
    }
}

// SAFETY: `host` points into `backing`, which moves with the value; concurrent access to the bytes is what devices do.
unsafe impl Send for Allocation {}
// SAFETY: as above; the bits are atomics.
unsafe impl Sync for Allocation {}

impl Allocation {
    pub(crate) fn info(&self, freed: bool) -> AllocationInfo {
        AllocationInfo {
            base: self.base,
            size: self.size,
            kind: self.kind,
            device: self.device,
            label: self.label.clone(),
            freed,
            serial: self.serial,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.base + self.size
    }

    /// The host pointer of the byte at `address`, which must be inside.
    pub(crate) fn at(&self, address: u64) -> *mut u8 {
        debug_assert!(address >= self.base && address <= self.end());
        // SAFETY: the offset lies within the allocation.
        unsafe { self.host.add((address - self.base) as usize) }
    }

    fn bits(&self) -> Option<&[AtomicU64]> {
        self.written.as_ref().map(words)
    }

    /// Marks `[offset, offset + bytes)` as written.
    pub(crate) fn mark(&self, offset: u64, bytes: u64) {
        let Some(bits) = self.bits() else { return };
        each_word(offset, bytes, |word, mask| {
            if mask == !0 {
                bits[word].store(!0, Ordering::Relaxed);
            } else if bits[word].load(Ordering::Relaxed) & mask != mask {
                bits[word].fetch_or(mask, Ordering::Relaxed);
            }
            true
        });
    }

    /// The first byte of the range that was never written.
    pub(crate) fn unwritten(&self, offset: u64, bytes: u64) -> Option<u64> {
        let bits = self.bits()?;
        let mut first = None;
        each_word(offset, bytes, |word, mask| {
            let missing = !bits[word].load(Ordering::Relaxed) & mask;
            if missing != 0 {
                first = Some(word as u64 * 64 + u64::from(missing.trailing_zeros()));
            }
            missing == 0
        });
        first
    }

    /// Copies the marks of `source` along with its bytes.
    pub(crate) fn copy_marks(&self, offset: u64, source: &Allocation, from: u64, bytes: u64) {
        let (Some(bits), Some(theirs)) = (self.bits(), source.bits()) else {
            self.mark(offset, bytes);
            return;
        };
        if source.unwritten(from, bytes).is_none() {
            self.mark(offset, bytes);
            return;
        }
        // Overlapping copies inside one allocation are undefined in CUDA; forward order will do.
        for i in 0..bytes {
            let (s, d) = (from + i, offset + i);
            let set = theirs[(s / 64) as usize].load(Ordering::Relaxed) >> (s % 64) & 1;
            let word = &bits[(d / 64) as usize];
            if set == 1 {
                word.fetch_or(1 << (d % 64), Ordering::Relaxed);
            } else {
                word.fetch_and(!(1 << (d % 64)), Ordering::Relaxed);
            }
        }
    }

    /// A launch of this age begins: entries distinguish only the launches of an age, so those of other ages are cleared; with
    /// `keep` all but those of the age before.
    pub(crate) fn forget(&self, age: u64, keep: bool) {
        if self.age.load(Ordering::Relaxed) == age || self.age.swap(age, Ordering::Relaxed) == age {
            return;
        }
        for (parity, map) in (0..).zip(&self.shadow) {
            if let Some(Some(map)) = map.get()
                && !(keep && parity != age % 2)
            {
                map.clear();
            }
        }
    }

    /// The race check's shadow words of an age: two per four bytes.
    pub(crate) fn shadow(&self, age: u64) -> Option<&[AtomicU64]> {
        let map = &self.shadow[(age % 2) as usize];
        map.get_or_init(|| Mapping::new((self.size as usize).div_ceil(4) * 16)).as_ref().map(words)
    }

    /// The same, unless no launch of that age has touched the memory.
    pub(crate) fn known_shadow(&self, age: u64) -> Option<&[AtomicU64]> {
        self.shadow[(age % 2) as usize].get()?.as_ref().map(words)
    }
}

/// The 64-bit words of a mapping.
fn words(map: &Mapping) -> &[AtomicU64] {
    // SAFETY: the mapping is page-aligned, zeroed when it was made, and borrowed.
    unsafe { std::slice::from_raw_parts(map.start().cast::<AtomicU64>(), map.bytes() / 8) }
}

/// Calls `f(word, mask)` for the 64-bit words that hold the bits of a range, until it says `false`.
fn each_word(offset: u64, bytes: u64, mut f: impl FnMut(usize, u64) -> bool) {
    let mut at = offset;
    let end = offset + bytes;
    while at < end {
        let low = at % 64;
        let n = (64 - low).min(end - at);
        let mask = if n == 64 { !0 } else { ((1u64 << n) - 1) << low };
        if !f((at / 64) as usize, mask) {
            return;
        }
        at += n;
    }
}
