//! Output of commands: standard output, and files that are written atomically and replaced only with --force.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;

use crate::print::visible_lines;
use crate::run::Error;
use crate::signals::Held;
use crate::{atomic_file, regular_file};

/// Checks that a file may be written there.
///
/// # Errors
/// Something is there and `force` is not given, or it is no regular file; there is no such folder.
pub fn check_free(path: &Path, force: bool) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(_) if !force => Err(Error::FileExists { path: path.into() }),
        // A link that leads nowhere is replaced.
        Ok(_) => match regular_file::check(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("write", path)(error)),
            _ => Ok(()),
        },
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

/// Writes what `contents` writes, likewise. A signal to stop meanwhile removes what is written so far, and then ends
/// the process, see [`Held`].
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

/// The same of a line; on a terminal as [`print_text`].
///
/// # Errors
/// As [`print`].
pub fn line(text: &str) -> Result<(), Error> {
    let text = format!("{text}\n");
    if std::io::stdout().is_terminal() { print_text(&text) } else { print(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_a_file_is_replaced_and_its_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (socket, link, file) =
            (folder.path().join("socket"), folder.path().join("link"), folder.path().join("file"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        symlink(&socket, &link).unwrap();
        for path in [&socket, &link, folder.path()] {
            let error = write(path, b"x", true).unwrap_err().to_string();
            assert!(error.contains("it is a socket") || error.contains("it is a folder"), "{error}");
        }
        assert!(link.is_symlink());
        std::fs::write(&file, "private").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        write(&file, b"other", true).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

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
