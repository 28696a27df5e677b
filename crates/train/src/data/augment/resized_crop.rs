//! RandomResizedCrop: a random box of the original picture, resized to the network's input.
//!
//! `alexnet_core::reference` defines the box ([`sample_box`]) and the result
//! ([`resize_box`](alexnet_core::reference::resize_box)); the bytes differ from it by the rounding after each axis.

use alexnet_core::random::Philox;
use alexnet_core::reference::{CropBox, sample_box};
use serde::{Deserialize, Serialize};

use crate::data::error::{DataError, Result};
use crate::data::resize::stretch;

/// Least and largest share of a picture's area that a box takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CropScale {
    /// Above 0.
    pub least: f64,
    /// At most 1.
    pub most: f64,
}

impl Default for CropScale {
    /// torchvision's.
    fn default() -> Self {
        Self { least: 0.08, most: 1.0 }
    }
}

impl std::str::FromStr for CropScale {
    type Err = DataError;

    /// `A,B`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once(',').map(|(a, b)| (a.trim().parse::<f64>(), b.trim().parse::<f64>()));
        match numbers {
            Some((Ok(least), Ok(most))) if 0.0 < least && least <= most && most <= 1.0 => Ok(Self { least, most }),
            _ => Err(DataError::Setting {
                what: "crop scale",
                value: format!("`{text}`"),
                expected: "A,B with 0 < A <= B <= 1, such as 0.08,1",
            }),
        }
    }
}

impl std::fmt::Display for CropScale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.least, self.most)
    }
}

impl TryFrom<String> for CropScale {
    type Error = DataError;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<CropScale> for String {
    fn from(value: CropScale) -> Self {
        value.to_string()
    }
}

impl CropScale {
    /// The box of image `index`, of this width and height.
    pub fn sample(&self, philox: &Philox, epoch: u32, index: u64, extent: [usize; 2]) -> CropBox {
        sample_box(philox, epoch, index, extent, [self.least, self.most])
    }
}

/// Resizes a box of a picture (H, W, 3) of `width` columns to (`size`, `size`, 3); `spare` is scratch memory.
///
/// # Errors
/// Lengths that contradict each other.
pub fn resize_box(
    pixels: &[u8],
    width: usize,
    from: &CropBox,
    size: usize,
    spare: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), String> {
    // The box is copied out first: the filter must not read beyond its border.
    spare.clear();
    for row in pixels.chunks_exact(width * 3).skip(from.top).take(from.height) {
        spare.extend_from_slice(&row[from.left * 3..(from.left + from.width) * 3]);
    }
    stretch(spare, from.width, from.height, size, out)
}

#[cfg(test)]
mod tests {
    use alexnet_core::random::purpose;
    use alexnet_core::reference;
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let philox = Philox::new(3);
        (0..len).map(|i| philox.word(100, 0, i as u64) as u8).collect()
    }

    #[test]
    fn the_box_is_the_documented_words() {
        let (philox, [width, height]) = (Philox::new(42), [300, 200]);
        let word = philox.block(purpose::RESIZED_CROP, 3, 9);
        let uniform = |i: usize| f64::from(word[i]) / 2f64.powi(32);
        let area = 60_000.0 * (0.25 + uniform(0) * 0.25);
        let ratio = (0.75f64.ln() + uniform(1) * ((4.0f64 / 3.0).ln() - 0.75f64.ln())).exp();
        let [w, h] = [(area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize];
        let below = |word: u32, n: usize| ((u64::from(word) * n as u64) >> 32) as usize;
        let expected =
            CropBox { left: below(word[2], width - w + 1), top: below(word[3], height - h + 1), width: w, height: h };
        let scale = CropScale { least: 0.25, most: 0.5 };
        assert_eq!(scale.sample(&philox, 3, 9, [width, height]), expected);
    }

    #[test]
    fn long_pictures_fall_back_to_the_centre() {
        // No box of at least nine tenths of the area has a ratio up to 4/3.
        let scale = CropScale { least: 0.9, most: 1.0 };
        let found = scale.sample(&Philox::new(1), 0, 0, [1000, 90]);
        assert_eq!(found, CropBox { left: 440, top: 0, width: 120, height: 90 });
        let found = scale.sample(&Philox::new(1), 0, 0, [90, 1000]);
        assert_eq!(found, CropBox { left: 0, top: 440, width: 90, height: 120 });
        assert_eq!(CropScale::default().sample(&Philox::new(1), 0, 0, [1, 1]).width, 1);
        assert_eq!(scale.sample(&Philox::new(1), 0, 0, [1, 900]).height, 1);
    }

    /// Area and ratio of the boxes, by the statistic of Kolmogorov and Smirnov: large pictures, so that rounding to pixels
    /// and boxes that do not fit play no part.
    #[test]
    fn area_and_logarithm_of_the_ratio_are_uniform() {
        let (scale, n) = (CropScale { least: 0.08, most: 0.5 }, 10_000);
        let boxes: Vec<CropBox> = (0..n).map(|i| scale.sample(&Philox::new(5), 2, i, [4000, 4000])).collect();
        let area = |b: &CropBox| ((b.width * b.height) as f64 / 16e6 - 0.08) / 0.42;
        let ratio = |b: &CropBox| (b.width as f64 / b.height as f64 / 0.75).ln() / (16.0f64 / 9.0).ln();
        for (what, share) in [("area", &area as &dyn Fn(&CropBox) -> f64), ("ratio", &ratio)] {
            let mut shares: Vec<f64> = boxes.iter().map(share).collect();
            shares.sort_by(f64::total_cmp);
            let distance = shares.iter().enumerate().map(|(i, x)| (x - (i as f64 + 0.5) / n as f64).abs());
            let distance = distance.fold(0.0, f64::max);
            // Exceeded by one uniform sample in 10^5, plus the rounding to pixels.
            assert!(distance < 2.5 / (n as f64).sqrt() + 0.001, "{what}: {distance}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn bytes_are_the_definition_rounded(
            width in 1usize..90, height in 1usize..90, size in 1usize..50, index: u32, least in 0.01..1f64,
        ) {
            let pixels = noise(width * height * 3);
            let from = CropScale { least, most: 1.0 }.sample(&Philox::new(1), 0, index.into(), [width, height]);
            prop_assert!(from.left + from.width <= width && from.top + from.height <= height);
            let mut exact = vec![0f64; size * size * 3];
            reference::resize_box(&pixels, width, &from, size, &mut exact);
            let mut found = vec![0; size * size * 3];
            resize_box(&pixels, width, &from, size, &mut Vec::new(), &mut found).unwrap();
            for (found, exact) in found.iter().zip(&exact) {
                // Rounded to bytes after each axis. Coefficients are rounded to 16 bits, the largest taking 15: n of them,
                // of about 1/n, are off by 2⁻¹⁵ at most in sum, on each axis.
                let off = (f64::from(*found) - exact).abs();
                prop_assert!(off <= 1.0 + 2.0 * 255.0 / 32768.0, "{found} {exact}");
            }
        }
    }

    #[test]
    fn shares_are_read_and_refused() {
        assert_eq!("0.08,1".parse::<CropScale>().unwrap(), CropScale::default());
        assert_eq!(CropScale::default().to_string(), "0.08,1");
        for bad in ["", "0.5", "0,1", "0.5,0.4", "0.5,1.1", "nan,1", "a,b"] {
            let error = bad.parse::<CropScale>().unwrap_err().to_string();
            assert!(error.contains("0 < A <= B <= 1"), "{error}");
        }
    }
}
