//! Arrays of floating-point numbers on the GPU.

use alexnet_kernels::{Array, FilterLayout};

/// An array of the device; a weight in half precision has two.
#[derive(Debug)]
pub struct Buffer {
    pub(super) array: Array,
    /// The half-precision copy of a weight.
    pub(super) copy: Option<Array>,
    /// Whether it is a [snapshot](crate::device::Memory::snapshot), which is read beside other work.
    pub(super) snapshot: bool,
    /// The order of both, if they are those of a convolution's weight.
    pub(super) layout: Option<FilterLayout>,
}

impl Buffer {
    pub(super) fn new(array: Array) -> Self {
        Self { array, copy: None, snapshot: false, layout: None }
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.layout.map_or(self.array.len(), |layout| layout.dense_len())
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The array that matrix products read.
    pub(super) fn operand(&self) -> &Array {
        self.copy.as_ref().unwrap_or(&self.array)
    }
}
