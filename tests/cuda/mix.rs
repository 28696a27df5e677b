use alexnet_core::arguments::MixPairs;
use alexnet_core::device::Operators;
use alexnet_core::reference;
use alexnet_core::shape::{Mix, MixShape};

use crate::support::{PRECISIONS, activations, gpu, numbers, read, stored};

#[test]
fn the_bits_of_the_definition() {
    let gpu = gpu();
    for precision in PRECISIONS {
        // One image; pairs and one over; images that are no number of packs.
        for (batch, side, channels) in [(1, 4, 3), (2, 8, 3), (5, 3, 1), (7, 5, 3), (4, 16, 3)] {
            for mix in [
                Mix::Blend { weight: 0.0 },
                Mix::Blend { weight: 0.3 },
                Mix::Blend { weight: 1.0 },
                Mix::Paste { left: 1, top: 0, right: 3, bottom: 2 },
                Mix::Paste { left: 0, top: 2, right: 40, bottom: 40 },
                Mix::Paste { left: 2, top: 2, right: 2, bottom: 3 },
                Mix::Paste { left: 50, top: 50, right: 60, bottom: 60 },
            ] {
                let s = MixShape { batch, side, channels, mix };
                // Longer than the batch: the rest stays.
                let mut x = numbers(7, s.len() + 9, precision);
                let found = gpu.run(&format!("{s:?}"), precision, |device| {
                    let mut on_device = activations(device, &x);
                    device.mix(MixPairs { shape: &s, x: &mut on_device }).unwrap();
                    vec![read(device, &on_device)]
                });
                let len = s.len();
                reference::mix(MixPairs { shape: &s, x: &mut x[..len] });
                for (i, (&found, &x)) in found[0].iter().zip(&x).enumerate() {
                    assert_eq!(found, stored(x, precision), "{s:?} {precision:?} {i}");
                }
            }
        }
    }
}
