//! AlexNet's forward and backward pass, written once over a [`Device`].
//!
//! - [`device`] names the operators; [`Reference`] defines them.
//! - [`random`] is the one source of randomness.

pub mod device;
mod error;
pub mod optimizer;
pub mod random;
pub mod reference;
pub mod shape;

pub use device::Device;
pub use error::{Error, Result};
pub use optimizer::Sgd;
pub use reference::Reference;
