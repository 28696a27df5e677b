//! A training run: settings, training loop, checkpoints, metrics.

pub mod batch_source;
pub mod bytes;
pub mod checkpoint;
pub mod classifier;
pub mod config;
pub mod disk;
pub mod error;
pub mod evaluate;
pub mod file_list;
pub mod folder;
pub mod initial;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod progress;
pub mod ranks;
pub mod recipe;
pub mod scaling;
pub mod schedule;
pub mod stop;
pub mod summary;
pub mod tensorboard;
pub mod trainer;
pub mod tta;

pub use config::Config;
pub use error::{Error, Result};
pub use folder::RunFolder;
pub use recipe::Recipe;
pub use stop::Stop;
pub use trainer::{Observer, Outcome, Trainer};
pub use tta::Tta;
