//! `val_annotations.txt`: the classes of Tiny-ImageNet's validation pictures, which lie in one folder.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use super::super::error::{DataError, Result};
use super::super::passed_over::PassedOver;
use super::super::split::Split;
use super::pictures;

/// Its name.
const FILE: &str = "val_annotations.txt";

/// Its largest size.
const LARGEST: u64 = 64 << 20;

/// Whether `folder` has the file.
pub fn is_in(folder: &Path) -> bool {
    folder.join(FILE).is_file()
}

/// The pictures that the file in `folder` lists, by class and name, and those that it does not list; `None` if there is
/// no such file. A line has a picture's name, a tab, its class, and a bounding box, which is not used.
///
/// # Errors
/// The file cannot be read; a line without a class, or with one that is not `known`; no picture is listed.
pub fn read(folder: &Path, known: &[String]) -> Result<Option<(Split, PassedOver)>> {
    if !is_in(folder) {
        return Ok(None);
    }
    let file = folder.join(FILE);
    let text = crate::regular_file::read_text(&file, LARGEST).map_err(DataError::io("read", &file))?;
    let images = match folder.join("images") {
        below if below.is_dir() => below,
        _ => folder.to_owned(),
    };
    let labels: BTreeMap<&str, usize> = known.iter().map(String::as_str).zip(0..).collect();
    let bad = |line: usize, reason: String| DataError::Annotation { path: file.clone(), line: line + 1, reason };
    let mut listed: Vec<(u32, Box<OsStr>)> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut columns = line.split('\t').map(str::trim);
        let (Some(name), Some(class)) = (columns.next(), columns.next()) else {
            return Err(bad(number, "no tab between a picture and its class".into()));
        };
        // A picture of this folder, nothing else.
        if name.is_empty() || Path::new(name).file_name() != Some(OsStr::new(name)) {
            return Err(bad(number, format!("`{name}` is not the name of a picture")));
        }
        let label = labels.get(class).ok_or_else(|| bad(number, format!("class {class} is not a training class")))?;
        listed.push((*label as u32, OsStr::new(name).into()));
    }
    if listed.is_empty() {
        return Err(bad(0, "it lists no picture".into()));
    }
    listed.sort();
    listed.dedup();
    let mut passed = PassedOver::default();
    let there = pictures(&images, &mut PassedOver::default())?;
    let names: HashSet<&OsStr> = listed.iter().map(|(_, name)| &**name).collect();
    for _ in there.iter().filter(|name| !names.contains(&***name)) {
        passed.add_kind("without a line in val_annotations.txt");
    }
    let (labels, names) = listed.into_iter().unzip();
    Ok(Some((Split::in_files(vec![images; known.len()], names, labels), passed)))
}
