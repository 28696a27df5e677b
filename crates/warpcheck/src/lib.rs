//! A CUDA driver that runs PTX on the CPU.

pub mod arith;
pub(crate) mod check;
pub mod count;
pub mod driver;
pub mod engine;
pub(crate) mod exec;
pub mod finding;
pub mod harness;
pub mod launch;
pub(crate) mod lower;
pub mod memory;
pub mod options;
pub mod profile;
pub(crate) mod program;
pub mod ptx;
pub mod report;
