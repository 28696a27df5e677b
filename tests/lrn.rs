//! Local response normalisation of the CPU against the definition in f64.

mod support;

use alexnet_core::arguments::{LrnBackward, LrnForward};
use alexnet_core::device::Operators;
use alexnet_core::reference;
use alexnet_core::shape::LrnShape;
use proptest::prelude::*;
use support::*;

/// The two sums of dx in magnitude: |dy|·s^−β and 2αβ/size·|x|·Σ|dy·x·s^(−β−1)|.
fn magnitude(s: &LrnShape, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut to = vec![0.0; x.len()];
    for pixel in 0..s.pixels {
        let at = pixel * s.channels;
        let scale = |c: usize| s.k + s.alpha / s.size as f64 * s.window(c).map(|i| x[at + i] * x[at + i]).sum::<f64>();
        for c in 0..s.channels {
            to[at + c] += dy[at + c].abs() * scale(c).powf(-s.beta);
            let outer = (dy[at + c] * x[at + c]).abs() * scale(c).powf(-s.beta - 1.0);
            for i in s.window(c) {
                to[at + i] += 2.0 * s.alpha * s.beta / s.size as f64 * x[at + i].abs() * outer;
            }
        }
    }
    to
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn any_shape(
        pixels in 1usize..150, channels in 1usize..40, size in 1usize..8, alpha in 1e-4..0.5f64,
        beta in prop_oneof![Just(0.75), 0.1..1.5f64], k in 1.0..3.0f64, seed: u32,
    ) {
        // Rounded to f32, as the operator takes them.
        let [alpha, beta, k] = [alpha, beta, k].map(|v| f64::from(v as f32));
        let s = LrnShape { pixels, channels, size, alpha, beta, k };
        let (x, dy) = (values(seed.into(), s.len()), values(u64::from(seed) + 1, s.len()));
        let (mut y, mut dx) = (vec![0.0; s.len()], vec![0.0; s.len()]);
        reference::lrn_forward(LrnForward { shape: &s, x: &wide(&x), y: &mut y });
        reference::lrn_backward(LrnBackward { shape: &s, x: &wide(&x), dy: &wide(&dy), dx: &mut dx });
        let sums = magnitude(&s, &wide(&x), &wide(&dy));
        // s is a sum of positive numbers: size + 3 roundings, which the power passes on times β, and dx times
        // β + 1. The power itself errs by a unit or two of its own, the products by one rounding each, the sum by size.
        let relative = (s.size + 3) as f64 * (beta + 1.0) + s.size as f64 + 12.0;
        for (level, found) in on_all_alike(|cpu| {
            let (mut y, mut dx) = (unwritten(cpu, s.len()), unwritten(cpu, s.len()));
            let x = array(cpu, &x);
            cpu.lrn_forward(LrnForward { shape: &s, x: &x, y: &mut y }).unwrap();
            cpu.lrn_backward(LrnBackward { shape: &s, x: &x, dy: &array(cpu, &dy), dx: &mut dx }).unwrap();
            vec![y.to_vec(), dx.to_vec()]
        }) {
            let bound: Vec<f64> = y.iter().map(|y| relative * U * y.abs()).collect();
            assert_within(&format!("{level} {s:?} y"), &found[0], &y, &bound);
            let bound: Vec<f64> = sums.iter().map(|sum| relative * U * sum).collect();
            assert_within(&format!("{level} {s:?} dx"), &found[1], &dx, &bound);
        }
    }
}
