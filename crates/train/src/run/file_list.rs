//! `files.txt`: the pictures of a run, one per line: `train`, `val` or `test`, the path below the data's folder, the file's
//! bytes and, of a data set of at most 512 MiB, its CRC-32C; tabs between them. Tells which were added, removed or changed
//! since, and which training pictures `--val` holds out.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use rayon::prelude::*;

use super::error::{Error, Result};
use crate::data::{Dataset, Role};
use crate::{atomic_file, regular_file};

/// Bytes up to which the files of a data set are read for their checksums; of a larger one only the sizes are known.
const MOST_READ: u64 = 512 << 20;

/// Largest list: 10 million pictures.
const LARGEST: u64 = 1 << 30;

/// The pictures of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList(Vec<Picture>);

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Picture {
    role: Role,
    name: String,
    /// Unknown in lists of older versions, and of a file that cannot be read.
    bytes: Option<u64>,
    crc: Option<u32>,
}

/// How two lists differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Pictures that are new.
    pub added: Vec<String>,
    /// Pictures that are gone.
    pub removed: Vec<String>,
    /// Pictures whose files have other contents.
    pub altered: Vec<String>,
}

impl fmt::Display for FileList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|picture| {
            write!(f, "{}\t{}", picture.role.word(), picture.name)?;
            picture.bytes.map_or(Ok(()), |bytes| write!(f, "\t{bytes}"))?;
            picture.crc.map_or(Ok(()), |crc| write!(f, "\t{crc:08x}"))?;
            writeln!(f)
        })
    }
}

impl FileList {
    /// The pictures of a data set; `None` if they are not files.
    ///
    /// # Errors
    /// A picture cannot be read for another reason than that it is gone or may not be read: those are known to the loader
    /// as broken.
    pub fn of(dataset: &Dataset) -> Result<Option<Self>> {
        let all: Option<Vec<_>> = dataset
            .splits()
            .flat_map(|(role, split)| (0..split.len()).map(move |at| (role, split, at)))
            .map(|(role, split, at)| Some((role, dataset.file_name(split, at)?, split.file(at)?)))
            .collect();
        let Some(all) = all else { return Ok(None) };
        let mut pictures = all
            .par_iter()
            .map(|(role, name, path)| {
                let bytes = unless_broken(path, path.metadata())?.map(|file| file.len());
                Ok(Picture { role: *role, name: name.clone(), bytes, crc: None })
            })
            .collect::<Result<Vec<_>>>()?;
        if pictures.iter().filter_map(|picture| picture.bytes).sum::<u64>() <= MOST_READ {
            pictures.par_iter_mut().zip(&all).try_for_each(|(picture, (.., path))| {
                let mut bytes = Vec::new();
                let read = regular_file::open(path).and_then(|file| file.take(MOST_READ).read_to_end(&mut bytes));
                picture.crc = unless_broken(path, read)?.map(|_| crc32c::crc32c(&bytes));
                Ok::<(), Error>(())
            })?;
        }
        Ok(Some(Self(pictures)))
    }

    /// Writes the list, atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        atomic_file::write_with(
            path,
            true,
            |error| Error::io("write", path)(error),
            |file| {
                let mut out = BufWriter::new(file);
                write!(out, "{self}").and_then(|()| out.flush()).map_err(Error::io("write", path))
            },
        )
    }

    /// Reads a list; `None` if there is none, as in older runs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = regular_file::read_text(path, LARGEST).map_err(Error::io("read", path))?;
        Ok(Some(Self::parse(&text)))
    }

    /// The list in a text, without the lines that are none.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut fields = line.split('\t');
            let (role, name) = (fields.next()?, fields.next()?.to_owned());
            let role = [Role::Train, Role::Val, Role::Test].into_iter().find(|known| known.word() == role)?;
            let bytes = fields.next().and_then(|bytes| bytes.parse().ok());
            let crc = fields.next().and_then(|crc| u32::from_str_radix(crc, 16).ok());
            Some(Picture { role, name, bytes, crc })
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The validation pictures.
    pub fn held_out(&self) -> HashSet<String> {
        self.0.iter().filter(|picture| picture.role == Role::Val).map(|picture| picture.name.clone()).collect()
    }

    /// Takes a picture's contents as unknown, so that others may replace them.
    pub fn forget(&mut self, name: &str) {
        for picture in self.0.iter_mut().filter(|picture| picture.name == name) {
            (picture.bytes, picture.crc) = (None, None);
        }
    }

    /// What was added to, removed from and altered in this list in `now`.
    pub fn changes(&self, now: &Self) -> Changes {
        let by_name = |list: &Self| -> HashMap<String, Picture> {
            list.0.iter().map(|picture| (picture.name.clone(), picture.clone())).collect()
        };
        let (before, after) = (by_name(self), by_name(now));
        let names = |list: &Self, of: &dyn Fn(&Picture) -> bool| -> Vec<String> {
            list.0.iter().filter(|picture| of(picture)).map(|picture| picture.name.clone()).collect()
        };
        let differ = |old: &Picture, new: &Picture| {
            let bytes = old.bytes.zip(new.bytes).is_some_and(|(old, new)| old != new);
            bytes || old.crc.zip(new.crc).is_some_and(|(old, new)| old != new)
        };
        Changes {
            added: names(now, &|picture| !before.contains_key(&picture.name)),
            removed: names(self, &|picture| !after.contains_key(&picture.name)),
            altered: names(now, &|picture| before.get(&picture.name).is_some_and(|old| differ(old, picture))),
        }
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = |names: &[String], what: &str| {
            let files = super::summary::count(names.len(), "file");
            let mut named = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > 3 {
                named += ", …";
            }
            (!names.is_empty()).then(|| format!("{files} {what} ({named})"))
        };
        let parts: Vec<String> =
            [some(&self.removed, "removed"), some(&self.added, "added"), some(&self.altered, "changed")]
                .into_iter()
                .flatten()
                .collect();
        f.write_str(if parts.is_empty() { "no file was added or removed".into() } else { parts.join(", ") }.as_str())
    }
}

/// `None` for a picture that is gone, no file, or may not be read.
fn unless_broken<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>> {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotFound, PermissionDenied};
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), InvalidInput | IsADirectory | NotFound | PermissionDenied) => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[(Role, &str)]) -> FileList {
        let picture = |&(role, name): &(Role, &str)| Picture { role, name: name.into(), bytes: Some(5), crc: None };
        FileList(names.iter().map(picture).collect())
    }

    #[test]
    fn written_read_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files.txt");
        assert_eq!(FileList::read(&path).unwrap(), None);
        let mut before =
            list(&[(Role::Train, "train/a/1 2.png"), (Role::Val, "train/a/2.png"), (Role::Test, "test/é.png")]);
        before.0[0].crc = Some(0x12ab);
        before.0[2].bytes = None;
        before.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "train\ttrain/a/1 2.png\t5\t000012ab\nval\ttrain/a/2.png\t5\ntest\ttest/é.png\n");
        assert_eq!(FileList::read(&path).unwrap().unwrap(), before);
        assert_eq!(before.held_out(), HashSet::from(["train/a/2.png".into()]));
        let now = list(&[(Role::Train, "train/a/2.png"), (Role::Train, "train/b"), (Role::Test, "test/é.png")]);
        let changes = before.changes(&now);
        assert_eq!(changes.to_string(), "1 file removed (train/a/1 2.png), 1 file added (train/b)");
        assert_eq!(before.changes(&before).to_string(), "no file was added or removed");
    }

    #[test]
    fn other_contents_are_noticed_where_they_are_known() {
        let before = list(&[(Role::Train, "a"), (Role::Train, "b"), (Role::Val, "c"), (Role::Val, "d")]);
        let mut now = before.clone();
        now.0[0].bytes = Some(6);
        now.0[1].bytes = None;
        now.0[2].crc = Some(1);
        assert_eq!(before.changes(&now).altered, ["a"]);
        let mut other = now.clone();
        other.0[2].crc = Some(2);
        assert_eq!(now.changes(&other).to_string(), "1 file changed (c)");
        now.forget("c");
        assert!(now.changes(&other).altered.is_empty());
    }
}
