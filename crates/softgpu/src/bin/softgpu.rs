//! Runs programs with the driver in place of the real one.
fn main() {}
