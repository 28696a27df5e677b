use alexnet_core::arguments::Add;
use alexnet_core::device::Operators;

use crate::support::{PRECISIONS, activations, gpu, numbers, read, stored};

#[test]
fn sums_and_their_relu() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for len in [1, 2, 3, 4, 5, 31, 127, 128, 1023, 1025, 4099] {
            let (mut x, y) = (numbers(len as u64, len, precision), numbers(99 + len as u64, len, precision));
            if len > 8 {
                x[1] = f32::NAN;
                x[3] = f32::NEG_INFINITY;
            }
            let found = gpu.run("add", precision, |device| {
                let x = activations(device, &x);
                let [mut plain, mut relu] = [0; 2].map(|_| activations(device, &y));
                device.add(Add { len, x: &x, relu: false, y: &mut plain }).unwrap();
                device.add(Add { len, x: &x, relu: true, y: &mut relu }).unwrap();
                vec![read(device, &plain), read(device, &relu)]
            });
            for i in 0..len {
                // One rounding to float, and one to storage.
                let sum = stored(x[i] + y[i], precision);
                for (found, expected) in [(found[0][i], sum), (found[1][i], if sum < 0.0 { 0.0 } else { sum })] {
                    assert!(found == expected || (found.is_nan() && expected.is_nan()), "{precision:?} {len} {i}");
                }
            }
        }
    }
}
