//! Training AlexNet: data sets, runs, and the command line of the binary `alexnet`.

pub mod cli;
pub mod data;
pub mod export;
pub mod import;
pub mod picture;
pub mod protobuf;
pub mod report;
pub mod run;
pub mod serve;
mod atomic_file;
