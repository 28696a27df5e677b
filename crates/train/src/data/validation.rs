//! Holds out training images for validation.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::dataset::Dataset;
use super::folder::text;
use super::order;
use super::split::Split;

/// Key of the choice. Not a run's seed, so that all seeds are evaluated on the same images.
const KEY: u64 = 0x76616c;

/// How many training images are held out: `500`, `10%` or `0.1`. In TOML an integer, or a string with a percent sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldOut {
    /// This many.
    Count(usize),
    /// This share of the training images, in per cent.
    Percent(f64),
}

impl HoldOut {
    /// How many of `images` images, at least 1.
    pub fn of(self, images: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => ((images as f64 * percent / 100.0).round() as usize).max(1),
        }
    }
}

impl FromStr for HoldOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let refused =
            || format!("`{text}` is neither a number of images, such as 500, nor a share, such as 10% or 0.1");
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        let percent = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse::<f64>(),
            None => text.parse::<f64>().map(|share| share * 100.0),
        };
        // 0.07 · 100 is 7.000000000000001.
        let percent = (percent.map_err(|_| refused())? * 1e9).round() / 1e9;
        match percent > 0.0 && percent < 100.0 {
            true => Ok(Self::Percent(percent)),
            false if percent.is_finite() => Err(format!("`{text}` is not a share between 0% and 100%")),
            false => Err(refused()),
        }
    }
}

impl fmt::Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for HoldOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => count.serialize(serializer),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for HoldOut {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Count(usize),
            Share(f64),
            Text(String),
        }
        let text = match Value::deserialize(deserializer)? {
            Value::Count(count) => return Ok(Self::Count(count)),
            Value::Share(share) => share.to_string(),
            Value::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Dataset {
    /// Moves `count` training images into [`Dataset::val`], each class in proportion to its size. `draw` numbers the
    /// choices.
    ///
    /// # Panics
    /// Unless there are more than `count` training images.
    pub fn hold_out(&mut self, count: usize, draw: u32) {
        assert!(count < self.train.len(), "{count} of {} images", self.train.len());
        let mut left = quotas(&self.train.counts(self.classes.len()), count);
        let mut held = vec![false; self.train.len()];
        for index in order::shuffled(self.train.len(), KEY, draw) {
            let left = &mut left[self.train.labels()[index as usize] as usize];
            if *left > 0 {
                *left -= 1;
                held[index as usize] = true;
            }
        }
        self.move_to_val(&held);
    }

    /// Moves the training images with these [file names](Dataset::file_name) into [`Dataset::val`]. Returns how many.
    pub fn hold_out_named(&mut self, names: &HashSet<String>) -> usize {
        let named = |index| self.file_name(&self.train, index).is_some_and(|name| names.contains(&name));
        let held: Vec<bool> = (0..self.train.len()).map(named).collect();
        self.move_to_val(&held);
        held.iter().filter(|held| **held).count()
    }

    fn move_to_val(&mut self, held: &[bool]) {
        let indices = |wanted| (0..held.len()).filter(|&index| held[index] == wanted).collect::<Vec<_>>();
        self.val = Some(self.train.select(&indices(true)));
        self.train = self.train.select(&indices(false));
    }

    /// The path of an image below the data set's folder, on one line; `None` for images in memory.
    pub fn file_name(&self, split: &Split, index: usize) -> Option<String> {
        split.file(index).map(|file| self.name_of(&file))
    }

    /// The path of a file below the data set's folder, on one line.
    pub fn name_of(&self, file: &Path) -> String {
        let below = self.path.as_ref().and_then(|folder| file.strip_prefix(folder).ok()).unwrap_or(file);
        let below = if cfg!(windows) { text(below.as_os_str()).replace('\\', "/") } else { text(below.as_os_str()) };
        below.replace(['\n', '\r', '\t'], " ")
    }
}

/// Number of images per class (largest remainder method): the share rounded down, plus one for the classes with the
/// largest remainders until there are `count`.
fn quotas(classes: &[usize], count: usize) -> Vec<usize> {
    let images: u128 = classes.iter().map(|&n| n as u128).sum();
    let share = |class: usize| classes[class] as u128 * count as u128;
    let mut quotas: Vec<usize> = (0..classes.len()).map(|class| (share(class) / images.max(1)) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..classes.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(share(class) % images.max(1)));
    let missing = count - quotas.iter().sum::<usize>();
    by_remainder.into_iter().take(missing).for_each(|class| quotas[class] += 1);
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, sample};

    fn images(split: &Split) -> Vec<Vec<u8>> {
        let mut scratch = Vec::new();
        (0..split.len()).map(|index| split.image(index, 32, &mut scratch).unwrap().to_vec()).collect()
    }

    #[test]
    fn held_out_images_are_balanced_and_no_longer_trained_on() {
        let whole = sample::open().unwrap();
        let mut dataset = whole.clone();
        dataset.hold_out(203, 0);
        let val = dataset.val.as_ref().unwrap();
        assert_eq!((dataset.train.len(), val.len(), dataset.test.len()), (797, 203, 250));
        assert_eq!(val.counts(10), [21, 21, 21, 20, 20, 20, 20, 20, 20, 20]);
        // Each image is in exactly one of the two, in order, and the held-out ones are spread over the set.
        let [train, val] = [&dataset.train, val].map(images);
        let (mut train, mut val) = (train.iter().peekable(), val.iter().peekable());
        let mut held = Vec::new();
        for (index, image) in images(&whole.train).iter().enumerate() {
            if val.next_if_eq(&image).is_some() {
                held.push(index);
            } else {
                assert!(train.next_if_eq(&image).is_some(), "image {index} is lost");
            }
        }
        assert!(held[0] < 50 && held[202] > 950, "{held:?}");
    }

    #[test]
    fn another_draw_holds_out_other_images() {
        let held = |draw| {
            let mut dataset = sample::open().unwrap();
            dataset.hold_out(100, draw);
            images(dataset.val.as_ref().unwrap())
        };
        assert!(held(0) == held(0) && held(0) != held(1));
    }

    #[test]
    fn numbers_and_shares() {
        let parsed = |text: &str| text.parse::<HoldOut>();
        assert_eq!(parsed("40"), Ok(HoldOut::Count(40)));
        assert_eq!([parsed("10%"), parsed(" 10 %"), parsed("0.1")], [const { Ok(HoldOut::Percent(10.0)) }; 3]);
        assert_eq!([parsed("0.07"), parsed("12.5%")], [Ok(HoldOut::Percent(7.0)), Ok(HoldOut::Percent(12.5))]);
        for refused in ["0%", "100%", "1.5", "-0.1", "a", "0,1", "nan", "inf%", "", "%"] {
            assert!(parsed(refused).unwrap_err().contains("share"), "{refused}");
        }
        assert_eq!(HoldOut::Percent(20.0).of(8), 2);
        assert_eq!([HoldOut::Percent(1.0).of(8), HoldOut::Percent(99.0).of(1)], [1, 1]);
        #[derive(Deserialize, Serialize, Debug, PartialEq)]
        struct File {
            val: HoldOut,
        }
        for (text, val, written) in [
            ("val = 40", HoldOut::Count(40), "val = 40\n"),
            ("val = \"20%\"", HoldOut::Percent(20.0), "val = \"20%\"\n"),
            ("val = 0.2", HoldOut::Percent(20.0), "val = \"20%\"\n"),
        ] {
            let file: File = toml::from_str(text).unwrap();
            assert_eq!(file.val, val);
            assert_eq!(toml::to_string(&file).unwrap(), written);
        }
        assert!(toml::from_str::<File>("val = 1.5").unwrap_err().to_string().contains("between 0% and 100%"));
    }

    #[test]
    fn every_class_gives_its_share() {
        assert_eq!(quotas(&[100, 100, 100], 30), [10, 10, 10]);
        assert_eq!(quotas(&[90, 9, 1], 50), [45, 5, 0]);
        assert_eq!(quotas(&[3, 3, 3], 4), [2, 1, 1]);
        assert_eq!(quotas(&[5, 0, 5], 9), [5, 0, 4]);
    }
}
