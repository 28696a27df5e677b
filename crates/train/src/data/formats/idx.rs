//! idx files: MNIST, Fashion-MNIST, KMNIST and others in its format. Grey is repeated to three channels.
//!
//! A file is two zeros, the type of its elements (8: bytes), the number of dimensions, each dimension as a big-endian
//! number of 4 bytes, and the elements. Files may be compressed by gzip.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{check, in_memory, malformed};
use crate::data::dataset::Dataset;
use crate::data::error::{DataError, Result};
use crate::data::split::Split;
use crate::run::memory;

/// Largest file, uncompressed.
const MOST: u64 = 1 << 30;
/// Bytes that a byte of gzip stands for at the most.
const RATIO: u64 = 1100;
/// Subfolders in which the files lie: torchvision's, and those of unpacked downloads.
const FOLDERS: [&str; 11] = [
    "raw",
    "MNIST/raw",
    "FashionMNIST/raw",
    "KMNIST/raw",
    "mnist/raw",
    "MNIST",
    "mnist",
    "FashionMNIST",
    "fashion-mnist",
    "KMNIST",
    "kmnist",
];
const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
const KUZUSHIJI: [&str; 10] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];

/// The folder of idx files in `path`, or below it in one of the usual subfolders.
///
/// # Errors
/// There are several.
pub(super) fn find(path: &Path) -> Result<Option<PathBuf>> {
    let has = |folder: &PathBuf| file(folder, "train-images-idx3-ubyte").is_some();
    if has(&path.to_owned()) {
        return Ok(Some(path.into()));
    }
    let mut found: Vec<PathBuf> = FOLDERS.map(|name| path.join(name)).into_iter().filter(has).collect();
    // Where names do not tell cases apart, a folder is found twice.
    found.dedup_by_key(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()));
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|folder| folder.display().to_string()).collect();
        let found = format!("it has several: give one of {}", names.join(", "));
        return Err(DataError::NothingFound { path: path.into(), found });
    }
    Ok(found.pop())
}

/// The file of this name, with a point for the hyphen before `idx`, or compressed.
fn file(folder: &Path, name: &str) -> Option<PathBuf> {
    let other = name.replace("-idx", ".idx");
    [name.to_owned(), other.clone(), format!("{name}.gz"), format!("{other}.gz")]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

/// Opens the four files of a folder.
pub(super) fn open(folder: &Path) -> Result<Dataset> {
    let (train, most) = split(folder, "train")?;
    let (test, test_most) = split(folder, "t10k")?;
    let path = folder.to_string_lossy().to_lowercase();
    let (name, classes) = if path.contains("fashion") {
        ("fashion-mnist", FASHION.map(String::from).to_vec())
    } else if path.contains("kmnist") || path.contains("kuzushiji") {
        ("kmnist", KUZUSHIJI.map(String::from).to_vec())
    } else {
        ("mnist", (0..=most.max(test_most).max(9)).map(|class| class.to_string()).collect())
    };
    for (split, name) in [(&train, "train"), (&test, "t10k")] {
        check(&folder.join(format!("{name}-labels-idx1-ubyte")), split.labels(), classes.len())?;
    }
    Ok(in_memory(name, folder, classes, train, test))
}

/// Images and their labels, and the largest label.
fn split(folder: &Path, name: &str) -> Result<(Split, u32)> {
    let path = |kind: &str| {
        let name = format!("{name}-{kind}-ubyte");
        file(folder, &name).ok_or_else(|| DataError::Missing { path: folder.join(name) })
    };
    let (images_path, labels_path) = (path("images-idx3")?, path("labels-idx1")?);
    let (sides, images) = elements(&images_path)?;
    let (counts, labels) = elements(&labels_path)?;
    let ([count, height, width], [labelled]) = (sides.as_slice(), counts.as_slice()) else {
        let path = if sides.len() == 3 { labels_path } else { images_path };
        return Err(malformed(&path, "expected 3 dimensions of images and 1 of labels"));
    };
    if height != width || *height == 0 || *count == 0 {
        return Err(malformed(&images_path, format!("it has {count} images of {height}×{width}, expected squares")));
    }
    if count != labelled {
        return Err(malformed(&labels_path, format!("it has {labelled} labels for {count} images")));
    }
    let most = labels.iter().copied().max().unwrap_or(0).into();
    let pixels = images.iter().flat_map(|&grey| [grey; 3]).collect();
    Ok((Split::in_memory(pixels, *height, labels.into_iter().map(u32::from).collect()), most))
}

/// The dimensions and bytes of a file.
fn elements(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let len = std::fs::metadata(path).map_err(DataError::io("read", path))?.len();
    let file = std::fs::File::open(path).map_err(DataError::io("read", path))?;
    let compressed = path.extension().is_some_and(|extension| extension == "gz");
    let (mut reader, most): (Box<dyn Read>, u64) = match compressed {
        true => (Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file))), len.saturating_mul(RATIO)),
        false => (Box::new(file), len),
    };
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => malformed(path, "it is cut short"),
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => malformed(path, error.to_string()),
        _ => DataError::io("read", path)(error),
    };
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(fail)?;
    let [0, 0, 8, dimensions @ 1..=4] = magic else {
        return Err(malformed(path, "it is no idx file of bytes"));
    };
    let mut sides = Vec::new();
    for _ in 0..dimensions {
        let mut side = [0; 4];
        reader.read_exact(&mut side).map_err(fail)?;
        sides.push(u32::from_be_bytes(side) as usize);
    }
    let expected = sides.iter().try_fold(1_u64, |len, &side| len.checked_mul(side as u64)).unwrap_or(u64::MAX);
    if expected > most.min(MOST) {
        return Err(malformed(path, format!("it declares {sides:?} elements, too many for a file of {len} bytes")));
    }
    let mut bytes = Vec::new();
    memory::claim(2 * expected).map_err(DataError::io("read", path))?;
    reader.take(expected + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 != expected {
        let found = if (bytes.len() as u64) < expected { "fewer" } else { "more" };
        return Err(malformed(path, format!("it declares {expected} elements and has {found}")));
    }
    Ok((sides, bytes))
}
