//! Bytes on their way to the GPU, beside the kernels.
//!
//! Two pairs of a page-locked buffer on the host and an array on the GPU are used in turn, and copies run on a stream of their
//! own: while the kernels read one array, the next bytes are written to the other.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError, PinnedHostSlice};

use crate::error::{Error, Result};
use crate::{Array, Kernels, Number};

/// What [`Kernels::upload`] needs.
#[derive(Debug)]
pub struct Uploads {
    stream: Arc<CudaStream>,
    /// That of the last upload, and that of the next.
    slots: [Slot; 2],
}

#[derive(Debug)]
struct Slot {
    /// Waits by itself for the copy out of it before it is written or freed.
    host: PinnedHostSlice<u8>,
    array: Array,
    /// The kernels have read the array.
    read: CudaEvent,
}

fn fail(error: DriverError) -> Error {
    Error::driver("memory for uploads", error)
}

impl Kernels {
    /// Allocates what uploads of up to `len` bytes need: 2·`len` bytes on the GPU and as many of page-locked memory on the host.
    ///
    /// # Errors
    /// `Error::Operator` with [`alexnet_ops::Error::OutOfMemory`], of either; [`Error::Driver`].
    pub fn uploads(&self, len: usize) -> Result<Uploads> {
        let stream = self.context.new_stream().map_err(fail)?;
        Ok(Uploads { stream, slots: [self.slot(len.max(1))?, self.slot(len.max(1))?] })
    }

    fn slot(&self, len: usize) -> Result<Slot> {
        // SAFETY: written below, before it is read.
        let locked = unsafe { self.context.alloc_pinned_with_flags(len, 0) };
        let mut host = locked.map_err(|error| {
            let purpose = format!(
                "page-locked memory of the host, for images on their way to cuda:{} ({:?}); a smaller batch needs less, \
                 or raise the memory limit of the container or job",
                self.context.ordinal(),
                error.0
            );
            alexnet_ops::Error::OutOfMemory { needed: len as u64, purpose }
        })?;
        host.as_mut_slice().map_err(fail)?.fill(0);
        let (array, read) = (self.zeros(Number::U8, len)?, self.context.new_event(None).map_err(fail)?);
        // After the zeros.
        let _turn = self.turn();
        read.record(&self.stream).map_err(fail)?;
        Ok(Slot { host, array, read })
    }

    /// Copies `from` to the GPU, beside what was launched before; returns where it is for what is launched between this call
    /// and the next.
    ///
    /// # Errors
    /// More bytes than were allocated; [`Error::Driver`], also for a kernel launched earlier.
    pub fn upload<'a>(&self, from: &[u8], uploads: &'a mut Uploads) -> Result<&'a Array> {
        let fail = |error| Error::driver_later("upload", error, self.sync);
        let Uploads { stream, slots } = uploads;
        alexnet_ops::expect_len("upload", "to", slots[1].array.len(), from.len())?;
        // Waits for the upload before the last one, from the same memory.
        slots[1].host.as_mut_slice().map_err(fail)?[..from.len()].copy_from_slice(from);
        let _turn = self.turn();
        // Whatever reads the last upload has been launched.
        slots[0].read.record(&self.stream).map_err(fail)?;
        slots.swap(0, 1);
        let slot = &mut slots[0];
        stream.wait(&slot.read).map_err(fail)?;
        slot.array.receive(stream, &slot.host).map_err(fail)?;
        self.stream.join(stream).map_err(fail)?;
        Ok(&slot.array)
    }
}
