//! Putting files in place so that a reader finds the old one or the new one, never half of one.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

use super::error::{DataError, Result};
use super::report::Reporter;

/// Writes `bytes` to `folder`/`name`: a temporary file beside it, flushed to the disk, then renamed.
///
/// # Errors
/// [`DataError::Io`]; whatever was at that name is then untouched.
pub fn place(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    std::fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .tempfile_in(folder)
        .map_err(DataError::io("create", &path))?;
    file.write_all(bytes).map_err(DataError::io("write", &path))?;
    // The files are public data, not secrets: give them the usual permissions, not a temporary file's 0600.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(DataError::io("write", &path))?;
    }
    file.as_file().sync_all().map_err(DataError::io("write", &path))?;
    file.persist(&path).map_err(|error| DataError::io("rename", &path)(error.error))?;
    sync_folder(folder)
}

/// Makes renames in `folder` last through a power cut.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(DataError::io("write", folder))?;
    }
    Ok(())
}

/// Waits until no other process fetches into `folder`; the lock ends when the file returned is dropped.
///
/// # Errors
/// [`DataError::Io`], also where the file system knows no locks.
pub fn lock(folder: &Path, report: &Reporter) -> Result<File> {
    std::fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
    let path = folder.join(".lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(DataError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            report.note(format!("Another process is fetching into {}; waiting for it.", folder.display()));
        }
        Err(TryLockError::Error(error)) => return Err(DataError::io("lock", &path)(error)),
    }
    file.lock().map_err(DataError::io("lock", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placing_replaces_whole_files_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        place(&inner, "x.bin", b"first").unwrap();
        place(&inner, "x.bin", b"second").unwrap();
        assert_eq!(std::fs::read(inner.join("x.bin")).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_placing_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder of that name cannot be replaced by a file.
        std::fs::create_dir(folder.path().join("x.bin")).unwrap();
        let error = place(folder.path(), "x.bin", b"bytes").unwrap_err();
        assert!(error.to_string().contains("x.bin"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_lock_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let report = Reporter::new(move |event| sender.send(event).unwrap());
        let first = lock(folder.path(), &report).unwrap();
        let second = std::thread::spawn({
            let path = folder.path().to_path_buf();
            move || lock(&path, &report).map(|_| ())
        });
        let event = receiver.recv().unwrap();
        assert!(format!("{event:?}").contains("waiting"), "{event:?}");
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
