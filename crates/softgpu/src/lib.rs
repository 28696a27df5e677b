//! A CUDA driver that runs PTX on the CPU.

pub mod arith;
pub mod count;
pub mod engine;
pub mod finding;
pub mod memory;
pub mod profile;
pub mod ptx;
