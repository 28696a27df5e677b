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

use alexnet_core::random::{Philox, below, purpose};
use serde::{Deserialize, Serialize};

use crate::data::error::{DataError, Result};

/// Number and magnitude of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandAugment {
    /// Operations per image, N.
    pub operations: u32,
    /// Magnitude M, of 30.
    pub magnitude: u32,
}

impl std::str::FromStr for RandAugment {
    type Err = DataError;

    /// `N,M`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once(',').map(|(n, m)| (n.trim().parse(), m.trim().parse()));
        match numbers {
            Some((Ok(operations @ 1..=14), Ok(magnitude @ 0..=30))) => Ok(RandAugment { operations, magnitude }),
            _ => Err(DataError::Setting {
                what: "RandAugment",
                value: format!("`{text}`"),
                expected: "N,M with N from 1 to 14 and M from 0 to 30, such as 2,9",
            }),
        }
    }
}

impl std::fmt::Display for RandAugment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.operations, self.magnitude)
    }
}

impl TryFrom<String> for RandAugment {
    type Error = DataError;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RandAugment> for String {
    fn from(value: RandAugment) -> Self {
        value.to_string()
    }
}

impl RandAugment {
    /// Applies the sampled operations to image `index`, (`size`, `size`, 3); `spare` is scratch memory.
    pub fn apply(
        &self,
        philox: &Philox,
        epoch: u32,
        index: u64,
        size: usize,
        image: &mut Vec<u8>,
        spare: &mut Vec<u8>,
    ) {
        for j in 0..u64::from(self.operations) {
            let word = philox.block(purpose::RAND_AUGMENT, epoch, index + (j << 32));
            let operation = Operation::ALL[below(word[0], Operation::ALL.len() as u32) as usize];
            spare.resize(image.len(), 0);
            operation.apply(self.magnitude, word[1] >> 31 == 1, size, image, spare);
            std::mem::swap(image, spare);
        }
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
        let of = |most: f32| if negative { -spaced(most, magnitude) } else { spaced(most, magnitude) };
        let places = |place: &dyn Fn(f64, f64) -> [f64; 2], out: &mut [u8]| place_nearest(size, image, out, place);
        match self {
            Operation::Identity => out.copy_from_slice(image),
            Operation::ShearX => {
                let m = f64::from(of(0.3));
                places(&|x, y| [x + m * (y + 0.5), y], out);
            }
            Operation::ShearY => {
                let m = f64::from(of(0.3));
                places(&|x, y| [x, y + m * (x + 0.5)], out);
            }
            Operation::TranslateX | Operation::TranslateY => {
                let m = f64::from(of((150.0 / 331.0 * size as f64) as f32)).trunc();
                let [right, down] = if self == Operation::TranslateX { [m, 0.0] } else { [0.0, m] };
                places(&|x, y| [x - right, y - down], out);
            }
            Operation::Rotate => {
                let (sin, cos) = f64::from(of(30.0)).to_radians().sin_cos();
                let middle = (size as f64 - 1.0) / 2.0;
                let turn = |x: f64, y: f64| {
                    let (x, y) = (x - middle, y - middle);
                    [cos * x - sin * y + middle, sin * x + cos * y + middle]
                };
                places(&turn, out);
            }
            Operation::Brightness => blend_each(of(0.9), image, out, |_, _| 0.0),
            Operation::Color => blend_each(of(0.9), image, out, |pixel, _| f32::from(grey(pixel))),
            Operation::Contrast => {
                let pixels = image.as_chunks::<3>().0;
                let sum: u64 = pixels.iter().map(|pixel| u64::from(grey(pixel))).sum();
                let mean = sum as f32 / pixels.len() as f32;
                blend_each(of(0.9), image, out, |_, _| mean);
            }
            Operation::Sharpness => blend_each(of(0.9), image, out, |_, i| f32::from(blurred(size, image, i))),
            Operation::Posterize => {
                let cleared = (magnitude as f32 / 7.5).round() as u32;
                each(image, out, |_, v| v >> cleared << cleared);
            }
            Operation::Solarize => {
                let threshold = 255.0 - 8.5 * magnitude as f32;
                each(image, out, |_, v| if f32::from(v) >= threshold { 255 - v } else { v });
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

/// Number `i` of 31 evenly from 0 to `most`, as `torch.linspace` computes it: the upper half from the end, and rounded
/// once.
fn spaced(most: f32, i: u32) -> f32 {
    let steps = |count: u32| f64::from(most / 30.0) * f64::from(count);
    (if i < 15 { steps(i) } else { f64::from(most) - steps(30 - i) }) as f32
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
fn blend_each(m: f32, image: &[u8], out: &mut [u8], with: impl Fn(&[u8; 3], usize) -> f32) {
    let (own, other) = (1.0 + f64::from(m), -f64::from(m));
    let (own, other) = (own as f32, other as f32);
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

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 10;

    fn picture() -> Vec<u8> {
        let value = |x: usize, y: usize, c: usize| (x * 11 + y * 7 * (c + 1) + (x * y * 37 + c * 91) % 60) % 230 + 10;
        (0..SIDE * SIDE * 3).map(|i| value(i / 3 % SIDE, i / 3 / SIDE, i % 3) as u8).collect()
    }

    /// Whether rounding in f32 may choose another pixel: torchvision computes places so.
    fn is_near_a_tie(operation: Operation, magnitude: u32, negative: bool, i: usize) -> bool {
        let m = f64::from(if negative { -1.0 } else { 1.0 } * spaced(0.3, magnitude));
        let (x, y) = ((i / 3 % SIDE) as f64, (i / 3 / SIDE) as f64);
        let places = match operation {
            Operation::ShearX => [x + m * (y + 0.5), y],
            Operation::ShearY => [x, y + m * (x + 0.5)],
            _ => return false,
        };
        // Places are below 16 and of four roundings.
        places.iter().any(|at| ((at - at.floor()) - 0.5).abs() < 64.0 * f64::from(f32::EPSILON))
    }

    #[test]
    fn as_torchvision() {
        let fixture = include_str!("../../../tests/data/rand_augment.txt");
        let (mut cases, mut ties) = (0, 0);
        for line in fixture.lines() {
            let [name, magnitude, sign, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let operation = *Operation::ALL.iter().find(|operation| format!("{operation:?}") == name).unwrap();
            let (magnitude, negative) = (magnitude.parse().unwrap(), sign == "-1");
            let mut out = vec![0; SIDE * SIDE * 3];
            operation.apply(magnitude, negative, SIDE, &picture(), &mut out);
            for (i, found) in out.iter().enumerate() {
                let expected = u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).unwrap();
                let tie = is_near_a_tie(operation, magnitude, negative, i);
                ties += usize::from(tie);
                assert!(tie || *found == expected, "{name} {magnitude} {sign} at {i}: {found} for {expected}");
            }
            cases += 1;
        }
        assert_eq!(cases, 9 * 6 + 2 * 3 + 3);
        // Whole rows of them at a few magnitudes; nearly all places are compared.
        assert!(ties < cases * out_of_a_hundred(4), "{ties}");
    }

    fn out_of_a_hundred(percent: usize) -> usize {
        SIDE * SIDE * 3 * percent / 100
    }

    #[test]
    fn flat_and_tiny_images_are_no_trouble() {
        for size in [1, 2, 3] {
            for value in [0, 7, 255] {
                let image = vec![value; size * size * 3];
                for operation in Operation::ALL {
                    let mut out = vec![1; image.len()];
                    operation.apply(30, true, size, &image, &mut out);
                    if matches!(operation, Operation::AutoContrast | Operation::Equalize | Operation::Sharpness) {
                        assert_eq!(out, image, "{operation:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn draws_are_the_documented_words() {
        let philox = Philox::new(5);
        for index in 0..50 {
            let mut expected = picture();
            for j in 0..2u64 {
                let w = philox.block(purpose::RAND_AUGMENT, 3, index + (j << 32));
                let operation = Operation::ALL[((u64::from(w[0]) * 14) >> 32) as usize];
                let mut out = vec![0; expected.len()];
                operation.apply(9, w[1] >= 1 << 31, SIDE, &expected, &mut out);
                expected = out;
            }
            let (mut image, mut spare) = (picture(), Vec::new());
            RandAugment { operations: 2, magnitude: 9 }.apply(&philox, 3, index, SIDE, &mut image, &mut spare);
            assert_eq!(image, expected);
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["2,9", "1,0", "14,30"] {
            assert_eq!(text.parse::<RandAugment>().unwrap().to_string(), text);
        }
        for text in ["", "2", "0,9", "15,9", "2,31", "2,9,1", "a,b"] {
            let error = text.parse::<RandAugment>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("RandAugment is `{text}`, expected N,M with")), "{error}");
        }
    }
}
