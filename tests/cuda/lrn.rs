use alexnet_core::arguments::{LrnBackward, LrnForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::reference;
use alexnet_core::shape::LrnShape;

use crate::support::{PRECISIONS, U, activations, assert_close, gpu, numbers, read, roundoff, wide};

#[test]
fn forward_and_backward() {
    let gpu = gpu();
    let shape = |pixels, channels, size, alpha, k| LrnShape { pixels, channels, size, alpha, beta: 0.75, k };
    // One channel; windows of even size, wider than the channels; tiles that end within a pixel; AlexNet's.
    let shapes = [
        shape(1, 1, 5, 0.5, 1.0),
        shape(3, 7, 4, 0.5, 2.0),
        shape(2, 3, 9, 1.0, 1.0),
        shape(5, 300, 5, 0.1, 2.0),
        shape(1, 2500, 3, 0.1, 2.0),
        shape(13, 96, 5, 1e-4, 2.0),
    ];
    for precision in PRECISIONS {
        for s in shapes {
            let (x, dy) = (numbers(1, s.len(), precision), numbers(2, s.len(), precision));
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let (x, dy) = (activations(device, &x), activations(device, &dy));
                let (mut y, mut dx) = (device.activations(s.len()).unwrap(), device.activations(s.len()).unwrap());
                device.lrn_forward(LrnForward { shape: &s, x: &x, y: &mut y }).unwrap();
                device.lrn_backward(LrnBackward { shape: &s, x: &x, dy: &dy, dx: &mut dx }).unwrap();
                vec![read(device, &y), read(device, &dx)]
            });
            let (mut y, mut dx) = (vec![0f64; s.len()], vec![0f64; s.len()]);
            reference::lrn_forward(LrnForward { shape: &s, x: &wide(&x), y: &mut y });
            reference::lrn_backward(LrnBackward { shape: &s, x: &wide(&x), dy: &wide(&dy), dx: &mut dx });
            // s is a sum of positive terms: off by (size + 4)·u of itself, its power by β times that and the 4 units
            // in the last place that CUDA's powf may err (8u); then a product.
            let (size, beta) = (s.size as f64, s.beta);
            let relative = (beta * (size + 4.0) + 10.0) * U;
            assert_close(&format!("{s:?}"), &found[0], &y, |i| relative * y[i].abs() + roundoff(y[i], precision));
            // Both terms of dx with all signs positive: own + inner. With x and dy positive dx is own − inner.
            let positive = |x: &[f32]| x.iter().map(|&x| f64::from(x).abs()).collect::<Vec<_>>();
            let (mut scaled, mut difference) = (vec![0f64; s.len()], vec![0f64; s.len()]);
            reference::lrn_forward(LrnForward { shape: &s, x: &positive(&x), y: &mut scaled });
            reference::lrn_backward(LrnBackward {
                shape: &s,
                x: &positive(&x),
                dy: &positive(&dy),
                dx: &mut difference,
            });
            let relative = ((beta + 1.0) * (size + 4.0) + size + 20.0) * U;
            assert_close(&format!("{s:?}"), &found[1], &dx, |i| {
                let own = if x[i] == 0.0 { 1.0 } else { scaled[i] / f64::from(x[i]).abs() } * f64::from(dy[i]).abs();
                relative * (2.0 * own - difference[i]) + roundoff(dx[i], precision)
            });
        }
    }
}
