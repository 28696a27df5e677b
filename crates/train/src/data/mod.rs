//! Data sets: download, image decoding, augmentation, and batches made in the background.
//!
//! [`Dataset::open`] turns the value of `--data` into its [`Split`]s; a [`Loader`] turns a split into the [`Batch`]es of
//! one epoch. An image in a batch depends only on the seed, the epoch and its position: not on threads, batch size, or
//! where a run was resumed.

pub mod archive;
pub mod augment;
pub mod broken;
pub mod cache;
pub mod cifar;
pub mod classes;
pub mod dataset;
pub mod decode;
pub mod download;
pub mod error;
pub mod extent;
pub mod fetch;
pub mod folder;
mod formats;
pub mod loader;
pub mod manifest;
pub mod mix;
pub mod npm;
pub mod open;
pub mod options;
pub mod order;
pub mod passed_over;
pub mod preprocess;
pub mod report;
pub mod resample;
pub mod resize;
pub mod sample;
pub mod split;
pub mod validation;

pub use augment::{Augment, CropScale, RandAugment, TransformConfig};
pub use broken::BrokenPictures;
pub use dataset::{Dataset, Role};
pub use error::{DataError, Result};
pub use fetch::Sources;
pub use loader::{Batch, Loader, LoaderOptions, PixelValue};
pub use options::Options;
pub use order::Balance;
pub use preprocess::{Fit, Normalise, Preprocess};
pub use report::{Event, Reporter};
pub use split::Split;
pub use validation::HoldOut;
