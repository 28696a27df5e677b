//! What is missing on a machine is an error with a remedy, never a panic.

use alexnet_core::Cuda;
use alexnet_core::device::cuda::Precision;
use alexnet_kernels::nvrtc::Nvrtc;
use alexnet_kernels::{Error, device_count};

#[test]
fn a_gpu_that_is_not_there() {
    let error = Cuda::new(99, Precision::Fp32).unwrap_err().to_string();
    assert!(error.starts_with("cuda:99: "), "{error}");
    // Whatever this machine has, the message names the next step or what there is.
    match device_count() {
        Err(reason) => assert_eq!(error, format!("cuda:99: {reason}")),
        Ok(count) => assert!(error.contains(&format!("the driver has {count}")), "{error}"),
    }
}

#[test]
fn messages_name_the_remedy() {
    for (error, remedy) in [
        (Error::NoDriver, "libcuda.so is not on the loader's path"),
        (Error::DriverTooOld { found: 11_040, needed: 12_000 }, "supports CUDA 11.4, at least 12.0"),
        (Error::NoDevice, "nvidia-smi"),
        (Error::Ordinal { asked: 7, count: 1 }, "there is no device cuda:7: the driver has 1, cuda:0 to cuda:0"),
        (
            Error::NoNvrtc { passed_over: Vec::new(), tried: "A, B".into() },
            "looked in A, B; install it, or set ALEXNET_NVRTC",
        ),
    ] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn a_file_that_is_no_nvrtc() {
    let file = std::env::current_exe().unwrap();
    let error = Nvrtc::load(&file).unwrap_err().to_string();
    assert!(error.starts_with(&file.display().to_string()), "{error}");
}
