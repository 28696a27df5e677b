//! Which folder holds which split.

use std::path::{Path, PathBuf};

use super::super::dataset::Role;
use super::super::error::{DataError, Result};
use super::super::passed_over::{PassedOver, holds_pictures};
use super::walk::{DEAD_LINK, Entry, Kind, entries};

/// The role that a folder's name stands for, in any case; the names are those that Hugging Face's `datasets` knows.
pub fn role_of(name: &str) -> Option<Role> {
    Some(match name.to_lowercase().as_str() {
        "train" | "training" => Role::Train,
        "val" | "valid" | "validation" | "dev" => Role::Val,
        "test" | "testing" | "eval" | "evaluation" => Role::Test,
        _ => return None,
    })
}

/// The folders of a data set.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Training, validation and test folder.
    pub roles: [Option<PathBuf>; 3],
    /// Whether the folder itself has class folders, and no roles.
    pub classes: bool,
    /// What lies beside the folders of the splits.
    pub passed: PassedOver,
}

impl Layout {
    /// The folder of a role.
    pub fn of(&self, role: Role) -> Option<&Path> {
        self.roles[role as usize].as_deref()
    }

    /// Whether there are neither folders of splits nor of classes.
    pub fn is_empty(&self) -> bool {
        !self.classes && self.roles.iter().all(Option::is_none)
    }
}

/// Looks for folders of splits in `path`, else for class folders: folders with pictures in them or one level below.
///
/// # Errors
/// Two folders of one role; a folder cannot be read.
pub fn find(path: &Path) -> Result<Layout> {
    let mut layout = Layout::default();
    let all = entries(path)?;
    let (named, others): (Vec<&Entry>, Vec<&Entry>) = all
        .iter()
        .filter(|entry| entry.kind == Kind::Folder)
        .partition(|entry| role_of(&entry.name.to_string_lossy()).is_some());
    if named.is_empty() || train_is_a_class(&named, &others)? {
        layout.classes = has_classes(&all)?;
        return Ok(layout);
    }
    for entry in named {
        let Some(role) = role_of(&entry.name.to_string_lossy()) else { continue };
        match &layout.roles[role as usize] {
            // Two names of one folder.
            Some(first) if first.canonicalize().ok() == entry.path.canonicalize().ok() => {}
            Some(first) => {
                return Err(DataError::TwoFolders { role, first: first.clone(), second: entry.path.clone() });
            }
            None => layout.roles[role as usize] = Some(entry.path.clone()),
        }
    }
    for entry in others {
        layout.passed.add_folder(&format!("{}/", entry.name.to_string_lossy()));
    }
    loose_pictures(&all, &mut layout.passed);
    Ok(layout)
}

/// Counts the pictures and dead links that lie beside class folders, or beside the folders of splits.
pub fn loose_pictures(entries: &[Entry], passed: &mut PassedOver) {
    for entry in entries {
        match entry.kind {
            Kind::Picture => passed.add_kind("outside of the class folders"),
            Kind::DeadLink => passed.add_kind(DEAD_LINK),
            Kind::File if holds_pictures(&entry.path) => passed.add(&entry.path),
            _ => {}
        }
    }
}

/// Whether a folder `train` is the class of trains: it holds pictures, no folders, and has other classes beside it.
fn train_is_a_class(named: &[&Entry], others: &[&Entry]) -> Result<bool> {
    let [train] = named else { return Ok(false) };
    if role_of(&train.name.to_string_lossy()) != Some(Role::Train) {
        return Ok(false);
    }
    let inside = entries(&train.path)?;
    let flat =
        inside.iter().any(|entry| entry.kind == Kind::Picture) && inside.iter().all(|entry| entry.kind != Kind::Folder);
    Ok(flat && any_has_pictures(others.iter().copied())?)
}

fn has_classes(all: &[Entry]) -> Result<bool> {
    any_has_pictures(all.iter().filter(|entry| entry.kind == Kind::Folder))
}

/// Whether there are pictures in one of these folders or one level below. Not deeper: any folder may be asked about.
fn any_has_pictures<'a>(folders: impl Iterator<Item = &'a Entry>) -> Result<bool> {
    for folder in folders {
        // One that may not be read holds no pictures to find.
        let Ok(inside) = entries(&folder.path) else { continue };
        for entry in inside {
            let found = match entry.kind {
                Kind::Picture => true,
                Kind::Folder => entries(&entry.path).is_ok_and(|all| all.iter().any(|e| e.kind == Kind::Picture)),
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles() {
        for (name, role) in [
            ("Train", Some(Role::Train)),
            ("training", Some(Role::Train)),
            ("VALID", Some(Role::Val)),
            ("dev", Some(Role::Val)),
            ("Testing", Some(Role::Test)),
            ("evaluation", Some(Role::Test)),
            ("trainer", None),
            ("tests", None),
        ] {
            assert_eq!(role_of(name), role, "{name}");
        }
    }
}
