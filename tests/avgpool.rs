//! Adaptive average pooling of the CPU against the definition in f64.

mod support;

use alexnet_core::arguments::{AvgPoolBackward, AvgPoolForward};
use alexnet_core::device::Operators;
use alexnet_core::reference;
use alexnet_core::shape::AvgPoolShape;
use proptest::prelude::*;
use support::*;

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn any_shape(
        batch in 1usize..4, height in 1usize..14, width in 1usize..14, channels in 1usize..40,
        output_height in 1usize..9, output_width in 1usize..9, seed: u32,
    ) {
        let s = AvgPoolShape { batch, height, width, channels, output_height, output_width };
        let (x, dy) = (values(seed.into(), s.input_len()), values(u64::from(seed) + 1, s.output_len()));
        let run = |x: &[f64], dy: &[f64]| {
            let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
            reference::avgpool_forward(AvgPoolForward { shape: &s, x, y: &mut y });
            reference::avgpool_backward(AvgPoolBackward { shape: &s, dy, dx: &mut dx });
            [y, dx]
        };
        let expected = run(&wide(&x), &wide(&dy));
        let sums = run(&magnitudes(&x), &magnitudes(&dy));
        // At most all pixels (or outputs), each rounded once, and a division.
        let terms = [height * width + 1, 2 * output_height * output_width];
        for (level, found) in on_all_alike(|cpu| {
            let (mut y, mut dx) = (unwritten(cpu, s.output_len()), unwritten(cpu, s.input_len()));
            cpu.avgpool_forward(AvgPoolForward { shape: &s, x: &array(cpu, &x), y: &mut y }).unwrap();
            cpu.avgpool_backward(AvgPoolBackward { shape: &s, dy: &array(cpu, &dy), dx: &mut dx }).unwrap();
            vec![y.to_vec(), dx.to_vec()]
        }) {
            for i in 0..2 {
                let bound: Vec<f64> = sums[i].iter().map(|sum| terms[i] as f64 * U * sum).collect();
                assert_within(&format!("{level} {s:?} {}", ["y", "dx"][i]), &found[i], &expected[i], &bound);
            }
        }
    }
}
