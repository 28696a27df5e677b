//! A data set: classes, training images and test images.

use std::path::PathBuf;

use super::split::Split;

/// Classes, training and test images.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// `cifar10`, `sample`, or the folder's name.
    pub name: String,
    /// Where it came from, for the screen and the metrics.
    pub source: String,
    /// The folder that holds it; `None` for the embedded sample.
    pub path: Option<PathBuf>,
    /// Width and height of the training pictures before any resizing, where they differ the median: see [`extent`].
    ///
    /// [`extent`]: super::extent
    pub extent: Option<[u32; 2]>,
    /// Class names, indexed by label.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Split,
    /// Validation images, taken out of the training images by [`Dataset::hold_out`].
    pub val: Option<Split>,
    /// Test images.
    pub test: Split,
    /// Set if `auto` fell back to the embedded sample: the reason. It was already reported.
    pub warning: Option<String>,
    /// Sixteen hexadecimal digits that differ when the data do; detects a run that is resumed on other data.
    pub fingerprint: String,
}
