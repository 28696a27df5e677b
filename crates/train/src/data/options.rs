//! What opening a data set may use: folders, sources, memory.

use std::path::PathBuf;

use super::cifar;
use super::decode::Exif;
use super::error::{DataError, Result};
use super::fetch::Sources;
use super::manifest::Manifest;
use super::preprocess::Fit;
use super::report::Reporter;

/// What [`Dataset::open`](super::Dataset::open) may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Height and width to which the images of a folder are resized: the network's input size, by default
    /// [`cifar::SIZE`]. CIFAR-10 itself stays at 32 here; the loader resizes it.
    pub image_size: usize,
    /// The shorter side to which they are resized before their centre is cropped; `image_size` if `None`.
    pub resize: Option<usize>,
    /// Folders whose resized images take at most this many bytes are decoded at once and kept in memory; images of
    /// larger ones are decoded when a batch needs them.
    pub memory: u64,
    /// Keep the training images of a folder as files whatever they take: a resized crop needs the original pictures.
    pub originals: bool,
    /// What is done with the orientation in the metadata of a folder's images.
    pub exif: Exif,
    /// The folder of `ALEXNET_DATA`, for `auto` and `cifar10`: the data set in it is opened, or CIFAR-10 is downloaded
    /// into it.
    pub folder: Option<PathBuf>,
    /// The user's cache folder, used if `folder` is `None`.
    pub cache: Option<PathBuf>,
    /// Where CIFAR-10 is downloaded from.
    pub sources: Sources,
    /// The official files.
    pub manifest: Manifest,
    /// Where events go.
    pub report: Reporter,
    /// What to do next about an error, for the warning of `auto`; the binary has an answer, the library none.
    pub hint: fn(&DataError) -> Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            image_size: cifar::SIZE,
            resize: None,
            memory: 512 << 20,
            originals: false,
            exif: Exif::Apply,
            folder: None,
            cache: None,
            sources: Sources::default(),
            manifest: Manifest::official(),
            report: Reporter::silent(),
            hint: |_| None,
        }
    }
}

impl Options {
    /// The lengths to which the images of a folder are resized and cropped.
    pub fn fit(&self) -> Fit {
        Fit { short: self.resize.unwrap_or(self.image_size), crop: self.image_size }
    }

    /// From the environment: `ALEXNET_DATA`, the user's cache folder, events on standard error.
    pub fn from_env() -> Self {
        Options {
            folder: std::env::var_os("ALEXNET_DATA").filter(|value| !value.is_empty()).map(PathBuf::from),
            cache: dirs::cache_dir().map(|cache| cache.join("alexnet")),
            report: Reporter::stderr(),
            ..Options::default()
        }
    }

    /// The folder of CIFAR-10: `folder`, else `cache`.
    ///
    /// # Errors
    /// Neither is set.
    pub fn cifar10_folder(&self) -> Result<PathBuf> {
        self.folder.clone().or_else(|| self.cache.clone()).ok_or(DataError::NoCache)
    }
}
