//! Numerical gradient checks of every layer and of the network on the CUDA device.

use std::sync::Arc;

use alexnet_core::device::cuda::{Precision, Winograd};
use alexnet_core::gradcheck::Tolerance;
use alexnet_core::gradcheck::network::{Case, LAYERS, case, check_device};
use alexnet_core::{Cuda, LayerKind};

use crate::support::gpu;

fn passes(what: &str, case: &Case) {
    passes_on(Cuda::new(0, Precision::Fp32).unwrap(), what, case);
}

fn passes_on(device: Cuda, what: &str, case: &Case) {
    let device = Arc::new(device);
    for checked in check_device(device, case, 60, Tolerance::default()).unwrap() {
        assert!(checked.report.passed(), "{what}: {}: {}", checked.name, checked.report);
        let worst = checked.report.worst.unwrap();
        // A check that compared nothing but zeros proves nothing; a device in float is off by something.
        assert!(worst.numeric != 0.0 && worst.numeric != worst.analytic, "{what}: {checked:?}");
    }
}

#[test]
fn every_layer_and_the_network() {
    let gpu = gpu();
    for layer in LAYERS {
        passes(layer, &case(layer).unwrap());
        gpu.assert_clean(layer);
    }
}

#[test]
fn windows_strides_paddings_and_groups() {
    let gpu = gpu();
    let end = [LayerKind::Flatten, LayerKind::Linear { outputs: 4 }];
    let start = LayerKind::Conv { filters: 6, kernel: 3, stride: 1, padding: 1, groups: 1 };
    let conv = |filters, kernel, stride, padding, groups| LayerKind::Conv { filters, kernel, stride, padding, groups };
    let pool = |kernel, stride, padding| LayerKind::MaxPool { kernel, stride, padding };
    let lrn = |size| LayerKind::Lrn { size, alpha: 0.5, beta: 0.75, k: 2.0 };
    for layer in [
        conv(5, 5, 2, 2, 1),
        conv(6, 2, 3, 0, 3),
        conv(4, 1, 1, 0, 2),
        conv(2, 4, 3, 3, 1),
        pool(2, 2, 0),
        pool(3, 1, 1),
        pool(2, 3, 1),
        LayerKind::AdaptiveAvgPool { side: 1 },
        LayerKind::AdaptiveAvgPool { side: 9 },
        lrn(1),
        lrn(2),
        lrn(9),
        LayerKind::Dropout { rate: 0.3 },
    ] {
        let layers = [&[start, layer], &end[..]].concat();
        passes(&format!("{layer:?}"), &Case { layers, batch: 3, side: 7, channels: 3, smoothing: 0.0 });
    }
    gpu.assert_clean("gradcheck");
}

#[test]
fn convolutions_by_winograd() {
    let gpu = gpu();
    let conv = |filters, padding, groups| LayerKind::Conv { filters, kernel: 3, stride: 1, padding, groups };
    let end = [LayerKind::Flatten, LayerKind::Linear { outputs: 4 }];
    for layer in [conv(5, 1, 1), conv(8, 0, 2), conv(4, 2, 1)] {
        let layers = [&[conv(8, 1, 1), LayerKind::Relu, layer], &end[..]].concat();
        let mut device = Cuda::new(0, Precision::Fp32).unwrap();
        device.set_winograd(Winograd::Always);
        passes_on(device, &format!("{layer:?}"), &Case { layers, batch: 3, side: 7, channels: 3, smoothing: 0.0 });
    }
    gpu.assert_clean("winograd");
}
