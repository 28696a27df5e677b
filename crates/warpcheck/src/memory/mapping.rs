//! Pages from the operating system.

use std::ptr::NonNull;

/// A private anonymous mapping, zero until written, that is unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is plain memory owned by this value; who may touch it when is the user's matter.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method hands out references.
unsafe impl Sync for Mapping {}

/// The size of a page of memory.
pub(crate) const PAGE: usize = 4096;

impl Mapping {
    /// `bytes` of readable and writable zeros; `None` if the system has no memory.
    pub(crate) fn new(bytes: usize) -> Option<Mapping> {
        Self::with(bytes, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// A range of addresses without rights.
    pub(crate) fn reserve(bytes: usize) -> Option<Mapping> {
        Self::with(bytes, libc::PROT_NONE)
    }

    fn with(bytes: usize, rights: i32) -> Option<Mapping> {
        let bytes = bytes.max(1).checked_next_multiple_of(PAGE)?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                rights,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(start.cast()).map(|start| Mapping { start, bytes })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it all zeros again.
    pub(crate) fn clear(&self) {
        // SAFETY: the mapping is ours; private anonymous pages that are given back read as zeros.
        unsafe {
            libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_DONTNEED);
        }
    }

    /// Makes `[offset, offset + bytes)` of a reservation readable and writable.
    pub(crate) fn open(&self, offset: usize, bytes: usize) -> bool {
        debug_assert!(offset + bytes <= self.bytes);
        // SAFETY: the range lies inside this mapping, which this value owns.
        unsafe {
            libc::mprotect(self.start.as_ptr().add(offset).cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) == 0
        }
    }

    /// Makes the range inaccessible again and returns its pages.
    pub(crate) fn close(&self, offset: usize, bytes: usize) {
        debug_assert!(offset + bytes <= self.bytes);
        // SAFETY: the range lies inside this mapping; nobody may use it after its allocation is dropped.
        unsafe {
            libc::mmap(
                self.start.as_ptr().add(offset).cast(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            );
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and this is its end.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.bytes);
        }
    }
}
