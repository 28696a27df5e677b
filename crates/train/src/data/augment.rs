//! Crop, flip, colour jitter, normalisation and cutout of one image: a pure function of the image and of (seed, epoch,
//! index), so that a device can do the same bit for bit.
//!
//! `alexnet_core::reference` defines what is drawn ([`sample`]) and what becomes of an image
//! ([`transform`](alexnet_core::reference::transform)); here it is done fast, with a table per channel. RandAugment, which
//! only the loader has, changes the cropped and flipped bytes, see [`rand_augment`].

use alexnet_core::random::Philox;
pub use alexnet_core::reference::SampledTransform;
use alexnet_core::reference::sample;
use alexnet_core::shape::AugmentShape;

use super::error::{DataError, Result};
pub use rand_augment::RandAugment;

pub mod jitter;
pub mod rand_augment;
#[cfg(test)]
mod tests;

/// CIFAR-10's mean a channel, of values in 0..1.
pub const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
/// The standard deviation a channel of the recipe that everyone uses.
pub const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

/// Which of the transformations with a usual size are applied: the words of `--augment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Shift at random, black beyond the border.
    pub crop: bool,
    /// Mirror every second image or so.
    pub flip: bool,
    /// Take out a square.
    pub cutout: bool,
}

impl Augment {
    /// No transformation.
    pub const NONE: Augment = Augment { crop: false, flip: false, cutout: false };
    /// Crop and flip, the recipe.
    pub const DEFAULT: Augment = Augment { crop: true, flip: true, cutout: false };

    const WORDS: [&str; 3] = ["crop", "flip", "cutout"];

    /// The same in the usual sizes for images of side `size`.
    pub fn at(self, size: usize) -> TransformConfig {
        let or_zero = |on, value| if on { value } else { 0 };
        TransformConfig {
            padding: or_zero(self.crop, size / 8),
            flip: self.flip,
            cutout: or_zero(self.cutout, (size / 2).max(1)),
            ..TransformConfig::NONE
        }
    }
}

impl std::str::FromStr for Augment {
    type Err = DataError;

    /// `none`, or words with a comma between them.
    fn from_str(text: &str) -> Result<Self> {
        let mut augment = Augment::NONE;
        if text == "none" {
            return Ok(augment);
        }
        for word in text.split(',') {
            match word.trim() {
                "crop" => augment.crop = true,
                "flip" => augment.flip = true,
                "cutout" => augment.cutout = true,
                _ => {
                    return Err(DataError::Setting {
                        what: "augmentation",
                        value: format!("`{text}`"),
                        expected: "none, or some of crop,flip,cutout",
                    });
                }
            }
        }
        Ok(augment)
    }
}

impl std::fmt::Display for Augment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on = [self.crop, self.flip, self.cutout];
        let words: Vec<&str> = Self::WORDS.into_iter().zip(on).filter_map(|(word, on)| on.then_some(word)).collect();
        f.write_str(if words.is_empty() { "none".into() } else { words.join(",") }.as_str())
    }
}

/// What the training images undergo, in numbers. The default is nothing, as for test images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransformConfig {
    /// p: shift by up to so many pixels.
    pub padding: usize,
    /// Mirror at random.
    pub flip: bool,
    /// Operations on the cropped and flipped bytes.
    pub rand_augment: Option<RandAugment>,
    /// Strength of the colour jitter.
    pub jitter: f32,
    /// L: the side of the square that is taken out.
    pub cutout: usize,
}

impl TransformConfig {
    /// Nothing but the normalisation.
    pub const NONE: TransformConfig =
        TransformConfig { padding: 0, flip: false, rand_augment: None, jitter: 0.0, cutout: 0 };

    /// The operator's shape, for a batch and a data set of one image.
    pub fn shape(&self, philox: Philox, epoch: u32, side: usize) -> AugmentShape {
        let &Self { padding, flip, jitter, cutout, .. } = self;
        let (batch, images, mean, std) = (1, 1, MEAN, STD);
        AugmentShape { batch, images, side, padding, philox, epoch, flip, jitter, cutout, mean, std }
    }
}

/// Draws what image `index` of side `size` undergoes in `epoch`, see [`sample`].
pub fn draw(philox: &Philox, epoch: u32, index: u64, size: usize, transforms: &TransformConfig) -> SampledTransform {
    sample(&transforms.shape(*philox, epoch, size), index)
}

/// The normalised value of each byte in each channel.
#[derive(Clone, Debug)]
pub struct Normalize {
    mean: [f32; 3],
    std: [f32; 3],
    table: [[f32; 256]; 3],
}

impl Default for Normalize {
    fn default() -> Self {
        Normalize::new(MEAN, STD)
    }
}

impl Normalize {
    /// The table for a mean and a standard deviation a channel.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let channel = |c: usize| std::array::from_fn(|value| (value as f32 / 255.0 - mean[c]) / std[c]);
        Normalize { mean, std, table: std::array::from_fn(channel) }
    }

    /// The table, by channel and byte.
    pub fn table(&self) -> &[[f32; 256]; 3] {
        &self.table
    }

    /// Does to an image of side `size` (HWC) what was drawn, and normalises it, into `out` (HWC).
    ///
    /// # Panics
    /// If `pixels` or `out` are not `size`·`size`·3 long.
    pub fn apply(&self, pixels: &[u8], size: usize, draw: &SampledTransform, out: &mut [f32]) {
        assert_eq!(pixels.len(), size * size * 3);
        assert_eq!(out.len(), size * size * 3);
        if let Some(factors) = draw.jitter {
            let brightened = jitter::brightness(factors[0]);
            place([&brightened; 3], pixels, size, draw, out);
            jitter::contrast_and_saturation(factors, out);
            for pixel in out.as_chunks_mut::<3>().0 {
                *pixel = std::array::from_fn(|c| (pixel[c] - self.mean[c]) / self.std[c]);
            }
        } else {
            place(self.table.each_ref(), pixels, size, draw, out);
        }
        if let Some([left, top, side]) = draw.cutout {
            let within = |first: i32| first.max(0) as usize..(first + side).clamp(0, size as i32) as usize;
            let columns = within(left);
            for y in within(top) {
                out[(y * size + columns.start) * 3..(y * size + columns.end) * 3].fill(0.0);
            }
        }
    }
}

/// Crops and flips bytes.
pub fn crop_and_flip(pixels: &[u8], size: usize, draw: &SampledTransform, out: &mut [u8]) {
    let same = std::array::from_fn(|value| value as u8);
    place([&same; 3], pixels, size, draw, out);
}

/// Crops and flips, and looks each byte up in its channel's table.
fn place<T: Copy>(tables: [&[T; 256]; 3], pixels: &[u8], size: usize, draw: &SampledTransform, out: &mut [T]) {
    let [red, green, blue] = tables;
    let black = [red[0], green[0], blue[0]];
    let (shift_x, shift_y) = (draw.right as isize, draw.down as isize);
    // The columns before the flip whose source lies inside the image.
    let inside =
        (-shift_x).clamp(0, size as isize) as usize..(size as isize - shift_x).clamp(0, size as isize) as usize;
    for (y, row) in out.chunks_exact_mut(size * 3).enumerate() {
        let source = y as isize + shift_y;
        if !(0..size as isize).contains(&source) || inside.is_empty() {
            row.as_chunks_mut::<3>().0.fill(black);
            continue;
        }
        let from = (source * size as isize + inside.start as isize + shift_x) as usize * 3;
        let source = pixels[from..from + inside.len() * 3].as_chunks::<3>().0;
        let look_up =
            |pixel: &[u8; 3]| [red[usize::from(pixel[0])], green[usize::from(pixel[1])], blue[usize::from(pixel[2])]];
        let row = row.as_chunks_mut::<3>().0;
        if draw.flip {
            row[..size - inside.end].fill(black);
            row[size - inside.start..].fill(black);
            let target = &mut row[size - inside.end..size - inside.start];
            target.iter_mut().rev().zip(source).for_each(|(out, pixel)| *out = look_up(pixel));
        } else {
            row[..inside.start].fill(black);
            row[inside.end..].fill(black);
            row[inside.clone()].iter_mut().zip(source).for_each(|(out, pixel)| *out = look_up(pixel));
        }
    }
}
