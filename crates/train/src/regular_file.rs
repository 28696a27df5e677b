//! Opens the files that a user names: checkpoints, weights, settings, lists.
//!
//! A device or a pipe may never end, and reading a part of it takes that part away from whoever reads it next. So what is
//! no regular file is refused before it is opened.

use std::fs::{File, FileType};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a regular file for reading.
///
/// # Errors
/// The system's; [`ErrorKind::IsADirectory`] for a folder, [`ErrorKind::InvalidInput`] for a device, a pipe or a socket.
pub fn open(path: &Path) -> Result<File> {
    check(path)?;
    File::open(path)
}

/// Checks that there is a regular file, behind links too.
///
/// # Errors
/// As [`open`].
pub fn check(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory, "it is a folder"));
    }
    if !kind.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("it is {}, not a file", special(kind))));
    }
    Ok(())
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; [`ErrorKind::InvalidData`] for a larger file.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let len = file.metadata()?.len();
    if len > most {
        let message = format!("it has {} MiB, the limit is {} MiB", len >> 20, most >> 20);
        return Err(Error::new(ErrorKind::InvalidData, message));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`read`]; the file is not in UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "a device"
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket, link) =
            (folder.path().join("pipe"), folder.path().join("socket"), folder.path().join("link"));
        // `mkfifo` is a program; a socket needs none.
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success());
        for (path, word) in [
            ("/dev/zero".as_ref(), "a device"),
            (&*link, "a device"),
            (&*socket, "a socket"),
            (folder.path(), "a folder"),
        ] {
            assert!(open(path).unwrap_err().to_string().contains(word), "{}", path.display());
        }
        assert!(!made || open(&pipe).unwrap_err().to_string().contains("a pipe"));
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, folder.path().join("other")).unwrap();
        assert_eq!(read_text(&folder.path().join("other"), 4).unwrap(), "text");
        let error = read(&file, 3).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::InvalidData, "it has 0 MiB, the limit is 0 MiB")
        );
    }
}
