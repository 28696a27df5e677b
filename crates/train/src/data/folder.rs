//! Folders of images: a training, a validation and a test folder, each with one folder of images per class; or the class
//! folders alone.
//!
//! **Names.** `train` or `training`; `val`, `valid`, `validation` or `dev`; `test`, `testing`, `eval` or `evaluation`,
//! in any case. Classes are the folders' names in byte order, as torchvision's `ImageFolder` numbers them; images are
//! found at any depth below them, in its order. A `val_annotations.txt`, as Tiny-ImageNet has, names the classes of a
//! split without class folders of pictures. Hidden entries are skipped; what else is not read is counted and reported.
//!
//! **Memory.** [`list`] keeps names only, about 60 bytes per image (80 MB for ImageNet's 1.3 million). If all resized
//! images fit [`Options::memory`](super::Options::memory) (512 MiB by default) they are decoded at once; else the loader
//! decodes each image when it makes its batch, on all cores, within [`LoaderOptions::memory`](super::LoaderOptions::memory).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::classes;
use super::dataset::{Dataset, Role};
use super::error::{DataError, Result};
use super::extent;
use super::options::Options;
use super::passed_over::PassedOver;
use super::split::Split;
use crate::hex::hex;
use crate::run::summary::listed;

mod annotations;
mod layout;
mod walk;

pub use layout::{Layout, find, role_of};
pub use walk::{Entry, Kind, entries, pictures, text};

/// Whether `path` looks like folders of images.
pub fn is_one(path: &Path) -> bool {
    match find(path) {
        Ok(layout) => layout.of(Role::Train).is_some() || layout.classes,
        // Which [`list`] names.
        Err(error) => error.is_bad_data(),
    }
}

/// The data set that lies deeper in `path`, as where an archive was unpacked into a folder of its own: the only folder
/// in it that [is one](is_one), else one in its only folder, down to the third level. Folders of splits are none.
pub fn inner(path: &Path) -> Option<PathBuf> {
    fn below(path: &Path, levels: usize) -> Option<PathBuf> {
        let split = |entry: &Entry| role_of(&entry.name.to_string_lossy()).is_some();
        let folders = entries(path).ok()?.into_iter().filter(|e| e.kind == Kind::Folder && !e.link && !split(e));
        let folders: Vec<PathBuf> = folders.map(|entry| entry.path).take(64).collect();
        let mut sets = folders.iter().filter(|folder| is_one(folder));
        match (sets.next(), sets.next(), &folders[..]) {
            (Some(set), None, _) => Some(set.clone()),
            (None, None, [only]) if levels > 1 => below(only, levels - 1),
            _ => None,
        }
    }
    below(path, 3)
}

/// Classes and the images of one split.
struct Scan {
    folder: PathBuf,
    classes: Vec<String>,
    split: Split,
}

/// Lists the images below `path`; decodes none.
///
/// # Errors
/// See [`DataError`]: nothing found, two folders of one role, an empty class, different classes in two folders.
pub fn list(path: &Path, options: &Options) -> Result<Dataset> {
    let mut layout = find(path)?;
    let nothing = |found| DataError::NothingFound { path: path.into(), found };
    if layout.is_empty() {
        return Err(nothing(describe(path)?));
    }
    let mut passed = std::mem::take(&mut layout.passed);
    let root = layout.classes.then_some(path);
    let Some(train_folder) = layout.of(Role::Train).or(root) else {
        return Err(nothing(format!("there is no folder train, but {}", describe(path)?)));
    };
    let train = scan(train_folder, &mut passed)?;
    let mut held_out = [None, None];
    for (role, split) in [Role::Val, Role::Test].into_iter().zip(&mut held_out) {
        if let Some(folder) = layout.of(role) {
            *split = scan_held_out(folder, role, &train.classes, &mut passed, options)?;
        }
    }
    for other in held_out.iter().flatten() {
        if train.classes != other.classes {
            let difference = difference(&train.classes, &other.classes, &train.folder, &other.folder);
            return Err(DataError::Classes { train: train.folder, test: other.folder.clone(), difference });
        }
    }
    report(path, &passed, options);
    let [val, test] = held_out.map(|scan| scan.map(|scan| scan.split.with_exif(options.exif)));
    let train = Scan { split: train.split.with_exif(options.exif), ..train };
    // Of the test images only where they choose the best epoch: a run depends on the others.
    let judged = val.as_ref().or(test.as_ref());
    let fingerprint = fingerprint(&train.classes, [Some(&train.split), judged].into_iter().flatten());
    Ok(Dataset {
        name: name_of(path),
        source: format!("folder {}", path.display()),
        path: Some(path.into()),
        extent: extent::typical(&train.split),
        classes: train.classes,
        train: train.split,
        test: test.unwrap_or_else(Split::empty),
        val,
        warning: None,
        fingerprint,
    })
}

/// The images of one split alone: those of `role`, by default the test images, else the validation images; or those of
/// the class folders in `path` itself. Looks into no other folder. `known` are the classes that annotations may name.
///
/// # Errors
/// As [`list`]; there is no such split.
pub fn list_split(
    path: &Path,
    role: Option<Role>,
    known: &[String],
    options: &Options,
) -> Result<(Option<Role>, Vec<String>, Split)> {
    let layout = find(path)?;
    let missing = |role, found| DataError::NoSplit { path: path.into(), role, found };
    let mut passed = PassedOver::default();
    if layout.classes {
        let Scan { classes, split, .. } = scan(path, &mut passed)?;
        report(path, &passed, options);
        return Ok((None, classes, split.with_exif(options.exif)));
    }
    let wanted = match &role {
        Some(role) => std::slice::from_ref(role),
        None => &[Role::Test, Role::Val],
    };
    for &role in wanted {
        let Some(folder) = layout.of(role) else { continue };
        let found = match role {
            Role::Train => Some(scan(folder, &mut passed)?),
            role => scan_held_out(folder, role, known, &mut passed, options)?,
        };
        if let Some(Scan { classes, split, .. }) = found {
            report(folder, &passed, options);
            return Ok((Some(role), classes, split.with_exif(options.exif)));
        }
    }
    Err(match layout.is_empty() && role.is_none() {
        true => match pictures(path, &mut passed)?.len() {
            0 => DataError::NothingFound { path: path.into(), found: describe(path)? },
            pictures => DataError::NoClasses { path: path.into(), pictures },
        },
        false => missing(role.unwrap_or(Role::Test), describe(path)?),
    })
}

fn report(path: &Path, passed: &PassedOver, options: &Options) {
    if !passed.is_empty() {
        options.report.note(format!("{}: passed over {passed}", path.display()));
    }
}

/// The folder's own name.
pub fn name_of(path: &Path) -> String {
    let name = path.canonicalize().ok().and_then(|path| Some(text(path.file_name()?)));
    name.unwrap_or_else(|| path.display().to_string())
}

/// The classes below `path` and their images.
fn scan(path: &Path, passed: &mut PassedOver) -> Result<Scan> {
    scan_entries(path, entries(path)?, passed)
}

/// The classes among the entries `all` of `path`, and their images.
fn scan_entries(path: &Path, all: Vec<Entry>, passed: &mut PassedOver) -> Result<Scan> {
    let all = walk::without_links_up(path, all, passed)?;
    layout::loose_pictures(&all, passed);
    let folders: Vec<PathBuf> =
        all.iter().filter(|entry| entry.kind == Kind::Folder).map(|entry| entry.path.clone()).collect();
    if folders.is_empty() {
        return Err(match all.iter().filter(|entry| entry.kind == Kind::Picture).count() {
            0 => DataError::NothingFound { path: path.into(), found: "it has no class folders".into() },
            pictures => DataError::NoClasses { path: path.into(), pictures },
        });
    }
    // Before each is read.
    if folders.len() > classes::MOST {
        let reason = format!("it has {} class folders, the limit is {}", folders.len(), classes::MOST);
        return Err(DataError::Malformed { path: path.into(), reason });
    }
    let mut names: Vec<Box<OsStr>> = Vec::new();
    let mut labels = Vec::new();
    for (label, folder) in folders.iter().enumerate() {
        let mut others = PassedOver::default();
        let images = pictures(folder, &mut others)?;
        if images.is_empty() {
            return Err(DataError::EmptyClass { path: folder.clone(), others });
        }
        passed.merge(&others);
        labels.extend(std::iter::repeat_n(label as u32, images.len()));
        names.extend(images);
    }
    let classes = folders.iter().map(|folder| text(folder.file_name().unwrap_or_default())).collect();
    Ok(Scan { folder: path.into(), classes, split: Split::in_files(folders, names, labels) })
}

/// The images of a validation or test folder. `None`, with a note, for one that is empty, and for test pictures without
/// labels. `known`: the classes of the training images.
fn scan_held_out(
    path: &Path,
    role: Role,
    known: &[String],
    passed: &mut PassedOver,
    options: &Options,
) -> Result<Option<Scan>> {
    let all = entries(path)?;
    let folders: Vec<&Entry> = all.iter().filter(|entry| entry.kind == Kind::Folder).collect();
    let ours = |entry: &&Entry| known.iter().any(|class| *class == text(&entry.name));
    let images = |entry: &Entry| entry.name.eq_ignore_ascii_case("images") && !ours(&entry);
    let filled = |entry: &Entry| pictures(&entry.path, &mut PassedOver::default()).is_ok_and(|found| !found.is_empty());
    // The listed pictures may have been sorted into class folders since, which leaves the list and an empty `images`.
    let sorted = annotations::is_in(path) && folders.iter().any(|entry| ours(entry) && filled(entry));
    if !sorted && let Some((split, unlabelled)) = annotations::read(path, known)? {
        passed.merge(&unlabelled);
        return Ok(Some(Scan { folder: path.into(), classes: known.to_vec(), split }));
    }
    // Pictures of an unlabelled test set lie side by side, in Tiny-ImageNet in `images`.
    let unlabelled = match folders[..] {
        [] => true,
        [only] => images(only),
        _ => false,
    };
    if !unlabelled {
        let left_empty = |entry: &Entry| sorted && images(entry) && !filled(entry);
        let all = all.iter().filter(|entry| !left_empty(entry)).cloned().collect();
        return scan_entries(path, all, passed).map(Some);
    }
    let pictures = pictures(path, &mut PassedOver::default())?.len();
    if pictures > 0 && role != Role::Test {
        return Err(DataError::NoClasses { path: path.into(), pictures });
    }
    let reason = match pictures {
        0 => "it has no pictures".into(),
        n => format!("its {n} pictures have no labels (class folders)"),
    };
    options.report.note(format!("{} is not used: {reason}", path.display()));
    Ok(None)
}

/// What two lists of classes differ in. Names that differ by their Unicode normalisation only look alike, so it is said.
fn difference(train: &[String], test: &[String], train_path: &Path, test_path: &Path) -> String {
    let only = |here: &[String], there: &[String], path: &Path| {
        let names: Vec<&String> = here.iter().filter(|name| !there.contains(name)).collect();
        (!names.is_empty()).then(|| format!("only {} has {}", path.display(), listed(&names, 5)))
    };
    let mut parts: Vec<String> =
        [only(train, test, train_path), only(test, train, test_path)].into_iter().flatten().collect();
    parts.extend(look_alike(train, test));
    parts.join("; ")
}

/// Says of the first class that is in both lists but for its Unicode normalisation how it is written in each.
pub fn look_alike(train: &[String], test: &[String]) -> Option<String> {
    let form = |name: &str| match () {
        () if name.nfc().eq(name.chars()) => "composed characters (NFC)",
        () if name.nfd().eq(name.chars()) => "decomposed characters (NFD, as macOS writes them)",
        () => "both kinds of characters",
    };
    let alike = |a: &&String, b: &&String| a != b && a.nfc().eq(b.nfc());
    train.iter().filter(|name| !test.contains(name)).find_map(|ours| {
        let theirs = test.iter().find(|theirs| alike(&ours, theirs))?;
        Some(format!("the two names {ours} differ by Unicode normalisation only: {} and {}", form(ours), form(theirs)))
    })
}

fn describe(path: &Path) -> Result<String> {
    let names: Vec<String> =
        entries(path)?.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
    Ok(match names.len() {
        0 => "it is empty".into(),
        // Not `and 1 more`.
        n => format!("it has {}", listed(&names, if n == 6 { 6 } else { 5 })),
    })
}

/// Hash of the classes and of each image's label and name, not of the pixels.
fn fingerprint<'a>(classes: &[String], splits: impl Iterator<Item = &'a Split>) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    classes.iter().for_each(|class| add(class.as_bytes()));
    for split in splits {
        add(&(split.len() as u64).to_le_bytes());
        for (index, label) in split.labels().iter().enumerate() {
            add(&label.to_le_bytes());
            add(split.name(index).unwrap_or_default().as_encoded_bytes());
        }
    }
    hex(&hash.finalize())[..16].to_string()
}
