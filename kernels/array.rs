//! Arrays in GPU memory, and copies to and from the host.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alexnet_ops::arguments::{Argument, Arrays, View};
use alexnet_ops::{Tf32, expect_len};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DriverError, PinnedHostSlice};

use crate::error::{Error, Result};
use crate::turn::TurnLock;
use crate::{Kernels, Number};

/// An array in GPU memory, freed on drop. A device array has an element type at run time, not in its Rust type.
#[derive(Debug)]
pub struct Array {
    bytes: ManuallyDrop<CudaSlice<u8>>,
    turn: Arc<TurnLock>,
    number: Number,
    len: usize,
}

impl Drop for Array {
    fn drop(&mut self) {
        // The memory is given back in the stream's order.
        let _turn = self.turn.take();
        // SAFETY: dropped here, once.
        unsafe { ManuallyDrop::drop(&mut self.bytes) }
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Element type.
    pub fn number(&self) -> Number {
        self.number
    }
    /// Address of the first element, aligned to 256 bytes.
    pub(crate) fn address(&self) -> u64 {
        // The guard may be dropped: event tracking is off, see `Kernels::new`.
        self.bytes.device_ptr(self.bytes.stream()).0
    }
    /// Copies all bytes `from` the host to its front on another stream than that of the kernels.
    pub(crate) fn receive(&mut self, stream: &Arc<CudaStream>, from: &PinnedHostSlice<u8>) -> Result<(), DriverError> {
        stream.memcpy_htod(from, &mut *self.bytes)
    }
    /// Checks that an operator's argument has at least `len` elements of type `number`.
    pub(crate) fn expect(
        &self,
        operator: &'static str,
        argument: &'static str,
        number: Number,
        len: usize,
    ) -> Result<&Self> {
        if self.number != number {
            let reason = format!("is an array of {:?}, expected {number:?}", self.number);
            return Err(Error::Argument { operator, argument, reason });
        }
        expect_len(operator, argument, self.len, len)?;
        Ok(self)
    }
}

/// A number of the host that has the same bytes on the device.
///
/// # Safety
/// The type has no padding, every bit pattern is a value of it, and it lies in memory as [`NUMBER`](Self::NUMBER) does.
/// [`Kernels::read`] overwrites its bytes, so that a type such as `NonZeroU32` must not implement it; safe code cannot:
///
/// ```compile_fail,E0200
/// #[derive(Clone, Copy)]
/// struct Id(std::num::NonZeroU32);
/// impl alexnet_kernels::Host for Id {
///     const NUMBER: alexnet_kernels::Number = alexnet_kernels::Number::U32;
/// }
/// ```
pub unsafe trait Host: Copy + 'static {
    /// The element type on the device, of the same size (checked when [`Kernels::read`] or [`Kernels::write`] is compiled).
    const NUMBER: Number;
}
// SAFETY: a plain number.
unsafe impl Host for f32 {
    const NUMBER: Number = Number::F32;
}
// SAFETY: a plain number.
unsafe impl Host for f64 {
    const NUMBER: Number = Number::F64;
}
// SAFETY: a plain number.
unsafe impl Host for half::f16 {
    const NUMBER: Number = Number::F16;
}
// SAFETY: a plain number.
unsafe impl Host for half::bf16 {
    const NUMBER: Number = Number::Bf16;
}
// SAFETY: a transparent f32.
unsafe impl Host for Tf32 {
    const NUMBER: Number = Number::Tf32;
}
// SAFETY: a plain number.
unsafe impl Host for u8 {
    const NUMBER: Number = Number::U8;
}
// SAFETY: a plain number.
unsafe impl Host for u32 {
    const NUMBER: Number = Number::U32;
}

/// A number that activations are stored as.
pub trait Stored: Host {
    /// The nearest to x.
    fn from_f32(x: f32) -> Self;
    /// The same number.
    fn to_f32(self) -> f32;
}
impl Stored for half::f16 {
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}
impl Stored for half::bf16 {
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}
impl Stored for Tf32 {
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl Arrays for Kernels {
    type Buffer = Array;
    type Bytes = Array;
    type Labels = Array;
}

/// Checks the type of every argument and its length.
impl View<Kernels> for Kernels {
    type To = Kernels;
    type Error = Error;
    fn stored<'a>(&self, a: Argument, array: &'a Array) -> Result<&'a Array> {
        array.expect(a.operator, a.name, self.storage(), a.len)
    }
    fn stored_mut<'a>(&self, a: Argument, array: &'a mut Array) -> Result<&'a mut Array> {
        array.expect(a.operator, a.name, self.storage(), a.len)?;
        Ok(array)
    }
    fn float<'a>(&self, a: Argument, array: &'a Array) -> Result<&'a Array> {
        array.expect(a.operator, a.name, Number::F32, a.len)
    }
    fn float_mut<'a>(&self, a: Argument, array: &'a mut Array) -> Result<&'a mut Array> {
        array.expect(a.operator, a.name, Number::F32, a.len)?;
        Ok(array)
    }
    fn bytes<'a>(&self, a: Argument, array: &'a Array) -> Result<&'a Array> {
        array.expect(a.operator, a.name, Number::U8, a.len)
    }
    fn bytes_mut<'a>(&self, a: Argument, array: &'a mut Array) -> Result<&'a mut Array> {
        array.expect(a.operator, a.name, Number::U8, a.len)?;
        Ok(array)
    }
    fn labels<'a>(&self, a: Argument, array: &'a Array) -> Result<&'a Array> {
        array.expect(a.operator, a.name, Number::U32, a.len)
    }
}

impl Kernels {
    /// [`Kernels::write_at`] of numbers rounded to those of the array, through `staging`.
    ///
    /// # Errors
    /// As [`Kernels::write`].
    pub fn write_rounded<E: Stored>(
        &self,
        from: &[f32],
        to: &mut Array,
        start: usize,
        staging: &mut Vec<E>,
    ) -> Result<()> {
        staging.clear();
        staging.extend(from.iter().map(|&x| E::from_f32(x)));
        self.write_at(staging, to, start)
    }
    /// [`Kernels::read_at`] of numbers of type `E` as floats.
    ///
    /// # Errors
    /// As [`Kernels::read`].
    pub fn read_widened<E: Stored>(&self, from: &Array, start: usize, to: &mut [f32]) -> Result<()> {
        let mut stored = vec![E::from_f32(0.0); to.len()];
        self.read_at(from, start, &mut stored)?;
        to.iter_mut().zip(stored).for_each(|(to, x)| *to = x.to_f32());
        Ok(())
    }

    /// Number of allocations so far; a test checks that a training step makes none.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Allocates `len` zeros.
    ///
    /// # Errors
    /// `Error::Operator` with [`alexnet_ops::Error::OutOfMemory`]; [`Error::Driver`].
    pub fn zeros(&self, number: Number, len: usize) -> Result<Array> {
        let bytes = len * number.size();
        self.allocations.fetch_add(1, Ordering::Relaxed);
        let _turn = self.turn();
        // The driver rejects an allocation of zero bytes.
        let allocated = self.stream().alloc_zeros::<u8>(bytes.max(1));
        match allocated {
            Ok(bytes) => Ok(Array { bytes: ManuallyDrop::new(bytes), turn: self.turn.clone(), number, len }),
            Err(error) if error.0 == cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = self.context.mem_get_info().unwrap_or((0, 0));
                let ordinal = self.context.ordinal();
                let purpose = format!("an array on cuda:{ordinal}, {free} of {total} free; a smaller batch needs less");
                Err(alexnet_ops::Error::OutOfMemory { needed: bytes as u64, purpose }.into())
            }
            Err(error) => Err(Error::driver_later("allocation", error, self.sync)),
        }
    }

    /// Copies `from` to the start of `to`.
    ///
    /// # Errors
    /// A different element type, or `to` is too short; [`Error::Driver`], also for a kernel launched earlier.
    pub fn write<E: Host>(&self, from: &[E], to: &mut Array) -> Result<()> {
        self.write_at(from, to, 0)
    }

    /// Copies `from` to `to` from element `start` on.
    ///
    /// # Errors
    /// As [`Kernels::write`].
    pub fn write_at<E: Host>(&self, from: &[E], to: &mut Array, start: usize) -> Result<()> {
        const { assert!(size_of::<E>() == E::NUMBER.size()) };
        to.expect("write", "to", E::NUMBER, start + from.len())?;
        // SAFETY: a `Host` has no padding, so that all its bytes are initialised.
        let bytes = unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<u8>(), size_of_val(from)) };
        if bytes.is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        let start = start * size_of::<E>();
        let mut target = to.bytes.slice_mut(start..start + bytes.len());
        self.stream().memcpy_htod(bytes, &mut target).map_err(|e| Error::driver_later("copy to the GPU", e, self.sync))
    }

    /// Waits for all launched kernels, then copies the start of `from` to `to`.
    ///
    /// # Errors
    /// A different element type, or `from` is too short; [`Error::Driver`], also for a kernel launched earlier.
    pub fn read<E: Host>(&self, from: &Array, to: &mut [E]) -> Result<()> {
        self.read_at(from, 0, to)
    }

    /// Waits for all launched kernels, then copies the elements of `from` from `start` on to `to`.
    ///
    /// # Errors
    /// As [`Kernels::read`].
    pub fn read_at<E: Host>(&self, from: &Array, start: usize, to: &mut [E]) -> Result<()> {
        let _turn = self.turn();
        self.read_on(self.stream(), from, start, to)
    }

    fn read_on<E: Host>(&self, stream: &Arc<CudaStream>, from: &Array, start: usize, to: &mut [E]) -> Result<()> {
        const { assert!(size_of::<E>() == E::NUMBER.size()) };
        from.expect("read", "from", E::NUMBER, start + to.len())?;
        // SAFETY: every bit pattern is a value of a `Host`.
        let bytes = unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast::<u8>(), size_of_val(to)) };
        if bytes.is_empty() {
            return Ok(());
        }
        let start = start * size_of::<E>();
        let source = from.bytes.slice(start..start + bytes.len());
        let copied = stream.memcpy_dtoh(&source, bytes).and_then(|()| stream.synchronize());
        copied.map_err(|error| Error::driver_later("copy from the GPU", error, self.sync))?;
        // What was waited for may have followed an exchange that was aborted.
        self.failure.check()
    }

    /// Copies `from` to the start of `to`, after what was launched so far.
    ///
    /// # Errors
    /// Different element types, or `to` is too short; [`Error::Driver`].
    pub fn copy(&self, from: &Array, to: &mut Array) -> Result<()> {
        to.expect("copy", "to", from.number, from.len)?;
        if from.is_empty() {
            return Ok(());
        }
        let _turn = self.turn();
        let mut target = to.bytes.slice_mut(..from.bytes.len());
        let stream = self.stream();
        let copied = stream.memcpy_dtod(&*from.bytes, &mut target).and_then(|()| self.copies.join(stream));
        copied.map_err(|error| Error::driver_later("copy on the GPU", error, self.sync))
    }

    /// Copies the elements of `from` from `start` on to `to`, after the last [`Kernels::copy`] and beside all that was launched
    /// since: for a copy that nothing else writes, also by another thread.
    ///
    /// # Errors
    /// As [`Kernels::read`].
    pub fn read_copy<E: Host>(&self, from: &Array, start: usize, to: &mut [E]) -> Result<()> {
        self.read_on(&self.copies, from, start, to)
    }

    /// Sets all elements to zero.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn clear(&self, array: &mut Array) -> Result<()> {
        let _turn = self.turn();
        self.stream().memset_zeros(&mut *array.bytes).map_err(|e| Error::driver("memset", e))
    }
}
