#![doc = include_str!("../README.md")]
//! ## The Rust API
//!
//! Tests need [`harness`] alone. [`engine`] runs PTX without the driver API, [`launch`] has what a launch is made of,
//! [`clock`] its modelled time, and [`mod@arith`] what each instruction computes. The functions of [`driver`] are for C: call
//! them in the shared library, not here, since the Rust crate and the library each have their own state.

pub mod arith;
pub(crate) mod check;
pub mod clock;
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
