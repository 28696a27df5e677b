//! Atomic file writes: after an error, a kill or a power cut a file has either its old contents or all of its new ones.
//!
//! A temporary file is called `TARGET.tmp-PROCESS-RANDOM` and is locked while its process lives. A killed process leaves its
//! file behind; the next write of the same target removes it.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// What follows the target's name in that of a temporary file.
const UNFINISHED: &str = ".tmp-";
/// Random letters at the end of the name.
const RANDOM: usize = 6;

/// Writes what `contents` writes to `path`, atomically: to a temporary file in the same folder, flushed to the disk and
/// then renamed. With `replace` false, an existing file is an error.
///
/// # Errors
/// The error of `contents`, or the system's, converted by `failed` ([`io::ErrorKind::AlreadyExists`] for a file that must
/// not be replaced). The temporary file is removed.
pub fn write_with<E>(
    path: &Path,
    replace: bool,
    failed: impl Fn(io::Error) -> E,
    contents: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = temporary(path).map_err(&failed)?;
    contents(file.as_file_mut())?;
    file.as_file().sync_all().map_err(&failed)?;
    loop {
        match if replace { file.persist(path) } else { file.persist_noclobber(path) } {
            Ok(_) => break,
            Err(error) if error.error.kind() == io::ErrorKind::Interrupted => file = error.file,
            Err(error) => return Err(failed(error.error)),
        }
    }
    flush_names(path).map_err(failed)
}

/// Writes `bytes` to `path`, atomically; see [`write_with`].
///
/// # Errors
/// The system's, as there.
pub fn write(path: &Path, replace: bool, bytes: &[u8]) -> io::Result<()> {
    write_with(path, replace, |error| error, |file| file.write_all(bytes))
}

/// Makes `to` a hard link to the file `from` in the same folder, replacing what was there.
///
/// # Errors
/// The system's, also on file systems without hard links; `to` is then unchanged.
pub fn link(from: &Path, to: &Path) -> io::Result<()> {
    let prefix = prefix(to);
    let linked = Builder::new()
        .prefix(&prefix)
        .rand_bytes(RANDOM)
        .make_in(folder_of(to), |temporary| retried(|| fs::hard_link(from, temporary)))
        .map_err(|error| without_path(&error))?
        .into_temp_path();
    retried(|| fs::rename(&linked, to))?;
    flush_names(to)
}

/// Creates a folder and those above it, as far as they do not exist, and flushes their names to the disk.
///
/// # Errors
/// The system's.
pub fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    if !above.exists() {
        create_folders(above)?;
    }
    match retried(|| fs::create_dir(path)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        _ => flush_names(path),
    }
}

/// Removes the temporary files of `targets` in `folder` that killed processes have left.
pub fn sweep(folder: &Path, targets: &[&OsStr]) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = targets.iter().any(|target| is_temporary(name.as_encoded_bytes(), target.as_encoded_bytes()));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // That of a living process is locked. A file that stays does no harm.
        if let Ok(file) = File::options().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A new temporary file for `path`, locked.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let folder = folder_of(path);
    sweep(folder, path.file_name().as_slice());
    let prefix = prefix(path);
    let mut builder = Builder::new();
    builder.prefix(&prefix).rand_bytes(RANDOM);
    // The permissions of the file that is replaced, or of any new file; the library's default is 0600.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let replaced = path.symlink_metadata().ok().filter(fs::Metadata::is_file);
        let mode = replaced.map_or(0o666, |file| file.permissions().mode() & 0o777);
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    loop {
        let file = builder.tempfile_in(folder).map_err(|error| without_path(&error))?;
        match file.as_file().try_lock() {
            // Before it was locked, another process may have taken it for that of a killed one.
            Ok(()) if !file.path().exists() => {}
            Err(TryLockError::WouldBlock) => {}
            // On a file system without locks nothing is swept.
            _ => return Ok(file),
        }
    }
}

/// Whether `name` is that of a temporary file for `target`.
fn is_temporary(name: &[u8], target: &[u8]) -> bool {
    let end = name.strip_prefix(target).and_then(|end| end.strip_prefix(UNFINISHED.as_bytes()));
    let Some((process, random)) = end.and_then(|end| end.split_last_chunk::<{ RANDOM + 1 }>()) else { return false };
    let number = !process.is_empty() && process.iter().all(u8::is_ascii_digit);
    number && random[0] == b'-' && random[1..].iter().all(u8::is_ascii_alphanumeric)
}

fn prefix(path: &Path) -> std::ffi::OsString {
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(format!("{UNFINISHED}{}-", std::process::id()));
    prefix
}

/// Calls again what a signal has interrupted.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The system's error without the temporary file's name, which nobody has typed.
fn without_path(error: &io::Error) -> io::Error {
    use std::error::Error as _;

    let code = error.source().and_then(|inner| inner.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Flushes the folder of `path`, so that its names survive a power cut.
fn flush_names(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder_of(path))?.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_whole_and_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        write(&path, false, b"first").unwrap();
        assert_eq!(write(&path, false, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write(&path, true, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let error = write(&folder.path().join("no/x"), true, b"bytes").unwrap_err();
        assert!(error.kind() == io::ErrorKind::NotFound && !error.to_string().contains(UNFINISHED), "{error}");
        let half = |file: &mut File| file.write_all(b"half").and(Err(io::Error::other("no more")));
        assert!(write_with(&path, true, |error| error, half).is_err());
        assert_eq!(names(folder.path()), 0);
        // A folder of that name cannot be replaced by a file.
        fs::create_dir(&path).unwrap();
        assert!(write(&path, true, b"bytes").is_err());
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn only_what_a_killed_process_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let kept =
            ["x.bin.tmp-backup", "x.bin.tmp-7", "x.bin.tmp-7-a.b.c.", "x.bin.tmp-x-abcdef", "y.bin.tmp-7-abcdef"];
        for name in kept.into_iter().chain(["x.bin.tmp-7-aB3dEf"]) {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        // Another one writes it meanwhile.
        let living = temporary(&path).unwrap();
        write(&path, true, b"whole").unwrap();
        assert!(living.path().exists() && kept.iter().all(|name| folder.path().join(name).exists()));
        assert_eq!(names(folder.path()), kept.len() + 2);
        living.persist(&path).unwrap();
    }

    #[test]
    fn folders_are_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        create_folders(&path).unwrap();
        create_folders(&path).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(path.is_dir());
        for below in ["file/d", "file/d/e"] {
            let error = create_folders(&folder.path().join(below)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        }
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_as_the_user_lets_them() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|name| folder.path().join(name));
        write(&ours, false, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_second_name_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        link(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(names(folder.path()), 2);
    }
}
