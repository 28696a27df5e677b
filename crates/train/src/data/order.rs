//! The order of the images in an epoch.
//!
//! A Fisher-Yates shuffle with Philox: starting from 0, 1, …, n − 1, for i = n − 1 down to 1, elements i and
//! j = below(word(SHUFFLE, epoch, i), i + 1) are swapped. The word is a pure function of seed, epoch and i.
//!
//! A balanced epoch draws as many images, but every class equally often. The n mod K classes that get one more than
//! n / K (K: classes that have images) are those from number `epoch` on, cyclically. The images of a class are drawn in
//! passes, each pass in a Fisher-Yates order of its own, so that no image is drawn twice more often than another of its
//! class. The words of all passes, class by class, are those of BALANCE in sequence; the whole is then put in the order
//! of `shuffled`.

use std::ops::Range;

use alexnet_core::random::{Philox, below, purpose};
pub use alexnet_core::shape::Draw;
use serde::{Deserialize, Serialize};

use super::loader::LoaderOptions;

/// What is done about classes of different sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Nothing: large classes count more
    #[default]
    None,
    /// Draw every class equally often
    Sampler,
    /// Give the images of small classes more weight in the loss
    Weights,
}

/// A batch of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its number in the epoch, from 0.
    pub number: usize,
    /// Its images, by their place in the epoch's order.
    pub images: Range<usize>,
}

/// The batches of an epoch of `images` images that a loader's options ask for, in order: of [`LoaderOptions::batch_size`] images
/// each, or the micro-batches of this process with [`LoaderOptions::shards`], whose number is that of their step times
/// [`Shards::slots`](alexnet_core::network::Shards::slots) plus that of their slot.
pub fn batches(images: usize, options: &LoaderOptions) -> Vec<Planned> {
    let mut planned = Vec::new();
    match &options.shards {
        Some(shards) => {
            for (step, first) in (0..images).step_by(shards.step_images()).enumerate() {
                planned.extend(shards.pieces(shards.step_images().min(images - first)).map(|piece| Planned {
                    number: step * shards.slots() + piece.slot.number,
                    images: first + piece.images.start..first + piece.images.end,
                }));
            }
        }
        None => planned.extend(
            (0..images)
                .step_by(options.batch_size)
                .enumerate()
                .map(|(number, first)| Planned { number, images: first..images.min(first + options.batch_size) }),
        ),
    }
    planned.retain(|planned| options.numbers.contains(&planned.number));
    planned
}

/// The order that a loader's options ask for.
pub fn draws(labels: &[u32], options: &LoaderOptions) -> Vec<Draw> {
    let &LoaderOptions { shuffle, balanced: balance, seed, epoch, .. } = options;
    match (shuffle, balance) {
        (true, true) => balanced(labels, seed, epoch),
        (true, false) => shuffled(labels.len(), seed, epoch).into_iter().map(|i| Draw::of(i as usize)).collect(),
        (false, _) => (0..labels.len()).map(Draw::of).collect(),
    }
}

/// The weight of each class in the loss, from its number of images: images / (classes with images · images of the class), scikit-learn's
/// `class_weight="balanced"`, whose mean over the images is 1; 0 for a class without images.
pub fn class_weights(counts: &[usize]) -> Vec<f32> {
    let (images, present) = (counts.iter().sum::<usize>(), counts.iter().filter(|&&count| count > 0).count());
    let weight = |count: usize| images as f64 / (present * count) as f64;
    counts.iter().map(|&count| if count > 0 { weight(count) as f32 } else { 0.0 }).collect()
}

/// The order of a balanced `epoch` over images with these labels.
pub fn balanced(labels: &[u32], seed: u64, epoch: u32) -> Vec<Draw> {
    let philox = Philox::new(seed);
    let mut members = vec![Vec::new(); labels.iter().max().map_or(0, |&most| most as usize + 1)];
    for (index, &label) in labels.iter().enumerate() {
        members[label as usize].push(index as u32);
    }
    members.retain(|class| !class.is_empty());
    let classes = members.len();
    let mut words = (0..).map(|element| philox.word(purpose::BALANCE, epoch, element));
    let mut drawn = Vec::with_capacity(labels.len());
    for (number, class) in members.iter_mut().enumerate() {
        let place = (number + classes - epoch as usize % classes) % classes;
        let quota = labels.len() / classes + usize::from(place < labels.len() % classes);
        let end = drawn.len() + quota;
        for repeat in 0.. {
            if drawn.len() == end {
                break;
            }
            for (i, word) in (1..class.len()).rev().zip(&mut words) {
                class.swap(i, below(word, i as u32 + 1) as usize);
            }
            let left = end - drawn.len();
            drawn.extend(class.iter().take(left).map(|&index| Draw { index, repeat }));
        }
    }
    shuffled(labels.len(), seed, epoch).into_iter().map(|i| drawn[i as usize]).collect()
}

/// The order in which `epoch` visits `n` images.
pub fn shuffled(n: usize, seed: u64, epoch: u32) -> Vec<u32> {
    let philox = Philox::new(seed);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let word = philox.word(purpose::SHUFFLE, epoch, i as u64);
        order.swap(i, below(word, i as u32 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_algorithm_is_fixed() {
        // Written out by hand from the definition above: a change would break resuming old runs.
        let philox = Philox::new(5);
        let mut order = [0, 1, 2, 3];
        order.swap(3, ((u64::from(philox.block(1, 2, 0)[3]) * 4) >> 32) as usize);
        order.swap(2, ((u64::from(philox.block(1, 2, 0)[2]) * 3) >> 32) as usize);
        order.swap(1, ((u64::from(philox.block(1, 2, 0)[1]) * 2) >> 32) as usize);
        assert_eq!(shuffled(4, 5, 2), order);
    }

    #[test]
    fn small_and_empty() {
        assert!(shuffled(0, 1, 1).is_empty());
        assert_eq!(shuffled(1, 1, 1), [0]);
    }

    #[test]
    fn a_balanced_epoch_draws_every_class_equally_often() {
        // 8 : 4 : 1, and a class without images.
        let labels: Vec<u32> = [(0, 80), (1, 40), (3, 10)].into_iter().flat_map(|(l, n)| vec![l; n]).collect();
        let labels = &labels[..];
        for epoch in 0..3 {
            let drawn = &balanced(labels, 7, epoch)[..];
            assert_eq!(drawn.len(), 130);
            let of = |label: u32| drawn.iter().filter(move |draw| labels[draw.index as usize] == label);
            // 130 = 3·43 + 1: the one more goes round.
            let expected = [0, 1, 2].map(|number| 43 + usize::from(number == epoch as usize));
            assert_eq!([0, 1, 3].map(|label| of(label).count()), expected);
            // Within a class no image is drawn twice more often than another, and repeats are counted.
            for index in 120..130 {
                let mut repeats: Vec<u32> = of(3).filter(|draw| draw.index == index).map(|draw| draw.repeat).collect();
                repeats.sort_unstable();
                assert!([4, 5].contains(&repeats.len()) && repeats.iter().copied().eq(0..repeats.len() as u32));
            }
            assert!(of(0).all(|draw| draw.repeat == 0));
            assert_eq!(drawn, balanced(labels, 7, epoch));
            assert_ne!(drawn, balanced(labels, 8, epoch));
        }
        // Another part of the large class in the next epoch.
        let part = |epoch| {
            let mut part: Vec<u32> = balanced(labels, 7, epoch).iter().map(|d| d.index).filter(|&i| i < 80).collect();
            part.sort_unstable();
            part
        };
        assert_ne!(part(0), part(1));
        assert!(balanced(&[], 1, 1).is_empty());
    }

    #[test]
    fn class_weights_are_scikit_learns() {
        // compute_class_weight("balanced", classes=[0, 1, 3], y=[0]*8 + [1]*4 + [3]) = 13/24, 13/12, 13/3.
        let labels: Vec<u32> = [(0, 8), (1, 4), (3, 1)].into_iter().flat_map(|(l, n)| vec![l; n]).collect();
        let weights = class_weights(&[8, 4, 0, 1]);
        assert_eq!(weights, [13.0 / 24.0, 13.0 / 12.0, 0.0, 13.0 / 3.0]);
        let mean: f32 = labels.iter().map(|&label| weights[label as usize]).sum::<f32>() / 13.0;
        assert!((mean - 1.0).abs() < 1e-6);
    }

    #[test]
    fn every_position_is_as_likely() {
        // Element 0 lands at each of 8 positions in 1000 of 8000 shuffles, ± 5 standard deviations.
        let mut counts = [0i32; 8];
        for epoch in 0..8000 {
            counts[shuffled(8, 9, epoch).iter().position(|&x| x == 0).unwrap()] += 1;
        }
        let deviation = (8000.0f64 * 0.125 * 0.875).sqrt();
        assert!(counts.iter().all(|&n| f64::from((n - 1000).abs()) < 5.0 * deviation), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_permutation_that_depends_on_seed_and_epoch(n in 20usize..500, seed: u64, epoch in 0u32..1000) {
            let order = shuffled(n, seed, epoch);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.iter().copied().eq(0..n as u32));
            prop_assert_eq!(&order, &shuffled(n, seed, epoch));
            prop_assert_ne!(&order, &shuffled(n, seed, epoch + 1));
            prop_assert_ne!(&order, &shuffled(n, seed.wrapping_add(1), epoch));
        }
    }
}
