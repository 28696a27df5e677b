//! Flattening on the CPU: the definition's order, and back.

mod support;

use alexnet_core::arguments::{FlattenBackward, FlattenForward};
use alexnet_core::device::Operators;
use alexnet_core::reference;
use alexnet_core::shape::FlattenShape;
use proptest::prelude::*;
use support::*;

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn any_shape(batch in 1usize..5, height in 1usize..9, width in 1usize..9, channels in 1usize..40, seed: u32) {
        let s = FlattenShape { batch, height, width, channels };
        let x = values(seed.into(), s.len());
        let mut y = vec![0.0; s.len()];
        reference::flatten_forward(FlattenForward { shape: &s, x: &x, y: &mut y });
        for (level, found) in on_all_alike(|cpu| {
            let (mut y, mut dx) = (unwritten(cpu, s.len()), unwritten(cpu, s.len()));
            cpu.flatten_forward(FlattenForward { shape: &s, x: &array(cpu, &x), y: &mut y }).unwrap();
            cpu.flatten_backward(FlattenBackward { shape: &s, dy: &y, dx: &mut dx }).unwrap();
            vec![y.to_vec(), dx.to_vec()]
        }) {
            prop_assert_eq!(&found[0], &y, "{}", level);
            prop_assert_eq!(&found[1], &x, "{}", level);
        }
    }
}
