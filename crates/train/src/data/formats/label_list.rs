//! A list of labels beside a folder of pictures, as in Kaggle's competitions: `trainLabels.csv` and `train/1.png`.
//!
//! The test pictures of a competition have no labels and are not read. What is not used is named.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{malformed, read};
use crate::data::dataset::Dataset;
use crate::data::decode::EXTENSIONS;
use crate::data::error::{DataError, Result};
use crate::data::extent;
use crate::data::folder::{self, Kind, role_of};
use crate::data::options::Options;
use crate::data::passed_over::PassedOver;
use crate::data::split::Split;
use crate::hex::hex;
use crate::run::summary::count;

/// Names of the list.
const LISTS: [&str; 5] = ["trainLabels.csv", "train_labels.csv", "labels.csv", "train.csv", "trainLabels_cropped.csv"];
/// Names of the column of labels, else the second is taken.
const LABELS: [&str; 8] = ["label", "labels", "class", "class_name", "category", "breed", "species", "target"];
/// Names of the column of pictures, else the first other one is taken.
const PICTURES: [&str; 7] = ["id", "image", "image_id", "filename", "file", "path", "name"];
/// Largest list.
const MOST: u64 = 1 << 28;
/// Most rows; ImageNet has 1.3 million pictures.
const MOST_ROWS: usize = 1 << 21;

/// A line of the list.
struct Row {
    /// Its number, from 1.
    line: usize,
    /// The picture's name, perhaps without its extension.
    id: String,
    /// The picture's class.
    label: String,
}

/// Opens the list and the pictures that it names; `None` if there is no list, or `train/` has class folders.
pub(super) fn open(path: &Path, options: &Options) -> Result<Option<Dataset>> {
    let Some(list) = LISTS.map(|name| path.join(name)).into_iter().find(|list| list.is_file()) else { return Ok(None) };
    let folder = ["train", "train_images", "images"].map(|name| path.join(name));
    let Some(folder) = folder.into_iter().find(|folder| folder.is_dir()) else { return Ok(None) };
    let rows = rows(&list, &folder)?;
    let Some(Row { id, label, .. }) = rows.first() else { return Err(malformed(&list, "it has no rows")) };
    let Some(extension) = extension(&folder, id) else {
        // A list beside class folders is not the data set's.
        let classes = std::fs::read_dir(&folder).map_err(DataError::io("read", &folder))?.flatten();
        if classes.take(64).any(|entry| entry.path().is_dir()) {
            return Ok(None);
        }
        return Err(malformed(
            &list,
            format!("its first row is {id},{label}, but {} has no such picture", folder.display()),
        ));
    };
    let classes: Vec<String> =
        rows.iter().map(|row| &row.label).collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let (mut names, mut labels) = (Vec::new(), Vec::new());
    let mut hash = Sha256::new();
    let mut listed = HashMap::<String, &Row>::new();
    for row in &rows {
        let Row { line, id, label } = row;
        let name = format!("{id}{extension}");
        if let Some(first) = listed.insert(name.clone(), row).filter(|first| first.label != *label) {
            let reason = format!(
                "picture {name} has the label {} in line {}, and {label} in line {line}",
                first.label, first.line
            );
            return Err(malformed(&list, reason));
        }
        if !folder.join(&name).is_file() {
            return Err(DataError::Missing { path: folder.join(name) });
        }
        hash.update(format!("{name}\n{label}\n"));
        names.push(Box::<OsStr>::from(OsStr::new(&name)));
        labels.push(classes.binary_search(label).unwrap_or_default() as u32);
    }
    tell_unused(path, &folder, &listed, options)?;
    let folders: Vec<PathBuf> = vec![folder; classes.len()];
    let train = Split::in_files(folders, names, labels).with_exif(options.exif);
    let extent = extent::typical(&train);
    Ok(Some(Dataset {
        name: folder::name_of(path),
        source: format!("list {}: its pictures are for training, none for testing", list.display()),
        path: Some(path.into()),
        extent,
        classes,
        train,
        val: None,
        test: Split::empty(),
        warning: None,
        fingerprint: hex(&hash.finalize())[..16].to_string(),
    }))
}

/// Counts the pictures in `folder` that the list does not name, and those of other splits, which it cannot name.
fn tell_unused(path: &Path, folder: &Path, listed: &HashMap<String, &Row>, options: &Options) -> Result<()> {
    let pictures = |folder: &Path| folder::pictures(folder, &mut PassedOver::default());
    let unnamed = pictures(folder)?.iter().filter(|name| !listed.contains_key(&*name.to_string_lossy())).count();
    if unnamed > 0 {
        let unnamed = count(unnamed, "picture");
        options.report.note(format!("{}: passed over {unnamed} that the list does not name", folder.display()));
    }
    for entry in folder::entries(path)?.into_iter().filter(|entry| entry.kind == Kind::Folder && entry.path != folder) {
        let name = entry.name.to_string_lossy();
        if role_of(&name).is_none() && name != "test_images" {
            continue;
        }
        let others = pictures(&entry.path)?.len();
        if others > 0 {
            let (at, others) = (entry.path.display(), count(others, "picture"));
            options.report.note(format!("{at} is not used: the list does not label its {others}"));
        }
    }
    Ok(())
}

/// What follows the number in the name of a picture: nothing, if the list has whole names.
fn extension(folder: &Path, id: &str) -> Option<String> {
    let tried = std::iter::once(String::new()).chain(
        EXTENSIONS.iter().flat_map(|extension| [format!(".{extension}"), format!(".{}", extension.to_uppercase())]),
    );
    tried.into_iter().find(|extension| folder.join(format!("{id}{extension}")).is_file())
}

/// The lines but for the first, which names the columns unless it names a picture in `folder`.
fn rows(list: &Path, folder: &Path) -> Result<Vec<Row>> {
    let text = read(list, MOST)?;
    let text = String::from_utf8(text).map_err(|_| malformed(list, "it is not UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).peekable();
    let head = fields(lines.peek().map_or("", |(_, line)| line));
    let column = |names: &[&str]| head.iter().position(|name| names.contains(&name.to_lowercase().as_str()));
    let label = column(&LABELS).unwrap_or(1);
    let id = column(&PICTURES).unwrap_or(usize::from(label == 0));
    let known = |name: &String| PICTURES.contains(&name.to_lowercase().as_str());
    let names_columns =
        head.get(id).is_none_or(|name| known(name) || name.is_empty() || extension(folder, name).is_none());
    let mut rows = Vec::new();
    for (number, line) in lines.skip(usize::from(names_columns)) {
        let mut fields = fields(line);
        if fields.len() != head.len() || head.len() < 2 {
            let reason = format!("line {number} has {} columns, the first {}", fields.len(), head.len());
            return Err(malformed(list, reason));
        }
        let (id, label) = (std::mem::take(&mut fields[id]), std::mem::take(&mut fields[label]));
        let outside = Path::new(&id).components().any(|part| !matches!(part, std::path::Component::Normal(_)));
        if id.is_empty() || outside || label.is_empty() {
            return Err(malformed(list, format!("line {number} has the name `{id}` and the label `{label}`")));
        }
        if rows.len() == MOST_ROWS {
            return Err(malformed(list, format!("it has more than {MOST_ROWS} rows, the limit")));
        }
        rows.push(Row { line: number, id, label });
    }
    Ok(rows)
}

/// The fields of a line, which may stand in quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.trim_end().chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                fields.last_mut().unwrap_or_else(|| unreachable!("there is one")).push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            character => fields.last_mut().unwrap_or_else(|| unreachable!("there is one")).push(character),
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}
