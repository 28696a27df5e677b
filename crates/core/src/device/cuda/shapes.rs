//! This crate's shapes in the words of the kernels.

use alexnet_kernels as kernels;

use crate::random::purpose;
use crate::shape::{
    AugmentShape, AvgPoolShape, BatchNormShape, ConvShape, FlattenShape, LinearShape, LrnShape, MaxPoolShape,
};

pub(super) const fn conv(s: &ConvShape) -> kernels::Conv {
    let ConvShape { batch, height, width, channels, filters, kernel, stride, padding, groups } = *s;
    kernels::Conv { batch, height, width, channels, filters, kernel, stride, padding, groups }
}

pub(super) const fn linear(s: &LinearShape) -> kernels::Linear {
    kernels::Linear { batch: s.batch, inputs: s.inputs, outputs: s.outputs }
}

pub(super) const fn maxpool(s: &MaxPoolShape) -> kernels::MaxPool {
    let MaxPoolShape { batch, height, width, channels, kernel, stride, padding } = *s;
    let (out_height, out_width) = (s.output_height(), s.output_width());
    kernels::MaxPool { batch, height, width, channels, kernel, stride, padding, out_height, out_width }
}

pub(super) const fn avgpool(s: &AvgPoolShape) -> kernels::AvgPool {
    kernels::AvgPool {
        batch: s.batch,
        height: s.height,
        width: s.width,
        channels: s.channels,
        out_height: s.output_height,
        out_width: s.output_width,
    }
}

pub(super) const fn lrn(s: &LrnShape) -> kernels::Lrn {
    let LrnShape { pixels, channels, size, alpha, beta, k } = *s;
    kernels::Lrn { pixels, channels, size, alpha, beta, k }
}

pub(super) const fn batchnorm(s: &BatchNormShape) -> kernels::BatchNorm {
    let BatchNormShape { rows, channels, epsilon, momentum } = *s;
    kernels::BatchNorm { rows, channels, epsilon, momentum }
}

pub(super) const fn flatten(s: &FlattenShape) -> kernels::Flatten {
    kernels::Flatten { batch: s.batch, pixels: s.height * s.width, channels: s.channels }
}

pub(super) fn augment(s: &AugmentShape) -> kernels::Augment {
    let AugmentShape { batch, images, side, padding, philox, epoch, flip, jitter, cutout, mean, std } = *s;
    // As in the training crate's data/augment/jitter.rs.
    let low = (1.0 - jitter).max(0.0);
    let jitter = [low, if jitter > 0.0 { 1.0 + jitter - low } else { 0.0 }];
    let (seed, purposes) = (philox.seed(), [purpose::AUGMENT, purpose::JITTER, purpose::CUTOUT]);
    kernels::Augment { batch, images, side, padding, seed, purposes, epoch, flip, jitter, cutout, mean, std }
}
