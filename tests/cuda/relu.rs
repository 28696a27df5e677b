use alexnet_core::arguments::{ReluBackward, ReluForward};
use alexnet_core::device::Operators;

use crate::support::{PRECISIONS, activations, gpu, numbers, read};

#[test]
fn forward_and_backward() {
    let gpu = gpu();
    for precision in PRECISIONS {
        for len in [1, 2, 3, 4, 5, 31, 127, 128, 1023, 1025, 4099] {
            let mut x = numbers(len as u64, len, precision);
            let dy = numbers(99 + len as u64, len, precision);
            x[len / 2] = 0.0;
            if len > 8 {
                x[1] = f32::NAN;
                x[3] = f32::NEG_INFINITY;
                x[4] = -0.0;
            }
            let found = gpu.run("relu", precision, |device| {
                let (mut y, mut dx) = (activations(device, &x), activations(device, &dy));
                device.relu_forward(ReluForward { len, x: &mut y }).unwrap();
                device.relu_backward(ReluBackward { len, y: &y, dy: &mut dx }).unwrap();
                vec![read(device, &y), read(device, &dx)]
            });
            for i in 0..len {
                // No arithmetic: exact, and a NaN stays.
                let expected = if x[i] < 0.0 { 0.0 } else { x[i] };
                assert!(found[0][i] == expected || (expected.is_nan() && found[0][i].is_nan()), "{len} {i}");
                assert_eq!(found[1][i], if expected <= 0.0 { 0.0 } else { dy[i] }, "{len} {i}");
            }
        }
    }
}

#[test]
fn only_the_front_is_touched() {
    let gpu = gpu();
    let found = gpu.run("relu", PRECISIONS[0], |device| {
        let mut x = activations(device, &[-1.0; 10]);
        device.relu_forward(ReluForward { len: 6, x: &mut x }).unwrap();
        vec![read(device, &x)]
    });
    assert_eq!(found[0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0]);
}

#[test]
fn an_array_too_short_is_an_error() {
    let gpu = gpu();
    let device = gpu.device(PRECISIONS[0]);
    let mut x = activations(device, &[1.0; 4]);
    let error = device.relu_forward(ReluForward { len: 5, x: &mut x }).unwrap_err();
    assert_eq!(error.to_string(), "relu_forward: x has 4 elements, expected 5");
}
