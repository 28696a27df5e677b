//! Convolution, NHWC with PyTorch's weights: [`winograd`] for the shapes it is faster for, otherwise [`direct`].

pub mod direct;
pub mod winograd;

use super::weights::Weights;
use super::workspace::WorkspaceSize;
use super::{Context, Gradients, column_sums};
use crate::Result;
use crate::shape::ConvShape;

/// Sizes that both algorithms need.
#[derive(Clone, Copy)]
struct Size {
    /// C/groups.
    channels: usize,
    /// K/groups.
    filters: usize,
    /// P.
    height: usize,
    /// Q.
    width: usize,
    /// Floats per image of x.
    image: usize,
    /// Floats per image of y.
    output: usize,
}

impl Size {
    fn new(s: &ConvShape) -> Self {
        let (height, width) = (s.output_height(), s.output_width());
        Self {
            channels: s.channels / s.groups,
            filters: s.filters / s.groups,
            height,
            width,
            image: s.height * s.width * s.channels,
            output: height * width * s.filters,
        }
    }
}

/// Whether this convolution is [`winograd`]'s.
pub fn uses_winograd(context: &Context, s: &ConvShape) -> bool {
    context.winograd && winograd::suits(s)
}

/// Workspace for all directions that a network runs.
pub fn workspace_size(context: &Context, s: &ConvShape, training: bool) -> WorkspaceSize {
    let size = match (uses_winograd(context, s), training) {
        (true, false) => winograd::workspace_size(context, s),
        (true, true) => winograd::workspace_backward_weight(context, s),
        (false, false) => direct::workspace_size(s),
        (false, true) => direct::workspace_size(s).max(direct::workspace_backward_weight(s)),
    };
    let biases = column_sums::workspace_size(s.batch * s.output_height() * s.output_width(), s.filters);
    if training { size.max(biases) } else { size }
}

/// Floats cached per layer, from the weights of one step.
pub fn cache_len(context: &Context, s: &ConvShape, training: bool) -> Option<usize> {
    let caches = uses_winograd(context, s) && (training || !winograd::computes_u(context, s));
    caches.then(|| winograd::transformed_len(context, s))
}

/// See [`Operators::conv_forward`](crate::device::Operators::conv_forward).
pub fn forward(
    context: &Context,
    s: &ConvShape,
    x: &[f32],
    w: Weights,
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    match uses_winograd(context, s) {
        true => winograd::forward(context, s, x, w, b, relu, y),
        false => direct::forward(context, s, x, w.values, b, relu, y),
    }
}

/// See [`Operators::conv_backward_data`](crate::device::Operators::conv_backward_data).
pub fn backward_data(context: &Context, s: &ConvShape, dy: &[f32], w: Weights, dx: &mut [f32]) -> Result<()> {
    match uses_winograd(context, s) {
        true => winograd::backward_data(context, s, dy, w, dx),
        false => direct::backward_data(context, s, dy, w.values, dx),
    }
}

/// See [`Operators::conv_backward_weight`](crate::device::Operators::conv_backward_weight); with `data`, the weights and dx, also
/// [`Operators::conv_backward_data`](crate::device::Operators::conv_backward_data).
pub fn backward_weight(
    context: &Context,
    s: &ConvShape,
    x: &[f32],
    dy: &[f32],
    gradients: Gradients,
    data: Option<(Weights, &mut [f32])>,
) -> Result<()> {
    let Gradients { dw, db, accumulate } = gradients;
    column_sums::run(context, dy, s.filters, accumulate, db)?;
    if uses_winograd(context, s) {
        return winograd::backward_weight(context, s, x, dy, accumulate, dw, data);
    }
    direct::backward_weight(context, s, x, dy, accumulate, dw)?;
    match data {
        Some((w, dx)) => direct::backward_data(context, s, dy, w.values, dx),
        None => Ok(()),
    }
}
