//! The flags of data augmentation.

use serde::Serialize;

use crate::data::{Augment, CropScale, RandAugment};
use crate::run::config::as_text;

/// See [`Config`](crate::run::Config).
#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Augmentation {
    /// crop, resized-crop, flip, cutout; or none [default: crop,flip]
    ///
    /// Random transformations of training images, with commas. crop shifts the image, black beyond its border;
    /// resized-crop takes a box of the original picture and resizes it (torchvision's RandomResizedCrop); flip mirrors
    /// the image; cutout sets a square to the mean.
    #[arg(long, value_name = "LIST", help_heading = "Data")]
    #[serde(serialize_with = "as_text::serialize_some", skip_serializing_if = "Option::is_none")]
    augment: Option<Augment>,
    /// With `crop`: largest shift in pixels [default: side / 8]
    ///
    /// 4 pixels for 32x32 images.
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    crop_padding: Option<usize>,
    /// With `resized-crop`: share of the area in a box [default: 0.08,1]
    ///
    /// Least and largest share. The box's width is 3/4 to 4/3 of its height.
    #[arg(long, value_name = "A,B", help_heading = "Data")]
    crop_scale: Option<CropScale>,
    /// With `cutout`: side of the square in pixels [default: side / 2]
    ///
    /// 16 pixels for 32x32 images. The square is clipped at the border.
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    cutout: Option<usize>,
    /// Jitter brightness, contrast and saturation by up to S [default: 0]
    ///
    /// Each is scaled by a random factor from 1-S to 1+S, in this order. The hue stays.
    #[arg(long, value_name = "S", help_heading = "Data")]
    jitter: Option<f64>,
    /// RandAugment: N operations at magnitude M of 30 [default: none]
    ///
    /// Each operation is one of torchvision's 14, chosen at random (shear, translate, rotate, colours, posterize,
    /// equalize ...). Batches for a GPU are then made on the CPU.
    #[arg(long, value_name = "N,M", help_heading = "Data")]
    rand_augment: Option<RandAugment>,
    /// MixUp: mix pairs of images and labels, Beta(A, A) [default: 0]
    ///
    /// Each batch is mixed with itself in reverse order, with weights L and 1-L; L is drawn from Beta(A, A) once per
    /// batch. Training accuracy counts the label with the larger weight. 0: off.
    #[arg(long, value_name = "A", help_heading = "Data")]
    mixup: Option<f64>,
    /// CutMix: paste a box of another image, Beta(A, A) [default: 0]
    ///
    /// As --mixup, but a box of the partner's pixels is pasted in; labels are weighted by area. With --mixup, each
    /// batch gets one of the two at random. 0: off.
    #[arg(long, value_name = "A", help_heading = "Data")]
    cutmix: Option<f64>,
}
