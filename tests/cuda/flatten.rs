use alexnet_core::arguments::{FlattenBackward, FlattenForward};
use alexnet_core::device::{Memory, Operators};
use alexnet_core::reference;
use alexnet_core::shape::FlattenShape;

use crate::support::{PRECISIONS, activations, gpu, numbers, pick, read};

#[test]
fn there_and_back() {
    let gpu = gpu();
    let mut shapes = vec![
        FlattenShape { batch: 1, height: 1, width: 1, channels: 1 },
        FlattenShape { batch: 3, height: 2, width: 2, channels: 256 },
        FlattenShape { batch: 2, height: 6, width: 6, channels: 64 },
        FlattenShape { batch: 1, height: 7, width: 5, channels: 37 },
        // More pixels than a block takes.
        FlattenShape { batch: 2, height: 19, width: 31, channels: 33 },
    ];
    for seed in 0..6 {
        let p = |i, last| pick(seed, i, 1, last);
        shapes.push(FlattenShape { batch: p(0, 3), height: p(1, 9), width: p(2, 9), channels: p(3, 70) });
    }
    for precision in PRECISIONS {
        for s in &shapes {
            let x = numbers(1, s.len(), precision);
            let found = gpu.run(&format!("{s:?}"), precision, |device| {
                let x = activations(device, &x);
                let (mut y, mut dx) = (device.activations(s.len()).unwrap(), device.activations(s.len()).unwrap());
                device.flatten_forward(FlattenForward { shape: s, x: &x, y: &mut y }).unwrap();
                device.flatten_backward(FlattenBackward { shape: s, dy: &y, dx: &mut dx }).unwrap();
                vec![read(device, &y), read(device, &dx)]
            });
            let mut y = vec![0f32; s.len()];
            reference::flatten_forward(FlattenForward { shape: s, x: &x, y: &mut y });
            assert_eq!(found[0], y, "{s:?}");
            assert_eq!(found[1], x, "{s:?}");
        }
    }
}
