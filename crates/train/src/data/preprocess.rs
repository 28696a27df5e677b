//! How a picture becomes the network's input: resized, cropped, and normalised per channel. Part of the model.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::augment::{MEAN, STD};
use super::error::{DataError, Result};
use super::split::Split;

/// Mean of ImageNet per channel, of values in 0..1; torchvision's presets and most published weights use it.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet per channel.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Largest ratio of the shorter side to the crop that a file may state.
const LARGEST_RATIO: usize = 16;

/// Lengths to which a picture is resized and cropped, in pixels.
///
/// A number alone is the network's image size, to which the shorter side is fitted before the centre is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The shorter side after resizing; at least `crop`.
    pub short: usize,
    /// Height and width of the centre crop: the network's image size.
    pub crop: usize,
}

impl From<usize> for Fit {
    fn from(size: usize) -> Self {
        Fit { short: size, crop: size }
    }
}

/// How a picture becomes the network's input.
///
/// The shorter side is resized (bilinear, antialiased), the centre cropped to the network's image size, and each channel
/// of RGB values x in 0..1 becomes (x − mean)/std. The default is [`Preprocess::CIFAR10`], which holds for checkpoints
/// from before this was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Mean per channel (RGB), of values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation per channel.
    pub std: [f32; 3],
    /// The shorter side before the crop, in pixels; the image size if `None`.
    pub resize: Option<usize>,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self::CIFAR10
    }
}

/// The JSON form, in checkpoints and exports.
#[derive(Deserialize)]
struct Recorded {
    mean: [f32; 3],
    std: [f32; 3],
    resize: usize,
    crop: usize,
    interpolation: String,
    antialias: bool,
    channels: String,
    range: [f32; 2],
}

impl Preprocess {
    /// CIFAR-10's mean and deviation; the shorter side is fitted to the image size.
    pub const CIFAR10: Preprocess = Preprocess { mean: MEAN, std: STD, resize: None };

    /// ImageNet's mean and deviation, and 224/256 of the resized shorter side as the crop, as torchvision's presets have
    /// it: `Resize(256)`, `CenterCrop(224)` for images of 224 pixels.
    pub fn imagenet(image_size: usize) -> Self {
        Preprocess { mean: IMAGENET_MEAN, std: IMAGENET_STD, resize: Some(image_size * 256 / 224) }
    }

    /// The lengths for a network of this image size.
    pub fn fit(&self, image_size: usize) -> Fit {
        Fit { short: self.resize.unwrap_or(image_size), crop: image_size }
    }

    /// The JSON form, complete for a reader who does not know this program.
    pub fn to_json(&self, image_size: usize) -> Value {
        let Fit { short, crop } = self.fit(image_size);
        // f32 in its shortest decimal form, not widened to f64.
        let numbers = |values: [f32; 3]| values.map(|x| x.to_string().parse::<f64>().unwrap_or_default());
        json!({
            "mean": numbers(self.mean),
            "std": numbers(self.std),
            "resize": short,
            "crop": crop,
            "interpolation": "bilinear",
            "antialias": true,
            "channels": "RGB",
            "range": [0, 1],
        })
    }

    /// Reads the JSON form for a network of this image size. If the file states another crop, the shorter side is scaled
    /// in proportion.
    ///
    /// # Errors
    /// What is missing, impossible, or not what this program does.
    pub fn from_json(text: &str, image_size: usize) -> Result<Self, String> {
        let recorded: Recorded = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Recorded { mean, std, resize, crop, interpolation, antialias, channels, range } = recorded;
        check(mean, std)?;
        if !(interpolation == "bilinear" && antialias && channels == "RGB" && range == [0.0, 1.0]) {
            return Err("expected bilinear, antialiased, RGB, in the range 0..1".into());
        }
        if crop == 0 || resize < crop || resize / crop > LARGEST_RATIO {
            return Err(format!("a crop of {crop} pixels of a shorter side of {resize}"));
        }
        let short = if crop == image_size {
            resize
        } else {
            (resize as f64 * image_size as f64 / crop as f64).round() as usize
        };
        Ok(Preprocess { mean, std, resize: (short != image_size).then_some(short) })
    }

    /// One line: channels, range, mean, deviation, resizing.
    pub fn describe(&self, image_size: usize) -> String {
        let Fit { short, crop } = self.fit(image_size);
        let list = |values: [f32; 3]| values.map(|x| x.to_string()).join(" ");
        format!(
            "RGB in 0..1, (x - mean)/std with mean {} and std {}, Resize {short}, CenterCrop {crop}",
            list(self.mean),
            list(self.std)
        )
    }

    /// These lengths, with mean and deviation of all pixels of a split as the network sees them.
    ///
    /// Sums are of whole numbers, so that they do not depend on the number of threads.
    ///
    /// # Errors
    /// An image cannot be read; the split is empty, or all its pixels are equal.
    pub fn measured(self, split: &Split, image_size: usize) -> Result<Self> {
        let [sums, squares] = split.moments(self.fit(image_size))?;
        let count = (split.len() * image_size * image_size) as u128;
        let (mut mean, mut std) = ([0.0; 3], [0.0; 3]);
        for c in 0..3 {
            // n²·variance, in bytes.
            let spread = count * squares[c] - sums[c] * sums[c];
            mean[c] = (sums[c] as f64 / (count.max(1) * 255) as f64) as f32;
            // At least a step of a byte: a channel that does not vary is not scaled up.
            std[c] = ((spread as f64).sqrt() / (count.max(1) * 255) as f64).max(1.0 / 255.0) as f32;
        }
        Ok(Preprocess { mean, std, ..self })
    }
}

/// Refuses what would not give finite inputs.
fn check(mean: [f32; 3], std: [f32; 3]) -> Result<(), String> {
    match mean.iter().all(|x| x.abs() <= 1e3) && std.iter().all(|x| (1e-3..=1e3).contains(x)) {
        true => Ok(()),
        false => Err(format!("a mean of {mean:?} and a standard deviation of {std:?}, of values in 0..1")),
    }
}

/// What `--normalise` says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Normalise {
    /// [`Preprocess::CIFAR10`].
    Cifar10,
    /// [`Preprocess::imagenet`], with its resizing.
    Imagenet,
    /// Mean and deviation of the training images.
    Auto,
    /// Numbers.
    Values {
        /// Mean per channel (RGB), of values in 0..1.
        mean: [f32; 3],
        /// Standard deviation per channel.
        std: [f32; 3],
    },
}

impl Normalise {
    /// The preprocessing for images of this size; `default` has the resizing where only numbers are given. With
    /// [`Normalise::Auto`] the numbers are still to be [`measured`](Preprocess::measured).
    pub fn preprocess(self, default: Preprocess, image_size: usize) -> Preprocess {
        match self {
            Self::Cifar10 => Preprocess::CIFAR10,
            Self::Imagenet => Preprocess::imagenet(image_size),
            Self::Auto => default,
            Self::Values { mean, std } => Preprocess { mean, std, ..default },
        }
    }
}

impl std::str::FromStr for Normalise {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cifar10" => return Ok(Self::Cifar10),
            "imagenet" => return Ok(Self::Imagenet),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let numbers: Option<Vec<f32>> = text.split(',').map(|word| word.trim().parse().ok()).collect();
        let values = match numbers.as_deref() {
            Some(&[m, s]) => Some(([m; 3], [s; 3])),
            Some(&[m0, m1, m2, s0, s1, s2]) => Some(([m0, m1, m2], [s0, s1, s2])),
            _ => None,
        };
        let in_range = |&(mean, std): &([f32; 3], [f32; 3])| {
            check(mean, std).is_ok() && mean.iter().chain(&std).all(|value| (0.0..=1.0).contains(value))
        };
        match values.filter(in_range) {
            Some((mean, std)) => Ok(Self::Values { mean, std }),
            None => Err(DataError::Setting {
                what: "normalisation",
                value: format!("`{text}`"),
                expected: "cifar10, imagenet, auto, or M,S or M,M,M,S,S,S: mean from 0 to 1 and deviation above 0, of pixels in 0..1 (numbers for 0..255 divided by 255)",
            }),
        }
    }
}

impl std::fmt::Display for Normalise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cifar10 => f.write_str("cifar10"),
            Self::Imagenet => f.write_str("imagenet"),
            Self::Auto => f.write_str("auto"),
            Self::Values { mean, std } => {
                let numbers: Vec<String> = mean.iter().chain(std).map(f32::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

impl TryFrom<String> for Normalise {
    type Error = DataError;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Normalise> for String {
    fn from(normalise: Normalise) -> String {
        normalise.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_comes_back_bit_for_bit() {
        let odd =
            Preprocess { mean: [0.1 + 0.2, 1.0 / 3.0, 0.0], std: [f32::EPSILON * 9e5, 0.7, 1.0], resize: Some(40) };
        for preprocess in [Preprocess::CIFAR10, Preprocess::imagenet(32), odd] {
            let text = preprocess.to_json(32).to_string();
            assert_eq!(Preprocess::from_json(&text, 32), Ok(preprocess), "{text}");
        }
        let text = Preprocess::imagenet(224).to_json(224).to_string();
        assert!(text.contains("[0.485,0.456,0.406]") && text.contains("\"resize\":256"), "{text}");
        // Of another size, in proportion.
        assert_eq!(Preprocess::from_json(&text, 448).unwrap().resize, Some(512));
        let text = Preprocess::CIFAR10.to_json(32).to_string();
        assert_eq!(Preprocess::from_json(&text, 64).unwrap(), Preprocess::CIFAR10);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let whole = Preprocess::imagenet(224).to_json(224);
        for (key, value) in [
            ("std", json!([0.2, 0.0, 0.2])),
            ("std", json!([0.2, -0.1, 0.2])),
            ("mean", json!([0.5, 0.5])),
            ("mean", json!([1e30, 0.5, 0.5])),
            ("resize", json!(100)),
            ("resize", json!(1u64 << 40)),
            ("resize", json!(-1)),
            ("crop", json!(0)),
            ("channels", json!("BGR")),
            ("interpolation", json!("bicubic")),
            ("antialias", json!(false)),
            ("range", json!([0, 255])),
        ] {
            let mut other = whole.clone();
            other[key] = value;
            assert!(Preprocess::from_json(&other.to_string(), 224).is_err(), "{other}");
        }
        assert!(Preprocess::from_json(&whole.to_string(), 224).is_ok());
        for text in [
            "",
            "imagenet1k",
            "0.5",
            "0.5,0",
            "0.5,-1",
            "0.5,nan",
            "inf,1",
            "1,2,3",
            "1,2,3,4,5,6,7",
            "127.5,127.5",
            "0.5,2",
        ] {
            assert!(text.parse::<Normalise>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_have_a_text_form() {
        for text in ["cifar10", "imagenet", "auto", "0.5,0.25,0.1,0.2,0.3,0.4"] {
            assert_eq!(text.parse::<Normalise>().unwrap().to_string(), text);
        }
        assert_eq!("0.5, 0.25".parse::<Normalise>().unwrap().to_string(), "0.5,0.5,0.5,0.25,0.25,0.25");
    }

    #[test]
    fn mean_and_deviation_are_those_of_all_pixels() {
        let pixels: Vec<u8> = (0..7 * 5 * 5 * 3).map(|i| (i * i % 255) as u8).collect();
        let split = Split::in_memory(pixels.clone(), 5, vec![0; 7]);
        let measured = Preprocess::CIFAR10.measured(&split, 5).unwrap();
        for c in 0..3 {
            let values: Vec<f64> = pixels.iter().skip(c).step_by(3).map(|&x| f64::from(x) / 255.0).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            // Rounded to f32 once.
            assert!((f64::from(measured.mean[c]) - mean).abs() < 1e-7);
            assert!((f64::from(measured.std[c]) - variance.sqrt()).abs() < 1e-7);
        }
        let grey = Split::in_memory(vec![51; 12], 2, vec![0]);
        let measured = Preprocess::CIFAR10.measured(&grey, 2).unwrap();
        assert_eq!((measured.mean, measured.std), ([0.2; 3], [1.0 / 255.0; 3]));
    }
}
