//! Arrays of floating-point numbers on the GPU.

use alexnet_kernels::Array;

/// An array of the device; a parameter in half precision has two.
#[derive(Debug)]
pub struct Buffer {
    pub(super) array: Array,
    /// The half-precision copy of a parameter.
    pub(super) copy: Option<Array>,
    /// Whether it is a [snapshot](crate::device::Memory::snapshot), which is read beside other work.
    pub(super) snapshot: bool,
}

impl Buffer {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.array.len()
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }
    /// The array that matrix products read.
    pub(super) fn operand(&self) -> &Array {
        self.copy.as_ref().unwrap_or(&self.array)
    }
}

impl From<Array> for Buffer {
    fn from(array: Array) -> Self {
        Self { array, copy: None, snapshot: false }
    }
}
