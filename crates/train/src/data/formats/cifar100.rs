//! CIFAR-100, binary version: records of a coarse label, a fine label and an image as CIFAR-10's.

use std::path::Path;

use super::{check, in_memory, lines, read};
use crate::data::cifar::{IMAGE, SIZE, planes_to_pixels};
use crate::data::dataset::Dataset;
use crate::data::error::{DataError, Result};
use crate::data::split::Split;

const RECORD: usize = 2 + IMAGE;
/// Larger than the official file of 50,000 records.
const MOST: u64 = 1 << 30;

/// Opens `train.bin` and `test.bin` with the fine labels.
pub(super) fn open(folder: &Path) -> Result<Dataset> {
    let classes = lines(&folder.join("fine_label_names.txt"))?;
    let [train, test] = ["train.bin", "test.bin"].map(|name| split(&folder.join(name), classes.len()));
    Ok(in_memory("cifar100", folder, classes, train?, test?))
}

fn split(path: &Path, classes: usize) -> Result<Split> {
    let file = read(path, MOST)?;
    if !file.len().is_multiple_of(RECORD) || file.is_empty() {
        let expected = (file.len().div_ceil(RECORD).max(1) * RECORD) as u64;
        return Err(DataError::WrongSize { path: path.into(), actual: file.len() as u64, expected });
    }
    let mut pixels = vec![0; file.len() / RECORD * IMAGE];
    let mut labels = Vec::with_capacity(file.len() / RECORD);
    for (record, image) in file.chunks_exact(RECORD).zip(pixels.chunks_exact_mut(IMAGE)) {
        labels.push(u32::from(record[1]));
        planes_to_pixels(&record[2..], image);
    }
    check(path, &labels, classes)?;
    Ok(Split::in_memory(pixels, SIZE, labels))
}
