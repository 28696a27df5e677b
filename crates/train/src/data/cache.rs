//! The lock on the download folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::{DataError, Result};
use super::report::Reporter;

/// Waits until no other process downloads into `folder`. Dropping the returned file releases the lock.
///
/// # Errors
/// [`DataError::Io`], also on file systems without locks.
pub fn lock(folder: &Path, report: &Reporter) -> Result<File> {
    std::fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
    let path = folder.join(".lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(DataError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            report.note(format!("Another process is downloading into {}; waiting for it.", folder.display()));
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
