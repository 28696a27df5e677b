//! The definition of every operator: naive loops over f32 or f64, to be read, and to compare with.
//!
//! Nothing here is fast. Arrays have the layouts of [`Device`](crate::Device): activations NHWC, parameters as in PyTorch.
//! Slices must have the lengths of the shapes.

mod batch;
mod conv;
mod crop;
mod linear;
mod loss;
mod norm;
mod optimizer;
mod pointwise;
mod pool;
mod rand_augment;

pub use crate::device::reference::Reference;
pub use batch::*;
pub use conv::*;
pub use crop::*;
pub use linear::*;
pub use loss::*;
pub use norm::*;
pub use optimizer::*;
pub use pointwise::*;
pub use pool::*;
pub use rand_augment::*;
