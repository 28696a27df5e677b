use alexnet_core::arguments::{ConvBackwardData, ConvBackwardWeight, ConvForward};
use alexnet_core::shape::Operation;
use alexnet_kernels::Kernels;

use super::{Case, Net, floats, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, layer) in net.layers.iter().enumerate() {
        let Operation::Conv(conv) = layer.operation(net.batch) else { continue };
        let (filters, multiply_adds) = (conv.filters, conv.multiply_adds() as usize);
        let (x, w, y) = (conv.input_len(), conv.weight_len(), conv.output_len());
        let case = |direction: &str| net.label(layer, direction);
        cases.push(
            Case::new("conv", case("pack weights"), move |kernels| {
                let (from, mut packed) = (floats(kernels, w)?, stored(kernels, w)?);
                Ok(Box::new(move || kernels.conv_pack_weights(&conv, &from, &mut packed)))
            })
            .moves(w, 4 * w),
        );
        cases.push(
            Case::new("conv", case("forward"), move |kernels| {
                let (x, packed, b) = (stored(kernels, x)?, stored(kernels, w)?, floats(kernels, filters)?);
                let (mut y, mut work) = (stored(kernels, y)?, floats(kernels, Kernels::conv_forward_workspace(&conv))?);
                Ok(Box::new(move || {
                    kernels.conv_forward(
                        ConvForward { shape: &conv, x: &x, w: &packed, b: &b, relu: true, y: &mut y },
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
                    let (dy, packed) = (stored(kernels, y)?, stored(kernels, w)?);
                    let (mut dx, mut work) =
                        (stored(kernels, x)?, floats(kernels, Kernels::conv_backward_data_workspace(&conv))?);
                    Ok(Box::new(move || {
                        kernels.conv_backward_data(
                            ConvBackwardData { shape: &conv, dy: &dy, w: &packed, dx: &mut dx },
                            &mut work,
                        )
                    }))
                })
                .moves(x + w + y, 0)
                .multiply_adds(multiply_adds),
            );
        }
        cases.push(
            Case::new("conv", case("backward weight"), move |kernels| {
                let (x, dy) = (stored(kernels, x)?, stored(kernels, y)?);
                let (mut dw, mut db) = (floats(kernels, w)?, floats(kernels, filters)?);
                let mut work = floats(kernels, Kernels::conv_backward_weight_workspace(&conv))?;
                Ok(Box::new(move || {
                    kernels.conv_backward_weight(
                        ConvBackwardWeight {
                            shape: &conv,
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
            .moves(x + y, 4 * (w + filters))
            .multiply_adds(multiply_adds),
        );
    }
    cases
}
