//! The CPU's arrays: aligned to cache lines, and from 4 MiB up to large pages.
//!
//! Large pages (2 MiB) relieve the TLB: a column of a 4096×4096 matrix touches 4096 small pages but 32 large ones. Linux
//! gives them on request (`MADV_HUGEPAGE`); a refusal costs only speed.
//!
//! Pages of a large array take no memory before something is written to them: the gradient of a linear layer's weights takes none
//! where the update is fused.

use crate::Result;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const LINE: usize = 64;
const LARGE_PAGE: usize = 2 << 20;

#[cfg(target_os = "linux")]
const MADV_HUGEPAGE: std::ffi::c_int = 14;
#[cfg(target_os = "linux")]
// SAFETY: declared as the C library does; whoever calls it answers for the range.
unsafe extern "C" {
    /// From the C library that std links.
    fn madvise(start: *mut u8, length: usize, advice: std::ffi::c_int) -> std::ffi::c_int;
}

/// Numbers the contents of all arrays; a change of contents takes the next number.
static CONTENTS: AtomicU64 = AtomicU64::new(1);

/// Number types whose zero is all zero bytes.
pub trait Plain: Copy + Send + Sync + 'static {}
impl Plain for f32 {}
impl Plain for u32 {}
impl Plain for u8 {}

/// A heap array of numbers, aligned to cache lines; dereferences to a slice.
#[derive(Debug)]
pub struct Array<T: Plain> {
    start: NonNull<T>,
    len: usize,
    /// What was allocated, and how.
    memory: NonNull<u8>,
    layout: Layout,
    contents: u64,
}

// SAFETY: an `Array` owns its memory as a `Vec` does.
unsafe impl<T: Plain> Send for Array<T> {}
// SAFETY: shared access only reads.
unsafe impl<T: Plain> Sync for Array<T> {}

impl<T: Plain> Array<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Result<Self> {
        let error = || alexnet_ops::Error::OutOfMemory {
            needed: len.saturating_mul(size_of::<T>()) as u64,
            purpose: format!("an array of {len} elements"),
        };
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(error)?.max(LINE);
        let align = if bytes >= 2 * LARGE_PAGE { LARGE_PAGE } else { LINE };
        // Aligned here: asked for such an alignment, the allocator would write the zeros itself.
        let layout = bytes.checked_add(align).and_then(|size| Layout::array::<T>(size.div_ceil(size_of::<T>())).ok());
        let layout = layout.ok_or_else(error)?;
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(error)?;
        let skipped = memory.addr().get().next_multiple_of(align) - memory.addr().get();
        // SAFETY: the layout has `bytes` more than what is skipped.
        let start = unsafe { memory.add(skipped) };
        #[cfg(target_os = "linux")]
        if align == LARGE_PAGE {
            // Whole ones only: a large page for the rest would take more than the array.
            // SAFETY: a hint about pages that were just allocated.
            unsafe { madvise(start.as_ptr(), bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE) };
        }
        Ok(Self { start: start.cast(), len, memory, layout, contents: next_contents() })
    }

    /// Identifies the contents: changes whenever they may have changed, and differs between arrays.
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// The elements, mutably; counts as a change of [`contents`](Self::contents).
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.contents = next_contents();
        // SAFETY: `len` elements were allocated and initialised.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Bytes held, once all are written.
    pub fn bytes(&self) -> usize {
        (self.len * size_of::<T>()).max(LINE)
    }
}

fn next_contents() -> u64 {
    CONTENTS.fetch_add(1, Ordering::Relaxed)
}

impl<T: Plain> std::ops::Deref for Array<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were allocated and initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> AsRef<[T]> for Array<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Plain> AsMut<[T]> for Array<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T: Plain> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout by `zeros`.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}
