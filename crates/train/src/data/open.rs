//! Opening what `--data` names.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::cifar::{self, CLASSES};
use super::classes;
use super::dataset::Dataset;
use super::error::{DataError, Result};
use super::manifest::{FileSpec, Manifest, OFFICIAL_FOLDER, official_folder, read_file};
use super::options::Options;
use super::report::Event;
use super::{fetch, folder, formats, sample};
use crate::file_kind::FileKind;
use crate::run::memory;

impl Dataset {
    /// Opens what `--data` names: `auto`, `cifar10`, `sample`, or a folder.
    ///
    /// - `cifar10`: the cached copy, else a fresh download, which is verified and cached.
    /// - `auto`: the same; if every source fails, the embedded sample with a warning.
    /// - `sample`: the images embedded in the binary; reads no file.
    /// - anything else is a folder: the official binary files, or [folders of images](super::folder), which are decoded
    ///   at once if they fit [`Options::memory`].
    ///
    /// # Errors
    /// See [`DataError`]; `auto` fails only if the folder that the user named holds bad data.
    pub fn open(spec: &str, options: &Options) -> Result<Self> {
        Self::list(spec, options)?.loaded(options)
    }

    /// As [`Dataset::open`], but without decoding images of folders.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn list(spec: &str, options: &Options) -> Result<Self> {
        match spec {
            "sample" => sample::open(),
            "cifar10" => Self::open_cifar10(options),
            "auto" => match &options.folder {
                Some(folder) if folder::is_one(folder) => Self::list_folder(folder, options),
                _ => Self::open_cifar10(options).or_else(|error| match error {
                    error if options.folder.is_some() && error.is_bad_data() => Err(error),
                    error if error.lacks_memory() => Err(error),
                    error => Self::fallback(&error, options),
                }),
            },
            folder => Self::list_folder(Path::new(folder), options),
        }
    }

    fn loaded(mut self, options: &Options) -> Result<Self> {
        if self.fits(options.image_size, options.memory) {
            self.load(options.fit(), options.originals)?;
        }
        Ok(self)
    }

    /// CIFAR-10 from the cache, else fetched.
    fn open_cifar10(options: &Options) -> Result<Self> {
        let folder = options.cifar10_folder()?;
        let path = official_folder(&folder, &options.manifest).unwrap_or_else(|| folder.join(OFFICIAL_FOLDER));
        match official(&path, &options.manifest, format!("cache {}", path.display())) {
            Ok(dataset) => return Ok(dataset),
            Err(DataError::Missing { .. }) => {}
            // A folder that the user named is not overwritten, the cache is.
            Err(error) if options.folder.is_some() || error.lacks_memory() => return Err(error),
            Err(error) => options.report.note(format!("The cached copy is damaged: {error}. Downloading it again.")),
        }
        let source = fetch::fetch(&folder, &options.sources, &options.manifest, &options.report)?;
        official(&folder.join(OFFICIAL_FOLDER), &options.manifest, source)
    }

    /// The embedded sample, because CIFAR-10 cannot be opened.
    fn fallback(error: &DataError, options: &Options) -> Result<Self> {
        let mut dataset = sample::open()?;
        let mut warning = format!(
            "This is NOT the whole CIFAR-10: only the {} training and {} test images inside the binary\n\
             are used, and accuracies will be far lower than on the full set.\n{error}",
            sample::TRAIN,
            sample::TEST,
        );
        if let Some(hint) = (options.hint)(error) {
            warning += &format!("\nhint: {hint}");
        }
        options.report.tell(Event::Warning(warning.clone()));
        dataset.source += ", because CIFAR-10 could not be downloaded";
        dataset.warning = Some(warning);
        Ok(dataset)
    }

    /// Opens a folder: one of [`Dataset::open_format`], or folders of images.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open_folder(path: &Path, options: &Options) -> Result<Self> {
        Self::list_folder(path, options)?.loaded(options)
    }

    /// As [`Dataset::open_folder`], but without decoding images.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn list_folder(path: &Path, options: &Options) -> Result<Self> {
        let dataset = match Self::open_format(path, options)? {
            Some(dataset) => dataset,
            None => folder::list(path, options)?,
        };
        let malformed = |reason| DataError::Malformed { path: path.into(), reason };
        classes::check(&dataset.classes).map_err(malformed).map(|()| dataset)
    }

    /// Opens a data set that has a format of its own: the official files of CIFAR-10 in `path` or in its
    /// `cifar-10-batches-bin`, or those of the module `formats`. `None` if there is none of these, as for folders of images.
    ///
    /// # Errors
    /// The path is not a folder that can be read; its files are bad.
    pub fn open_format(path: &Path, options: &Options) -> Result<Option<Self>> {
        if path.is_file() {
            let kind = FileKind::of_file(path).map_err(DataError::io("read", path))?;
            return Err(DataError::NotAFolder { path: path.into(), kind });
        }
        if !path.exists() && path.components().count() == 1 && !path.is_absolute() {
            return Err(DataError::Unknown { name: path.display().to_string() });
        }
        std::fs::read_dir(path).map_err(DataError::io("read", path))?;
        if let Some(found) = official_folder(path, &options.manifest) {
            return official(&found, &options.manifest, format!("folder {}", found.display())).map(Some);
        }
        formats::open(path, options)
    }
}

/// Reads and verifies the official files in a folder.
///
/// # Errors
/// The first file, in the manifest's order, that differs from its specification.
pub fn official(folder: &Path, manifest: &Manifest, source: String) -> Result<Dataset> {
    // The files, and the images made of them.
    let bytes: u64 = manifest.files.iter().map(FileSpec::bytes).sum();
    memory::claim(2 * bytes).map_err(DataError::io("read", folder))?;
    let files: Vec<Result<Vec<u8>>> = manifest.files.par_iter().map(|spec| read_file(folder, spec)).collect();
    let files = files.into_iter().collect::<Result<Vec<_>>>()?;
    let paths: Vec<PathBuf> = manifest.files.iter().map(|spec| folder.join(&spec.name)).collect();
    let (test, train) = (files.len() - 1, 0..files.len() - 1);
    Ok(Dataset {
        name: "cifar10".into(),
        source,
        path: Some(folder.into()),
        extent: None,
        classes: CLASSES.map(String::from).to_vec(),
        train: cifar::split(&files[train.clone()], &paths[train])?,
        test: cifar::split(&files[test..], &paths[test..])?,
        val: None,
        warning: None,
        fingerprint: manifest.fingerprint(),
    })
}
