//! The data set of a run: opened, split, limited, compared with that of the run that is resumed.

use super::start::Resumed;
use crate::cli::dataset::{hold_out, tell_lost_classes};
use crate::cli::hint;
use crate::data::{self, BrokenPictures, Dataset, Fit, Preprocess, Role, Split, folder};
use crate::print::notice;
use crate::run::checkpoint::Metadata;
use crate::run::config::Config;
use crate::run::file_list::FileList;
use crate::run::summary;

/// A run's data.
pub struct RunData {
    /// The images.
    pub dataset: Dataset,
    /// Their files, if they are files.
    pub files: Option<FileList>,
    /// Whether they differ from those that the run had before, and `--accept-data-changes` takes them.
    pub changed: bool,
}

/// Opens the data set, holds out its validation images and limits it as the settings say.
///
/// # Errors
/// The data cannot be opened; nothing is held out; a resumed run was trained on other data, unless `accept` takes them.
pub fn open(
    config: &Config,
    preprocess: &Preprocess,
    resumed: Option<&Resumed>,
    accept: bool,
) -> anyhow::Result<RunData> {
    let (image_size, resize, originals) = (config.image_size(), preprocess.resize, config.augment.resized_crop);
    let exif = config.exif;
    let options = data::Options { image_size, resize, originals, exif, ..hint::data_options() };
    let mut dataset = Dataset::list(&config.data, &options)?;
    let kept = resumed.and_then(|resumed| resumed.files.as_ref());
    // Of all images, so that --limit-train does not change how they are read.
    let at_once = dataset.fits(options.image_size, options.memory);
    hold_out(&mut dataset, config, kept, resumed.is_some())?;
    if dataset.scored().is_none() {
        let message = format!("{} has training pictures only: nothing would choose the best epoch", dataset.name);
        return Err(hint::failure(message, "hold some out with --val 20%, or add a folder val/ with the same classes"));
    }
    let files = FileList::of(&dataset)?;
    let changed = match resumed {
        Some(resumed) => differs(resumed.metadata(), &dataset, kept, files.as_ref(), accept)?,
        None => false,
    };
    dataset.train = dataset.train.limit(config.limit_train.unwrap_or(usize::MAX));
    let limit = config.limit_test.unwrap_or(usize::MAX);
    dataset.test = dataset.test.limit(limit);
    if config.val.is_none() {
        dataset.val = dataset.val.map(|val| val.limit(limit));
    }
    if config.skip_broken {
        skip_broken(&mut dataset, options.fit())?;
    }
    if at_once {
        dataset.load(options.fit(), originals)?;
    }
    if dataset.classes.len() == 1 {
        notice("the data have 1 class, so that there is nothing to learn: put each class into a folder of its own");
    }
    Ok(RunData { dataset, files, changed })
}

/// Training images stay where they are, so that the order and the random numbers of the others do not change; of the
/// evaluated ones the broken are taken out, and classes that have none left are named.
fn skip_broken(dataset: &mut Dataset, fit: Fit) -> data::Result<()> {
    let broken = BrokenPictures::default();
    let in_files = |split: &Split| split.pixels().is_none() && !split.is_empty();
    dataset.train = dataset.train.skipping(&broken);
    let held_out = [(Role::Val, dataset.val.as_mut()), (Role::Test, Some(&mut dataset.test))];
    for (role, split) in held_out.into_iter().filter_map(|(role, split)| Some((role, split?))) {
        if in_files(split) {
            let kept = split.without_broken(fit, &broken)?;
            tell_lost_classes(&format!("{role} images"), &dataset.classes, split, &kept);
            *split = kept;
        }
    }
    Ok(())
}

/// Whether a resumed run's data differ from those it was trained on.
fn differs(
    run: &Metadata,
    dataset: &Dataset,
    kept: Option<&FileList>,
    files: Option<&FileList>,
    accept: bool,
) -> anyhow::Result<bool> {
    let changes = kept.zip(files).map(|(kept, files)| kept.changes(files));
    if run.data.fingerprint == dataset.fingerprint && changes.as_ref().is_none_or(|changes| changes.altered.is_empty())
    {
        return Ok(false);
    }
    if run.classes != dataset.classes {
        let message = format!(
            "the run was trained on {}, but {} ({}) is other data: it has other classes",
            run.data.name, dataset.name, dataset.source
        );
        return Err(hint::failure(message, "give the run's own data with --data, or start a new run"));
    }
    let changes = match changes {
        Some(changes) => changes.to_string(),
        None => "which files were added or removed is not known".into(),
    };
    if !accept {
        let message = format!(
            "the run was trained on {}, but {} ({}) is other data: {changes}",
            run.data.name, dataset.name, dataset.source
        );
        return Err(hint::failure(
            message,
            "give the run's own data with --data; if its files were changed on purpose, add --accept-data-changes",
        ));
    }
    notice(&format!("the data changed: {changes}"));
    Ok(true)
}

/// What tells a data set, as it is trained on, from others: of pictures the names, sizes and checksums.
pub fn fingerprint(dataset: &Dataset, files: Option<&FileList>) -> String {
    let splits = dataset.splits().map(|(role, split)| format!("{role} images = {}\n", split.len()));
    let files = files.map(|files| format!("files = {:08x}\n", crc32c::crc32c(files.to_string().as_bytes())));
    let data = format!("data = {} {}\n", dataset.name, dataset.fingerprint);
    splits.chain([data]).chain(files).collect()
}

/// The line about the data.
pub fn line(dataset: &Dataset) -> String {
    let mut counts: Vec<String> =
        dataset.splits().map(|(role, split)| format!("{} {role}", summary::grouped(split.len() as u64))).collect();
    let last = counts.pop().unwrap_or_default();
    let counts = if counts.is_empty() { last } else { format!("{} and {last}", counts.join(", ")) };
    format!(
        "data     {}: {counts} images, {} ({})",
        dataset.name,
        summary::classes(dataset.classes.len()),
        dataset.source
    )
}

/// What the only held-out images of a folder are used for.
pub fn only_held_out(dataset: &Dataset, config: &Config) -> Option<String> {
    if matches!(config.data.as_str(), "auto" | "cifar10" | "sample") {
        return None;
    }
    let (role, missing) = match (dataset.split(Role::Val), dataset.split(Role::Test)) {
        (Some(_), None) => (Role::Val, "no separate test set"),
        (None, Some(_)) => (Role::Test, "no separate validation set (--val 20% makes one)"),
        _ => return None,
    };
    let layout = dataset.path.as_ref().and_then(|path| folder::find(path).ok()).unwrap_or_default();
    let what = match layout.of(role).and_then(|folder| folder.file_name()) {
        Some(name) => format!("{}/ is", name.to_string_lossy()),
        None => format!("the {role} images are"),
    };
    Some(format!("         {what} used to choose the best epoch; {missing}"))
}
