//! Data sets in the formats in which they are downloaded, found by the names of their files.
//!
//! | data set | looked for in the folder, or in its | files |
//! |---|---|---|
//! | CIFAR-10, python version | `cifar-10-batches-py` | `data_batch_1` … `data_batch_5`, `test_batch` |
//! | CIFAR-100, python version | `cifar-100-python` | `train`, `test`, `meta` |
//! | CIFAR-100, binary version | `cifar-100-binary` | `train.bin`, `test.bin`, `fine_label_names.txt` |
//! | MNIST and those like it | `raw`, `MNIST/raw` … | `train-images-idx3-ubyte` … , also `.gz` |
//! | STL-10 | `stl10_binary` | `train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin` |
//! | Kaggle competitions | | `trainLabels.csv` and `train/` |
//!
//! The binary version of CIFAR-10 is the [manifest](super::manifest)'s. The images go into memory at their own size, and
//! the loader resizes them; those of a list of labels stay files.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::dataset::Dataset;
use super::error::{DataError, Result};
use super::options::Options;
use super::split::Split;
use crate::hex::hex;
use crate::run::memory;

mod cifar100;
mod idx;
mod label_list;
mod python;
mod stl10;

/// Opens the data set in `path` or in its usual subfolder; `None` if there is none of these formats.
///
/// # Errors
/// A file that belongs to the data set is missing, of the wrong size, or malformed.
pub fn open(path: &Path, options: &Options) -> Result<Option<Dataset>> {
    let within = |name: &str| [path.to_owned(), path.join(name)];
    let with = |folders: [PathBuf; 2], file: &str| folders.into_iter().find(|folder| folder.join(file).is_file());
    if let Some(folder) = with(within("cifar-10-batches-py"), "data_batch_1") {
        return python::cifar10(&folder).map(Some);
    }
    if let Some(folder) = with(within("cifar-100-python"), "meta").filter(|folder| folder.join("train").is_file()) {
        return python::cifar100(&folder).map(Some);
    }
    if let Some(folder) = with(within("cifar-100-binary"), "fine_label_names.txt") {
        return cifar100::open(&folder).map(Some);
    }
    if let Some(folder) = with(within("stl10_binary"), "train_X.bin") {
        return stl10::open(&folder).map(Some);
    }
    if let Some(found) = idx::find(path)? {
        return idx::open(&found).map(Some);
    }
    label_list::open(path, options)
}

/// A data set in memory, with a fingerprint of its bytes.
fn in_memory(name: &str, folder: &Path, classes: Vec<String>, train: Split, test: Split) -> Dataset {
    let mut hash = Sha256::new();
    classes.iter().for_each(|class| hash.update(format!("{class}\n")));
    for split in [&train, &test] {
        split.labels().iter().for_each(|label| hash.update(label.to_le_bytes()));
        hash.update(split.pixels().unwrap_or_default());
    }
    Dataset {
        name: name.into(),
        source: format!("folder {}", folder.display()),
        path: Some(folder.into()),
        extent: None,
        classes,
        train,
        val: None,
        test,
        warning: None,
        fingerprint: hex(&hash.finalize())[..16].to_string(),
    }
}

/// Reads a file that the data set needs, of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing { path: path.into() },
        _ => DataError::io("read", path)(error),
    })?;
    if metadata.len() > most {
        return Err(malformed(path, format!("it has {} bytes, more than the {most} of such a file", metadata.len())));
    }
    // The file, and the images made of it.
    let claimed = memory::claim(2 * metadata.len());
    claimed.and_then(|()| std::fs::read(path)).map_err(DataError::io("read", path))
}

fn malformed(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Malformed { path: path.into(), reason: reason.into() }
}

/// The names in a text file, one per line.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = read(path, 1 << 20)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
}

/// Checks that each label is that of a class.
fn check(path: &Path, labels: &[u32], classes: usize) -> Result<()> {
    let max = classes.saturating_sub(1) as u32;
    match labels.iter().position(|&label| label > max) {
        Some(record) => Err(DataError::Label { path: path.into(), record, label: labels[record], max }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
