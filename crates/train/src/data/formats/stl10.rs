//! STL-10, binary version: 96×96 images as planes in column order, labels from 1.

use std::path::Path;

use super::{check, in_memory, lines, malformed, read};
use crate::data::dataset::Dataset;
use crate::data::error::{DataError, Result};
use crate::data::split::Split;

const SIDE: usize = 96;
const IMAGE: usize = 3 * SIDE * SIDE;
/// Larger than the 8,000 test images.
const MOST: u64 = 1 << 30;
/// In the order of their labels.
const CLASSES: [&str; 10] = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Opens the labelled images; those without labels are not read.
pub(super) fn open(folder: &Path) -> Result<Dataset> {
    let names = folder.join("class_names.txt");
    let classes = if names.is_file() { lines(&names)? } else { CLASSES.map(String::from).to_vec() };
    let [train, test] = ["train", "test"].map(|name| split(folder, name, classes.len()));
    Ok(in_memory("stl10", folder, classes, train?, test?))
}

fn split(folder: &Path, name: &str, classes: usize) -> Result<Split> {
    let [images, labels] = ["X", "y"].map(|part| folder.join(format!("{name}_{part}.bin")));
    let (planes, label_path) = (read(&images, MOST)?, labels);
    let labels = read(&label_path, MOST)?;
    if planes.len() != labels.len() * IMAGE || labels.is_empty() {
        let expected = (labels.len().max(1) * IMAGE) as u64;
        return Err(DataError::WrongSize { path: images, actual: planes.len() as u64, expected });
    }
    if labels.contains(&0) {
        return Err(malformed(&label_path, "it has the label 0; they begin at 1"));
    }
    let labels: Vec<u32> = labels.into_iter().map(|label| u32::from(label) - 1).collect();
    check(&label_path, &labels, classes)?;
    let mut pixels = vec![0; planes.len()];
    for (planes, image) in planes.chunks_exact(IMAGE).zip(pixels.chunks_exact_mut(IMAGE)) {
        for (at, pixel) in image.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (y, x) = (at / SIDE, at % SIDE);
            *pixel = [0, 1, 2].map(|channel| planes[(channel * SIDE + x) * SIDE + y]);
        }
    }
    Ok(Split::in_memory(pixels, SIDE, labels))
}
