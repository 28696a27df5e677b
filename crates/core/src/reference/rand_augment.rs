//! RandAugment (Cubuk et al., 2020) as `torchvision.transforms.RandAugment` applies it to a uint8 tensor, after crop and
//! flip: N operations in sequence, each one of 14 at magnitude M of 30.
//!
//! **Random numbers.** Operation j of image `index` uses `w = Philox::new(seed).block(RAND_AUGMENT, epoch, index + j·2³²)`:
//! it is number `below(w[0], 14)` of [`Operation::ALL`], and a signed magnitude is negative if the top bit of `w[1]` is set.
//!
//! **Operations.** m is M/30 of the operation's largest magnitude, with its sign, in f32.
//! - Geometry: pixel (x, y) is the source pixel nearest to a position, rounded half to even, or black outside the image.
//!   Shear: (x + m·(y + ½), y) or (x, y + m·(x + ½)), up to 0.3. Translation: by whole pixels, m truncated, up to 150/331 of
//!   the image size. Rotation: by m degrees around the centre, up to 30. Positions are computed in f64.
//! - Colour: `blend(v, w, 1 + m)`, m up to 0.9, is `(1 + m)·v + (−m)·w` in f32, clamped to a byte and truncated. Brightness:
//!   w is 0; saturation: the pixel's grey, `0.2989 r + 0.587 g + 0.114 b` truncated; contrast: the mean of the greys;
//!   sharpness: the mean of the 3×3 pixels around, the centre counted five times, rounded, and at the border v itself.
//! - Posterize keeps the upper 8 − round(M/7.5) bits; solarize inverts values of at least 255 − 8.5·M; autocontrast
//!   stretches each channel to 0..255; equalize equalises the histogram of each channel. Identity does nothing.

use crate::random::{below, purpose};
use crate::shape::{AugmentShape, RandAugmentStrengths};

/// Applies the sampled operations to the image of a [`Draw`](crate::shape::Draw) after crop and flip, (S, S, 3), of which `element` is
/// [`Draw::element`](crate::shape::Draw::element); `spare` is scratch memory.
pub fn rand_augment(s: &AugmentShape, element: u64, image: &mut Vec<u8>, spare: &mut Vec<u8>) {
    for j in 0..u64::from(s.operations) {
        let word = s.philox.block(purpose::RAND_AUGMENT, s.epoch, element + (j << 32));
        let operation = Operation::ALL[below(word[0], Operation::ALL.len() as u32) as usize];
        spare.resize(image.len(), 0);
        operation.apply(s.magnitude, word[1] >> 31 == 1, s.side, image, spare);
        std::mem::swap(image, spare);
    }
}

/// An operation on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // See the head of this file.
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    /// All operations, in torchvision's order.
    pub const ALL: [Operation; 14] = [
        Operation::Identity,
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
        Operation::Brightness,
        Operation::Color,
        Operation::Contrast,
        Operation::Sharpness,
        Operation::Posterize,
        Operation::Solarize,
        Operation::AutoContrast,
        Operation::Equalize,
    ];

    /// Applies it to `image`, (`size`, `size`, 3), at `magnitude` of 30, into `out`.
    pub fn apply(self, magnitude: u32, negative: bool, size: usize, image: &[u8], out: &mut [u8]) {
        let m = RandAugmentStrengths::new(magnitude, negative, size);
        let weights = [m.own, m.other];
        let places = |place: &dyn Fn(f64, f64) -> [f64; 2], out: &mut [u8]| place_nearest(size, image, out, place);
        match self {
            Operation::Identity => out.copy_from_slice(image),
            Operation::ShearX => {
                places(&|x, y| [x + m.shear * (y + 0.5), y], out);
            }
            Operation::ShearY => {
                places(&|x, y| [x, y + m.shear * (x + 0.5)], out);
            }
            Operation::TranslateX | Operation::TranslateY => {
                let [right, down] =
                    if self == Operation::TranslateX { [m.translation, 0.0] } else { [0.0, m.translation] };
                places(&|x, y| [x - right, y - down], out);
            }
            Operation::Rotate => {
                let middle = (size as f64 - 1.0) / 2.0;
                let turn = |x: f64, y: f64| {
                    let (x, y) = (x - middle, y - middle);
                    [m.cos * x - m.sin * y + middle, m.sin * x + m.cos * y + middle]
                };
                places(&turn, out);
            }
            Operation::Brightness => blend_each(weights, image, out, |_, _| 0.0),
            Operation::Color => blend_each(weights, image, out, |pixel, _| f32::from(grey(pixel))),
            Operation::Contrast => {
                let pixels = image.as_chunks::<3>().0;
                let sum: u64 = pixels.iter().map(|pixel| u64::from(grey(pixel))).sum();
                let mean = sum as f32 / pixels.len() as f32;
                blend_each(weights, image, out, |_, _| mean);
            }
            Operation::Sharpness => blend_each(weights, image, out, |_, i| f32::from(blurred(size, image, i))),
            Operation::Posterize => {
                each(image, out, |_, v| v >> m.cleared << m.cleared);
            }
            Operation::Solarize => {
                each(image, out, |_, v| if f32::from(v) >= m.threshold { 255 - v } else { v });
            }
            Operation::AutoContrast => {
                let stretched = [0, 1, 2].map(|c| {
                    let values = || image.iter().skip(c).step_by(3).copied();
                    let (least, most) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
                    // By the reciprocal, as PyTorch divides a number by a tensor.
                    (f32::from(least), 255.0 * (1.0 / (f32::from(most) - f32::from(least))))
                });
                each(image, out, |c, v| match stretched[c] {
                    (least, scale) if scale.is_finite() => ((f32::from(v) - least) * scale) as u8,
                    _ => v,
                });
            }
            Operation::Equalize => {
                let tables = [0, 1, 2].map(|c| equalizing(image.iter().skip(c).step_by(3).copied()));
                each(image, out, |c, v| tables[c][usize::from(v)]);
            }
        }
    }
}

/// Takes each pixel from the one nearest to its place in the source.
fn place_nearest(size: usize, image: &[u8], out: &mut [u8], place: &dyn Fn(f64, f64) -> [f64; 2]) {
    let (from, inside) = (image.as_chunks::<3>().0, 0..size as i64);
    for (i, to) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let [x, y] = place((i % size) as f64, (i / size) as f64).map(|at| at.round_ties_even() as i64);
        *to = if inside.contains(&x) && inside.contains(&y) { from[y as usize * size + x as usize] } else { [0; 3] };
    }
}

/// `change(channel, value)` of every byte.
fn each(image: &[u8], out: &mut [u8], change: impl Fn(usize, u8) -> u8) {
    for (to, from) in out.as_chunks_mut::<3>().0.iter_mut().zip(image.as_chunks::<3>().0) {
        *to = std::array::from_fn(|c| change(c, from[c]));
    }
}

/// Every byte blended with `with(pixel, index of the byte)`.
fn blend_each([own, other]: [f32; 2], image: &[u8], out: &mut [u8], with: impl Fn(&[u8; 3], usize) -> f32) {
    for (i, (to, from)) in out.as_chunks_mut::<3>().0.iter_mut().zip(image.as_chunks::<3>().0).enumerate() {
        *to =
            std::array::from_fn(|c| (own * f32::from(from[c]) + other * with(from, i * 3 + c)).clamp(0.0, 255.0) as u8);
    }
}

fn grey(&[r, g, b]: &[u8; 3]) -> u8 {
    (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8
}

/// Byte `i` smoothed; at the border and in images without an inside the byte itself.
fn blurred(size: usize, image: &[u8], i: usize) -> u8 {
    let (x, y, row) = (i / 3 % size, i / 3 / size, size * 3);
    if x == 0 || y == 0 || x + 1 == size || y + 1 == size {
        return image[i];
    }
    let across = |i: usize| u32::from(image[i - 3]) + u32::from(image[i]) + u32::from(image[i + 3]);
    let sum = across(i - row) + across(i) + across(i + row) + 4 * u32::from(image[i]);
    // 13 is odd: no ties.
    ((2 * sum + 13) / 26) as u8
}

/// The table that makes a channel's values equally frequent.
fn equalizing(values: impl Iterator<Item = u8>) -> [u8; 256] {
    let mut counts = [0u64; 256];
    values.for_each(|v| counts[usize::from(v)] += 1);
    let all: u64 = counts.iter().sum();
    let last = counts.iter().rev().copied().find(|&count| count > 0).unwrap_or(0);
    let step = (all - last) / 255;
    let mut below = 0;
    std::array::from_fn(|v| {
        let value = (below + step / 2).checked_div(step).map_or(v as u8, |value| value.min(255) as u8);
        below += counts[v];
        value
    })
}
