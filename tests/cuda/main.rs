//! Every kernel on warpcheck with all its checks on, against the reference in f64.
//!
//! Bounds are derived where they stand: u is the unit roundoff of float, 2⁻²⁴, and a result that is stored in fewer bits
//! may be off by that storage's roundoff more. A test with `ALEXNET_TEST_DRIVER=cuda` runs on the GPU that is there.

mod support;

mod add;
mod augment;
mod avgpool;
mod batchnorm;
mod dropout;
mod ema;
mod flatten;
mod gradcheck;
mod lrn;
mod maxpool;
mod mix;
mod network;
mod relu;
mod sgd;
mod softmax_cross_entropy;
mod step;
mod total;
