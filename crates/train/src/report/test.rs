//! Evaluation of the test images for the report, with the most confident mistakes.

use crate::data::{Fit, Split};
use crate::picture::Picture;
use crate::run::Result;
use crate::run::classifier::{Classifier, softmax, top};
use crate::run::evaluate::Evaluation;

/// Largest side of a picture in the report, in pixels.
const LARGEST_PICTURE: usize = 96;

/// A misclassified test image.
pub struct Mistake {
    /// The true class.
    pub class: usize,
    /// The predicted class.
    pub taken_for: usize,
    /// Probability of the predicted class.
    pub confidence: f64,
    /// Probability of the true class.
    pub own: f64,
    /// The image.
    pub picture: Picture,
}

/// Loss, confusion and mistakes.
pub struct Tested {
    /// Name of the data set.
    pub dataset: String,
    /// What was evaluated: `test images`, `validation images`.
    pub images: String,
    /// The classes' names.
    pub classes: Vec<String>,
    /// Loss and confusion.
    pub evaluation: Evaluation,
    /// The most confident mistakes, in descending order.
    pub mistakes: Vec<Mistake>,
}

/// Evaluates the `images` of `dataset` in `split` and keeps the `most` most confident mistakes.
///
/// # Errors
/// An image cannot be read; the device failed.
pub fn test(
    classifier: &mut Classifier,
    split: &Split,
    images: &str,
    dataset: &str,
    threads: usize,
    most: usize,
) -> Result<Tested> {
    let side = classifier.side();
    let classes = classifier.classes().to_vec();
    // Image, true class, predicted class, and the probabilities of the predicted and the true class.
    let mut wrong: Vec<(usize, usize, usize, f64, f64)> = Vec::new();
    let evaluation = classifier.evaluate(split, threads, &mut |batch| {
        let images = batch.labels.iter().zip(batch.logits.chunks_exact(classes.len()));
        for (index, (&label, logits)) in images.enumerate() {
            let (shares, label) = (softmax(logits), label as usize);
            let (best, confidence) = top(&shares, 1)[0];
            if best != label {
                wrong.push((batch.first + index, label, best, confidence, shares[label]));
            }
        }
        wrong.sort_by(|a, b| b.3.total_cmp(&a.3));
        wrong.truncate(most);
    })?;
    let shown = split.image_size().unwrap_or(side).min(LARGEST_PICTURE);
    // Of files, the part that the network sees.
    let Fit { short, crop } = if split.image_size().is_none() { classifier.fit() } else { shown.into() };
    let fit = Fit { short: short * shown / crop, crop: shown };
    let mut scratch = Vec::new();
    let mut mistakes = Vec::new();
    for (index, class, taken_for, confidence, own) in wrong {
        let picture = Picture::from_rgb(shown, split.image(index, fit, &mut scratch)?);
        mistakes.push(Mistake { class, taken_for, confidence, own, picture });
    }
    Ok(Tested { dataset: dataset.into(), images: images.into(), classes, evaluation, mistakes })
}
