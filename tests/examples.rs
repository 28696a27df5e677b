//! Runs the examples that need a GPU, on warpcheck with all its checks.

mod driver;
#[path = "../examples/own_kernel.rs"]
mod own_kernel;

#[test]
fn a_kernel_of_ones_own() {
    let driver = driver::driver();
    own_kernel::main().unwrap();
    driver.assert_clean("own_kernel");
}
