//! The extent of a layer's output, or why it has none.

use super::{Extent, LayerKind, LayerSpec, TracedLayer};
use crate::shape::output_side;
use crate::{Error, Result};

/// The largest window of max pooling: a position in it is stored in one byte.
const LARGEST_POOL: usize = 16;

/// The output of a layer in a network for images of `image` pixels a side.
pub(super) fn output_extent(spec: &LayerSpec, input: Extent, image: usize) -> Result<Extent> {
    let fail = |reason: String| Error::Layer { layer: spec.name.clone(), reason };
    let slide = |kernel: usize, stride: usize, padding: usize, channels: usize| {
        if kernel == 0 || stride == 0 {
            return Err(fail("kernel and stride must be at least 1".into()));
        }
        let side = |input| output_side(input, kernel, stride, padding);
        match (side(input.height), side(input.width)) {
            (Some(height), Some(width)) => Ok(Extent { height, width, channels }),
            _ => Err(Error::NoOutput {
                layer: spec.name.clone(),
                window: format!("{kernel}x{kernel}"),
                padding,
                height: input.height,
                width: input.width,
                image,
                smallest: None,
            }),
        }
    };
    match spec.kind {
        LayerKind::Conv { filters, kernel, stride, padding, groups } => {
            let splits = groups > 0 && input.channels.is_multiple_of(groups) && filters.is_multiple_of(groups);
            if filters == 0 || !splits {
                return Err(fail(format!(
                    "{} channels and {filters} filters do not split into {groups} groups",
                    input.channels
                )));
            }
            slide(kernel, stride, padding, filters)
        }
        LayerKind::MaxPool { kernel, stride, padding } => {
            if padding * 2 > kernel {
                return Err(fail(format!("padding {padding} is more than half the window of {kernel}")));
            }
            if kernel > LARGEST_POOL {
                return Err(fail(format!("a window of {kernel} is larger than {LARGEST_POOL}")));
            }
            slide(kernel, stride, padding, input.channels)
        }
        LayerKind::AdaptiveAvgPool { side } => {
            if side == 0 {
                return Err(fail("the output side must be at least 1".into()));
            }
            Ok(Extent { height: side, width: side, channels: input.channels })
        }
        LayerKind::Lrn { size, .. } => {
            if size == 0 {
                return Err(fail("the window must be at least 1 channel".into()));
            }
            Ok(input)
        }
        LayerKind::Dropout { rate } => {
            if !(0.0..1.0).contains(&rate) {
                return Err(fail(format!("dropout rate {rate} is not in [0, 1)")));
            }
            Ok(input)
        }
        LayerKind::BatchNorm { epsilon, momentum } => {
            if !(epsilon > 0.0 && (0.0..=1.0).contains(&momentum)) {
                return Err(fail(format!("epsilon {epsilon} is not above 0, or momentum {momentum} not in [0, 1]")));
            }
            Ok(input)
        }
        LayerKind::Flatten => Ok(Extent { height: 1, width: 1, channels: input.len() }),
        LayerKind::Linear { outputs } => {
            if input.height != 1 || input.width != 1 {
                return Err(fail(format!("a linear layer needs a row, not {input}; flatten first")));
            }
            if outputs == 0 {
                return Err(fail("the layer must have at least 1 output".into()));
            }
            Ok(Extent { height: 1, width: 1, channels: outputs })
        }
        // Operators on single elements.
        _ => Ok(input),
    }
}

/// Checks a shortcut around the layers from number `from` to the last of `before` that ends in `spec`, whose input is `input`.
///
/// Neither its first nor its last layer may work in place: the first would overwrite what the shortcut adds, the last the
/// shortcut's gradient. Shortcuts do not nest, since the backward pass holds one such gradient at a time.
pub(super) fn check_shortcut(before: &[TracedLayer], from: usize, spec: &LayerSpec, input: Extent) -> Result<()> {
    let fail = |reason: String| Err(Error::Layer { layer: spec.name.clone(), reason });
    let around = before.get(from..).unwrap_or_default();
    let (Some(first), Some(last)) = (around.first(), around.last()) else {
        return fail(format!("adds the input of layer number {from}, which is not before it"));
    };
    if first.input != input {
        return fail(format!("adds {} to {input}", first.input));
    }
    for layer in [first, last] {
        if layer.in_place() {
            return fail(format!("ends a shortcut around {}, which works in place", layer.spec.name));
        }
    }
    match around.iter().find(|layer| layer.is_add()) {
        Some(other) => fail(format!("ends a shortcut around the end of another, {}", other.spec.name)),
        None => Ok(()),
    }
}
