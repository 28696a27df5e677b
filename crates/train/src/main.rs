//! The binary `alexnet`.
fn main() {}
