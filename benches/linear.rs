//! The fully connected layers of the `cifar` network in all directions; `update` is `weight` that does not keep the
//! gradient.

#![allow(missing_docs)] // criterion makes a public function.

mod support;

use alexnet_core::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_core::device::{LinearBackwardUpdate, Operators};
use alexnet_core::shape::LinearShape;
use criterion::{Criterion, criterion_group, criterion_main};
use support::*;

fn linear(criterion: &mut Criterion) {
    for batch in BATCHES {
        for (inputs, outputs) in [(1024, 4096), (4096, 4096), (4096, 10)] {
            let s = LinearShape { batch, inputs, outputs };
            let (x, w, b, dy) = (array(s.input_len()), array(s.weight_len()), array(s.outputs), array(s.output_len()));
            let (mut y, mut dx) = (array(s.output_len()), array(s.input_len()));
            let (mut dw, mut db) = (array(s.weight_len()), array(s.outputs));
            let (group, work) = (format!("linear/{inputs}x{outputs}/{batch}"), Work::MultiplyAdds(s.multiply_adds()));
            measure(criterion, &group, "forward", work, || {
                cpu().linear_forward(LinearForward { shape: &s, x: &x, w: &w, b: &b, relu: true, y: &mut y })
            });
            measure(criterion, &group, "data", work, || {
                cpu().linear_backward_data(LinearBackwardData { shape: &s, dy: &dy, w: &w, dx: &mut dx })
            });
            measure(criterion, &group, "weight", work, || {
                cpu().linear_backward_weight(LinearBackwardWeight {
                    shape: &s,
                    x: &x,
                    dy: &dy,
                    accumulate: false,
                    dw: &mut dw,
                    db: &mut db,
                })
            });
            let mut parameter = parameter(s.weight_len());
            measure(criterion, &group, "update", work, || {
                cpu()
                    .linear_backward_update(LinearBackwardUpdate {
                        shape: &s,
                        x: &x,
                        dy: &dy,
                        sgd: &RULE,
                        weight: &mut parameter,
                        db: &mut db,
                    })
                    .map(drop)
            });
        }
    }
}

criterion_group!(benches, linear);
criterion_main!(benches);
