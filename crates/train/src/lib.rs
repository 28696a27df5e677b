//! Training AlexNet: data sets, runs, and the command line of the binary `alexnet`.

pub mod cli;
pub mod data;
pub mod run;
