//! Page-locked memory of the host, through which elements of arrays go to other processes and come from them.

use std::ops::Range;

use cudarc::driver::{PinnedHostSlice, result};

use crate::error::{Error, Result};
use crate::{Array, Kernels};

/// Bytes on the host that the GPU copies to and from by itself.
#[derive(Debug)]
pub struct Staging {
    host: PinnedHostSlice<u8>,
}

impl Staging {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.host.len()
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes; those that are being copied only after [`Kernels::synchronize`].
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn bytes(&self) -> Result<&[u8]> {
        self.host.as_slice().map_err(|error| Error::driver("memory for an exchange", error))
    }
    /// The same, to be written.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        self.host.as_mut_slice().map_err(|error| Error::driver("memory for an exchange", error))
    }
}

impl Kernels {
    /// Allocates `len` zero bytes.
    ///
    /// # Errors
    /// `Error::Operator` with [`alexnet_ops::Error::OutOfMemory`]; [`Error::Driver`].
    pub fn staging(&self, len: usize) -> Result<Staging> {
        self.allocations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // SAFETY: written below, before it is read.
        let locked = unsafe { self.context.alloc_pinned_with_flags(len.max(1), 0) };
        let host = locked.map_err(|error| {
            let ordinal = self.context.ordinal();
            let purpose = format!(
                "page-locked memory of the host, through which cuda:{ordinal} exchanges gradients ({:?}); raise the memory \
                 limit of the container or job",
                error.0
            );
            alexnet_ops::Error::OutOfMemory { needed: len as u64, purpose }
        })?;
        let mut staging = Staging { host };
        staging.bytes_mut()?.fill(0);
        Ok(staging)
    }

    /// Queues a copy of elements of `from` to the bytes of `to` from `at` on; returns where they end.
    ///
    /// # Errors
    /// Elements or bytes that are not there; [`Error::Driver`].
    pub fn fetch(&self, from: &Array, elements: Range<usize>, to: &mut Staging, at: usize) -> Result<usize> {
        let (source, end) = self.bytes_of("fetch", from, &elements, to, at)?;
        let _turn = self.turn();
        let bytes = &mut to.bytes_mut()?[at..end];
        // SAFETY: both ranges were checked. Until the copy is done the memory stays allocated: `Staging` is dropped after a
        // synchronisation of the context, which freeing page-locked memory is.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, source, self.stream().cu_stream()) };
        copied.map_err(|error| Error::driver_later("copy from the GPU", error, self.sync))?;
        Ok(end)
    }

    /// Queues a copy of the bytes of `from` from `at` on to elements of `to`; returns where they end.
    ///
    /// # Errors
    /// As [`Kernels::fetch`].
    pub fn put(&self, from: &Staging, at: usize, to: &mut Array, elements: Range<usize>) -> Result<usize> {
        let (target, end) = self.bytes_of("put", to, &elements, from, at)?;
        let _turn = self.turn();
        let bytes = &from.bytes()?[at..end];
        // SAFETY: as above.
        let copied = unsafe { result::memcpy_htod_async(target, bytes, self.stream().cu_stream()) };
        copied.map_err(|error| Error::driver_later("copy to the GPU", error, self.sync))?;
        Ok(end)
    }

    /// The address of elements of an array, and where as many bytes of the host end.
    fn bytes_of(
        &self,
        call: &'static str,
        array: &Array,
        elements: &Range<usize>,
        staging: &Staging,
        at: usize,
    ) -> Result<(u64, usize)> {
        let size = array.number().size();
        let end = at + elements.len() * size;
        alexnet_ops::expect_len(call, "array", array.len(), elements.end)?;
        alexnet_ops::expect_len(call, "staging", staging.len(), end)?;
        Ok((array.address() + (elements.start * size) as u64, end))
    }
}
