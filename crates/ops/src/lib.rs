//! What the kernels and the devices have in common: the shapes of the operators, their arguments, and the
//! random numbers.
//!
//! This crate computes nothing. `alexnet-kernels` (CUDA) and `alexnet-core` (CPU, reference, network) both depend on it,
//! so that each shape is described once.

pub mod arguments;
mod error;
pub mod optimizer;
mod precision;
pub mod random;
pub mod shape;

pub use error::{Error, Result, expect_labels, expect_len, front, front_mut};
pub use optimizer::Sgd;
pub use precision::{Number, Precision, Scaler, Tf32};
