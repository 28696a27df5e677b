//! Addition of the CPU: the definition's bits.

mod support;

use alexnet_core::arguments::Add;
use alexnet_core::device::Operators;
use alexnet_core::reference;
use proptest::prelude::*;
use support::*;

fn check(x: &[f32], y: &[f32], relu: bool) {
    let mut expected = y.to_vec();
    reference::add(Add { len: x.len(), x, relu, y: &mut expected });
    let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
    for (level, found) in on_all_alike(|cpu| {
        let mut sum = array(cpu, y);
        cpu.add(Add { len: x.len(), x: &array(cpu, x), relu, y: &mut sum }).unwrap();
        vec![sum.to_vec()]
    }) {
        assert_eq!(bits(&found[0]), bits(&expected), "{level}");
    }
}

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn any_length(len in prop_oneof![1usize..400, 65_000usize..66_000], relu: bool, seed: u32) {
        check(&values(seed.into(), len), &values(u64::from(seed) + 1, len), relu);
    }
}

#[test]
fn a_nan_stays_and_only_the_front_is_touched() {
    let cpu = &cpus()[0][0];
    let mut y = array(cpu, &[1.0, -3.0, 2.0, -1.0]);
    cpu.add(Add { len: 3, x: &array(cpu, &[f32::NAN, 1.0, 1.0]), relu: true, y: &mut y }).unwrap();
    assert!(y[0].is_nan() && y[1..] == [0.0, 3.0, -1.0]);
}
