//! A CUDA driver that runs PTX on the CPU.

pub mod arith;
pub mod count;
pub mod driver;
pub mod engine;
pub mod finding;
pub mod memory;
pub mod options;
pub mod profile;
pub mod ptx;
pub mod report;
