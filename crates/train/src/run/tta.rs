//! Test-time augmentation: an image is classified by the mean of the logits of several views of it.

use clap::ValueEnum;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error};

/// The views of an image whose logits are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tta {
    /// The image alone
    #[default]
    None,
    /// The image and its mirror
    Mirror,
    /// These, and both moved by a pixel towards two opposite corners, each half as heavy; six views
    Shifts,
    /// These and both moved by two pixels, all alike heavy; ten views
    Diagonal,
}

impl<'de> Deserialize<'de> for Tta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Name(String),
            // From before there were more views than the mirror's.
            Mirror(bool),
        }
        match Written::deserialize(deserializer)? {
            Written::Name(name) => Self::from_str(&name, false)
                .map_err(|_| D::Error::custom(format!("`{name}` is not none, mirror, shifts or diagonal"))),
            Written::Mirror(mirror) => Ok(if mirror { Self::Mirror } else { Self::None }),
        }
    }
}

/// One view of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct View {
    /// Pixels that it is shifted by, down and to the right; the border is padded by reflection.
    shift: isize,
    mirrored: bool,
    /// Its weight in the mean.
    weight: f32,
}

/// Writes the logits (N, classes) of normalised images (N, S, S, 3).
pub type Predict<'a> = dyn FnMut(&[f32], &mut [f32]) -> alexnet_core::Result<()> + 'a;

impl Tta {
    fn views(self) -> Vec<View> {
        let both = |shift, weight| [false, true].map(|mirrored| View { shift, mirrored, weight });
        match self {
            Self::None => vec![View { shift: 0, mirrored: false, weight: 1.0 }],
            Self::Mirror => both(0, 0.5).into(),
            Self::Shifts => [both(0, 0.25), both(-1, 0.125), both(1, 0.125)].concat(),
            Self::Diagonal => [0, -1, 1, -2, 2].into_iter().flat_map(|shift| both(shift, 0.1)).collect(),
        }
    }

    /// The views besides the images themselves, for a sentence: ` and their mirrors`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Mirror => " and their mirrors",
            Self::Shifts | Self::Diagonal => " and their mirrors, moved",
        }
    }

    /// Writes the mean of the logits (N, classes) of the views of images (N, S, S, 3), S the `image_size`. `predict` writes
    /// the logits of such images; `scratch` is overwritten.
    ///
    /// # Errors
    /// A batch that does not fit; the device's.
    pub fn logits(
        self,
        image_size: usize,
        predict: &mut Predict<'_>,
        images: &[f32],
        logits: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> alexnet_core::Result<()> {
        let mut own = vec![0.0; logits.len()];
        logits.fill(0.0);
        for view in self.views() {
            if view.shift == 0 && !view.mirrored {
                predict(images, &mut own)?;
            } else {
                scratch.clear();
                let images = images.chunks_exact(image_size * image_size * 3);
                images.for_each(|image| view.of(image, image_size, scratch));
                predict(scratch, &mut own)?;
            }
            logits.iter_mut().zip(&own).for_each(|(sum, logit)| *sum += view.weight * logit);
        }
        Ok(())
    }
}

impl View {
    /// Appends the view of an image (S, S, 3).
    fn of(self, image: &[f32], side: usize, to: &mut Vec<f32>) {
        // Reflected at the first and last pixel, which are not repeated.
        let last = side as isize - 1;
        let place = |at: usize| (last - (last - (at as isize - self.shift).abs()).abs()) as usize;
        for y in 0..side {
            let row = image[place(y) * side * 3..].as_chunks::<3>().0;
            let pixel = |x: usize| row[place(if self.mirrored { side - 1 - x } else { x })];
            to.extend((0..side).flat_map(pixel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_a_small_image() {
        let image: Vec<f32> = (0..9).flat_map(|pixel| [pixel as f32; 3]).collect();
        let view = |shift, mirrored| {
            let mut to = Vec::new();
            View { shift, mirrored, weight: 1.0 }.of(&image, 3, &mut to);
            assert!(to.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
            to.iter().step_by(3).map(|&value| value as usize).collect::<Vec<_>>()
        };
        assert_eq!(view(0, false), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(view(0, true), [2, 1, 0, 5, 4, 3, 8, 7, 6]);
        assert_eq!(view(1, false), [4, 3, 4, 1, 0, 1, 4, 3, 4]);
        assert_eq!(view(-1, false), [4, 5, 4, 7, 8, 7, 4, 5, 4]);
        assert_eq!(view(-1, true), [4, 5, 4, 7, 8, 7, 4, 5, 4]);
        assert_eq!(view(1, true), [4, 3, 4, 1, 0, 1, 4, 3, 4]);
    }

    #[test]
    fn the_weights_of_the_views_are_one_together() {
        // Tenths are rounded, the others' shares are not.
        let exact = 0.0;
        for (tta, views, bound) in
            [(Tta::None, 1, exact), (Tta::Mirror, 2, exact), (Tta::Shifts, 6, exact), (Tta::Diagonal, 10, f32::EPSILON)]
        {
            assert_eq!(tta.views().len(), views);
            let sum: f32 = tta.views().iter().map(|view| view.weight).sum();
            assert!((sum - 1.0).abs() <= bound, "{tta:?}: {sum}");
        }
    }
}
