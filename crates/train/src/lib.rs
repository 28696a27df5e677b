//! Training AlexNet: data sets, runs, and the command line of the binary `alexnet`.

mod atomic_file;
pub mod cli;
pub mod data;
pub mod export;
mod file_error;
mod hex;
pub mod import;
pub mod picture;
pub mod print;
pub mod protobuf;
pub mod report;
pub mod run;
pub mod serve;

pub use file_error::FileError;
