//! 1000 training and 250 test images of CIFAR-10 inside the binary: everything runs offline, and tests are the same on
//! every machine.
//!
//! `sample.bin` is in CIFAR-10's official layout, training images first: per class the first 100 images of the
//! official training files and the first 25 of the test file, in the files' order.
//! `cargo run --release --example make_sample` makes it again.

use sha2::{Digest, Sha256};

use super::cifar::{self, CLASSES, RECORD};
use super::dataset::Dataset;
use super::error::Result;
use super::split::Split;
use crate::hex::hex;

/// Training images, 100 per class.
pub const TRAIN: usize = 1000;
/// Test images, 25 per class.
pub const TEST: usize = 250;

static RECORDS: &[u8; (TRAIN + TEST) * RECORD] = include_bytes!("sample.bin");

/// Opens the embedded images.
///
/// # Errors
/// Only if `sample.bin` was damaged before the build.
pub fn open() -> Result<Dataset> {
    let (train, test) = RECORDS.split_at(TRAIN * RECORD);
    Ok(Dataset {
        name: "sample".into(),
        source: format!("embedded sample of CIFAR-10 ({TRAIN} training and {TEST} test images)"),
        path: None,
        extent: None,
        classes: CLASSES.map(String::from).to_vec(),
        train: cifar::split(&[train], &["sample.bin"])?,
        test: cifar::split(&[test], &["sample.bin"])?,
        val: None,
        warning: None,
        fingerprint: hex(&Sha256::digest(RECORDS))[..16].to_string(),
    })
}

/// The records of the first `per_class` images of each class, in order.
pub fn choose(split: &Split, per_class: usize) -> Vec<u8> {
    let mut left = [per_class; CLASSES.len()];
    let mut records = Vec::with_capacity(per_class * CLASSES.len() * RECORD);
    let mut scratch = Vec::new();
    for (index, &label) in split.labels().iter().enumerate() {
        if left[label as usize] > 0 {
            left[label as usize] -= 1;
            if let Ok(pixels) = split.image(index, cifar::SIZE, &mut scratch) {
                cifar::push_record(&mut records, label as u8, pixels);
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_balanced_and_the_real_one() {
        let sample = open().unwrap();
        assert_eq!(sample.train.counts(10), [100; 10]);
        assert_eq!(sample.test.counts(10), [25; 10]);
        // The official files begin with these labels.
        assert_eq!(sample.train.labels()[..10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
        assert_eq!(sample.test.labels()[..5], [3, 8, 8, 0, 6]);
        assert_eq!(hex(&Sha256::digest(RECORDS)), "4ef15847b4a50ad497e5a9d0f330cf978981e3a1a3ddd3b1d60417fbb4c65c30");
        // The first pixel of the first training image, a frog.
        assert_eq!(sample.train.pixels().unwrap()[..3], [59, 62, 63]);
    }

    #[test]
    fn choosing_again_keeps_all() {
        let sample = open().unwrap();
        assert_eq!(choose(&sample.train, 100), RECORDS[..TRAIN * RECORD]);
        assert_eq!(choose(&sample.test, 1).len(), 10 * RECORD);
    }
}
