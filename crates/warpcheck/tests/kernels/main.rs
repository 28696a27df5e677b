//! Real CUDA C kernels, compiled by NVRTC, against Rust.
//!
//! Each runs for several targets, with the order of warps and blocks permuted, on several host threads, with and without
//! checks and counters: the results must be the same to the bit, and no check may object.

// Tables of names and functions are clearer without names for their types.
#![allow(clippy::type_complexity)]

#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod atomics;
mod control;
mod gemm;
mod integers;
mod maths;
mod memory;
mod printing;
mod reduce;
mod tensor;
mod warp;

use bytemuck::Pod;
use support::{Gpu, compile};
use warpcheck::engine::Module;
use warpcheck::launch::LaunchOptions;

/// Every target that the driver claims.
pub const ALL: &[u32] = &[70, 75, 80, 86, 89, 90];
/// From Ampere on.
pub const AMPERE: &[u32] = &[80, 90];
/// The oldest and the newest.
pub const ENDS: &[u32] = &[70, 90];

/// Runs `run` for each target and in each way, and expects the same bits each time.
pub fn prove<T: Pod + PartialEq + std::fmt::Debug>(
    source: &str,
    targets: &[u32],
    run: impl Fn(&Gpu, &Module, &LaunchOptions) -> Vec<T>,
) -> Vec<T> {
    let checked = |schedule, threads| LaunchOptions { schedule, threads, ..LaunchOptions::checked() };
    let ways = [
        checked(None, 1),
        checked(Some(1), 2),
        LaunchOptions { count: true, ..checked(Some(2), 0) },
        LaunchOptions { schedule: Some(3), threads: 2, ..LaunchOptions::default() },
    ];
    let mut first: Option<Vec<u8>> = None;
    let mut result = Vec::new();
    for &target in targets {
        let ptx = compile(source, target, &[]);
        for options in &ways {
            let gpu = Gpu::new();
            let module = gpu.load(&ptx);
            result = run(&gpu, &module, options);
            let bytes: &[u8] = bytemuck::cast_slice(&result);
            match &first {
                None => first = Some(bytes.to_vec()),
                Some(first) if first == bytes => {}
                Some(first) => {
                    let at = first.iter().zip(bytes).position(|(a, b)| a != b);
                    panic!("sm_{target} with {options:?} gave other bits, first at byte {at:?}");
                }
            }
        }
    }
    result
}

/// Launches with a one-dimensional grid and block, and expects nothing to be found.
pub fn launch(
    gpu: &Gpu,
    module: &Module,
    kernel: &str,
    (grid, block): (u32, u32),
    args: &[support::Arg],
    o: &LaunchOptions,
) {
    let outcome = gpu.launch(module, kernel, ([grid, 1, 1], [block, 1, 1], 0), args, o);
    support::gpu::assert_clean(kernel, &outcome);
}

/// Asserts that two sequences have the same bits, NaN equal to NaN.
pub fn assert_bits(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(g.to_bits() == e.to_bits() || g.is_nan() && e.is_nan(), "element {i}: {g:e}, not {e:e}");
    }
}
