//! Files that a command writes: whole or not at all, and never over another one unasked.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::run::Error;

/// Whether a file may be written there.
///
/// # Errors
/// Something is there and `force` is not given.
pub fn check_free(path: &Path, force: bool) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(_) if !force => Err(Error::FileExists { path: path.into() }),
        _ => Ok(()),
    }
}

/// Writes a file so that `path` has what it had before, or all of `bytes`.
///
/// # Errors
/// Something is there and `force` is not given; the system refuses.
pub fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Error> {
    check_free(path, force)?;
    let failed = || Error::io("write", path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".alexnet-");
    // As any new file; the library's own default shuts others out.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(failed())?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed())?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::FileExists { path: path.into() })
        }
        Err(error) => Err(failed()(error.error)),
    }
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
