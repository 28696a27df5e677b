//! Output of commands: standard output, and files that are written atomically and replaced only with --force.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use crate::atomic_file;
use crate::print::visible_lines;
use crate::run::Error;
use crate::signals::Held;

/// Checks that a file may be written there.
///
/// # Errors
/// Something is there and `force` is not given; there is no such folder.
pub fn check_free(path: &Path, force: bool) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(_) if !force => Err(Error::FileExists { path: path.into() }),
        Ok(_) => Ok(()),
        Err(_) => match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) if folder.metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
                Err(Error::NoOutputFolder { path: path.into(), folder: folder.into() })
            }
            _ => Ok(()),
        },
    }
}

/// Writes a file atomically: afterwards `path` has its old contents or all of `bytes`.
///
/// # Errors
/// As [`write_with`].
pub fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Error> {
    write_with(path, force, |file| file.write_all(bytes).map_err(Error::io("write", path)))
}

/// Writes what `contents` writes, likewise. Ctrl-C, SIGTERM and SIGHUP meanwhile remove what is written so far, and then end
/// the process.
///
/// # Errors
/// Something is there and `force` is not given; the system refuses; that of `contents`.
pub fn write_with(
    path: &Path,
    force: bool,
    contents: impl FnOnce(&mut File) -> Result<(), Error>,
) -> Result<(), Error> {
    check_free(path, force)?;
    let signals = Held::new().map_err(Error::io("handle Ctrl-C while writing", path))?;
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists if !force => Error::FileExists { path: path.into() },
        _ => Error::io("write", path)(error),
    };
    atomic_file::write_with(path, force, failed, |file| {
        contents(file)?;
        // Takes the longest.
        file.sync_all().map_err(Error::io("write", path))?;
        match signals.is_ended() {
            true => Err(failed(ErrorKind::Interrupted.into())),
            false => Ok(()),
        }
    })
}

/// Writes a result for people to standard output, see [`visible_lines`].
///
/// # Errors
/// As [`print`].
pub fn print_text(text: &str) -> Result<(), Error> {
    print(visible_lines(text).as_bytes())
}

/// Writes a result to standard output.
///
/// # Errors
/// The system refuses, such as a full disk; [`Error::Closed`] for a reader that has had enough (`| head`): the command then
/// ends at once, quietly.
pub fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::io("write", Path::new("the result"))(error),
    })
}

/// The same of a line.
///
/// # Errors
/// As [`print`].
pub fn line(text: &str) -> Result<(), Error> {
    print(format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write(&path, b"one", false).unwrap();
        assert!(matches!(write(&path, b"two", false), Err(Error::FileExists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert!(write(&folder.path().join("no/x"), b"", false).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }
}
