//! `files.txt`: the pictures of a run, one per line: `train`, `val` or `test`, a tab, and the path below the data's folder.
//! Tells which were added or removed since, and which training pictures `--val` holds out.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::error::{Error, Result};
use crate::atomic_file;
use crate::data::{Dataset, Role};

/// The pictures of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList(Vec<(Role, String)>);

/// How two lists differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Pictures that are new.
    pub added: Vec<String>,
    /// Pictures that are gone.
    pub removed: Vec<String>,
}

impl FileList {
    /// The pictures of a data set; `None` if they are not files.
    pub fn of(dataset: &Dataset) -> Option<Self> {
        let mut list = Vec::new();
        for (role, split) in dataset.splits() {
            for index in 0..split.len() {
                list.push((role, dataset.file_name(split, index)?));
            }
        }
        Some(Self(list))
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
                let lines = self.0.iter().try_for_each(|(role, name)| writeln!(out, "{}\t{name}", role.word()));
                lines.and_then(|()| out.flush()).map_err(Error::io("write", path))
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
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let line = |line: &str| {
            let (role, name) = line.split_once('\t')?;
            let role = [Role::Train, Role::Val, Role::Test].into_iter().find(|known| known.word() == role)?;
            Some((role, name.to_owned()))
        };
        Ok(Some(Self(text.lines().filter_map(line).collect())))
    }

    /// The validation pictures.
    pub fn held_out(&self) -> HashSet<String> {
        self.0.iter().filter(|(role, _)| *role == Role::Val).map(|(_, name)| name.clone()).collect()
    }

    /// What was added to and removed from this list in `now`.
    pub fn changes(&self, now: &Self) -> Changes {
        let names = |list: &Self| list.0.iter().map(|(_, name)| name.clone()).collect::<HashSet<_>>();
        let only = |here: &Self, there: &HashSet<String>| {
            here.0.iter().map(|(_, name)| name).filter(|name| !there.contains(*name)).cloned().collect()
        };
        Changes { added: only(now, &names(self)), removed: only(self, &names(now)) }
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
            [some(&self.removed, "removed"), some(&self.added, "added")].into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "no file was added or removed".into() } else { parts.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[(Role, &str)]) -> FileList {
        FileList(names.iter().map(|(role, name)| (*role, (*name).into())).collect())
    }

    #[test]
    fn written_read_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files.txt");
        assert_eq!(FileList::read(&path).unwrap(), None);
        let before =
            list(&[(Role::Train, "train/a/1 2.png"), (Role::Val, "train/a/2.png"), (Role::Test, "test/é.png")]);
        before.write(&path).unwrap();
        assert_eq!(FileList::read(&path).unwrap().unwrap(), before);
        assert_eq!(before.held_out(), HashSet::from(["train/a/2.png".into()]));
        let now = list(&[(Role::Train, "train/a/2.png"), (Role::Train, "train/b"), (Role::Test, "test/é.png")]);
        let changes = before.changes(&now);
        assert_eq!(changes.to_string(), "1 file removed (train/a/1 2.png), 1 file added (train/b)");
        assert_eq!(before.changes(&before).to_string(), "no file was added or removed");
    }
}
