//! Loss, accuracy and confusion over a split.

use alexnet_core::{Device, Network};

use super::error::Result;
use super::stop::Stop;
use super::tta::Tta;
use crate::data::{Loader, LoaderOptions, Split};

/// What a network makes of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, without smoothing.
    pub loss: f64,
    /// Images predicted right.
    pub correct: usize,
    /// Images.
    pub images: usize,
    /// How many images of a class (row) were taken for a class (column).
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Share of the images that were predicted right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }

    /// The same for each class; none for a class without images.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let share = |(class, row): (usize, &Vec<u64>)| {
            let images: u64 = row.iter().sum();
            (images > 0).then(|| row[class] as f64 / images as f64)
        };
        self.confusion.iter().enumerate().map(share).collect()
    }
}

/// Runs `network` over `split` in batches as large as it was planned for; an image is classified by its views of `tta`.
/// `progress` gets the images done so far. None if it was asked to stop before the end.
///
/// # Errors
/// An image cannot be read; the network failed.
pub fn evaluate<D: Device<Element = f32>>(
    network: &mut Network<D>,
    split: &Split,
    tta: Tta,
    threads: usize,
    stop: &Stop,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Evaluation>> {
    let (classes, size) = (network.architecture().classes, network.architecture().image);
    let options = LoaderOptions { batch_size: network.batch(), size, threads, ..LoaderOptions::default() };
    let mut logits = vec![0.0; network.batch() * classes];
    let mut scratch = Vec::new();
    let mut loss = 0.0;
    let mut total = Evaluation { loss: 0.0, correct: 0, images: 0, confusion: vec![vec![0; classes]; classes] };
    for batch in Loader::new(split, options)? {
        if stop.requested() {
            return Ok(None);
        }
        let batch = batch?;
        let logits = &mut logits[..batch.count * classes];
        if tta != Tta::None {
            tta.logits(network, batch.images(), logits, &mut scratch)?;
            for (&label, logits) in batch.labels().iter().zip(logits.chunks_exact(classes)) {
                loss += cross_entropy(logits, label as usize);
                total.correct += usize::from(first_largest(logits) == label as usize);
            }
        } else {
            let result = network.evaluate(batch.images(), batch.labels(), 0.0)?;
            loss += result.loss;
            total.correct += result.correct;
            network.read_logits(logits)?;
        }
        total.images += batch.count;
        for (&label, logits) in batch.labels().iter().zip(logits.chunks_exact(classes)) {
            total.confusion[label as usize][first_largest(logits)] += 1;
        }
        progress(total.images);
    }
    total.loss = loss / total.images.max(1) as f64;
    Ok(Some(total))
}

/// −ln softmax(logits)[label].
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let most = f64::from(logits[first_largest(logits)]);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    most + sum.ln() - f64::from(logits[label])
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
        let evaluation = Evaluation { loss: 1.0, correct: 3, images: 8, confusion };
        assert_eq!(evaluation.per_class(), [Some(0.75), None, Some(0.0)]);
        assert_eq!(evaluation.accuracy(), 0.375);
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
