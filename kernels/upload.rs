//! Bytes on their way to the GPU, beside the kernels.
//!
//! Two pairs of a page-locked buffer on the host and an array on the GPU are used in turn, and copies run on a stream of their
//! own: while the kernels read one array, the next bytes are written to the other.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
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
    host: PinnedHostSlice<u8>,
    array: Array,
    /// The copy from `host` is done. The slice's own event is not recorded, since event tracking is off.
    copied: CudaEvent,
    /// The kernels have read the array.
    read: CudaEvent,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before its memory is freed. A failure is the context's, and the next call's too.
        let _ = self.copied.synchronize();
    }
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
        let array = self.zeros(Number::U8, len)?;
        let event = |flags| self.context.new_event(flags).map_err(fail);
        let (copied, read) = (event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))?, event(None)?);
        // After the zeros.
        let _turn = self.turn();
        read.record(&self.stream).map_err(fail)?;
        Ok(Slot { host, array, copied, read })
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
        // The upload before the last one, from the same memory.
        slots[1].copied.synchronize().map_err(fail)?;
        slots[1].host.as_mut_slice().map_err(fail)?[..from.len()].copy_from_slice(from);
        let _turn = self.turn();
        // Whatever reads the last upload has been launched.
        slots[0].read.record(&self.stream).map_err(fail)?;
        slots.swap(0, 1);
        let slot = &mut slots[0];
        stream.wait(&slot.read).map_err(fail)?;
        slot.array.receive(stream, &slot.host).map_err(fail)?;
        slot.copied.record(stream).map_err(fail)?;
        self.stream.wait(&slot.copied).map_err(fail)?;
        Ok(&slot.array)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use alexnet_ops::Precision;
    use cudarc::driver::result::stream::launch_host_function;
    use warpcheck::harness::Harness;

    use super::*;
    use crate::nvrtc;

    /// Waits for a message.
    unsafe extern "C" fn wait(release: *mut c_void) {
        // SAFETY: from `hold`, and called once.
        let release = unsafe { Box::from_raw(release.cast::<Receiver<()>>()) };
        let _ = release.recv();
    }

    /// Holds up a stream until a message is sent.
    fn hold(stream: &CudaStream) -> Sender<()> {
        let (sender, release) = channel();
        // SAFETY: the stream exists, and `wait` takes the box over.
        unsafe { launch_host_function(stream.cu_stream(), wait, Box::into_raw(Box::new(release)).cast()) }.unwrap();
        sender
    }

    #[test]
    fn neither_stream_is_ahead_of_the_other() {
        const LEN: usize = 1000;
        let _driver = Harness::load().unwrap();
        if nvrtc::search(Some(nvrtc::Device { sm: 70, driver: 12_090 })).is_err() {
            nvrtc::fetch().unwrap();
        }
        let kernels = Kernels::new(0, Precision::Fp32).unwrap();
        let mut outs = [(); 6].map(|()| kernels.zeros(Number::U8, LEN).unwrap());
        let mut uploads = kernels.uploads(LEN).unwrap();
        let mut turn = |uploads: &mut Uploads, number: usize| {
            let array = kernels.upload(&[number as u8 + 1; LEN], uploads).unwrap();
            kernels.copy(array, &mut outs[number]).unwrap();
        };
        // The kernels are behind, until the last upload has had time to wait for them.
        let release = hold(&kernels.stream);
        let releaser = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            release.send(())
        });
        (0..4).for_each(|number| turn(&mut uploads, number));
        releaser.join().unwrap().unwrap();
        kernels.synchronize().unwrap();
        // The copies to the GPU are.
        let release = hold(&uploads.stream);
        (4..6).for_each(|number| turn(&mut uploads, number));
        release.send(()).unwrap();
        for (number, out) in outs.iter().enumerate() {
            let mut found = [0u8; LEN];
            kernels.read(out, &mut found).unwrap();
            assert!(found.iter().all(|&x| usize::from(x) == number + 1), "upload {number}: {}", found[0]);
        }
    }
}
