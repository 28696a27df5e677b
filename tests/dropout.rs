//! Dropout of the CPU: the definition's bits, whatever the length and the offset.

mod support;

use alexnet_core::arguments::Dropout;
use alexnet_core::device::Operators;
use alexnet_core::random::{Philox, purpose};
use alexnet_core::reference;
use alexnet_core::shape::DropoutShape;
use proptest::prelude::*;
use support::*;

fn check(s: &DropoutShape) {
    let x = values(3, s.len);
    let mut expected = x.clone();
    reference::dropout(Dropout { shape: s, x: &mut expected });
    let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
    for (level, found) in on_all_alike(|cpu| {
        let mut x = array(cpu, &x);
        cpu.dropout(Dropout { shape: s, x: &mut x }).unwrap();
        vec![x.to_vec()]
    }) {
        assert_eq!(bits(&found[0]), bits(&expected), "{level} {s:?}");
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn any_mask(
        len in 1usize..700, rate in 0.0..0.99f64, seed: u64, layer in 0u32..20, step: u32,
        offset in prop_oneof![0u64..1000, (1u64 << 34) - 300..(1 << 34) + 300],
    ) {
        check(&DropoutShape { len, rate, philox: Philox::new(seed), purpose: purpose::dropout(layer), step, offset });
    }
}

#[test]
fn several_chunks() {
    let philox = Philox::new(1);
    check(&DropoutShape { len: 50_001, rate: 0.5, philox, purpose: purpose::dropout(1), step: 3, offset: 2 });
}
