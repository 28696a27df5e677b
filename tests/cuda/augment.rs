use alexnet_core::device::cuda::Precision;
use alexnet_core::random::{Philox, below, purpose};
use alexnet_kernels::{Augment, Number};

use crate::support::{PRECISIONS, gpu, stored};

const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

/// The definition at the head of crates/train/src/data/augment.rs.
fn defined(s: &Augment, images: &[u8], indices: &[u32]) -> Vec<f32> {
    let (side, p) = (s.side as i64, s.padding as i64);
    let mut out = Vec::new();
    for &index in indices {
        let w = Philox::new(s.seed).block(purpose::AUGMENT, s.epoch, index.into());
        let shift = |word| if s.crop { i64::from(below(word, 2 * s.padding as u32 + 1)) - p } else { 0 };
        let (dx, dy, flip) = (shift(w[0]), shift(w[1]), s.flip && w[2] >> 31 == 1);
        for y in 0..side {
            for x in 0..side {
                let (from_y, from_x) = (y + dy, if flip { side - 1 - x } else { x } + dx);
                for c in 0..3 {
                    let inside = (0..side).contains(&from_y) && (0..side).contains(&from_x);
                    let at = ((i64::from(index) * side + from_y) * side + from_x) * 3 + c as i64;
                    let value = if inside { images[at as usize] } else { 0 };
                    out.push((f32::from(value) / 255.0 - MEAN[c]) / STD[c]);
                }
            }
        }
    }
    out
}

#[test]
fn the_bits_of_the_host() {
    let gpu = gpu();
    for (side, batch, images, crop, flip) in [
        (32, 7, 12, true, true),
        (32, 2, 3, false, false),
        (5, 3, 4, true, true),
        (9, 4, 9, true, false),
        (80, 2, 3, true, true),
    ] {
        let s = Augment {
            batch,
            images,
            side,
            padding: side / 8,
            seed: 42 << 33 | 5,
            purpose: purpose::AUGMENT,
            epoch: 3,
            crop,
            flip,
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
