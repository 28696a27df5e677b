use alexnet_core::arguments::{AvgPoolBackward, AvgPoolForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::reference;
use alexnet_core::shape::AvgPoolShape;

use crate::support::{PRECISIONS, U, activations, assert_close, gpu, numbers, pick, read, roundoff, wide};

#[test]
fn forward_and_backward() {
    let gpu = gpu();
    let mut shapes = vec![
        // Down, the same, up; windows that overlap.
        AvgPoolShape { batch: 1, height: 1, width: 1, channels: 1, output_height: 3, output_width: 2 },
        AvgPoolShape { batch: 2, height: 7, width: 5, channels: 3, output_height: 3, output_width: 2 },
        AvgPoolShape { batch: 2, height: 13, width: 13, channels: 8, output_height: 6, output_width: 6 },
        AvgPoolShape { batch: 3, height: 6, width: 6, channels: 4, output_height: 6, output_width: 6 },
    ];
    for seed in 0..8 {
        let p = |i, first, last| pick(seed, i, first, last);
        shapes.push(AvgPoolShape {
            batch: p(0, 1, 3),
            height: p(1, 1, 9),
            width: p(2, 1, 9),
            channels: p(3, 1, 9),
            output_height: p(4, 1, 9),
            output_width: p(5, 1, 9),
        });
    }
    for precision in PRECISIONS {
        for s in &shapes {
            let (x, dy) = (numbers(1, s.input_len(), precision), numbers(2, s.output_len(), precision));
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let (x, dy) = (activations(device, &x), activations(device, &dy));
                let (mut y, mut dx) =
                    (device.activations(s.output_len()).unwrap(), device.activations(s.input_len()).unwrap());
                device.avgpool_forward(AvgPoolForward { shape: s, x: &x, y: &mut y }).unwrap();
                device.avgpool_backward(AvgPoolBackward { shape: s, dy: &dy, dx: &mut dx }).unwrap();
                vec![read(device, &y), read(device, &dx)]
            });
            let absolute = |x: &[f32]| x.iter().map(|&x| f64::from(x).abs()).collect::<Vec<_>>();
            let (mut y, mut sum) = (vec![0f64; s.output_len()], vec![0f64; s.output_len()]);
            reference::avgpool_forward(AvgPoolForward { shape: s, x: &wide(&x), y: &mut y });
            reference::avgpool_forward(AvgPoolForward { shape: s, x: &absolute(&x), y: &mut sum });
            // A sum of as many terms as the window has pixels, and a division.
            let pixels = ((s.height.div_ceil(s.output_height) + 1) * (s.width.div_ceil(s.output_width) + 1)) as f64;
            assert_close(&format!("{s:?}"), &found[0], &y, |i| (pixels + 1.0) * U * sum[i] + roundoff(y[i], precision));
            let (mut dx, mut sum) = (vec![0f64; s.input_len()], vec![0f64; s.input_len()]);
            reference::avgpool_backward(AvgPoolBackward { shape: s, dy: &wide(&dy), dx: &mut dx });
            reference::avgpool_backward(AvgPoolBackward { shape: s, dy: &absolute(&dy), dx: &mut sum });
            let windows = ((s.output_height.div_ceil(s.height) + 1) * (s.output_width.div_ceil(s.width) + 1)) as f64;
            assert_close(&format!("{s:?}"), &found[1], &dx, |i| {
                (windows + 1.0) * U * sum[i] + roundoff(dx[i], precision)
            });
        }
    }
}
