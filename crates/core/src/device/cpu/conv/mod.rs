//! Convolution, NHWC with PyTorch's weights.

pub mod direct;

use super::scratch::{Need, Scratch};
use super::{Crew, column_sums, relu};
use crate::Result;
use crate::shape::ConvShape;

/// The scratch memory of all directions that a network runs.
pub fn need(s: &ConvShape, training: bool) -> Need {
    let forward = direct::need_forward(s);
    if training { forward.or(direct::need_backward_data(s)).or(direct::need_backward_weight(s)) } else { forward }
}

#[allow(clippy::too_many_arguments)]
pub fn forward(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    relu: bool,
    y: &mut [f32],
) -> Result<()> {
    direct::forward(crew, scratch, s, x, w, b, relu, y)
}

pub fn backward_data(
    crew: &Crew,
    scratch: &mut Scratch,
    s: &ConvShape,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    direct::backward_data(crew, scratch, s, dy, w, dx)
}

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
) -> Result<()> {
    column_sums::run(crew, scratch, dy, s.filters, accumulate, db)?;
    direct::backward_weight(crew, scratch, s, x, dy, accumulate, dw)
}

/// Adds the bias to rows of y and clamps them.
pub(super) fn finish(crew: &Crew, rows: &mut [f32], b: &[f32], clamp: bool) {
    relu::bias_relu(crew.level, rows, b, clamp);
}
