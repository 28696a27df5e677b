//! Max pooling of the CPU against the definition: the same numbers and the same positions.

mod support;

use alexnet_core::arguments::{MaxPoolBackward, MaxPoolForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::reference;
use alexnet_core::shape::MaxPoolShape;
use proptest::prelude::*;
use support::*;

fn check(s: &MaxPoolShape, x: &[f32], seed: u64) {
    let len = s.output_len();
    let dy = values(seed + 1, len);
    let (mut y, mut argmax) = (vec![0.0f32; len], vec![0u8; len]);
    reference::maxpool_forward(MaxPoolForward { shape: s, x, y: &mut y, argmax: &mut argmax });
    // A ReLU before the pool, every other time.
    let masks = seed.is_multiple_of(2);
    let backward = |dy: &[f64]| {
        let mut dx = vec![0.0; s.input_len()];
        let mask = wide(&y);
        let mask = masks.then_some(mask.as_slice());
        reference::maxpool_backward(MaxPoolBackward { shape: s, dy, argmax: &argmax, mask, dx: &mut dx });
        dx
    };
    let (dx, sums, ones) = (backward(&wide(&dy)), backward(&magnitudes(&dy)), backward(&vec![1.0; len]));
    let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
    for (level, found) in on_all_alike(|cpu| {
        let (mut y, mut dx, mut positions) =
            (unwritten(cpu, len), unwritten(cpu, s.input_len()), cpu.bytes(len).unwrap());
        cpu.maxpool_forward(MaxPoolForward { shape: s, x: &array(cpu, x), y: &mut y, argmax: &mut positions }).unwrap();
        assert_eq!(positions[..], argmax[..], "{} {s:?} argmax", cpu.name());
        let (dy, mask) = (array(cpu, &dy), masks.then_some(&y));
        cpu.maxpool_backward(MaxPoolBackward { shape: s, dy: &dy, argmax: &positions, mask, dx: &mut dx }).unwrap();
        vec![y.to_vec(), dx.to_vec()]
    }) {
        assert_eq!(bits(&found[0]), bits(&y), "{level} {s:?} y");
        // An input pixel sums as many numbers as windows chose it.
        let bound: Vec<f64> = sums.iter().zip(&ones).map(|(sum, n)| n * U * sum).collect();
        assert_within(&format!("{level} {s:?} dx"), &found[1], &dx, &bound);
    }
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn any_shape(
        batch in 1usize..4, height in 1usize..12, width in 1usize..12, channels in 1usize..70,
        kernel in 1usize..5, stride in 1usize..5, padding in 0usize..3, seed: u32, coarse: bool,
    ) {
        let s = MaxPoolShape { batch, height, width, channels, kernel, stride, padding: padding.min(kernel / 2) };
        prop_assume!(s.output_height() > 0 && s.output_width() > 0);
        let mut x = values(seed.into(), s.input_len());
        if coarse {
            // Many equals: the first wins.
            x.iter_mut().for_each(|x| *x = (*x * 2.0).round());
        }
        check(&s, &x, seed.into());
    }
}

#[test]
fn nan_wins_and_the_first_of_two() {
    let s = MaxPoolShape { batch: 1, height: 4, width: 4, channels: 33, kernel: 2, stride: 2, padding: 0 };
    let mut x = values(1, s.input_len());
    for c in 0..s.channels {
        x[(1 + c % 3) * s.channels + c] = f32::NAN;
        x[(4 + c % 2) * s.channels + c] = if c % 5 == 0 { f32::NAN } else { f32::INFINITY };
        x[10 * s.channels + c] = f32::NEG_INFINITY;
    }
    check(&s, &x, 2);
}
