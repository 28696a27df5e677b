//! Gives the shared library the name that CUDA programs look for.

fn main() {
    // A program that dlopens "libcuda.so" gets the library already loaded under that
    // SONAME, which is how a test process puts this driver in place without any path.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    println!("cargo:rerun-if-changed=build.rs");
}
