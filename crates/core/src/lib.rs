//! AlexNet, or a network of your own, trained by hand-written kernels on the CPU or an NVIDIA GPU. Forward and backward pass
//! are written once over a [`Device`]; there is no autograd.
//!
//! - [`Architecture`] is a network as a list of layers; [`alexnet`] has the five variants of AlexNet.
//! - [`Network`] allocates the memory for one batch size, then trains and infers without allocating.
//! - [`device`] names the operators. [`Cpu`] and `Cuda` (feature `cuda`, on by default) implement them; [`Reference`] defines them, in f64.
//! - [`gradcheck`] compares gradients with central differences.
//! - [`random`] is the only source of randomness: the same seed gives the same bits.
//!
//! A small network, trained to tell which half of an image is brighter:
//!
//! ```
//! use std::sync::Arc;
//!
//! use alexnet_core::network::{Metrics, MicroBatch};
//! use alexnet_core::random::{Philox, uniform_f32};
//! use alexnet_core::{Architecture, Cpu, LayerKind, LayerSpec, Network, Sgd};
//!
//! # fn main() -> alexnet_core::Result<()> {
//! let kinds = [
//!     LayerKind::Conv { filters: 4, kernel: 3, stride: 1, padding: 1, groups: 1 },
//!     LayerKind::Relu,
//!     LayerKind::MaxPool { kernel: 2, stride: 2, padding: 0 },
//!     LayerKind::Flatten,
//!     LayerKind::Linear { outputs: 2 },
//! ];
//! let layers = kinds.into_iter().enumerate().map(|(i, kind)| LayerSpec { name: format!("layers.{i}"), kind }).collect();
//! let architecture = Architecture { name: "halves".into(), image_size: 8, channels: 1, classes: 2, layers };
//!
//! // 64 images (N, H, W, C) of noise, and which half has more light.
//! let philox = Philox::new(1);
//! let images: Vec<f32> = (0..64 * 8 * 8).map(|i| uniform_f32(philox.word(1, 0, i)) - 0.5).collect();
//! let brightness = |image: &[f32]| image[32..].iter().sum::<f32>() - image[..32].iter().sum::<f32>();
//! let labels: Vec<u32> = images.chunks(64).map(|image| u32::from(brightness(image) > 0.0)).collect();
//!
//! let mut network = Network::new(Arc::new(Cpu::new(0)?), architecture, 64, true)?;
//! network.initialise(philox)?;
//! let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false, decay_all: false };
//! for step in 0..200 {
//!     network.set_metrics(Metrics::default())?;
//!     network.load(&images, &labels)?;
//!     network.step(&MicroBatch::whole(philox, step, 64, 0.0), Some(&sgd))?;
//! }
//! let Metrics { loss, correct } = network.metrics()?;
//! assert!(correct >= 60, "loss {loss}, {correct} of 64 correct");
//! # Ok(())
//! # }
//! ```

pub mod alexnet;
pub mod architecture;
pub mod device;
mod error;
pub mod gradcheck;
pub mod init;
pub mod network;
pub mod reference;

pub use alexnet_ops as ops;
pub use alexnet_ops::{Number, Precision, Scaler, Sgd, arguments, optimizer, random, shape};
pub use architecture::{Architecture, LayerKind, LayerSpec};
pub use device::Device;
pub use device::cpu::Cpu;
#[cfg(feature = "cuda")]
pub use device::cuda::Cuda;
pub use error::{Error, Result};
pub use network::Network;
pub use reference::Reference;
