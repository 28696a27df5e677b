//! What a network makes of the test images, and where it errs.

use crate::data::{Dataset, Loader, LoaderOptions};
use crate::picture::Picture;
use crate::run::Result;
use crate::run::classifier::{Classifier, top};

/// The largest side of a picture in the report.
const LARGEST_PICTURE: usize = 96;

/// A test image that was taken for something else.
pub struct Mistake {
    /// What it is.
    pub class: usize,
    /// What it was taken for.
    pub taken_for: usize,
    /// The probability of that.
    pub confidence: f64,
    /// The probability of what it is.
    pub own: f64,
    /// It.
    pub picture: Picture,
}

/// Loss, confusion and mistakes.
pub struct Tested {
    /// Name of the data set.
    pub dataset: String,
    /// The classes' names.
    pub classes: Vec<String>,
    /// Images.
    pub images: usize,
    /// Mean cross-entropy.
    pub loss: f64,
    /// How many images of a class (row) were taken for a class (column).
    pub confusion: Vec<Vec<u64>>,
    /// The surest mistakes, the surest first.
    pub mistakes: Vec<Mistake>,
}

impl Tested {
    /// Share of the images that were predicted right.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
        right as f64 / self.images.max(1) as f64
    }
}

/// Runs over the test images, and keeps the `most` surest mistakes.
///
/// # Errors
/// An image cannot be read; the device failed.
pub fn test(classifier: &mut Classifier, dataset: &Dataset, threads: usize, most: usize) -> Result<Tested> {
    let classes = classifier.classes().len();
    let (side, split) = (classifier.side(), &dataset.test);
    let batch_size = classifier.network().batch();
    let options = LoaderOptions { batch_size, size: side, threads, ..LoaderOptions::default() };
    let mut confusion = vec![vec![0; classes]; classes];
    let (mut loss, mut images) = (0.0, 0);
    // Image, what it is, what it was taken for, how surely, and the probability of what it is.
    let mut wrong: Vec<(usize, usize, usize, f64, f64)> = Vec::new();
    for batch in Loader::new(split, options)? {
        let batch = batch?;
        for (&label, shares) in batch.labels().iter().zip(classifier.classify_normalised(batch.images())?) {
            let label = label as usize;
            let (best, confidence) = top(&shares, 1)[0];
            loss -= shares[label].max(f64::MIN_POSITIVE).ln();
            confusion[label][best] += 1;
            if best != label {
                wrong.push((images, label, best, confidence, shares[label]));
            }
            images += 1;
        }
        wrong.sort_by(|a, b| b.3.total_cmp(&a.3));
        wrong.truncate(most);
    }
    let shown = split.size().unwrap_or(side).min(LARGEST_PICTURE);
    let mut scratch = Vec::new();
    let mut mistakes = Vec::new();
    for (index, class, taken_for, confidence, own) in wrong {
        let picture = Picture::from_rgb(shown, split.image(index, shown, &mut scratch)?);
        mistakes.push(Mistake { class, taken_for, confidence, own, picture });
    }
    let (dataset, classes) = (dataset.name.clone(), classifier.classes().to_vec());
    Ok(Tested { dataset, classes, images, loss: loss / images.max(1) as f64, confusion, mistakes })
}
