use alexnet_core::arguments::{MaxPoolBackward, MaxPoolForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::reference;
use alexnet_core::shape::MaxPoolShape;

use crate::support::{PRECISIONS, U, activations, assert_close, gpu, numbers, pick, read, roundoff, wide};

fn shapes() -> Vec<MaxPoolShape> {
    let shape = |batch, side, channels, kernel, stride, padding| MaxPoolShape {
        batch,
        height: side,
        width: side,
        channels,
        kernel,
        stride,
        padding,
    };
    // The odd ones first: windows that overlap, that leave gaps, that reach beyond the image; then AlexNet's.
    let mut shapes = vec![
        shape(1, 1, 1, 1, 1, 0),
        shape(2, 5, 3, 3, 2, 1),
        shape(1, 7, 5, 2, 3, 1),
        shape(2, 6, 4, 3, 1, 1),
        shape(3, 9, 8, 3, 2, 0),
        shape(1, 17, 1, 16, 5, 8),
        shape(2, 8, 12, 2, 2, 0),
        shape(1, 7, 4, 2, 2, 1),
        shape(2, 13, 16, 3, 2, 0),
        // Windows that overlap, in several tiles and groups of 32 channels, with tails.
        shape(1, 41, 36, 3, 2, 1),
        shape(1, 23, 8, 5, 3, 2),
        shape(1, 18, 4, 4, 1, 1),
        shape(1, 40, 4, 16, 7, 0),
    ];
    for seed in 0..12 {
        let p = |i, first, last| pick(seed, i, first, last);
        let kernel = p(0, 1, 5);
        shapes.push(MaxPoolShape {
            batch: p(1, 1, 3),
            height: kernel + p(2, 0, 6),
            width: kernel + p(3, 0, 6),
            channels: p(4, 1, 9),
            kernel,
            stride: p(5, 1, 3),
            padding: p(6, 0, kernel / 2),
        });
    }
    shapes
}

#[test]
fn forward_and_backward() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for s in shapes() {
            let mut x = numbers(1, s.input_len(), precision);
            // Equal elements, of which the first counts, and a NaN, which wins.
            x.iter_mut().step_by(3).for_each(|x| *x = 0.5);
            if x.len() > 40 {
                x[20] = f32::NAN;
                x[33] = f32::NEG_INFINITY;
            }
            let dy = numbers(2, s.output_len(), precision);
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let (x, dy) = (activations(device, &x), activations(device, &dy));
                let (mut y, mut dx) =
                    (device.activations(s.output_len()).unwrap(), activations(device, &vec![9.0; s.input_len()]));
                let mut argmax = device.bytes(s.output_len()).unwrap();
                device.maxpool_forward(MaxPoolForward { shape: &s, x: &x, y: &mut y, argmax: &mut argmax }).unwrap();
                let mut masked = activations(device, &vec![9.0; s.input_len()]);
                for (mask, dx) in [(None, &mut dx), (Some(&y), &mut masked)] {
                    device.maxpool_backward(MaxPoolBackward { shape: &s, dy: &dy, argmax: &argmax, mask, dx }).unwrap();
                }
                let mut positions = vec![0u8; s.output_len()];
                device.kernels().read(&argmax, &mut positions).unwrap();
                let positions = positions.into_iter().map(f32::from).collect();
                vec![read(device, &y), positions, read(device, &dx), read(device, &masked)]
            });
            let (mut y, mut argmax) = (vec![0f32; s.output_len()], vec![0; s.output_len()]);
            reference::maxpool_forward(MaxPoolForward { shape: &s, x: &x, y: &mut y, argmax: &mut argmax });
            assert!(found[0].iter().zip(&y).all(|(a, b)| a == b || a.is_nan() && b.is_nan()), "{s:?}");
            assert!(found[1].iter().zip(&argmax).all(|(&a, &b)| a == f32::from(b)), "{s:?}");
            let (dy, y) = (wide(&dy), wide(&y));
            let backward = |dy: &[f64], mask| {
                let mut dx = vec![0f64; s.input_len()];
                reference::maxpool_backward(MaxPoolBackward { shape: &s, dy, argmax: &argmax, mask, dx: &mut dx });
                dx
            };
            let sum = backward(&dy.iter().map(|x| x.abs()).collect::<Vec<_>>(), None);
            // No more than ⌈R/stride⌉² windows hold a pixel.
            let terms = s.kernel.div_ceil(s.stride).pow(2) as f64;
            for (found, mask) in [(&found[2], None), (&found[3], Some(y.as_slice()))] {
                let dx = backward(&dy, mask);
                let bound = |i: usize| terms * U * sum[i] + roundoff(dx[i], precision);
                assert_close(&format!("{s:?} masked {}", mask.is_some()), found, &dx, bound);
            }
        }
    }
}
