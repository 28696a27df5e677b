use alexnet_core::arguments::Dropout;
use alexnet_core::device::Operators;
use alexnet_core::random::{Philox, purpose};
use alexnet_core::shape::DropoutShape;

use crate::support::{PRECISIONS, activations, gpu, numbers, read, stored};

#[test]
fn the_mask_of_the_definition_bit_for_bit() {
    let gpu = gpu();
    let philox = Philox::new(0x1234_5678_9abc_def0);
    for precision in PRECISIONS {
        for (i, len) in [1, 3, 4, 5, 129, 1027, 4096].into_iter().enumerate() {
            for (rate, offset) in [(0.0, 0), (0.5, 1), (0.3, 2), (0.9, 7), (0.5, (1 << 34) + 4)] {
                let s = DropoutShape { len, rate, philox, purpose: purpose::dropout(4), step: 7 + i as u32, offset };
                let x = numbers(3, len, precision);
                let found = gpu.run(&format!("{s:?}"), precision, |device| {
                    let mut x = activations(device, &x);
                    device.dropout(Dropout { shape: &s, x: &mut x }).unwrap();
                    vec![read(device, &x)]
                });
                for (i, &x) in x.iter().enumerate() {
                    assert_eq!(found[0][i], stored(x * s.factor(i), precision), "{s:?} {i}");
                }
            }
        }
    }
}
