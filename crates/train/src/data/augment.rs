//! Crop, flip, colour jitter, normalisation and cutout of one image: a pure function of the image and of (seed, epoch,
//! index), so that a device can compute the same bits.
//!
//! `alexnet_core::reference` defines the random numbers ([`sample`](alexnet_core::reference::sample)) and the result
//! ([`transform`](alexnet_core::reference::transform)); this is the fast version, with a table per channel.

use alexnet_core::random::Philox;
pub use alexnet_core::reference::SampledTransform;
use alexnet_core::shape::AugmentShape;

use super::error::{DataError, Result};
pub use rand_augment::RandAugment;
pub use resized_crop::CropScale;

pub mod jitter;
pub mod rand_augment;
pub mod resized_crop;
#[cfg(test)]
mod tests;

/// Mean of CIFAR-10 per channel, of values in 0..1.
pub const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
/// Standard deviation per channel, the values in common use for CIFAR-10.
pub const STD: [f32; 3] = [0.2023, 0.1994, 0.2010];

/// The transformations that `--augment` switches on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Random shift, black beyond the border.
    pub crop: bool,
    /// A random box of the original picture, resized.
    pub resized_crop: bool,
    /// Random horizontal flip.
    pub flip: bool,
    /// Set a random square to the mean.
    pub cutout: bool,
}

impl Augment {
    /// No transformation.
    pub const NONE: Augment = Augment { crop: false, resized_crop: false, flip: false, cutout: false };
    /// Crop and flip.
    pub const DEFAULT: Augment = Augment { crop: true, flip: true, ..Augment::NONE };

    const WORDS: [&str; 4] = ["crop", "resized-crop", "flip", "cutout"];

    /// Whether each transformation is on whose size is a setting of its own, and the setting's key.
    pub(crate) fn sized(self) -> [(bool, &'static str); 3] {
        [(self.crop, "crop-padding"), (self.resized_crop, "crop-scale"), (self.cutout, "cutout")]
    }

    /// These transformations with their default sizes for images of `image_size`.
    pub fn at(self, image_size: usize) -> TransformConfig {
        let or_zero = |on, value| if on { value } else { 0 };
        TransformConfig {
            padding: or_zero(self.crop, image_size / 8),
            resized_crop: self.resized_crop.then(CropScale::default),
            flip: self.flip,
            cutout: or_zero(self.cutout, (image_size / 2).max(1)),
            ..TransformConfig::NONE
        }
    }
}

impl std::str::FromStr for Augment {
    type Err = DataError;

    /// `none`, or words separated by commas.
    fn from_str(text: &str) -> Result<Self> {
        let mut augment = Augment::NONE;
        if text == "none" {
            return Ok(augment);
        }
        for word in text.split(',') {
            match word.trim() {
                "crop" => augment.crop = true,
                "resized-crop" => augment.resized_crop = true,
                "flip" => augment.flip = true,
                "cutout" => augment.cutout = true,
                _ => {
                    return Err(DataError::Setting {
                        what: "augmentation",
                        value: format!("`{text}`"),
                        expected: "none, or some of crop,resized-crop,flip,cutout",
                    });
                }
            }
        }
        Ok(augment)
    }
}

impl std::fmt::Display for Augment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on = [self.crop, self.resized_crop, self.flip, self.cutout];
        let words: Vec<&str> = Self::WORDS.into_iter().zip(on).filter_map(|(word, on)| on.then_some(word)).collect();
        f.write_str(if words.is_empty() { "none".into() } else { words.join(",") }.as_str())
    }
}

/// The augmentation of training images, in numbers. The default is none, as for test images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransformConfig {
    /// Largest shift of the crop in pixels.
    pub padding: usize,
    /// Area of the box of a resized crop; `None`: no resized crop.
    pub resized_crop: Option<CropScale>,
    /// Random horizontal flip.
    pub flip: bool,
    /// RandAugment of the cropped and flipped bytes.
    pub rand_augment: Option<RandAugment>,
    /// Strength of the colour jitter; 0: none.
    pub jitter: f32,
    /// Height and width of the cutout square in pixels; 0: no cutout.
    pub cutout: usize,
}

impl TransformConfig {
    /// Only the normalisation.
    pub const NONE: TransformConfig =
        TransformConfig { padding: 0, resized_crop: None, flip: false, rand_augment: None, jitter: 0.0, cutout: 0 };

    /// Whether only the host can make the batches: the resized crop is not among the device's operators.
    pub fn on_host(&self) -> bool {
        self.resized_crop.is_some()
    }

    /// The shape of the operator `augment`, for `batch` images that are normalised by a mean and a standard deviation.
    pub fn shape(
        &self,
        philox: Philox,
        epoch: u32,
        side: usize,
        batch: usize,
        [mean, std]: [[f32; 3]; 2],
    ) -> AugmentShape {
        let &Self { padding, flip, rand_augment, jitter, cutout, .. } = self;
        let [operations, magnitude] = rand_augment.map_or([0; 2], |r| [r.operations, r.magnitude]);
        AugmentShape {
            batch,
            dataset: None,
            side,
            padding,
            philox,
            epoch,
            flip,
            operations,
            magnitude,
            jitter,
            cutout,
            mean,
            std,
        }
    }
}

/// Table of the normalised value of each byte in each channel.
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
    /// The table for a mean and a standard deviation per channel.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let channel = |c: usize| std::array::from_fn(|value| (value as f32 / 255.0 - mean[c]) / std[c]);
        Normalize { mean, std, table: std::array::from_fn(channel) }
    }

    /// The table, by channel and byte.
    pub fn table(&self) -> &[[f32; 256]; 3] {
        &self.table
    }

    /// Transforms and normalises an image (`image_size`, `image_size`, 3) into `out`, of the same shape.
    ///
    /// # Panics
    /// If `pixels` or `out` have another length.
    pub fn apply(&self, pixels: &[u8], image_size: usize, draw: &SampledTransform, out: &mut [f32]) {
        assert_eq!(pixels.len(), image_size * image_size * 3);
        assert_eq!(out.len(), image_size * image_size * 3);
        if let Some(factors) = draw.jitter {
            let brightened = jitter::brightness(factors[0]);
            remap([&brightened; 3], pixels, image_size, draw, out);
            jitter::contrast_and_saturation(factors, out);
            for pixel in out.as_chunks_mut::<3>().0 {
                *pixel = std::array::from_fn(|c| (pixel[c] - self.mean[c]) / self.std[c]);
            }
        } else {
            remap(self.table.each_ref(), pixels, image_size, draw, out);
        }
        if let Some([left, top, side]) = draw.cutout {
            let within = |first: i32| first.max(0) as usize..(first + side).clamp(0, image_size as i32) as usize;
            let columns = within(left);
            for y in within(top) {
                out[(y * image_size + columns.start) * 3..(y * image_size + columns.end) * 3].fill(0.0);
            }
        }
    }
}

/// Crops and flips an image of bytes.
pub fn crop_and_flip(pixels: &[u8], image_size: usize, draw: &SampledTransform, out: &mut [u8]) {
    let same = std::array::from_fn(|value| value as u8);
    remap([&same; 3], pixels, image_size, draw, out);
}

/// Crops, flips, and looks each byte up in its channel's table.
fn remap<T: Copy>(tables: [&[T; 256]; 3], pixels: &[u8], image_size: usize, draw: &SampledTransform, out: &mut [T]) {
    let [red, green, blue] = tables;
    let black = [red[0], green[0], blue[0]];
    let (shift_x, shift_y) = (draw.right as isize, draw.down as isize);
    // The columns, before the flip, whose source is inside the image.
    let inside = (-shift_x).clamp(0, image_size as isize) as usize
        ..(image_size as isize - shift_x).clamp(0, image_size as isize) as usize;
    for (y, row) in out.chunks_exact_mut(image_size * 3).enumerate() {
        let source = y as isize + shift_y;
        if !(0..image_size as isize).contains(&source) || inside.is_empty() {
            row.as_chunks_mut::<3>().0.fill(black);
            continue;
        }
        let from = (source * image_size as isize + inside.start as isize + shift_x) as usize * 3;
        let source = pixels[from..from + inside.len() * 3].as_chunks::<3>().0;
        let look_up =
            |pixel: &[u8; 3]| [red[usize::from(pixel[0])], green[usize::from(pixel[1])], blue[usize::from(pixel[2])]];
        let row = row.as_chunks_mut::<3>().0;
        if draw.flip {
            row[..image_size - inside.end].fill(black);
            row[image_size - inside.start..].fill(black);
            let target = &mut row[image_size - inside.end..image_size - inside.start];
            target.iter_mut().rev().zip(source).for_each(|(out, pixel)| *out = look_up(pixel));
        } else {
            row[..inside.start].fill(black);
            row[inside.end..].fill(black);
            row[inside.clone()].iter_mut().zip(source).for_each(|(out, pixel)| *out = look_up(pixel));
        }
    }
}
