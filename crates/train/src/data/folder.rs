//! Folders of images: `train/` and `val/` (or `test/`), each with one folder of PNG or JPEG images per class.
//!
//! Classes are the folders' names in byte order, as torchvision's `ImageFolder` numbers them; images are in byte
//! order of their names within their class. Hidden entries and files of other kinds are skipped.
//!
//! **Memory.** If all resized images fit [`Options::memory`](super::Options::memory) (512 MiB by default) they are
//! decoded at once. For larger folders only the names are kept, about 60 bytes per image (80 MB for ImageNet's 1.3
//! million); the loader decodes each image when it makes its batch, on all cores, within
//! [`LoaderOptions::memory`](super::LoaderOptions::memory).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::dataset::Dataset;
use super::error::{DataError, Result};
use super::extent;
use super::preprocess::Fit;
use super::split::Split;
use crate::hex::hex;

/// Whether `path` looks like folders of images.
pub fn is_one(path: &Path) -> bool {
    path.join("train").is_dir()
}

/// Opens the folders below `path`; decodes all images at once if they take at most `memory` bytes.
///
/// # Errors
/// See [`DataError`]: nothing found, an empty class, different classes in the two folders, an image that cannot be decoded.
pub fn open(path: &Path, fit: Fit, memory: u64, originals: bool) -> Result<Dataset> {
    let train_path = path.join("train");
    if !train_path.is_dir() {
        return Err(DataError::NothingFound { path: path.into(), found: describe(path)? });
    }
    let test_path =
        ["val", "test"].map(|name| path.join(name)).into_iter().find(|path| path.is_dir()).ok_or_else(|| {
            DataError::NothingFound { path: path.into(), found: "there is train, but neither val nor test".into() }
        })?;
    let (classes, train) = scan(&train_path)?;
    let (test_classes, test) = scan(&test_path)?;
    if classes != test_classes {
        let difference = difference(&classes, &test_classes, &train_path, &test_path);
        return Err(DataError::Classes { train: train_path, test: test_path, difference });
    }
    let fingerprint = fingerprint(&classes, [&train, &test]);
    let bytes = (train.len() + test.len()) as u64 * (fit.crop * fit.crop * 3) as u64;
    let extent = extent::typical(&train);
    let keep = |split: Split, as_file: bool| if as_file { Ok(split) } else { split.into_memory(fit) };
    let (train, test) = (keep(train, originals || bytes > memory)?, keep(test, bytes > memory)?);
    let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Ok(Dataset {
        name: name.unwrap_or_else(|| path.display().to_string()),
        source: format!("folder {}", path.display()),
        path: Some(path.into()),
        extent,
        classes,
        train,
        test,
        val: None,
        warning: None,
        fingerprint,
    })
}

/// The classes below `path` and their images.
fn scan(path: &Path) -> Result<(Vec<String>, Split)> {
    let folders: Vec<PathBuf> = entries(path)?.into_iter().filter(|path| path.is_dir()).collect();
    if folders.is_empty() {
        return Err(DataError::NothingFound { path: path.into(), found: "it has no class folders".into() });
    }
    let mut names: Vec<Box<OsStr>> = Vec::new();
    let mut labels = Vec::new();
    for (label, folder) in folders.iter().enumerate() {
        let (images, others): (Vec<PathBuf>, Vec<PathBuf>) =
            entries(folder)?.into_iter().partition(|path| is_image(path));
        if images.is_empty() {
            return Err(DataError::EmptyClass { path: folder.clone(), others: others.len() });
        }
        labels.extend(std::iter::repeat_n(label as u32, images.len()));
        names.extend(images.iter().filter_map(|path| path.file_name()).map(Box::from));
    }
    let classes =
        folders.iter().map(|folder| folder.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    Ok((classes, Split::in_files(folders, names, labels)))
}

/// The entries of `path` in byte order, without hidden ones.
pub(crate) fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io("read", path))? {
        let entry = entry.map_err(DataError::io("read", path))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    fn bytes(path: &Path) -> &[u8] {
        path.file_name().unwrap_or_default().as_encoded_bytes()
    }
    entries.sort_by(|a, b| bytes(a).cmp(bytes(b)));
    Ok(entries)
}

pub(crate) fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg") && !path.is_dir()
}

fn difference(train: &[String], test: &[String], train_path: &Path, test_path: &Path) -> String {
    let only = |here: &[String], there: &[String], path: &Path| {
        let mut names: Vec<&str> = here.iter().filter(|name| !there.contains(name)).map(String::as_str).collect();
        let more = names.len().saturating_sub(5);
        names.truncate(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!names.is_empty()).then(|| format!("only {} has {}{more}", path.display(), names.join(", ")))
    };
    [only(train, test, train_path), only(test, train, test_path)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn describe(path: &Path) -> Result<String> {
    let names: Vec<String> =
        entries(path)?.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    Ok(match names.len() {
        0 => "it is empty".into(),
        1..=6 => format!("it has {}", names.join(", ")),
        n => format!("it has {} and {} more", names[..5].join(", "), n - 5),
    })
}

/// Hash of the classes and of each image's label and name, not of the pixels.
fn fingerprint(classes: &[String], splits: [&Split; 2]) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    classes.iter().for_each(|class| add(class.as_bytes()));
    for split in splits {
        add(&(split.len() as u64).to_le_bytes());
        for (index, label) in split.labels().iter().enumerate() {
            add(&label.to_le_bytes());
            let file = split.file(index).unwrap_or_default();
            add(file.file_name().unwrap_or_default().as_encoded_bytes());
        }
    }
    hex(&hash.finalize())[..16].to_string()
}
