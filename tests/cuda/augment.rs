use alexnet_core::arguments::Augment;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::random::Philox;
use alexnet_core::reference;
use alexnet_core::shape::AugmentShape;

use crate::support::{PRECISIONS, gpu, read, stored};

const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

#[test]
fn the_bits_of_the_host() {
    let gpu = gpu();
    for (number, (side, batch, images, padding, flip, jitter, cutout)) in [
        (225, 1, 1, 28, true, 0.4, 112),
        (33, 3, 3, 4, true, 0.0, 0),
        (32, 7, 12, 4, true, 0.0, 0),
        (32, 2, 3, 0, false, 0.0, 0),
        (5, 3, 4, 1, true, 0.0, 0),
        (9, 4, 9, 12, false, 0.0, 3),
        (80, 2, 3, 10, true, 0.0, 41),
        (32, 7, 12, 8, true, 0.4, 16),
        (80, 2, 3, 10, true, 1.5, 0),
        (9, 4, 9, 12, true, 0.25, 30),
    ]
    .into_iter()
    .enumerate()
    {
        // A batch's own images where there are as many.
        let dataset = (images > batch).then_some(images);
        let s = AugmentShape {
            batch,
            dataset,
            side,
            padding,
            philox: Philox::new(42 << 33 | 5),
            epoch: 3,
            flip,
            jitter,
            cutout,
            mean: MEAN,
            std: [STD, [0.229, 0.224, 0.225], [0.25, 1.0 / 3.0, 7.0]][number % 3],
        };
        let pixels: Vec<u8> = (0..images * side * side * 3).map(|i| (i * 37 + i / 251) as u8).collect();
        // Beyond the batch's own images an index only counts random numbers.
        let index = |n| if dataset.is_some() { (n * 5 + 1) % images } else { n * 1_000_003 };
        let draws: Vec<u32> = (0..batch).flat_map(|n| [index(n), n % 3]).map(|word| word as u32).collect();
        let mut expected = vec![0f32; batch * side * side * 3];
        reference::augment(Augment { shape: &s, images: &pixels, draws: &draws, out: &mut expected });
        for precision in PRECISIONS {
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let (mut on_device, mut order) =
                    (device.bytes(pixels.len()).unwrap(), device.labels(2 * batch).unwrap());
                device.write_bytes(&pixels, &mut on_device).unwrap();
                device.write_labels(&draws, &mut order).unwrap();
                let mut out = device.activations(expected.len()).unwrap();
                device.augment(Augment { shape: &s, images: &on_device, draws: &order, out: &mut out }).unwrap();
                vec![read(device, &out)]
            });
            for (i, &expected) in expected.iter().enumerate() {
                assert_eq!(found[0][i], stored(expected, precision), "{s:?} {precision:?} {i}");
            }
        }
    }
}
