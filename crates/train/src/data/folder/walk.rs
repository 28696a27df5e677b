//! Finds pictures below a folder.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::super::decode::has_image_extension;
use super::super::error::{DataError, Result};
use super::super::passed_over::PassedOver;

/// Folders below a class folder that are read; deeper ones are passed over.
const MAX_DEPTH: usize = 16;
/// Files and folders of operating systems and tools, passed over in silence as hidden ones are.
const SILENT: [&str; 7] =
    ["thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"];

/// What links that lead nowhere are counted as.
pub(super) const DEAD_LINK: &str = "without a target (symbolic link)";

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
    /// A link that leads nowhere, or in a circle.
    DeadLink,
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
    /// Whether it is a symbolic link to that.
    pub link: bool,
}

/// A name as text. Bytes that are not UTF-8 become `\xNN`, so that names which differ in them stay different.
pub fn text(name: &OsStr) -> String {
    let chunk = |chunk: std::str::Utf8Chunk<'_>| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii());
    name.as_encoded_bytes().utf8_chunks().map(chunk).collect()
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
        let link = kind.is_symlink();
        if link {
            kind = std::fs::metadata(&path).map_or(kind, |target| target.file_type());
        }
        let kind = match () {
            () if kind.is_dir() => Kind::Folder,
            () if kind.is_symlink() => Kind::DeadLink,
            () if !kind.is_file() => Kind::Special,
            () if has_image_extension(&path) => Kind::Picture,
            () => Kind::File,
        };
        entries.push(Entry { name, path, kind, link });
    }
    entries.sort_by(|a, b| a.name.as_encoded_bytes().cmp(b.name.as_encoded_bytes()));
    Ok(entries)
}

/// The pictures below `folder`, as paths relative to it with `/` between folders. In the order of torchvision's
/// `ImageFolder`: folder by folder in byte order of their paths, then by name. Links to folders are followed, but each
/// folder is read once, under its own name if it has one below `folder`: links may form a cycle. Links to folders that
/// contain `folder` are passed over, since these hold other classes and splits.
///
/// # Errors
/// A folder cannot be read.
pub fn pictures(folder: &Path, passed: &mut PassedOver) -> Result<Vec<Box<OsStr>>> {
    let (mut folders, mut links) = (vec![(OsString::new(), 0)], Vec::new());
    let mut seen = HashSet::new();
    // Of a class that is a link, both what it leads to and the folder of its split.
    let own = real(folder)?;
    let above = folder.parent().and_then(|parent| parent.canonicalize().ok());
    let mut found: Vec<(OsString, Vec<OsString>)> = Vec::new();
    // Links wait until all folders are read.
    while let Some((below, depth)) = folders.pop().or_else(|| links.pop()) {
        let path = folder.join(&below);
        let target = real(&path)?;
        if target != own && (own.starts_with(&target) || above.as_ref().is_some_and(|above| above.starts_with(&target)))
        {
            passed.add_folder(&up(&path));
            continue;
        }
        if !seen.insert(target) {
            continue;
        }
        let mut names = Vec::new();
        for Entry { name, path, kind, link } in entries(&path)? {
            let relative = match below.is_empty() {
                true => name,
                false => [&below, OsStr::new("/"), &name].into_iter().collect(),
            };
            match kind {
                Kind::Picture => names.push(relative),
                Kind::File => passed.add(&path),
                Kind::Special => passed.add_kind("special (pipe, socket or device)"),
                Kind::DeadLink => passed.add_kind(DEAD_LINK),
                Kind::Folder if depth == MAX_DEPTH => passed.add_folder(&format!("{} (too deep)", path.display())),
                Kind::Folder if link => links.push((relative, depth + 1)),
                Kind::Folder => folders.push((relative, depth + 1)),
            }
        }
        found.push((below, names));
    }
    found.sort_by(|(a, _), (b, _)| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(found.into_iter().flat_map(|(_, names)| names).map(OsString::into_boxed_os_str).collect())
}

/// How a link to a folder above it is called where it is passed over.
fn up(link: &Path) -> String {
    format!("{} (link to a folder above it)", link.display())
}

/// Takes those of a folder's entries out that are links to it or to a folder that contains it.
///
/// # Errors
/// The folder cannot be read.
pub fn without_links_up(path: &Path, mut all: Vec<Entry>, passed: &mut PassedOver) -> Result<Vec<Entry>> {
    let own = real(path)?;
    all.retain(|entry| {
        let leads_up = entry.kind == Kind::Folder
            && entry.link
            && entry.path.canonicalize().is_ok_and(|target| own.starts_with(target));
        if leads_up {
            passed.add_folder(&up(&entry.path));
        }
        !leads_up
    });
    Ok(all)
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(DataError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> (Vec<String>, PassedOver) {
        let mut passed = PassedOver::default();
        let found = pictures(folder, &mut passed).unwrap();
        (found.iter().map(|name| name.to_string_lossy().into_owned()).collect(), passed)
    }

    #[test]
    fn in_the_order_of_image_folder() {
        let folder = tempfile::tempdir().unwrap();
        // As sorted(os.walk(…)) visits folders: by their whole path, so that `b-` comes before `b/a`.
        for name in ["z.png", "10.png", "9.PNG", "b/1.jpg", "b/a/1.jpeg", "b-/1.png", "B/1.png"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(folder.path().join("b/x.txt"), "").unwrap();
        let (found, passed) = names(folder.path());
        assert_eq!(found, ["10.png", "9.PNG", "z.png", "B/1.png", "b/1.jpg", "b-/1.png", "b/a/1.jpeg"]);
        assert_eq!(passed.to_string(), "1 file: 1 .txt");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_form_cycles_end_and_deep_folders_are_passed_over() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let deep = "d/".repeat(MAX_DEPTH + 1);
        std::fs::create_dir_all(at("class/real")).unwrap();
        std::fs::create_dir_all(at("class").join(&deep)).unwrap();
        std::fs::create_dir_all(at("other")).unwrap();
        for name in ["class/real/1.png", "other/2.png"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::write(at("class").join(&deep).join("3.png"), "").unwrap();
        symlink("..", at("class/real/up")).unwrap();
        symlink("real", at("class/a link")).unwrap();
        symlink(at("other"), at("class/out")).unwrap();
        symlink(at("class"), at("other/back")).unwrap();
        symlink("nowhere", at("class/gone.png")).unwrap();
        let (found, passed) = names(&at("class"));
        assert_eq!(found, ["out/2.png", "real/1.png"]);
        assert!(passed.to_string().contains("1 without a target (symbolic link)"), "{passed}");
        assert!(passed.to_string().contains("(too deep)"), "{passed}");
        // The class folder may be a link itself.
        symlink("class", at("linked")).unwrap();
        assert_eq!(names(&at("linked")).0, found);
    }
}
