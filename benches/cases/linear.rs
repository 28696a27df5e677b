use alexnet_core::arguments::{LinearBackwardData, LinearBackwardWeight, LinearForward};
use alexnet_core::shape::Operation;
use alexnet_kernels::Kernels;

use super::{Case, Net, floats, stored};

pub fn cases(net: &Net) -> Vec<Case> {
    let mut cases = Vec::new();
    for layer in &net.layers {
        let Operation::Linear(shape) = layer.operation(net.batch) else { continue };
        let (multiply_adds, outputs) = (shape.multiply_adds() as usize, shape.outputs);
        let (x, w, y) = (shape.input_len(), shape.weight_len(), shape.output_len());
        cases.push(
            Case::new("linear", net.label(layer, "forward"), move |kernels| {
                let (x, w, b) = (stored(kernels, x)?, stored(kernels, w)?, floats(kernels, outputs)?);
                let (mut y, mut work) = (stored(kernels, y)?, floats(kernels, Kernels::linear_workspace(&shape))?);
                Ok(Box::new(move || {
                    kernels.linear_forward(
                        LinearForward { shape: &shape, x: &x, w: &w, b: &b, relu: true, y: &mut y },
                        None,
                        &mut work,
                    )
                }))
            })
            .moves(x + w + y, 4 * outputs)
            .multiply_adds(multiply_adds),
        );
        cases.push(
            Case::new("linear", net.label(layer, "backward data"), move |kernels| {
                let (dy, w) = (stored(kernels, y)?, stored(kernels, w)?);
                let (mut dx, mut work) = (stored(kernels, x)?, floats(kernels, Kernels::linear_workspace(&shape))?);
                Ok(Box::new(move || {
                    kernels.linear_backward_data(
                        LinearBackwardData { shape: &shape, dy: &dy, w: &w, dx: &mut dx },
                        &mut work,
                    )
                }))
            })
            .moves(x + w + y, 0)
            .multiply_adds(multiply_adds),
        );
        cases.push(
            Case::new("linear", net.label(layer, "backward weight"), move |kernels| {
                let (x, dy) = (stored(kernels, x)?, stored(kernels, y)?);
                let (mut dw, mut db) = (floats(kernels, w)?, floats(kernels, outputs)?);
                let mut work = floats(kernels, Kernels::linear_workspace(&shape))?;
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
