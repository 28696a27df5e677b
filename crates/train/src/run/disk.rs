//! The disk's room for a run, checked before it trains.

use std::path::Path;

use super::error::{Error, Result};

/// For metrics, events and lists beside the checkpoints.
const SLACK: u64 = 1 << 20;

/// Checks that the disk has room for the checkpoints of a run in the folder `path`, each of `checkpoint` bytes: the last
/// one, the best one, and one that is being written. What the folder already has of them counts.
///
/// # Errors
/// [`Error::DiskSpace`].
pub fn fits(path: &Path, checkpoint: u64, epochs: usize) -> Result<()> {
    let Some(free) = free(path) else { return Ok(()) };
    let most = checkpoint.saturating_mul(epochs.saturating_add(1).min(3) as u64).saturating_add(SLACK);
    let needs = most.saturating_sub(held(path));
    if needs > free {
        return Err(Error::DiskSpace { path: path.into(), needs, free });
    }
    Ok(())
}

/// Bytes that are free on the disk of a folder or of the nearest one above it; `None` where that is not known.
#[cfg(unix)]
fn free(path: &Path) -> Option<u64> {
    let here = path.is_relative().then_some(Path::new("."));
    let folders = path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).chain(here);
    let disk = folders.into_iter().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

/// Bytes of the checkpoints in a folder; a link of one to the other counts once.
#[cfg(unix)]
fn held(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    let files = ["last.safetensors", "best.safetensors"].map(|name| std::fs::metadata(path.join(name)).ok());
    let mut files: Vec<_> = files.iter().flatten().map(|file| (file.ino(), file.len())).collect();
    files.dedup();
    files.iter().map(|(_, len)| len).sum()
}

#[cfg(not(unix))]
fn held(_: &Path) -> u64 {
    0
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already_counts() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a/b/run");
        let free = free(&run).unwrap();
        assert!(free > SLACK && fits(&run, 1 << 10, usize::MAX).is_ok());
        assert!(matches!(fits(&run, free, 0), Err(Error::DiskSpace { needs, .. }) if needs == free + SLACK));
        let needs = |epochs| match fits(&run, free, epochs) {
            Err(Error::DiskSpace { needs, .. }) => (needs - SLACK) / free,
            _ => 0,
        };
        assert_eq!([0, 1, 2, 100].map(needs), [1, 2, 3, 3]);
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("best.safetensors"), [0; 1000]).unwrap();
        std::fs::hard_link(run.join("best.safetensors"), run.join("last.safetensors")).unwrap();
        assert_eq!(held(&run), 1000);
        std::fs::remove_file(run.join("last.safetensors")).unwrap();
        std::fs::write(run.join("last.safetensors"), [0; 500]).unwrap();
        assert_eq!(held(&run), 1500);
    }
}
