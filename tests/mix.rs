//! MixUp and CutMix of the CPU: the definition's bits, and what the definition says.

mod support;

use alexnet_core::arguments::MixPairs;
use alexnet_core::device::Operators;
use alexnet_core::reference;
use alexnet_core::shape::{Mix, MixShape};
use proptest::prelude::*;
use support::*;

fn check(s: &MixShape, x: &[f32]) -> Vec<f32> {
    let mut expected = x.to_vec();
    reference::mix(MixPairs { shape: s, x: &mut expected });
    for (level, found) in on_all_alike(|cpu| {
        let mut found = array(cpu, x);
        cpu.mix(MixPairs { shape: s, x: &mut found }).unwrap();
        vec![found.to_vec()]
    }) {
        assert_eq!(found[0], expected, "{level} {s:?}");
    }
    expected
}

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn any_shape(
        batch in 1usize..9, side in 1usize..12, channels in 1usize..4, weight in 0f32..=1.0, seed: u32,
        (left, top, right, bottom) in (0usize..14, 0usize..14, 0usize..14, 0usize..14),
    ) {
        for mix in [Mix::Blend { weight }, Mix::Paste { left, top, right, bottom }] {
            let s = MixShape { batch, side, channels, mix };
            check(&s, &values(seed.into(), s.len()));
        }
    }
}

#[test]
fn an_image_meets_the_one_from_the_other_end() {
    // Three images of 2×2 with one channel.
    let x = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 4.0, 5.0, 6.0, 7.0];
    let blend = MixShape { batch: 3, side: 2, channels: 1, mix: Mix::Blend { weight: 0.75 } };
    assert_eq!(check(&blend, &x), [1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, 13.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(blend.weight(), 0.75);
    let paste = MixShape { mix: Mix::Paste { left: 1, top: 0, right: 2, bottom: 2 }, ..blend };
    assert_eq!(check(&paste, &x), [0.0, 5.0, 2.0, 7.0, 10.0, 11.0, 12.0, 13.0, 4.0, 1.0, 6.0, 3.0]);
    assert_eq!(paste.weight(), 0.5);
    let outside = MixShape { mix: Mix::Paste { left: 1, top: 1, right: 9, bottom: 9 }, ..blend };
    assert_eq!(check(&outside, &x), [0.0, 1.0, 2.0, 7.0, 10.0, 11.0, 12.0, 13.0, 4.0, 5.0, 6.0, 3.0]);
    assert_eq!(outside.weight(), 0.75);
}
