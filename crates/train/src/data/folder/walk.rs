//! Finds pictures below a folder.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::super::error::{DataError, Result};
use super::super::passed_over::PassedOver;

/// Folders below a class folder that are read; deeper ones are passed over.
const MAX_DEPTH: usize = 16;
/// Files and folders of operating systems and tools, passed over in silence as hidden ones are.
const SILENT: [&str; 7] =
    ["thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"];

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder, or a link to one.
    Folder,
    /// A file whose name is that of a picture.
    Picture,
    /// Any other file.
    File,
    /// A pipe, a socket, a device.
    Special,
}

/// A name in a folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Folder and name.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// The entries of a folder in byte order, without hidden ones and those of operating systems.
///
/// # Errors
/// The folder cannot be read.
pub fn entries(path: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io("read", path))? {
        let entry = entry.map_err(DataError::io("read", path))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || SILENT.iter().any(|silent| name.eq_ignore_ascii_case(silent)) {
            continue;
        }
        let path = entry.path();
        let mut kind = entry.file_type().map_err(DataError::io("read", &path))?;
        if kind.is_symlink() {
            // A link that leads nowhere counts as a file: reading it says what is wrong.
            kind = std::fs::metadata(&path).map_or(kind, |target| target.file_type());
        }
        let kind = match () {
            () if kind.is_dir() => Kind::Folder,
            () if !kind.is_file() && !kind.is_symlink() => Kind::Special,
            () if is_picture(&path) => Kind::Picture,
            () => Kind::File,
        };
        entries.push(Entry { name, path, kind });
    }
    entries.sort_by(|a, b| a.name.as_encoded_bytes().cmp(b.name.as_encoded_bytes()));
    Ok(entries)
}

/// Whether a file's name is that of a picture.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg")
}

/// The pictures below `folder`, as paths relative to it with `/` between folders. In the order of torchvision's
/// `ImageFolder`: folder by folder in byte order of their paths, then by name. Links to folders are followed, each
/// folder is read once.
///
/// # Errors
/// A folder cannot be read.
pub fn pictures(folder: &Path, passed: &mut PassedOver) -> Result<Vec<Box<OsStr>>> {
    let mut folders = vec![(OsString::new(), 0)];
    let mut seen = HashSet::new();
    let mut found: Vec<(OsString, Vec<OsString>)> = Vec::new();
    while let Some((below, depth)) = folders.pop() {
        let mut names = Vec::new();
        for Entry { name, path, kind } in entries(&folder.join(&below))? {
            let relative = match below.is_empty() {
                true => name,
                false => [&below, OsStr::new("/"), &name].into_iter().collect(),
            };
            match kind {
                Kind::Picture => names.push(relative),
                Kind::File => passed.add(&path),
                Kind::Special => passed.add_kind("pipes, sockets and devices"),
                Kind::Folder if depth == MAX_DEPTH => passed.add_folder(&format!("{} (too deep)", path.display())),
                Kind::Folder => {
                    if seen.is_empty() {
                        seen.insert(real(folder)?);
                    }
                    if seen.insert(real(&path)?) {
                        folders.push((relative, depth + 1));
                    }
                }
            }
        }
        found.push((below, names));
    }
    found.sort_by(|(a, _), (b, _)| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(found.into_iter().flat_map(|(_, names)| names).map(OsString::into_boxed_os_str).collect())
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(DataError::io("read", path))
}
