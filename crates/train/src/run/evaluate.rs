//! Loss, accuracy and confusion over a split.

use std::ops::Range;

use alexnet_core::{Device, Network};
use alexnet_ranks::{Ranks, Single};
use bytemuck::{Pod, Zeroable};

use super::batch_source::{BatchSource, DeviceDataset};
use super::error::{Error, Result};
use super::ranks::{agree, flag};
use super::stop::Stop;
use super::tta::Tta;
use crate::data::{Preprocess, Split};

/// How a network classifies a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, without smoothing.
    pub loss: f64,
    /// Images.
    pub images: usize,
    /// How many images of each class (row) were classified as each class (column).
    pub confusion: Vec<Vec<u64>>,
    /// Images whose class is among the five with the largest logits.
    pub within_five: u64,
}

/// With fewer classes, top-5 accuracy is not reported: at random it would be more than a half.
const LEAST_FOR_TOP5: usize = 10;

impl Evaluation {
    /// Share of the images that were classified correctly.
    pub fn accuracy(&self) -> f64 {
        let correct: u64 = self.confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
        correct as f64 / self.images.max(1) as f64
    }

    /// The accuracy per class; none for a class without images.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let share = |(class, row): (usize, &Vec<u64>)| {
            let images: u64 = row.iter().sum();
            (images > 0).then(|| row[class] as f64 / images as f64)
        };
        self.confusion.iter().enumerate().map(share).collect()
    }

    /// Mean of the accuracies of the classes that have images: scikit-learn's `balanced_accuracy_score`. 0 without images.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.per_class().into_iter().flatten())
    }

    /// Mean of the classes' F1, 2·correct / (images of the class + images classified as it): scikit-learn's
    /// `f1_score(average="macro")`. Classes that have no image and that no image was classified as are left out; a class
    /// whose images were all missed has F1 0. 0 without images.
    pub fn macro_f1(&self) -> f64 {
        let taken = |class: usize| self.confusion.iter().map(|row| row[class]).sum::<u64>();
        let f1 = |(class, row): (usize, &Vec<u64>)| {
            let sum = row.iter().sum::<u64>() + taken(class);
            (sum > 0).then(|| 2.0 * row[class] as f64 / sum as f64)
        };
        mean(self.confusion.iter().enumerate().filter_map(f1))
    }

    /// Share of the images whose class is among the five with the largest logits; none with fewer than 10 classes.
    pub fn top5(&self) -> Option<f64> {
        (self.confusion.len() >= LEAST_FOR_TOP5).then(|| self.within_five as f64 / self.images.max(1) as f64)
    }

    /// The confusions, most frequent first: images, their class, the class they were classified as.
    pub fn pairs(&self) -> Vec<(u64, usize, usize)> {
        let mut pairs = Vec::new();
        for (class, row) in self.confusion.iter().enumerate() {
            let others = row.iter().enumerate().filter(|&(other, &count)| other != class && count > 0);
            pairs.extend(others.map(|(other, &count)| (count, class, other)));
        }
        pairs.sort_by_key(|&(count, class, other)| (std::cmp::Reverse(count), class, other));
        pairs
    }
}

/// A batch that was classified.
#[derive(Clone, Copy, Debug)]
pub struct Classified<'a> {
    /// Index in the split of its first image.
    pub first: usize,
    /// The images' classes (N).
    pub labels: &'a [u32],
    /// (N, classes): the mean of the logits of an image's views.
    pub logits: &'a [f32],
}

impl Classified<'_> {
    /// Images classified with this batch and before.
    pub fn done(&self) -> usize {
        self.first + self.labels.len()
    }
}

/// How images are evaluated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol {
    /// Resizing and normalisation.
    pub preprocess: Preprocess,
    /// The views of an image whose logits are averaged.
    pub tta: Tta,
    /// Threads that decode and resize; 0: all cores.
    pub threads: usize,
}

/// Classifies `split` in batches of [`Network::max_batch`], each image as `protocol` says: out of `dataset`, which is the
/// split on the device, or else by a loader. `seen` gets every batch. None if it was asked to stop before the end.
///
/// # Errors
/// An image cannot be read; the network failed.
pub fn evaluate<D: Device<Element = f32>>(
    network: &mut Network<D>,
    split: &Split,
    dataset: Option<&DeviceDataset<D>>,
    protocol: Protocol,
    stop: &Stop,
    seen: &mut dyn FnMut(Classified<'_>),
) -> Result<Option<Evaluation>> {
    evaluate_among(network, split, dataset, protocol, stop, &Single, seen)
}

/// What came of an image.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Outcome {
    loss: f64,
    class: u32,
    /// 1 if the image's class is among the five with the largest logits.
    within_five: u32,
}

/// The same by the ranks of a job, each with its share of the batches: the bits of one process, on every rank. All ranks call it.
/// `seen` gets the rank's own batches. None if one of them was asked to stop.
///
/// # Errors
/// As [`evaluate`]; [`Error::OtherRank`] where another rank failed.
pub fn evaluate_among<D: Device<Element = f32>>(
    network: &mut Network<D>,
    split: &Split,
    dataset: Option<&DeviceDataset<D>>,
    protocol: Protocol,
    stop: &Stop,
    ranks: &dyn Ranks,
    seen: &mut dyn FnMut(Classified<'_>),
) -> Result<Option<Evaluation>> {
    let (batch, classes) = (network.max_batch(), network.architecture().classes);
    let batches = split.len().div_ceil(batch);
    let numbers = |rank: usize| rank * batches / ranks.size()..(rank + 1) * batches / ranks.size();
    let images = |rank: usize| {
        let Range { start, end } = numbers(rank);
        (start * batch).min(split.len())..(end * batch).min(split.len())
    };
    let mut outcomes = vec![Outcome::default(); split.len()];
    let own = &mut outcomes[images(ranks.rank())];
    let complete = classify(network, (split, dataset), protocol, numbers(ranks.rank()), stop, own, seen);
    // Before the outcomes: a rank that has none would be waited for.
    let flags = match &complete {
        Ok(true) => 0,
        Ok(false) => flag::STOP,
        Err(_) => flag::FAILED,
    };
    let flags = agree(ranks, flags)?;
    if !complete? || flags == flag::STOP {
        return Ok(None);
    }
    if flags != 0 {
        return Err(Error::OtherRank);
    }
    gather(&mut outcomes, images, ranks)?;
    let mut total =
        Evaluation { loss: 0.0, images: split.len(), confusion: vec![vec![0; classes]; classes], within_five: 0 };
    for (&label, outcome) in split.labels().iter().zip(&outcomes) {
        total.loss += outcome.loss;
        total.confusion[label as usize][outcome.class as usize] += 1;
        total.within_five += u64::from(outcome.within_five);
    }
    total.loss /= total.images.max(1) as f64;
    Ok(Some(total))
}

/// Gives every rank the outcomes of all images, of which each has its own.
fn gather(outcomes: &mut [Outcome], images: impl Fn(usize) -> Range<usize>, ranks: &dyn Ranks) -> Result<()> {
    let (mut rest, mut own, mut receives) = (outcomes, &[][..], Vec::new());
    for rank in 0..ranks.size() {
        let (of_rank, others) = rest.split_at_mut(images(rank).len());
        rest = others;
        match rank == ranks.rank() {
            true => own = bytemuck::cast_slice(of_rank),
            false => receives.push((rank, bytemuck::cast_slice_mut(of_rank))),
        }
    }
    let others = (0..ranks.size()).filter(|&rank| rank != ranks.rank());
    let sends: Vec<(usize, &[u8])> = others.map(|rank| (rank, own)).collect();
    Ok(ranks.exchange(&sends, &mut receives)?)
}

/// The outcomes of the batches of these numbers. False if it was asked to stop.
fn classify<D: Device<Element = f32>>(
    network: &mut Network<D>,
    (split, dataset): (&Split, Option<&DeviceDataset<D>>),
    protocol: Protocol,
    numbers: Range<usize>,
    stop: &Stop,
    outcomes: &mut [Outcome],
    seen: &mut dyn FnMut(Classified<'_>),
) -> Result<bool> {
    let Protocol { preprocess, tta, threads } = protocol;
    let (classes, image_size) = (network.architecture().classes, network.architecture().image_size);
    let mut first = numbers.start * network.max_batch();
    // Further views are made of images on the host.
    let on_host = tta != Tta::None;
    let mut batches = BatchSource::evaluate(network, split, dataset, preprocess, threads, on_host, numbers)?;
    let mut logits = vec![0.0; network.max_batch() * classes];
    let (mut scratch, mut outcomes) = (Vec::new(), outcomes.iter_mut());
    loop {
        let count = batches.advance()?;
        if count == 0 {
            return Ok(true);
        }
        if stop.requested() {
            return Ok(false);
        }
        let logits = &mut logits[..count * classes];
        match batches.images() {
            Some(images) => {
                let mut predict = |images: &[f32], to: &mut [f32]| {
                    network.predict(images)?;
                    network.read_logits(to)
                };
                tta.logits(image_size, &mut predict, images, logits, &mut scratch)?;
            }
            None => {
                batches.load(network)?;
                network.infer()?;
                network.read_logits(logits)?;
            }
        }
        let classified = batches.labels().iter().zip(logits.chunks_exact(classes));
        for ((&label, logits), outcome) in classified.zip(&mut outcomes) {
            *outcome = Outcome {
                loss: cross_entropy(logits, label as usize),
                class: first_largest(logits) as u32,
                within_five: u32::from(rank(logits, label as usize) < 5),
            };
        }
        seen(Classified { first, labels: batches.labels(), logits });
        first += count;
    }
}

/// −ln softmax(logits)[label].
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let most = f64::from(logits[first_largest(logits)]);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    most + sum.ln() - f64::from(logits[label])
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    sum / n.max(1) as f64
}

/// How many classes come before `label`, by logit and then by number; all that are not comparable do.
fn rank(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    let behind = |(class, &x): (usize, &f32)| x < own || (x == own && class >= label);
    logits.len() - logits.iter().enumerate().filter(|&other| behind(other)).count()
}

fn first_largest(values: &[f32]) -> usize {
    let mut largest = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[largest] {
            largest = i;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_class_is_the_diagonal_over_the_row() {
        let confusion = vec![vec![3, 1, 0], vec![0, 0, 0], vec![2, 2, 0]];
        let evaluation = Evaluation { loss: 1.0, images: 8, confusion, within_five: 8 };
        assert_eq!(evaluation.per_class(), [Some(0.75), None, Some(0.0)]);
        assert_eq!(evaluation.accuracy(), 0.375);
        assert_eq!(evaluation.pairs(), [(2, 2, 0), (2, 2, 1), (1, 0, 1)]);
    }

    #[test]
    fn balanced_accuracy_and_f1_as_scikit_learn() {
        // sklearn.metrics, y = [0]*10 + [1]*5 + [2]*2 and all but two taken for 0: a 1 taken for 1, a 2 for 3.
        let confusion = vec![vec![10, 0, 0, 0, 0], vec![4, 1, 0, 0, 0], vec![1, 0, 0, 1, 0], vec![0; 5], vec![0; 5]];
        let evaluation = Evaluation { loss: 1.0, images: 17, confusion, within_five: 0 };
        // Recall of the classes that have images: 1, 1/5, 0.
        assert!((evaluation.balanced_accuracy() - 0.4).abs() < 1e-15);
        // F1 of 0: 20/25; of 1: 2/6; of 2 and of 3, which only was predicted: 0. Class 4 is left out.
        assert!((evaluation.macro_f1() - (0.8 + 1.0 / 3.0) / 4.0).abs() < 1e-15);
        assert_eq!(evaluation.top5(), None);
        let none = Evaluation { loss: 0.0, images: 0, confusion: vec![vec![0; 12]; 12], within_five: 0 };
        assert_eq!((none.balanced_accuracy(), none.macro_f1(), none.top5()), (0.0, 0.0, Some(0.0)));
    }

    #[test]
    fn the_rank_of_a_class() {
        let logits = [0.5, 2.0, 0.5, -1.0, 0.5];
        assert_eq!([0, 1, 2, 3, 4].map(|class| rank(&logits, class)), [1, 0, 2, 4, 3]);
        assert_eq!(rank(&[f32::NAN; 7], 3), 7);
        assert_eq!(rank(&[0.0, f32::NAN, 1.0], 2), 1);
    }

    #[test]
    fn a_loss_that_does_not_overflow() {
        assert!((cross_entropy(&[1.0, 2.0, 3.0], 0) - 2.407_605_964_444_38).abs() < 1e-12);
        assert_eq!(cross_entropy(&[1e4, -1e4], 1), 2e4);
        assert!(cross_entropy(&[f32::NAN, 0.0], 1).is_nan());
    }

    #[test]
    fn the_first_of_equals() {
        assert_eq!(first_largest(&[1.0, 2.0, 2.0]), 1);
        assert_eq!(first_largest(&[0.0; 3]), 0);
    }
}
