//! The convolutions of the `cifar` network in all directions.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{ConvBackward, ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_core::device::Operators;
use alexnet_core::shape::ConvShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn conv(criterion: &mut Criterion) {
    for batch in BATCHES {
        for (name, side, channels, filters, stride) in [
            ("conv1", 32, 3, 64, 2),
            ("conv2", 8, 64, 192, 1),
            ("conv3", 4, 192, 384, 1),
            ("conv4", 4, 384, 256, 1),
            ("conv5", 4, 256, 256, 1),
        ] {
            let (height, width, kernel, padding, groups) = (side, side, 3, 1, 1);
            let s = ConvShape { batch, height, width, channels, filters, kernel, stride, padding, groups };
            let (x, w, b, dy) = (array(s.input_len()), array(s.weight_len()), array(s.filters), array(s.output_len()));
            let (mut y, mut dx) = (array(s.output_len()), array(s.input_len()));
            let (mut dw, mut db) = (array(s.weight_len()), array(s.filters));
            let (group, work) = (format!("conv/{name}/{batch}"), Work::MultiplyAdds(s.multiply_adds()));
            measure(criterion, &group, "forward", work, || {
                cpu().conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu: true, y: &mut y })
            });
            measure(criterion, &group, "data", work, || {
                cpu().conv_backward_data(ConvBackwardData { shape: &s, dy: &dy, w: &w, dx: &mut dx })
            });
            measure(criterion, &group, "weight", work, || {
                cpu().conv_backward_weight(ConvBackwardWeight {
                    shape: &s,
                    x: &x,
                    dy: &dy,
                    accumulate: false,
                    dw: &mut dw,
                    db: &mut db,
                })
            });
            measure(criterion, &group, "both gradients", Work::MultiplyAdds(2 * s.multiply_adds()), || {
                cpu().conv_backward(ConvBackward {
                    shape: &s,
                    x: &x,
                    w: &w,
                    dy: &dy,
                    accumulate: false,
                    dw: &mut dw,
                    db: &mut db,
                    dx: &mut dx,
                })
            });
        }
    }
}

criterion_group!(benches, conv);
criterion_main!(benches);
