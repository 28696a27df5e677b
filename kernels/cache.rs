//! The on-disk cache of compiled kernels.
//!
//! The key hashes everything that the code depends on: the compiler's build, its options including the architecture, and the
//! source with its headers. An entry is a folder that is written under a temporary name and then renamed, so that processes
//! may compile the same kernel at once: the first to finish wins, the others discard their identical copies.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

use crate::Unit;
use crate::error::{Error, Result};
use crate::nvrtc::{Compiled, Nvrtc, Target};

const IMAGE: &str = "image";
const SUM: &str = "sha256";

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder for files that can be regenerated: `ALEXNET_CACHE`, or `alexnet` in the user's cache folder.
///
/// # Errors
/// [`Error::Cache`] if there is neither.
pub fn root() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("ALEXNET_CACHE") {
        return Ok(folder.into());
    }
    dirs::cache_dir().map(|folder| folder.join("alexnet")).ok_or_else(|| Error::Cache {
        path: "~/.cache".into(),
        reason: "no cache folder: set HOME, XDG_CACHE_HOME or ALEXNET_CACHE".into(),
    })
}

/// The folder of compiled kernels.
///
/// # Errors
/// [`Error::Cache`] if the user has no cache folder.
pub fn folder() -> Result<PathBuf> {
    Ok(root()?.join("kernels"))
}

/// The folder that a compilation has in the cache, be it there or not; for [`read`] and [`write`](write()).
///
/// # Errors
/// [`Error::Cache`] if the user has no cache folder.
pub fn entry(nvrtc: &Nvrtc, unit: &Unit, target: Target, options: &[String]) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for part in [nvrtc.identity(), unit.hash].into_iter().chain(options.iter().map(String::as_str)) {
        hash.update(part);
        hash.update([0]);
    }
    let key = &hex(hash.finalize())[..32];
    Ok(folder()?.join(format!("{}-{target}-{key}", unit.name)))
}

/// The image of `unit` (cubin, or PTX with a terminating NUL), from the cache or else compiled and stored there.
///
/// A cache that cannot be written is no error: the next start compiles again.
///
/// # Errors
/// [`Error::Compile`] if the kernel does not compile; [`Error::Nvrtc`].
pub fn compile(nvrtc: &Nvrtc, unit: &Unit, target: Target, options: &[String]) -> Result<Vec<u8>> {
    let entry = entry(nvrtc, unit, target, options);
    if let Ok(image) = entry.as_deref().map_err(|e| e.to_string()).and_then(|e| read(e).ok_or_else(String::new)) {
        return Ok(image);
    }
    let Compiled { image, .. } = nvrtc.compile(unit, target, options)?;
    if let Ok(entry) = entry {
        // The image is at hand: a failure to store it costs the next start a compilation.
        let _ = write(&entry, &image);
    }
    Ok(image)
}

/// The image of an entry, a folder, if its checksum is right.
pub fn read(entry: &Path) -> Option<Vec<u8>> {
    let image = fs::read(entry.join(IMAGE)).ok()?;
    let sum = fs::read_to_string(entry.join(SUM)).ok()?;
    (sum == hex(Sha256::digest(&image))).then_some(image)
}

/// Stores the image of an entry unless a whole one is there.
///
/// # Errors
/// [`Error::Cache`] if the folder above it cannot be written.
pub fn write(entry: &Path, image: &[u8]) -> Result<()> {
    let parent = entry.parent().unwrap_or(entry);
    fs::create_dir_all(parent).map_err(Error::cache(parent))?;
    let work = tempfile::tempdir_in(parent).map_err(Error::cache(parent))?;
    for (name, content) in [(IMAGE, image), (SUM, hex(Sha256::digest(image)).as_bytes())] {
        let path = work.path().join(name);
        let mut file = fs::File::create(&path).map_err(Error::cache(&path))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(Error::cache(&path))?;
    }
    if entry.exists() && read(entry).is_none() {
        // A damaged entry would make the rename fail.
        let _ = fs::remove_dir_all(entry);
    }
    match fs::rename(work.path(), entry) {
        Ok(()) => {
            // Renamed: the temporary folder is not to be deleted.
            let _ = work.keep();
            Ok(())
        }
        // Another process was faster.
        Err(_) if entry.exists() => Ok(()),
        Err(e) => Err(Error::cache(entry)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let entry = folder.path().join("relu-sm_80-0");
        assert_eq!(read(&entry), None);
        write(&entry, b"code").unwrap();
        assert_eq!(read(&entry).unwrap(), b"code");
        // A second time, as a slower process does.
        write(&entry, b"code").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Truncated, by a full disk that the file system did not report.
        fs::write(entry.join(IMAGE), b"co").unwrap();
        assert_eq!(read(&entry), None);
        write(&entry, b"code").unwrap();
        assert_eq!(read(&entry).unwrap(), b"code");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn many_writers_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let entry = folder.path().join("relu-sm_80-0");
        let image: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        write(&entry, &image).unwrap();
                        assert_eq!(read(&entry).unwrap(), image);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
