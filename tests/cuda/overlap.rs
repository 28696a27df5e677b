//! Programmatic dependent launch: where the device has it, every kernel of a step may start before the one ahead of it has ended.
//!
//! A process has one device of warpcheck; the others are those of child processes, which run a test of this binary again.

use std::ffi::c_void;
use std::process::Command;

use alexnet_core::device::cuda::{Precision, Winograd};
use alexnet_kernels::nvrtc::{self, Code, Nvrtc};
use alexnet_kernels::{UNITS, Unit, defines};
use cudarc::driver::{CudaContext, sys};
use cudarc::nvrtc::Ptx;

use crate::step::train;
use crate::support::gpu;

/// Set in a child process.
const CHILD: &str = "OVERLAP_CHILD";

/// What a test prints that runs on a device of this profile, with programmatic dependent launch or without.
fn on(profile: &str, pdl: &str, test: &str) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]).env(CHILD, "1");
    child.env("WARPCHECK_PROFILE", profile).env("ALEXNET_PDL", pdl);
    let output = child.output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && out.contains("1 passed"), "{profile}: {}\n{out}\n{error}", output.status);
    out
}

/// The lines of a child's output that begin with a word.
fn lines<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(word)).collect()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn every_launch_of_a_step_overlaps_where_the_device_can() {
    const NAME: &str = "overlap::every_launch_of_a_step_overlaps_where_the_device_can";
    if is_child() {
        let gpu = gpu();
        for precision in Precision::ALL {
            for graph in [false, true] {
                let mut bits = Vec::new();
                let (launches, overlapping) = gpu.overlapping(|| bits = train(precision, Winograd::ByShape, graph).0);
                gpu.assert_clean("steps");
                let digest = bits.iter().fold(0u64, |sum, word| sum.rotate_left(5).wrapping_mul(0x9e37_79b9) ^ word);
                println!("launches {launches} {overlapping}");
                println!("bits {precision:?} {digest:016x}");
            }
        }
        return;
    }
    if !gpu().is_modelled() {
        return;
    }
    let [h100, without, a100] =
        [("h100", "1"), ("h100", "0"), ("a100", "1")].map(|(profile, pdl)| on(profile, pdl, NAME));
    for (text, all) in [(&h100, true), (&without, false), (&a100, false)] {
        let counts = lines(text, "launches ");
        assert_eq!(counts.len(), 8, "{text}");
        for line in counts {
            let numbers: Vec<u64> = line.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
            assert!(numbers[0] > 100 && numbers[1] == if all { numbers[0] } else { 0 }, "{line}");
        }
    }
    assert_eq!(lines(&h100, "bits "), lines(&without, "bits "));
    assert_eq!(lines(&h100, "bits Fp32"), lines(&a100, "bits Fp32"));
}

#[test]
fn a_kernel_that_does_not_wait_is_found() {
    const NAME: &str = "overlap::a_kernel_that_does_not_wait_is_found";
    if !is_child() {
        if gpu().is_modelled() {
            on("h100", "1", NAME);
        }
        return;
    }
    let gpu = gpu();
    let relu = UNITS.iter().find(|unit| unit.name == "relu").unwrap();
    relu_twice(relu);
    gpu.assert_clean("ReLU twice in place");
    let planted = relu.source.replace("begin_kernel();", "");
    assert_ne!(planted, relu.source);
    relu_twice(&Unit { source: Box::leak(planted.into_boxed_str()), ..*relu });
    let findings = gpu.findings();
    assert!(!findings.is_empty());
    for text in findings {
        assert!(text.contains("data race") && text.contains("prelude.cuh:"), "{text}");
        assert!(text.contains("by kernel relu_forward") && text.contains("which may still run"), "{text}");
    }
}

/// Launches `relu_forward` of this file twice on the same numbers, each launch with the attribute.
fn relu_twice(unit: &Unit) {
    const LEN: u32 = 1000;
    let nvrtc = nvrtc::search(Some(nvrtc::Device { sm: 90, driver: 12_090 })).unwrap().nvrtc;
    let target = nvrtc.target(Code::Ptx, 90);
    let compiled = nvrtc.compile(unit, target, &Nvrtc::options(target, &defines(Precision::Fp32))).unwrap();
    let context = CudaContext::new(0).unwrap();
    let module = context.load_module(Ptx::from_binary(compiled.image)).unwrap();
    let kernel = module.load_function("relu_forward").unwrap();
    let stream = context.new_stream().unwrap();
    let x = stream.clone_htod(&[-1.0f32; LEN as usize]).unwrap();
    let (mut address, mut len) = (cudarc::driver::DevicePtr::device_ptr(&x, &stream).0, LEN);
    let mut arguments: [*mut c_void; 2] = [(&raw mut address).cast(), (&raw mut len).cast()];
    // SAFETY: all zeros are a valid attribute.
    let mut overlap: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    overlap.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    overlap.value.programmaticStreamSerializationAllowed = 1;
    let config = sys::CUlaunchConfig {
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 256,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream.cu_stream(),
        attrs: &raw mut overlap,
        numAttrs: 1,
    };
    for _ in 0..2 {
        // SAFETY: these are the kernel's arguments; 256 threads of four elements are enough.
        let launched = unsafe {
            sys::cuLaunchKernelEx(&config, kernel.cu_function(), arguments.as_mut_ptr(), std::ptr::null_mut())
        };
        assert_eq!(launched, sys::CUresult::CUDA_SUCCESS);
    }
    assert_eq!(stream.clone_dtoh(&x).unwrap(), [0.0; LEN as usize]);
}
