//! The flags for what training images undergo.

use crate::data::{Augment, RandAugment};
use crate::run::Config;

/// See [`Config`].
#[derive(Debug, clap::Args)]
pub struct Augmentation {
    /// Random transformations of training images, with a comma between them: crop (shift, black beyond the border),
    /// flip, cutout (a square becomes the mean); or none [default: crop,flip]
    #[arg(long, value_name = "LIST", help_heading = "Data")]
    augment: Option<Augment>,
    /// With `crop`: shift by up to so many pixels [default: an eighth of the side, 4 at 32]
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    crop_padding: Option<usize>,
    /// With `cutout`: side of the square, which is clipped at the border [default: half the side, 16 at 32]
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    cutout: Option<usize>,
    /// Colour jitter: brightness, contrast and saturation, in this order, each by a factor of its own from 1-S to 1+S;
    /// the hue stays [default: 0]
    #[arg(long, value_name = "S", help_heading = "Data")]
    jitter: Option<f64>,
    /// RandAugment: N operations in a row, each of torchvision's 14 by chance (shear, translation, rotation, colours,
    /// posterize, equalize ...), at magnitude M of 30. A GPU's batches are then made on the host [default: none]
    #[arg(long, value_name = "N,M", help_heading = "Data")]
    rand_augment: Option<RandAugment>,
    /// MixUp: each batch is mixed with itself in reverse order, images and labels alike, to shares L and 1-L. L comes
    /// from Beta(A, A), once a batch; the training accuracy counts the label with the larger share. 0: off [default: 0]
    #[arg(long, value_name = "A", help_heading = "Data")]
    mixup: Option<f64>,
    /// CutMix: the same, but a box of the partner's pixels is pasted in; the shares are those of the pixels. With --mixup
    /// each batch undergoes one of them, by chance. 0: off [default: 0]
    #[arg(long, value_name = "A", help_heading = "Data")]
    cutmix: Option<f64>,
}

impl Augmentation {
    /// Puts the flags that were given over `config`.
    pub fn apply(&self, config: &mut Config) {
        let Augmentation { augment, crop_padding, cutout, jitter, rand_augment, mixup, cutmix } = *self;
        config.augment = augment.unwrap_or(config.augment);
        // Sizes of a recipe or a file go with the transformation that the flag leaves out.
        let given = augment.is_some();
        config.crop_padding = crop_padding.or(config.crop_padding.filter(|_| !given || config.augment.crop));
        config.cutout = cutout.or(config.cutout.filter(|_| !given || config.augment.cutout));
        config.jitter = jitter.unwrap_or(config.jitter);
        config.rand_augment = rand_augment.or(config.rand_augment);
        config.mixup = mixup.unwrap_or(config.mixup);
        config.cutmix = cutmix.unwrap_or(config.cutmix);
    }
}
