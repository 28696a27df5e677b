//! Every kernel on warpcheck with all its checks on, against the reference in f64.
//!
//! Bounds are derived where they stand: u is the unit roundoff of float, 2⁻²⁴, and a result that is stored in fewer bits
//! may be off by that storage's roundoff more. A test with `ALEXNET_TEST_DRIVER=cuda` runs on the GPU that is there.

// A module per file beside this one.
automod::dir!("tests/cuda");
