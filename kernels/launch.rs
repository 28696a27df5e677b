//! Builds a kernel launch: the arguments in order, then the grid.

use std::ffi::c_void;

use cudarc::driver::sys::{self, CUlaunchAttributeID};

use crate::array::Array;
use crate::error::{Error, Result};
use crate::{Kernels, Loaded};

/// Launch configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks.
    pub blocks: [u32; 3],
    /// Threads per block.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory per block.
    pub shared: u32,
}

impl Grid {
    /// Maximum number of blocks along y and along z; along x it is 2³¹ − 1.
    pub const MAX_Y: usize = 65_535;

    /// A one-dimensional grid of at least `work` threads, in blocks of `threads`; at least one block.
    pub fn linear(work: usize, threads: u32) -> Self {
        let blocks = work.div_ceil(threads as usize).max(1);
        Self { blocks: [blocks as u32, 1, 1], threads: [threads, 1, 1], shared: 0 }
    }
    /// `blocks` blocks of `threads` threads, without dynamic shared memory.
    pub const fn new(blocks: [u32; 3], threads: u32) -> Self {
        Self { blocks, threads: [threads, 1, 1], shared: 0 }
    }
    /// The same with `bytes` of dynamic shared memory per block.
    pub const fn shared(mut self, bytes: u32) -> Self {
        self.shared = bytes;
        self
    }
}

/// A plain number, or a `#[repr(C)]` structure of them, that a kernel takes by value.
///
/// # Safety
/// The type has the layout of the kernel's parameter, and every value of it is valid there.
pub(crate) unsafe trait Value: Copy {}
// SAFETY: the same number in C.
unsafe impl Value for u32 {}
// SAFETY: as above.
unsafe impl Value for i32 {}
// SAFETY: as above.
unsafe impl Value for u64 {}
// SAFETY: as above.
unsafe impl Value for f32 {}

/// 8-byte words for the arguments that are passed by value.
const WORDS: usize = 48;

#[derive(Clone, Copy)]
enum Location {
    Word(usize),
    Reference(*const c_void),
}

/// A kernel and the arguments given so far.
pub(crate) struct Launch<'a> {
    kernels: &'a Kernels,
    name: &'static str,
    function: Loaded,
    words: [u64; WORDS],
    /// Where each argument is.
    locations: [Location; WORDS],
    used: usize,
    count: usize,
}

impl Kernels {
    /// Begins a launch of kernel `name` of `kernels/<unit>.cu`; the first launch compiles and loads the file.
    pub(crate) fn launch(&self, unit: &'static str, name: &'static str) -> Result<Launch<'_>> {
        let function = self.function(unit, name)?;
        Ok(Launch {
            kernels: self,
            name,
            function,
            words: [0; WORDS],
            locations: [Location::Word(0); WORDS],
            used: 0,
            count: 0,
        })
    }
}

impl<'a> Launch<'a> {
    /// Passes an argument by value.
    pub fn value<V: Value>(mut self, value: V) -> Self {
        let words = size_of::<V>().div_ceil(8);
        assert!(self.used + words <= WORDS && align_of::<V>() <= 8, "{}: too many arguments", self.name);
        self.locations[self.count] = Location::Word(self.used);
        // SAFETY: there is room for the value, as asserted above.
        unsafe { self.words.as_mut_ptr().add(self.used).cast::<V>().write(value) };
        self.used += words;
        self.count += 1;
        self
    }
    /// Passes a large structure, which the driver copies at the launch.
    pub fn reference<V: Value>(mut self, value: &'a V) -> Self {
        assert!(self.count < WORDS, "{}: too many arguments", self.name);
        self.locations[self.count] = Location::Reference(std::ptr::from_ref(value).cast());
        self.count += 1;
        self
    }
    /// Passes numbers that the kernel takes as int; the caller has checked that they fit.
    pub fn integers<const N: usize>(self, values: [usize; N]) -> Self {
        values.into_iter().fold(self, |launch, value| launch.value(value as i32))
    }
    /// Passes an array that the kernel reads.
    pub fn array(self, array: &Array) -> Self {
        let address = array.address();
        self.value(address)
    }
    /// Passes an array that the kernel writes.
    pub fn array_mut(self, array: &mut Array) -> Self {
        let address = array.address();
        self.value(address)
    }
    /// Passes an array that the kernel reads, or null.
    pub fn optional(self, array: Option<&Array>) -> Self {
        let address = array.map_or(0, Array::address);
        self.value(address)
    }
    /// Passes an array that the kernel writes, or null.
    pub fn optional_mut(self, array: Option<&mut Array>) -> Self {
        let address = array.map_or(0, |array| array.address());
        self.value(address)
    }

    /// Launches.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in order, and with this grid it stays inside the arrays.
    pub unsafe fn run(mut self, grid: Grid) -> Result<()> {
        let fail = |what: &str, error| Error::driver(format!("{what} of {}", self.name), error);
        let base = self.words.as_mut_ptr();
        let mut arguments = [std::ptr::null_mut::<c_void>(); WORDS];
        for (argument, &location) in arguments.iter_mut().zip(&self.locations[..self.count]) {
            *argument = match location {
                Location::Word(word) => base.wrapping_add(word).cast(),
                Location::Reference(value) => value.cast_mut(),
            };
        }
        let Grid { blocks: [bx, by, bz], threads: [tx, ty, tz], shared } = grid;
        let _turn = self.kernels.turn();
        let (stream, context) = (self.kernels.stream(), &self.kernels.context);
        context.bind_to_thread().map_err(|e| fail("launch", e))?;
        self.function.allow_shared(shared).map_err(|e| fail("launch", e))?;
        // SAFETY: all zeros are a valid attribute.
        let mut overlap: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
        overlap.id = CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        overlap.value.programmaticStreamSerializationAllowed = 1;
        let config = sys::CUlaunchConfig {
            gridDimX: bx,
            gridDimY: by,
            gridDimZ: bz,
            blockDimX: tx,
            blockDimY: ty,
            blockDimZ: tz,
            sharedMemBytes: shared,
            hStream: stream.cu_stream(),
            attrs: &mut overlap,
            numAttrs: self.kernels.overlap.into(),
        };
        let function = self.function.function.cu_function();
        // SAFETY: the function's module is loaded as long as `kernels` is; the arguments point into `words`, which the
        // driver copies before it returns. Where launches overlap, kernels begin with `begin_kernel()`; the rest is the caller's.
        unsafe { sys::cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), std::ptr::null_mut()) }
            .result()
            .map_err(|e| Error::driver_later(&format!("launch of {}", self.name), e, self.kernels.sync))?;
        if self.kernels.sync {
            stream.synchronize().map_err(|e| fail("execution", e))?;
        }
        Ok(())
    }
}

/// `len` in 32 bits, as the kernels count; leaves room to round up to a whole grid.
pub(crate) fn count(operator: &'static str, argument: &'static str, len: usize) -> Result<u32> {
    match u32::try_from(len) {
        Ok(n) if n <= u32::MAX - (1 << 16) => Ok(n),
        _ => {
            Err(Error::Argument { operator, argument, reason: format!("has {len} elements, more than 2^32 − 2^16") })
        }
    }
}
