//! A CUDA driver that runs PTX on the CPU.

pub mod profile;
