//! Runs the examples; those that need a GPU on warpcheck with all its checks.

mod driver;
#[path = "../examples/own_kernel.rs"]
mod own_kernel;
#[allow(dead_code)] // Its `main` reads the command line.
#[path = "../examples/train_network.rs"]
mod train_network;

#[test]
fn a_kernel_of_ones_own() {
    let driver = driver::driver();
    own_kernel::main().unwrap();
    driver.assert_clean("own_kernel");
}

#[test]
fn a_network_of_ones_own() {
    train_network::train(alexnet_core::Cpu::new(0).unwrap()).unwrap();
}
