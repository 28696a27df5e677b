//! Errors of data sets. Each names the file it is about; what to do next is added by `cli/hint.rs`.

use std::path::{Path, PathBuf};

use super::dataset::Role;
use super::passed_over::PassedOver;
use crate::FileError;
use crate::file_kind::FileKind;
use crate::run::summary::count;

/// An error while finding, downloading, checking or reading a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused a file or folder.
    #[error(transparent)]
    Io(#[from] FileError),
    /// A folder holds neither the official files nor folders of images.
    #[error("no data set in {path}: {found}", path = path.display())]
    NothingFound {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// `--data` is the name of no data set, and there is no such folder.
    #[error("there is no data set `{name}`, and no folder of this name{}", near(name))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// `--data` is a file.
    #[error("{path} is {kind}, expected a folder", path = path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
        /// What kind of file it is.
        kind: FileKind,
    },
    /// A file of a data set is not as its format says.
    #[error("{path} is malformed: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One of the official files is absent.
    #[error("{path} is missing", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// An official file has the wrong size.
    #[error("{path} has {actual} bytes, expected {expected}{}", truncated(*actual, *expected), path = path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        actual: u64,
        /// The expected size.
        expected: u64,
    },
    /// An official file has the wrong contents.
    #[error("{path} has SHA-256 {actual}, expected {expected}", path = path.display())]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// Its SHA-256 in hexadecimal.
        actual: String,
        /// The expected SHA-256.
        expected: String,
    },
    /// A label is not a class of the data set.
    #[error("{path}: record {record} has label {label}, expected at most {max}", path = path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// Index of the record.
        record: usize,
        /// The label found.
        label: u32,
        /// The largest valid label.
        max: u32,
    },
    /// An image file cannot be decoded.
    #[error("cannot decode {path}: {reason}", path = path.display())]
    Decode {
        /// The image.
        path: PathBuf,
        /// The decoder's message.
        reason: String,
    },
    /// All pictures of a class, or of a split, are broken.
    #[error("every picture in {path} is broken", path = path.display())]
    AllBroken {
        /// The folder.
        path: PathBuf,
    },
    /// A class folder has no images.
    #[error("class folder {path} has no picture{}", other_files(others), path = path.display())]
    EmptyClass {
        /// The folder.
        path: PathBuf,
        /// The other files.
        others: PassedOver,
    },
    /// Two folders have names of the same role.
    #[error("{first} and {second} are both {role} folders", first = first.display(), second = second.display())]
    TwoFolders {
        /// What both are for.
        role: Role,
        /// One folder.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// There are no images of the role asked for.
    #[error("{path} has no {role} pictures: {found}", path = path.display())]
    NoSplit {
        /// The folder.
        path: PathBuf,
        /// The role.
        role: Role,
        /// What is there instead.
        found: String,
    },
    /// Pictures of a split are not in class folders.
    #[error("{path} has {}, but no class folders", count(*pictures, "picture"), path = path.display())]
    NoClasses {
        /// The folder.
        path: PathBuf,
        /// Pictures in it.
        pictures: usize,
    },
    /// A line of a list of pictures and classes cannot be used.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    Annotation {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Training images and others have different classes.
    #[error("{train} and {test} have different classes: {difference}", train = train.display(), test = test.display())]
    Classes {
        /// The folder of training images.
        train: PathBuf,
        /// The folder of the other images.
        test: PathBuf,
        /// Which class is in which folder only.
        difference: String,
    },
    /// Every source of CIFAR-10 failed.
    #[error("CIFAR-10 could not be downloaded:{}", list(tried))]
    Fetch {
        /// Each source with the reason why it failed.
        tried: Vec<(String, String)>,
        /// The folder that the files belong in.
        cache: PathBuf,
    },
    /// One source of CIFAR-10 failed.
    #[error("{0}")]
    Source(String),
    /// There is no folder to keep CIFAR-10 in.
    #[error("no cache folder: HOME is not set")]
    NoCache,
    /// A setting has a value that is not allowed.
    #[error("{what} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A background thread could not be started, or ended unexpectedly.
    #[error("the data loader's thread failed: {0}")]
    Thread(String),
}

/// Shorthand for results of this module.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

impl DataError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let failed = FileError::on(action, path);
        move |source| failed(source).into()
    }

    /// Whether there is too little memory for the data.
    pub(super) fn lacks_memory(&self) -> bool {
        matches!(self, DataError::Io(error) if error.source.kind() == std::io::ErrorKind::OutOfMemory)
    }

    /// Whether data exist and are wrong, as opposed to missing or unreachable.
    pub fn is_bad_data(&self) -> bool {
        use DataError::{
            AllBroken, Annotation, Classes, Decode, EmptyClass, Label, Malformed, NoClasses, TwoFolders, WrongHash,
            WrongSize,
        };
        matches!(self, WrongSize { .. } | WrongHash { .. } | Label { .. } | Decode { .. } | EmptyClass { .. })
            || matches!(self, Classes { .. } | TwoFolders { .. } | NoClasses { .. } | Annotation { .. })
            || matches!(self, AllBroken { .. } | Malformed { .. })
    }
}

/// The name that was probably meant, or what is known of a data set that is not downloaded.
fn near(name: &str) -> &'static str {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    match plain.as_str() {
        "cifar" | "cifar10" | "cifar10python" | "cifar10binary" => "; did you mean cifar10?",
        "sample" | "samples" | "demo" | "test" => "; did you mean sample?",
        "auto" | "default" => "; did you mean auto?",
        "cifar100" | "mnist" | "fashionmnist" | "kmnist" | "emnist" | "stl10" => {
            "; it is read from a folder of its files, but not downloaded"
        }
        "svhn" | "imagenet" | "imagenet1k" | "ilsvrc2012" | "tinyimagenet" | "tinyimagenet200" | "imagenette"
        | "caltech101" | "flowers102" | "food101" | "oxfordpets" | "catsanddogs" | "dogsvscats" => {
            "; it is not downloaded: give a folder with train/CLASS/ and val/CLASS/"
        }
        _ => "",
    }
}

fn truncated(actual: u64, expected: u64) -> &'static str {
    if actual < expected { ": it is truncated" } else { ": it is too long" }
}

fn other_files(others: &PassedOver) -> String {
    if others.is_empty() { String::new() } else { format!(", but {others}") }
}

fn list(tried: &[(String, String)]) -> String {
    tried.iter().map(|(source, reason)| format!("\n  - {source}: {reason}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_file_and_size() {
        let error = DataError::WrongSize { path: "/d/data_batch_3.bin".into(), actual: 7, expected: 30_730_000 };
        assert_eq!(error.to_string(), "/d/data_batch_3.bin has 7 bytes, expected 30730000: it is truncated");
        let mut others = PassedOver::default();
        others.add(Path::new("a.txt"));
        let error = DataError::EmptyClass { path: "/d/train/cat".into(), others };
        assert_eq!(error.to_string(), "class folder /d/train/cat has no picture, but 1 file: 1 .txt");
    }
}
