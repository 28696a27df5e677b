use alexnet_core::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_core::shape::{ConvShape, Operation};
use alexnet_kernels::{Array, FilterLayout, Kernels, Result};

use super::{Case, Net, floats, stored};

/// Weights in the kernels' order.
fn weights(kernels: &Kernels, conv: &ConvShape) -> Result<Array> {
    stored(kernels, FilterLayout::of(conv, kernels.storage()).len())
}

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, layer) in net.layers.iter().enumerate() {
        let Operation::Conv(conv) = layer.operation(net.batch) else { continue };
        let (filters, multiply_adds) = (conv.filters, conv.multiply_adds() as usize);
        let (x, w, y) = (conv.input_len(), conv.weight_len(), conv.output_len());
        let case = |direction: &str| net.label(layer, direction);
        cases.push(
            Case::new("conv", case("forward"), move |kernels| {
                let (x, w, b) = (stored(kernels, x)?, weights(kernels, &conv)?, floats(kernels, filters)?);
                let (mut y, mut work) = (stored(kernels, y)?, floats(kernels, kernels.conv_forward_workspace(&conv))?);
                Ok(Box::new(move || {
                    kernels.conv_forward(
                        ConvForward { shape: &conv, x: &x, w: &w, b: &b, relu: true, y: &mut y },
                        &mut work,
                    )
                }))
            })
            .moves(x + w + y, 4 * filters)
            .multiply_adds(multiply_adds),
        );
        // Nobody wants the image's gradient.
        if index > 0 {
            cases.push(
                Case::new("conv", case("backward data"), move |kernels| {
                    let (dy, w, mask) = (stored(kernels, y)?, weights(kernels, &conv)?, stored(kernels, x)?);
                    let (mut dx, mut work) =
                        (stored(kernels, x)?, floats(kernels, kernels.conv_backward_data_workspace(&conv))?);
                    Ok(Box::new(move || {
                        kernels.conv_backward_data(
                            ConvBackwardData { shape: &conv, dy: &dy, w: &w, mask: Some(&mask), dx: &mut dx },
                            &mut work,
                        )
                    }))
                })
                .moves(2 * x + w + y, 0)
                .multiply_adds(multiply_adds),
            );
        }
        cases.push(
            Case::new("conv", case("backward weight"), move |kernels| {
                let (x, dy) = (stored(kernels, x)?, stored(kernels, y)?);
                let layout = FilterLayout::of(&conv, kernels.storage());
                let (mut dw, mut db) = (floats(kernels, layout.len())?, floats(kernels, filters)?);
                let mut work = floats(kernels, kernels.conv_backward_weight_workspace(&conv))?;
                Ok(Box::new(move || {
                    kernels.conv_backward_weight(
                        ConvBackwardWeight {
                            shape: &conv,
                            x: &x,
                            dy: &dy,
                            accumulate: false,
                            test: false,
                            dw: &mut dw,
                            db: &mut db,
                        },
                        None,
                        &mut work,
                    )
                }))
            })
            .moves(x + y, 4 * (w + filters))
            .multiply_adds(multiply_adds),
        );
    }
    cases
}

/// The convolutions of the `cifar` network in all directions.
pub mod cpu {
    use crate::support::*;
    use alexnet_core::arguments::{ConvBackward, ConvBackwardData, ConvBackwardWeight, ConvForward};
    use alexnet_core::device::Operators;
    use alexnet_core::shape::ConvShape;
    use criterion::Criterion;

    pub fn bench(criterion: &mut Criterion) {
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
                let (x, w, b, dy) =
                    (array(s.input_len()), array(s.weight_len()), array(s.filters), array(s.output_len()));
                let (mut y, mut dx) = (array(s.output_len()), array(s.input_len()));
                let (mut dw, mut db) = (array(s.weight_len()), array(s.filters));
                let (group, work) = (format!("conv/{name}/{batch}"), Work::MultiplyAdds(s.multiply_adds()));
                measure(criterion, &group, "forward", work, || {
                    cpu().conv_forward(ConvForward { shape: &s, x: &x, w: &w, b: &b, relu: true, y: &mut y })
                });
                measure(criterion, &group, "data", work, || {
                    cpu().conv_backward_data(ConvBackwardData { shape: &s, dy: &dy, w: &w, mask: None, dx: &mut dx })
                });
                measure(criterion, &group, "weight", work, || {
                    cpu().conv_backward_weight(ConvBackwardWeight {
                        shape: &s,
                        x: &x,
                        dy: &dy,
                        accumulate: false,
                        test: false,
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
                        test: false,
                        masks: false,
                        dw: &mut dw,
                        db: &mut db,
                        dx: &mut dx,
                    })
                });
            }
        }
    }
}
