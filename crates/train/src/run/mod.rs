//! A training run: the loop and what it leaves behind.

pub mod checkpoint;
pub mod tensorboard;
