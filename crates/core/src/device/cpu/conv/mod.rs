//! Convolution, NHWC with PyTorch's weights: [`winograd`] where it suits the shape, else [`direct`].

pub mod direct;
pub mod winograd;

use super::scratch::{Need, Scratch};
use super::{Crew, Weights, column_sums, relu};
use crate::Result;
use crate::shape::ConvShape;

/// Sizes that both ways need.
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
    /// Numbers of an image of x.
    image: usize,
    /// Numbers of an image of y.
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

/// The scratch memory of all directions that a network runs.
pub fn need(s: &ConvShape, training: bool) -> Need {
    let biases = column_sums::need(s.batch * s.output_height() * s.output_width(), s.filters);
    match (winograd::suits(s), training) {
        (true, false) => winograd::need(s),
        (true, true) => winograd::need_backward_weight(s).or(biases),
        (false, false) => direct::need_forward(s),
        (false, true) => {
            direct::need_forward(s).or(direct::need_backward_data(s)).or(direct::need_backward_weight(s)).or(biases)
        }
    }
}

/// Numbers kept from one step's forward pass to the next.
pub fn kept(s: &ConvShape) -> Option<usize> {
    winograd::suits(s).then(|| winograd::transformed_len(s))
}

#[allow(clippy::too_many_arguments)]
pub fn forward(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    x: &[f32],
    w: Weights,
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    if winograd::suits(s) {
        winograd::forward(crew, scratch, s, x, w, b, relu, y)
    } else {
        direct::forward(crew, scratch, s, x, w.values, b, relu, y)
    }
}

pub fn backward_data(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    dy: &[f32],
    w: Weights,
    dx: &mut [f32],
) -> Result<()> {
    if winograd::suits(s) {
        winograd::backward_data(crew, scratch, s, dy, w, dx)
    } else {
        direct::backward_data(crew, scratch, s, dy, w.values, dx)
    }
}

/// With `data`, the weights and dx, the data gradient too.
#[allow(clippy::too_many_arguments)]
pub fn backward_weight(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    db: &mut [f32],
    data: Option<(Weights, &mut [f32])>,
) -> Result<()> {
    column_sums::run(crew, scratch, dy, s.filters, accumulate, db)?;
    if winograd::suits(s) {
        return winograd::backward_weight(crew, scratch, s, x, dy, accumulate, dw, data);
    }
    direct::backward_weight(crew, scratch, s, x, dy, accumulate, dw)?;
    match data {
        Some((w, dx)) => direct::backward_data(crew, scratch, s, dy, w.values, dx),
        None => Ok(()),
    }
}

/// Adds the bias to rows of y and clamps them.
fn finish(crew: &Crew, rows: &mut [f32], b: &[f32], clamp: bool) {
    relu::bias_relu(crew.level, rows, b, clamp);
}
