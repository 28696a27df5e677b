//! What can go wrong with data, each error naming the thing it met and the next step.

use std::path::{Path, PathBuf};

/// A failure while finding, fetching, checking or reading a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused a file or folder.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A folder given as data set holds neither layout.
    #[error("no data set in {path}: {found}", path = path.display())]
    NothingFound {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// One of the official files is absent.
    #[error("{path} is missing", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// An official file is shorter or longer than it must be.
    #[error("{path} has {actual} bytes, expected {expected}{}", truncated(*actual, *expected), path = path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        actual: u64,
        /// The size it must have.
        expected: u64,
    },
    /// An official file has other contents than it must have.
    #[error("{path} has SHA-256 {actual}, expected {expected}", path = path.display())]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// Its SHA-256 in hexadecimal.
        actual: String,
        /// The SHA-256 that it must have.
        expected: String,
    },
    /// A label is no class of the data set.
    #[error("{path}: record {record} has label {label}, expected at most {max}", path = path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        record: usize,
        /// The label found.
        label: u32,
        /// The greatest label there may be.
        max: u32,
    },
    /// An image file does not decode.
    #[error("cannot decode {path}: {reason}", path = path.display())]
    Decode {
        /// The image.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// A class folder without images.
    #[error("class folder {path} has no PNG or JPEG image{}", other_files(*others), path = path.display())]
    EmptyClass {
        /// The folder.
        path: PathBuf,
        /// How many other files it has.
        others: usize,
    },
    /// The test images have other classes than the training images.
    #[error("{train} and {test} have different classes: {difference}", train = train.display(), test = test.display())]
    Classes {
        /// The folder of training images.
        train: PathBuf,
        /// The folder of test images.
        test: PathBuf,
        /// Which class is missing where.
        difference: String,
    },
    /// No source of CIFAR-10 served.
    #[error("CIFAR-10 could not be fetched:{}", list(tried))]
    Fetch {
        /// Each source with the reason why it failed.
        tried: Vec<(String, String)>,
        /// Where the files would have been put.
        cache: PathBuf,
    },
    /// One source of CIFAR-10 did not serve.
    #[error("{0}")]
    Source(String),
    /// There is no folder to keep CIFAR-10 in.
    #[error("the user has no cache folder (HOME is not set)")]
    NoCache,
    /// A setting that makes no sense.
    #[error("{what} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A background thread could not be started or ended unexpectedly.
    #[error("the data loader's thread failed: {0}")]
    Thread(String),
}

/// Shorthand for results of this module.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

impl DataError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| DataError::Io { action, path, source }
    }

    /// Whether data that are there are wrong (and not merely absent or out of reach).
    pub fn is_bad_data(&self) -> bool {
        use DataError::{Classes, Decode, EmptyClass, Label, WrongHash, WrongSize};
        matches!(
            self,
            WrongSize { .. } | WrongHash { .. } | Label { .. } | Decode { .. } | EmptyClass { .. } | Classes { .. }
        )
    }

    /// What to do next, one sentence without a full stop.
    pub fn hint(&self) -> String {
        match self {
            DataError::Io { action: "write" | "create" | "rename", source, .. }
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                "free some disk space (CIFAR-10 needs 700 MB while it is unpacked), or set ALEXNET_DATA to a folder on another disk".into()
            }
            DataError::Io { action: "write" | "create" | "rename" | "lock", .. } => {
                "check the folder's permissions, or set ALEXNET_DATA to a folder that can be written".into()
            }
            DataError::Io { .. } => "check that the path exists and can be read".into(),
            DataError::NothingFound { .. } => {
                "expected data_batch_1.bin … data_batch_5.bin and test_batch.bin, or train/CLASS/*.png|jpg with val/CLASS/*.png|jpg; `--data sample` needs no files".into()
            }
            DataError::Missing { .. } => {
                "run `alexnet data fetch` to get CIFAR-10 into the cache, and use `--data auto`".into()
            }
            DataError::WrongSize { path, .. } | DataError::WrongHash { path, .. } => format!(
                "delete {} and run `alexnet data fetch` to get CIFAR-10 anew, or use `--data auto`",
                file_name(path)
            ),
            DataError::Label { path, .. } => format!(
                "{} is not an official CIFAR-10 file; `alexnet data fetch` gets the official ones",
                file_name(path)
            ),
            DataError::Decode { .. } => "replace the image or move it out of the class folder".into(),
            DataError::EmptyClass { .. } => {
                "put images into the folder or remove it; every folder counts as a class".into()
            }
            DataError::Classes { .. } => "give both folders the same class folders, spelt the same".into(),
            DataError::Fetch { cache, .. } => format!(
                "connect to the network and run `alexnet data fetch`, copy the six official .bin files into {}, or train on the embedded images with `--data sample`",
                cache.display()
            ),
            DataError::Source(_) => "run `alexnet data fetch` again; a partial download is resumed".into(),
            DataError::NoCache => "set ALEXNET_DATA to a folder that can be written".into(),
            DataError::Setting { what, .. } => format!("choose another {what}"),
            DataError::Thread(_) => "lower `--threads`, or close other programs".into(),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn truncated(actual: u64, expected: u64) -> &'static str {
    if actual < expected { ": it is truncated" } else { ": it is too long" }
}

fn other_files(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " (but 1 other file)".into(),
        n => format!(" (but {n} other files)"),
    }
}

fn list(tried: &[(String, String)]) -> String {
    tried.iter().map(|(source, reason)| format!("\n  - {source}: {reason}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_file_size_and_next_step() {
        let error = DataError::WrongSize { path: "/d/data_batch_3.bin".into(), actual: 7, expected: 30_730_000 };
        assert_eq!(error.to_string(), "/d/data_batch_3.bin has 7 bytes, expected 30730000: it is truncated");
        assert!(error.hint().contains("data_batch_3.bin"));
        let error = DataError::EmptyClass { path: "/d/train/cat".into(), others: 2 };
        assert_eq!(error.to_string(), "class folder /d/train/cat has no PNG or JPEG image (but 2 other files)");
    }
}
