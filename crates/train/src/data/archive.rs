//! The official archive, `cifar-10-binary.tar.gz`: download, SHA-256, unpacking.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::download::{Patience, download};
use super::error::{DataError, Result};
use super::manifest::{Manifest, check};
use super::report::Reporter;
use crate::hex::hex;

/// The address at which the authors of CIFAR-10 publish it.
pub const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";

/// Downloads the archive from `url` into `folder`, and returns the manifest's files. A partial download of an earlier process
/// is resumed; if that was damaged, as by a power cut, it starts anew.
///
/// # Errors
/// The server fails, or the archive or a file in it does not match the manifest. A damaged archive is deleted, a partial
/// one stays.
pub fn fetch(
    url: &str,
    folder: &Path,
    manifest: &Manifest,
    patience: &Patience,
    report: &Reporter,
) -> Result<Vec<Vec<u8>>> {
    let partial = folder.join("cifar-10-binary.tar.gz.partial");
    let resumed = partial.exists();
    if let Err(error) = download(url, &partial, manifest.archive_bytes, patience, report) {
        // An empty file is of no use.
        if std::fs::metadata(&partial).is_ok_and(|meta| meta.len() == 0) {
            let _ = std::fs::remove_file(&partial);
        }
        return Err(error);
    }
    let files = verified(&partial, manifest);
    // Unpacked or damaged: not worth keeping either way.
    std::fs::remove_file(&partial).map_err(DataError::io("write", &partial))?;
    match files {
        Err(error) if resumed => {
            report.note(format!("the partial download was damaged, starting anew: {error}"));
            fetch(url, folder, manifest, patience, report)
        }
        files => files,
    }
}

fn verified(archive: &Path, manifest: &Manifest) -> Result<Vec<Vec<u8>>> {
    let mut hash = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 20, File::open(archive).map_err(DataError::io("read", archive))?);
    std::io::copy(&mut file, &mut hash).map_err(DataError::io("read", archive))?;
    let actual = hex(&hash.finalize());
    if actual != manifest.archive_sha256 {
        return Err(DataError::Source(format!(
            "the archive has SHA-256 {actual}, expected {}: it was damaged in transit and has been deleted",
            manifest.archive_sha256
        )));
    }
    let file = File::open(archive).map_err(DataError::io("read", archive))?;
    unpack(BufReader::with_capacity(1 << 20, file), manifest)
}

/// Reads the manifest's files from a tar.gz, by name, in any folder of it.
fn unpack(archive: impl Read, manifest: &Manifest) -> Result<Vec<Vec<u8>>> {
    let broken = |error: std::io::Error| DataError::Source(format!("the archive cannot be unpacked: {error}"));
    let mut files: Vec<Option<Vec<u8>>> = vec![None; manifest.files.len()];
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let name = path.file_name().unwrap_or_default();
        let Some(at) = manifest.files.iter().position(|file| *name == *file.name) else { continue };
        let spec = &manifest.files[at];
        let mut bytes = Vec::new();
        entry.take(spec.bytes() + 1).read_to_end(&mut bytes).map_err(broken)?;
        check(&path, &bytes, spec)?;
        files[at] = Some(bytes);
    }
    let names = manifest.files.iter().map(|file| &file.name);
    files
        .into_iter()
        .zip(names)
        .map(|(bytes, name)| bytes.ok_or_else(|| DataError::Source(format!("the archive has no {name}"))))
        .collect()
}
