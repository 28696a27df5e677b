//! Atomic file writes: after an error, a kill or a power cut a file has either its old contents or all of its new ones.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Part of the name of every temporary file; a killed process leaves its file behind.
pub const UNFINISHED: &str = ".tmp-";

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
    let prefix = format!("{}{UNFINISHED}", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    // The permissions of any new file; the library's default is 0600.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path)).map_err(|error| failed(without_path(&error)))?;
    contents(file.as_file_mut())?;
    file.as_file().sync_all().map_err(&failed)?;
    let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| failed(error.error))?;
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
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(format!("{UNFINISHED}{}", std::process::id()));
    fs::hard_link(from, &temporary)?;
    let linked = fs::rename(&temporary, to).and_then(|()| flush_names(to));
    if linked.is_err() {
        // The first error is the one to report; a leftover file does no harm.
        let _ = fs::remove_file(&temporary);
    }
    linked
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
