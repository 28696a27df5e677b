use alexnet_core::device::cuda::Precision;
use alexnet_core::random::{Philox, below, purpose, uniform_f32};
use alexnet_core::shape::AugmentShape;
use alexnet_kernels::Number;

use crate::support::{PRECISIONS, gpu, stored};

const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

/// The definition at the head of crates/train/src/data/augment.rs.
fn defined(s: &AugmentShape, images: &[u8], indices: &[u32]) -> Vec<f32> {
    let (side, p) = (s.side as i64, s.padding as i64);
    let mut out = Vec::new();
    for &index in indices {
        let words = [purpose::AUGMENT, purpose::JITTER, purpose::CUTOUT]
            .map(|purpose| s.philox.block(purpose, s.epoch, index.into()));
        let shift = |word| i64::from(below(word, 2 * s.padding as u32 + 1)) - p;
        let (dx, dy, flip) = (shift(words[0][0]), shift(words[0][1]), s.flip && words[0][2] >> 31 == 1);
        let mut picture = Vec::new();
        for y in 0..side {
            for x in 0..side {
                let (from_y, from_x) = (y + dy, if flip { side - 1 - x } else { x } + dx);
                let inside = (0..side).contains(&from_y) && (0..side).contains(&from_x);
                let at = ((i64::from(index) * side + from_y) * side + from_x) * 3;
                picture
                    .push([0, 1, 2].map(|c| if inside { f32::from(images[(at + c) as usize]) / 255.0 } else { 0.0 }));
            }
        }
        if s.jitter > 0.0 {
            let factor = |i: usize| s.jitter_range()[0] + uniform_f32(words[1][i]) * s.jitter_range()[1];
            let blend = |a: f32, b: f32, f: f32| (f * a + (1.0 - f) * b).clamp(0.0, 1.0);
            let grey = |p: &[f32; 3]| 0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2];
            picture.iter_mut().for_each(|p| *p = p.map(|v| blend(v, 0.0, factor(0))));
            let sum: u64 = picture.iter().map(|p| (grey(p) * 2f32.powi(24)) as u64).sum();
            let mean = sum as f32 / (picture.len() as f32 * 2f32.powi(24));
            picture.iter_mut().for_each(|p| *p = p.map(|v| blend(v, mean, factor(1))));
            picture.iter_mut().for_each(|p| *p = p.map(|v| blend(v, grey(p), factor(2))));
        }
        let [left, top] = [words[2][0], words[2][1]].map(|word| i64::from(below(word, s.side as u32)));
        let within = |first: i64, x: i64| {
            let first = first - s.cutout as i64 / 2;
            (first..first + s.cutout as i64).contains(&x)
        };
        for (i, pixel) in picture.iter().enumerate() {
            let cut = within(left, i as i64 % side) && within(top, i as i64 / side);
            out.extend((0..3).map(|c| if cut { 0.0 } else { (pixel[c] - MEAN[c]) / STD[c] }));
        }
    }
    out
}

#[test]
fn the_bits_of_the_host() {
    let gpu = gpu();
    for (side, batch, images, padding, flip, jitter, cutout) in [
        (32, 7, 12, 4, true, 0.0, 0),
        (32, 2, 3, 0, false, 0.0, 0),
        (5, 3, 4, 1, true, 0.0, 0),
        (9, 4, 9, 12, false, 0.0, 3),
        (80, 2, 3, 10, true, 0.0, 41),
        (32, 7, 12, 8, true, 0.4, 16),
        (80, 2, 3, 10, true, 1.5, 0),
        (9, 4, 9, 12, true, 0.25, 30),
    ] {
        let s = AugmentShape {
            batch,
            images,
            side,
            padding,
            philox: Philox::new(42 << 33 | 5),
            epoch: 3,
            flip,
            jitter,
            cutout,
            mean: MEAN,
            std: STD,
        };
        let pixels: Vec<u8> = (0..images * side * side * 3).map(|i| (i * 37 + i / 251) as u8).collect();
        let indices: Vec<u32> = (0..batch).map(|n| ((n * 5 + 1) % images) as u32).collect();
        let expected = defined(&s, &pixels, &indices);
        for precision in PRECISIONS {
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let kernels = device.kernels();
                let mut on_device = kernels.zeros(Number::U8, pixels.len()).unwrap();
                kernels.write(&pixels, &mut on_device).unwrap();
                let mut order = kernels.zeros(Number::U32, batch).unwrap();
                kernels.write(&indices, &mut order).unwrap();
                let mut out = kernels.zeros(kernels.storage(), expected.len()).unwrap();
                kernels.augment(&s, &on_device, &order, &mut out).unwrap();
                let mut floats = kernels.zeros(Number::F32, expected.len()).unwrap();
                if precision == Precision::Fp32 {
                    floats = out;
                } else {
                    kernels.cast_to_float(expected.len(), &out, &mut floats).unwrap();
                }
                let mut found = vec![0f32; expected.len()];
                kernels.read(&floats, &mut found).unwrap();
                vec![found]
            });
            for (i, &expected) in expected.iter().enumerate() {
                assert_eq!(found[0][i], stored(expected, precision), "{s:?} {precision:?} {i}");
            }
        }
    }
}
