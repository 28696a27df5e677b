//! CIFAR-10 in its official binary layout.
//!
//! Six files of 10,000 records. A record is one label byte, then 1024 red, 1024 green and 1024 blue bytes, row by row
//! (CHW). In memory images are NHWC.

use std::path::Path;

use super::error::{DataError, Result};
use super::split::Split;

/// Height and width of an image.
pub const SIZE: usize = 32;
/// Bytes of an image.
pub const IMAGE: usize = SIZE * SIZE * 3;
/// Bytes of a record: label and image.
pub const RECORD: usize = 1 + IMAGE;

/// Class names, indexed by label.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Turns files of records into a split in memory; `paths` are for messages.
///
/// # Errors
/// A file with an incomplete record, or a label above 9.
pub fn split<B: AsRef<[u8]>, P: AsRef<Path>>(files: &[B], paths: &[P]) -> Result<Split> {
    let records: usize = files.iter().map(|file| file.as_ref().len() / RECORD).sum();
    let mut pixels = vec![0; records * IMAGE];
    let mut labels = Vec::with_capacity(records);
    let mut images = pixels.chunks_exact_mut(IMAGE);
    for (file, path) in files.iter().zip(paths) {
        let (file, path) = (file.as_ref(), path.as_ref());
        if !file.len().is_multiple_of(RECORD) {
            return Err(DataError::WrongSize {
                path: path.into(),
                actual: file.len() as u64,
                expected: (file.len().div_ceil(RECORD) * RECORD) as u64,
            });
        }
        check_labels(path, file)?;
        for (record, image) in file.chunks_exact(RECORD).zip(&mut images) {
            labels.push(u32::from(record[0]));
            planes_to_pixels(&record[1..], image);
        }
    }
    Ok(Split::in_memory(pixels, SIZE, labels))
}

/// Refuses labels above 9.
pub(super) fn check_labels(path: &Path, bytes: &[u8]) -> Result<()> {
    for (record, bytes) in bytes.chunks_exact(RECORD).enumerate() {
        if usize::from(bytes[0]) >= CLASSES.len() {
            return Err(DataError::Label {
                path: path.into(),
                record,
                label: bytes[0].into(),
                max: CLASSES.len() as u32 - 1,
            });
        }
    }
    Ok(())
}

/// CHW to HWC.
pub(super) fn planes_to_pixels(planes: &[u8], pixels: &mut [u8]) {
    let area = pixels.len() / 3;
    let (red, rest) = planes.split_at(area);
    let (green, blue) = rest.split_at(area);
    for (pixel, ((r, g), b)) in pixels.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
        pixel.copy_from_slice(&[*r, *g, *b]);
    }
}

/// Appends a record in the official layout, from the pixels of an image in HWC.
///
/// # Panics
/// If `pixels` does not have [`IMAGE`] bytes.
pub fn push_record(records: &mut Vec<u8>, label: u8, pixels: &[u8]) {
    assert_eq!(pixels.len(), IMAGE);
    records.push(label);
    for channel in 0..3 {
        records.extend(pixels.chunks_exact(3).map(|pixel| pixel[channel]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_between_layouts() {
        let pixels: Vec<u8> = (0..IMAGE).map(|i| (i * 7 % 251) as u8).collect();
        let mut record = Vec::new();
        push_record(&mut record, 3, &pixels);
        assert_eq!(record.len(), RECORD);
        // The second pixel of the first row: planes are 1024 apart.
        assert_eq!([record[2], record[2 + 1024], record[2 + 2048]], pixels[3..6]);
        let split = split(&[&record], &["one"]).unwrap();
        assert_eq!(split.labels(), [3]);
        assert_eq!(split.pixels().unwrap(), pixels);
    }

    #[test]
    fn half_a_record_is_an_error() {
        let error = split(&[vec![0; RECORD + 5]], &["x.bin"]).unwrap_err();
        assert!(matches!(error, DataError::WrongSize { actual: 3078, expected: 6146, .. }), "{error}");
    }
}
