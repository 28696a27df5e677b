//! ReLU of the CPU: the definition's bits.

mod support;

use alexnet_core::arguments::{ReluBackward, ReluForward};
use alexnet_core::device::Operators;
use alexnet_core::reference;
use proptest::prelude::*;
use support::*;

fn check(x: &[f32], dy: &[f32]) {
    let (mut y, mut dx) = (x.to_vec(), dy.to_vec());
    reference::relu_forward(ReluForward { len: y.len(), x: &mut y });
    reference::relu_backward(ReluBackward { len: y.len(), y: &y, dy: &mut dx });
    let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
    for (level, found) in on_all_alike(|cpu| {
        let (mut forward, mut backward) = (array(cpu, x), array(cpu, dy));
        cpu.relu_forward(ReluForward { len: x.len(), x: &mut forward }).unwrap();
        cpu.relu_backward(ReluBackward { len: x.len(), y: &forward, dy: &mut backward }).unwrap();
        vec![forward.to_vec(), backward.to_vec()]
    }) {
        assert_eq!(bits(&found[0]), bits(&y), "{level}");
        assert_eq!(bits(&found[1]), bits(&dx), "{level}");
    }
}

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn any_length(len in 1usize..400, seed: u32) {
        check(&values(seed.into(), len), &values(u64::from(seed) + 1, len));
    }
}

#[test]
fn several_chunks_and_special_numbers() {
    let mut x = values(1, 140_000);
    let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
    for (i, x) in x.iter_mut().enumerate().step_by(3) {
        *x = special[i / 3 % special.len()];
    }
    check(&x, &values(2, x.len()));
}
