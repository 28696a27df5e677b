//! Arrays of numbers.

use alexnet_kernels::Array;

/// An array of numbers on the GPU.
#[derive(Debug)]
pub struct Buffer {
    pub(super) array: Array,
    /// Of a parameter in half precision.
    pub(super) copy: Option<Array>,
}

impl Buffer {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.array.len()
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }
    /// What the products read.
    pub(super) fn operand(&self) -> &Array {
        self.copy.as_ref().unwrap_or(&self.array)
    }
}
