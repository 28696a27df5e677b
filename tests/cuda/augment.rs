use alexnet_core::arguments::Augment;
use alexnet_core::device::{Memory, Operators};
use alexnet_core::random::{Philox, below, purpose};
use alexnet_core::reference;
use alexnet_core::shape::AugmentShape;
use alexnet_kernels::Precision;

use crate::support::{PRECISIONS, gpu, read, stored};

const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

#[test]
fn the_bits_of_the_host() {
    for (number, (side, batch, images, padding, flip, jitter, cutout, operations)) in [
        (225, 1, 1, 28, true, 0.4, 112, 0),
        (33, 3, 3, 4, true, 0.0, 0, 0),
        (32, 7, 12, 4, true, 0.0, 0, 0),
        (32, 2, 3, 0, false, 0.0, 0, 0),
        (5, 3, 4, 1, true, 0.0, 0, 0),
        (9, 4, 9, 12, false, 0.0, 3, 0),
        (80, 2, 3, 10, true, 0.0, 41, 0),
        (32, 7, 12, 8, true, 0.4, 16, 0),
        (80, 2, 3, 10, true, 1.5, 0, 0),
        (9, 4, 9, 12, true, 0.25, 30, 0),
        (33, 3, 3, 4, true, 0.0, 0, 1),
        (32, 7, 12, 8, true, 0.4, 16, 2),
        (81, 2, 3, 10, true, 0.0, 41, 3),
    ]
    .into_iter()
    .enumerate()
    {
        // A batch's own images where there are as many.
        let dataset = (images > batch).then_some(images);
        let s = AugmentShape {
            dataset,
            padding,
            epoch: 3,
            flip,
            operations,
            magnitude: 9,
            jitter,
            cutout,
            mean: MEAN,
            std: [STD, [0.229, 0.224, 0.225], [0.25, 1.0 / 3.0, 7.0]][number % 3],
            ..AugmentShape::plain(batch, side, Philox::new(42 << 33 | 5))
        };
        let pixels: Vec<u8> = (0..images * side * side * 3).map(|i| (i * 37 + i / 251) as u8).collect();
        // Beyond the batch's own images an index only counts random numbers.
        let index = |n| if dataset.is_some() { (n * 5 + 1) % images } else { n * 1_000_003 };
        let draws: Vec<u32> = (0..batch).flat_map(|n| [index(n), n % 3]).map(|word| word as u32).collect();
        compare(&s, &pixels, &draws, &PRECISIONS);
    }
}

/// The kernel gives the reference's bits.
fn compare(s: &AugmentShape, images: &[u8], draws: &[u32], precisions: &[Precision]) {
    let mut expected = vec![0f32; s.batch * s.side * s.side * 3];
    reference::augment(Augment { shape: s, images, draws, out: &mut expected });
    for &precision in precisions {
        let found = gpu().run(&format!("{s:?}"), precision, |device| {
            let (mut on_device, mut order) = (device.bytes(images.len()).unwrap(), device.labels(draws.len()).unwrap());
            device.write_bytes(images, &mut on_device).unwrap();
            device.write_labels(draws, &mut order).unwrap();
            let mut out = device.activations(expected.len()).unwrap();
            device.augment(Augment { shape: s, images: &on_device, draws: &order, out: &mut out }).unwrap();
            vec![read(device, &out)]
        });
        for (i, &expected) in expected.iter().enumerate() {
            assert_eq!(found[0][i], stored(expected, precision), "{s:?} {precision:?} {i}");
        }
    }
}

/// Each operation of RandAugment with either sign at every magnitude, on noise, slopes and flat images.
#[test]
fn every_operation_of_rand_augment() {
    let (philox, epoch) = (Philox::new(7), 1);
    // An image per operation and sign: the first index that draws it.
    let mut found = [None; 28];
    for index in 0..1000 {
        let word = philox.block(purpose::RAND_AUGMENT, epoch, index.into());
        let place = below(word[0], 14) * 2 + (word[1] >> 31);
        found[place as usize].get_or_insert(index);
    }
    let draws: Vec<u32> = found.iter().flat_map(|index| [index.unwrap(), 0]).collect();
    for magnitude in 0..=30 {
        let side = [1, 2, 3, 7, 18, 21][magnitude as usize % 6];
        let s = AugmentShape { epoch, operations: 1, magnitude, ..AugmentShape::plain(28, side, philox) };
        let noise = |i: usize| (philox.word(99, 0, i as u64) >> 24) as u8;
        let slope = |i: usize| (40 + i / 3 % side * 9 + i / 3 / side % side * 5 + i % 3 * 20) as u8;
        let flat = |i: usize| (i % 3 * 127) as u8;
        let kinds: [&dyn Fn(usize) -> u8; 3] = [&noise, &slope, &flat];
        for kind in if magnitude % 10 == 0 { &kinds[..] } else { &kinds[..2] } {
            let images: Vec<u8> = (0..28 * side * side * 3).map(kind).collect();
            compare(&s, &images, &draws, &[Precision::Fp32]);
        }
    }
}
