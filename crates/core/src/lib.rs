//! AlexNet's forward and backward pass, written once over a [`Device`].
//!
//! - [`device`] names the operators; [`Reference`] defines them.
//! - [`architecture`] describes a network as a list of layers; [`alexnet`] has the four variants.
//! - [`Network`] lays out the memory for one batch size and runs forward, backward and update.
//! - [`gradcheck`] compares the analytic gradient with central differences.
//! - [`random`] is the one source of randomness.

pub mod alexnet;
pub mod architecture;
pub mod device;
mod error;
pub mod gradcheck;
pub mod init;
pub mod network;
pub mod reference;

pub use alexnet_ops as ops;
pub use alexnet_ops::{Number, Precision, Scaler, Sgd, optimizer, random, shape};
pub use architecture::{Architecture, LayerKind, LayerSpec};
pub use device::Device;
pub use device::cpu::Cpu;
pub use device::cuda::Cuda;
pub use error::{Error, Result};
pub use network::Network;
pub use reference::Reference;
