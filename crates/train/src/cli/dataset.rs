//! The data sets that commands open by the settings of a run.

use super::hint;
use super::model::LoadedCheckpoint;
use crate::data::folder::look_alike;
use crate::data::{BrokenPictures, DataError, Dataset, Options, Role, Split, folder};
use crate::print::notice;
use crate::run::checkpoint::Metadata;
use crate::run::config::{Config, flag};
use crate::run::file_list::FileList;
use crate::run::summary::{self, classes, listed};
use crate::run::{Error, Result};

/// Most classes that a message names.
const MOST_NAMED: usize = 5;

/// Holds out the validation images that `--val` asks for: those of `kept`, the list of a run that is resumed or
/// evaluated, else a new choice. The only folder of held-out images then is the test set; so is `val` of a run that has
/// `begun`, since older ones did not read `test` beside it.
///
/// # Errors
/// The data of a new run have validation and test images of their own; too few training images.
pub fn hold_out(dataset: &mut Dataset, config: &Config, kept: Option<&FileList>, begun: bool) -> Result<()> {
    let Some(val) = config.val else { return Ok(()) };
    if let Some(own) = dataset.val.take() {
        if !dataset.test.is_empty() && !begun {
            let message = format!(
                "{} {val} holds out training images, but {} has validation images of its own",
                flag("val"),
                dataset.name
            );
            return Err(Error::Conflict { key: "val", message });
        }
        dataset.test = own;
    }
    let names = kept.map(FileList::held_out).filter(|names| !names.is_empty());
    if names.is_some_and(|names| dataset.hold_out_named(&names) > 0) {
        return Ok(());
    }
    dataset.val = None;
    let (images, count) = (dataset.train.len(), val.of(dataset.train.len()));
    if count >= images {
        let expected = format!("fewer than the {images} training images");
        return Err(Error::Setting { name: flag("val"), value: val.to_string(), expected });
    }
    dataset.hold_out(count, config.val_seed);
    Ok(())
}

/// Images to evaluate, with the labels of the network.
pub struct Scored {
    /// Name of the data set.
    pub name: String,
    /// What they are for; `None` for a folder of classes.
    pub role: Option<Role>,
    /// The images.
    pub split: Split,
    /// The broken ones that were left out.
    pub broken: BrokenPictures,
}

impl Scored {
    /// `test images`, `validation images`, `images`.
    pub fn images(&self) -> String {
        let role = self.role.map_or_else(String::new, |role| format!("{role} "));
        format!("{role}image{}", if self.split.len() == 1 { "" } else { "s" })
    }
}

/// What to open for an evaluation.
pub struct Choice<'a> {
    /// The data; by default the run's.
    pub data: Option<&'a str>,
    /// The split; by default the test images, else the validation images.
    pub role: Option<Role>,
    /// Most images, spread over the split.
    pub limit: Option<usize>,
    /// Leave broken pictures out.
    pub skip_broken: bool,
}

/// Opens the images to evaluate a network on; of folders only the one that holds them, and no picture is decoded.
///
/// # Errors
/// The data cannot be opened, have no such split, or classes that the network does not know.
pub fn scored(choice: &Choice<'_>, loaded: &LoadedCheckpoint, options: &Options) -> anyhow::Result<Scored> {
    let metadata = loaded.metadata();
    let config = Config::of_run(&metadata.config, &loaded.path);
    let data = match choice.data {
        Some(data) => data.to_owned(),
        None => config.as_ref().map_err(|_| no_data(loaded))?.data.clone(),
    };
    let kept = match loaded.path.parent().map(|folder| folder.join("files.txt")) {
        Some(path) => FileList::read(&path)?,
        None => None,
    };
    let found = open(&data, choice, metadata, config.as_ref().ok(), kept.as_ref(), options).map_err(|error| {
        let moved = choice.data.is_none() && !matches!(data.as_str(), "auto" | "cifar10" | "sample");
        match error.downcast_ref::<DataError>() {
            Some(DataError::Io(_) | DataError::NothingFound { .. } | DataError::Unknown { .. }) if moved => {
                hint::failure(
                    format!("the run's data cannot be opened: {error}"),
                    "if they were moved, name their folder with --data",
                )
            }
            _ => error,
        }
    })?;
    let (role, names, split, name) = found;
    let split = with_labels_of(&metadata.classes, &names, split, &name)?.limit(choice.limit.unwrap_or(usize::MAX));
    let broken = BrokenPictures::default();
    let split = match choice.skip_broken {
        true => {
            let kept = split.without_broken(options.fit(), &broken)?;
            tell_lost_classes(&name, &metadata.classes, &split, &kept);
            kept
        }
        false => split,
    };
    if !broken.is_empty() {
        notice(&format!("left out {}:", summary::count(broken.len(), "broken picture")));
        broken.lines().iter().for_each(|line| notice(&format!("  {}", line.replacen('\t', ": ", 1))));
    }
    Ok(Scored { name, role, split, broken })
}

/// Names the classes that had pictures `before` the broken ones were left out and have none `after`: an accuracy then is
/// that of the other classes. `images` says which images.
pub fn tell_lost_classes(images: &str, names: &[String], before: &Split, after: &Split) {
    let (before, after) = (before.counts(names.len()), after.counts(names.len()));
    let lost: Vec<&String> =
        names.iter().zip(before.iter().zip(&after)).filter(|(_, (b, a))| **b > 0 && **a == 0).map(|(n, _)| n).collect();
    if !lost.is_empty() {
        notice(&format!(
            "{images}: every picture of {} is broken, and none is scored: {}",
            classes(lost.len()),
            listed(&lost, MOST_NAMED)
        ));
    }
}

fn no_data(loaded: &LoadedCheckpoint) -> anyhow::Error {
    let message = format!("{} does not say what data it was trained on", loaded.path.display());
    hint::failure(message, "name the pictures to evaluate with --data")
}

type Opened = (Option<Role>, Vec<String>, Split, String);

fn open(
    data: &str,
    choice: &Choice<'_>,
    metadata: &Metadata,
    config: Option<&Config>,
    kept: Option<&FileList>,
    options: &Options,
) -> anyhow::Result<Opened> {
    let path = match (data, &options.folder) {
        ("auto", Some(folder)) if folder::is_one(folder) => Some(folder.as_path()),
        ("auto" | "cifar10" | "sample", _) => None,
        (folder, _) => Some(std::path::Path::new(folder)),
    };
    let format = path.map(|path| Dataset::open_format(path, options)).transpose()?.flatten();
    let of_folder = path.filter(|_| format.is_none());
    let splits = config.filter(|config| config.val.is_some());
    // The run's own data, part of which it held out.
    if let (Some(config), Some(path)) = (splits, of_folder)
        && let Ok(mut dataset) =
            folder::list(path, &Options { report: crate::data::Reporter::silent(), ..options.clone() })
        && (choice.data.is_none() || dataset.fingerprint == metadata.data.fingerprint)
    {
        hold_out(&mut dataset, config, kept, true)?;
        return pick(dataset, choice.role);
    }
    if let Some(path) = of_folder {
        let (role, names, split) = folder::list_split(path, choice.role, &metadata.classes, options)?;
        return Ok((role, names, split, folder::name_of(path)));
    }
    let mut dataset = match format {
        Some(dataset) => dataset,
        None => Dataset::list(data, options)?,
    };
    if let Some(config) = splits.filter(|_| dataset.fingerprint == metadata.data.fingerprint) {
        hold_out(&mut dataset, config, kept, true)?;
    }
    pick(dataset, choice.role)
}

fn pick(dataset: Dataset, role: Option<Role>) -> anyhow::Result<Opened> {
    let found = match role {
        Some(role) => dataset.split(role).map(|split| (role, split.clone())),
        None => dataset.scored().map(|(role, split)| (role, split.clone())),
    };
    let Some((role, split)) = found else {
        let role = role.unwrap_or(Role::Test);
        let there: Vec<String> = dataset.splits().map(|(role, split)| format!("{} {role}", split.len())).collect();
        let path = dataset.path.unwrap_or_else(|| dataset.name.into());
        let found = format!("there are {} pictures", there.join(" and "));
        return Err(DataError::NoSplit { path, role, found }.into());
    };
    Ok((Some(role), dataset.classes, split, dataset.name))
}

/// The images with the labels that the network, trained on the classes `trained`, has for the classes `found`. Says which
/// classes have no images.
fn with_labels_of(trained: &[String], found: &[String], split: Split, name: &str) -> anyhow::Result<Split> {
    if trained == found {
        return Ok(split);
    }
    let place = |class: &String| trained.iter().position(|own| own == class).map(|place| place as u32);
    let unknown: Vec<&String> = found.iter().filter(|class| place(class).is_none()).collect();
    if !unknown.is_empty() {
        let alike = look_alike(trained, found).map_or_else(String::new, |alike| format!("; {alike}"));
        let message = format!(
            "{name} has {} that the network was not trained on: {}{alike}",
            classes(unknown.len()),
            listed(&unknown, MOST_NAMED)
        );
        return Err(hint::failure(message, "give data with the classes it was trained on with --data"));
    }
    let missing: Vec<&String> = trained.iter().filter(|class| !found.contains(class)).collect();
    if !missing.is_empty() {
        notice(&format!(
            "{name} has no images of {} of the {}: {}",
            missing.len(),
            classes(trained.len()),
            listed(&missing, MOST_NAMED)
        ));
    }
    let map: Vec<u32> = found.iter().filter_map(place).collect();
    Ok(split.relabelled(&map, trained.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_names() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let split = Split::in_memory(vec![7; 9], 1, vec![0, 1, 1]);
        let trained = names(&["ant", "bee", "cat"]);
        let found = with_labels_of(&trained, &names(&["bee", "ant"]), split.clone(), "d").unwrap();
        assert_eq!(found.labels(), [1, 0, 0]);
        let error = with_labels_of(&trained, &names(&["bee", "dog"]), split, "d").err().unwrap();
        assert_eq!(error.to_string(), "d has 1 class that the network was not trained on: dog");
    }
}
