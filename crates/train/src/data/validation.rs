//! Holds out training images for validation.

use super::dataset::Dataset;
use super::order;

/// Key of the choice. Not a run's seed, so that all seeds are evaluated on the same images.
const KEY: u64 = 0x76616c;

impl Dataset {
    /// Moves `count` training images into [`Dataset::val`], each class in proportion to its size.
    ///
    /// # Panics
    /// Unless there are more than `count` training images.
    pub fn hold_out(&mut self, count: usize) {
        assert!(count < self.train.len(), "{count} of {} images", self.train.len());
        let mut left = quotas(&self.train.counts(self.classes.len()), count);
        let mut held = vec![false; self.train.len()];
        for index in order::shuffled(self.train.len(), KEY, 0) {
            let left = &mut left[self.train.labels()[index as usize] as usize];
            if *left > 0 {
                *left -= 1;
                held[index as usize] = true;
            }
        }
        let indices = |wanted| (0..held.len()).filter(|&index| held[index] == wanted).collect::<Vec<_>>();
        self.val = Some(self.train.select(&indices(true)));
        self.train = self.train.select(&indices(false));
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
        dataset.hold_out(203);
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
    fn every_class_gives_its_share() {
        assert_eq!(quotas(&[100, 100, 100], 30), [10, 10, 10]);
        assert_eq!(quotas(&[90, 9, 1], 50), [45, 5, 0]);
        assert_eq!(quotas(&[3, 3, 3], 4), [2, 1, 1]);
        assert_eq!(quotas(&[5, 0, 5], 9), [5, 0, 4]);
    }
}
