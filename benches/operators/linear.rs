use alexnet_core::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_core::random::Philox;
use alexnet_core::shape::{DropoutShape, Operation};
use alexnet_kernels::Number;

use super::{Case, Net, floats, stored};

/// The dropout between two layers.
fn dropout(len: usize) -> DropoutShape {
    DropoutShape { len, rate: 0.5, philox: Philox::new(1), purpose: 2, step: 0, offset: 0 }
}

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let Operation::Linear(shape) = layer.operation(net.batch) else { continue };
        let (multiply_adds, outputs) = (shape.multiply_adds() as usize, shape.outputs);
        let (x, w, y) = (shape.input_len(), shape.weight_len(), shape.output_len());
        cases.push(
            Case::new("linear", net.label(layer, "forward"), move |kernels| {
                let (x, w, b) = (stored(kernels, x)?, stored(kernels, w)?, floats(kernels, outputs)?);
                let (mut y, mut work) = (stored(kernels, y)?, floats(kernels, kernels.linear_workspace(&shape))?);
                let (step, mask) = (kernels.zeros(Number::U32, 1)?, dropout(y.len()));
                Ok(Box::new(move || {
                    kernels.linear_forward(
                        LinearForward {
                            shape: &shape,
                            relu: true,
                            dropout: Some(&mask),
                            x: &x,
                            w: &w,
                            b: &b,
                            y: &mut y,
                        },
                        &step,
                        &mut work,
                    )
                }))
            })
            .moves(x + w + y, 4 * outputs)
            .multiply_adds(multiply_adds),
        );
        cases.push(
            Case::new("linear", net.label(layer, "backward data"), move |kernels| {
                let (dy, w, output) = (stored(kernels, y)?, stored(kernels, w)?, stored(kernels, x)?);
                let (step, mask) = (kernels.zeros(Number::U32, 1)?, dropout(x));
                let (mut dx, mut work) = (stored(kernels, x)?, floats(kernels, kernels.linear_workspace(&shape))?);
                Ok(Box::new(move || {
                    kernels.linear_backward_data(
                        LinearBackwardData {
                            shape: &shape,
                            dropout: Some(&mask),
                            dy: &dy,
                            w: &w,
                            mask: Some(&output),
                            dx: &mut dx,
                        },
                        &step,
                        &mut work,
                    )
                }))
            })
            .moves(2 * x + w + y, 0)
            .multiply_adds(multiply_adds),
        );
        cases.push(
            Case::new("linear", net.label(layer, "backward weight"), move |kernels| {
                let (x, dy) = (stored(kernels, x)?, stored(kernels, y)?);
                let (mut dw, mut db) = (floats(kernels, w)?, floats(kernels, outputs)?);
                let mut work = floats(kernels, kernels.linear_workspace(&shape))?;
                Ok(Box::new(move || {
                    kernels.linear_backward_weight(
                        LinearBackwardWeight {
                            shape: &shape,
                            x: &x,
                            dy: &dy,
                            accumulate: false,
                            dw: &mut dw,
                            db: &mut db,
                        },
                        &mut work,
                    )
                }))
            })
            .moves(x + y, 4 * (w + outputs))
            .multiply_adds(multiply_adds),
        );
    }
    cases
}

/// The fully connected layers of the `cifar` network in all directions; `update` is `weight` that does not keep the gradient.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
    use alexnet_core::device::{LinearBackwardUpdate, Operators};
    use alexnet_core::shape::LinearShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
        for batch in BATCHES {
            for (inputs, outputs) in [(1024, 4096), (4096, 4096), (4096, 10)] {
                let s = LinearShape { batch, inputs, outputs };
                let (x, w, b, dy) =
                    (array(s.input_len()), array(s.weight_len()), array(s.outputs), array(s.output_len()));
                let (mut y, mut dx) = (array(s.output_len()), array(s.input_len()));
                let (mut dw, mut db) = (array(s.weight_len()), array(s.outputs));
                let (group, work) =
                    (format!("linear/{inputs}x{outputs}/{batch}"), Work::MultiplyAdds(s.multiply_adds()));
                measure(criterion, &group, "forward", work, || {
                    cpu().linear_forward(LinearForward {
                        shape: &s,
                        relu: true,
                        dropout: None,
                        x: &x,
                        w: &w,
                        b: &b,
                        y: &mut y,
                    })
                });
                measure(criterion, &group, "data", work, || {
                    cpu().linear_backward_data(LinearBackwardData {
                        shape: &s,
                        dropout: None,
                        dy: &dy,
                        w: &w,
                        mask: None,
                        dx: &mut dx,
                    })
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
                let [mut weight, mut bias] = [s.weight_len(), s.outputs].map(parameter);
                measure(criterion, &group, "update", work, || {
                    cpu()
                        .linear_backward_update(LinearBackwardUpdate {
                            shape: &s,
                            x: &x,
                            dy: &dy,
                            sgd: &RULE,
                            weight: &mut weight,
                            bias: &mut bias,
                        })
                        .map(drop)
                });
            }
        }
    }
}
