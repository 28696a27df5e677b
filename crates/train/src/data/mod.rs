//! Data sets: finding and fetching them, reading images, augmentation, and batches made in the background.
//!
//! [`Dataset::open`] turns the word of `--data` into two [`Split`]s, and a [`Loader`] turns a split into an
//! epoch of [`Batch`]es. What a batch holds depends on seed, epoch and position alone: never on threads, on
//! the batch size, or on where a run was resumed.

pub mod archive;
pub mod augment;
pub mod cache;
pub mod cifar;
pub mod dataset;
pub mod download;
pub mod error;
pub mod fetch;
pub mod folder;
pub mod loader;
pub mod manifest;
pub mod mix;
pub mod npm;
pub mod open;
pub mod options;
pub mod order;
pub mod report;
pub mod resize;
pub mod sample;
pub mod split;
mod validation;

pub use augment::{Augment, RandAugment, TransformConfig};
pub use dataset::Dataset;
pub use error::{DataError, Result};
pub use fetch::Sources;
pub use loader::{Batch, Loader, LoaderOptions};
pub use options::Options;
pub use report::{Event, Reporter};
pub use split::Split;
