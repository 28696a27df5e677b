//! `alexnet data`: show, fetch, verify, augment, speed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::{advice, hint, output};
use crate::data::decode::Exif;
use crate::data::manifest::{Manifest, OFFICIAL_FOLDER, official_folder, read_file};
use crate::data::{DataError, Dataset, Options, Preprocess, Role, Split};
use crate::file_kind::FileKind;
use crate::print::{cut, pad, terminal, visible, widest};
use crate::run::Config;

mod draw;
mod listing;
mod speed;

/// Download, verify, show, augment and time data sets
///
/// Without a command: show.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// auto, cifar10, sample or a folder [env: ALEXNET_DATA]
    ///
    /// A folder holds CIFAR-10's official files, or pictures in train/CLASS/, val/CLASS/ and test/CLASS/, or in CLASS/.
    /// ALEXNET_DATA names the folder that auto and cifar10 use in place of the user's cache folder.
    #[arg(long, value_name = "DATA", default_value = "auto", global = true)]
    data: String,
    /// apply or ignore the EXIF orientation of pictures [default: apply]
    ///
    /// Phones store how a picture is to be turned beside its pixels. apply turns it upright, as viewers show it; ignore
    /// takes the pixels as they are stored.
    #[arg(long, value_name = "MODE", global = true)]
    exif: Option<Exif>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what is there; downloads nothing
    Show {
        /// Print one JSON object with the file and label of every image
        ///
        /// Keys: name, source, classes, fingerprint, and splits: train, val, test, each with images, per_class, files and
        /// labels. The order is that of the labels in training.
        #[arg(long)]
        json: bool,
    },
    /// Download CIFAR-10 into the cache, unless it is there
    Fetch,
    /// Check every file
    ///
    /// CIFAR-10's files: size, SHA-256 and labels. Folders: whether each image can be decoded.
    Verify,
    /// Draw augmented training images as a PNG
    Augment(draw::Args),
    /// Measure how fast training images are loaded
    ///
    /// In images per second that are read, decoded, resized and augmented, for one epoch or ten seconds.
    Speed(speed::Args),
}

/// Runs the command.
///
/// # Errors
/// Missing data (except for `show`), bad data, or no source to download from.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = Options { exif: args.exif.unwrap_or_default(), ..hint::data_options() };
    let text = match args.action.as_ref().unwrap_or(&Action::Show { json: false }) {
        Action::Augment(draw) => draw::run(draw, &args.data, options)?,
        Action::Speed(speed) => speed::run(speed, &args.data, options)?,
        // memory: 0, since images in memory have no files.
        Action::Show { json: true } => {
            let dataset = local(&args.data, &Options { memory: 0, ..options })?;
            output::print(format!("{}\n", listing::listing(&dataset)).as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Action::Show { json: false } => show(&args.data, &options)?,
        Action::Fetch => fetch(&args.data, &options)?,
        Action::Verify => {
            let (text, bad) = verify(&args.data, &options)?;
            let printed = output::print_text(&text);
            // What is bad outweighs a reader that is gone.
            return match bad {
                Some(error) => Err(error.into()),
                None => Ok(printed.map(|()| ExitCode::SUCCESS)?),
            };
        }
    };
    output::print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(data: &str, options: &Options) -> anyhow::Result<String> {
    if !matches!(data, "auto" | "cifar10") {
        return Err(DataError::Setting {
            what: "`--data` of `data fetch`",
            value: format!("`{data}`"),
            expected: "auto or cifar10 (ALEXNET_DATA names the folder to fetch into)",
        }
        .into());
    }
    Ok(describe(&Dataset::open("cifar10", options)?))
}

fn show(data: &str, options: &Options) -> anyhow::Result<String> {
    match local(data, options) {
        Ok(dataset) => {
            let advice = [advice::small_input, advice::imbalance].map(|of| of(&dataset, &Config::default()));
            let advice: String = advice.into_iter().flatten().map(|line| format!("\n{line}\n")).collect();
            Ok(describe(&dataset) + &advice)
        }
        Err(DataError::Missing { path }) if matches!(data, "auto" | "cifar10") => Ok(format!(
            "CIFAR-10 is not there: {} is missing.\n\
             `alexnet data fetch` downloads it (so does `alexnet train`); `--data sample` trains without it.\n",
            path.display()
        )),
        Err(error) => Err(error.into()),
    }
}

/// Opens what `data` names; downloads nothing.
fn local(data: &str, options: &Options) -> Result<Dataset, DataError> {
    match data {
        "auto" | "cifar10" => {
            let folder = options.cifar10_folder()?;
            if data == "auto" && options.folder.is_some() && crate::data::folder::is_one(&folder) {
                return Dataset::open_folder(&folder, options);
            }
            let files = cifar_folder(&folder, &options.manifest);
            crate::data::open::official(&files, &options.manifest, format!("cache {}", files.display()))
        }
        other => Dataset::open(other, options),
    }
}

/// Where CIFAR-10's official files are in `folder`, or would be.
fn cifar_folder(folder: &Path, manifest: &Manifest) -> std::path::PathBuf {
    official_folder(folder, manifest).unwrap_or_else(|| folder.join(OFFICIAL_FOLDER))
}

/// A report of what was checked, and the first error.
fn verify(data: &str, options: &Options) -> Result<(String, Option<DataError>), DataError> {
    let mut text = String::new();
    let folder = match data {
        "sample" => None,
        "auto" | "cifar10" => Some(options.cifar10_folder()?),
        folder => Some(folder.into()),
    };
    let official = |folder: &Path| official_folder(folder, &options.manifest).is_some();
    let by_name = |folder: &Path| matches!(data, "auto" | "cifar10") && !crate::data::folder::is_one(folder);
    if let Some(folder) = folder.as_ref().filter(|folder| official(folder) || by_name(folder)) {
        let files = cifar_folder(folder, &options.manifest);
        let _ = writeln!(text, "{}", files.display());
        let mut bad = None;
        for spec in &options.manifest.files {
            let result = read_file(&files, spec);
            let verdict = match &result {
                Ok(_) => format!("{} bytes, SHA-256 {}…  ok", spec.bytes(), &spec.sha256[..16]),
                Err(DataError::Missing { .. }) => "missing".into(),
                Err(DataError::WrongSize { actual, expected, .. }) => {
                    format!("{actual} bytes, expected {expected}  BAD")
                }
                Err(error) => format!("BAD: {}", visible(&error.to_string())),
            };
            let _ = writeln!(text, "  {:<18} {verdict}", spec.name);
            bad = bad.or(result.err());
        }
        return Ok((text, bad));
    }
    // memory: 0 leaves files undecoded, so that every bad one is reported, not only the first.
    let dataset = match &folder {
        Some(folder) => Dataset::open_folder(folder, &Options { memory: 0, ..options.clone() })?,
        None => Dataset::open("sample", options)?,
    };
    let mut bad = Vec::new();
    for (_, split) in dataset.splits() {
        bad.extend(split.faults(options.image_size));
    }
    text += &describe(&dataset);
    text += &kinds(&dataset);
    for error in &bad {
        let _ = writeln!(text, "BAD: {}", visible(&error.to_string()));
    }
    let images: usize = dataset.splits().map(|(_, split)| split.len()).sum();
    let _ = writeln!(text, "{} of {images} images decode.", images - bad.len());
    Ok((text, bad.into_iter().next()))
}

/// How many files there are of each kind, by their contents; nothing for images in memory.
fn kinds(dataset: &Dataset) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (_, split) in dataset.splits() {
        for path in (0..split.len()).filter_map(|index| split.file(index)) {
            let kind = FileKind::of_file(&path).unwrap_or(FileKind::Unknown).name();
            let kind = kind.trim_start_matches("a ").trim_start_matches("an ").trim_end_matches(" picture");
            *counts.entry(kind).or_default() += 1;
        }
    }
    let list: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if list.is_empty() { String::new() } else { format!("\nkinds      {}\n", list.join(", ")) }
}

/// Source, sizes, and number of images per class.
fn describe(dataset: &Dataset) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "data set   {}", visible(&dataset.name));
    let _ = writeln!(text, "source     {}", visible(&dataset.source));
    if let Some(path) = &dataset.path {
        let _ = writeln!(text, "path       {}", visible(&path.to_string_lossy()));
    }
    let kind = |split: &Split| match split.image_size() {
        Some(size) => format!("{} images {size}×{size} in memory", split.len()),
        None => format!("{} files, decoded as needed", split.len()),
    };
    for (role, split) in dataset.splits() {
        let _ = writeln!(text, "{:<10} {}{}", role.to_string(), kind(split), purpose(dataset, role));
    }
    if let Some(size) = dataset.train.image_size().filter(|_| !dataset.train.is_empty())
        && let Ok(measured) = Preprocess::default().measured(&dataset.train, size)
    {
        let list = |values: [f32; 3]| values.map(|x| format!("{x:.4}")).join(" ");
        // The numbers of `--normalise auto`.
        let _ = writeln!(text, "pixels     mean {}, deviation {}", list(measured.mean), list(measured.std));
    }
    let classes = dataset.classes.len();
    let columns: Vec<(Role, Vec<usize>)> =
        dataset.splits().map(|(role, split)| (role, split.counts(classes))).collect();
    let room = terminal().map_or(usize::MAX, |width| width.saturating_sub(2 + 12 * columns.len()));
    let names: Vec<_> = dataset.classes.iter().map(|name| visible(name)).collect();
    let width = widest(names.iter().map(AsRef::as_ref)).min(room).max(5);
    let row = |cells: Vec<String>| cells.iter().map(|cell| format!("  {cell:>10}")).collect::<String>();
    let roles = row(columns.iter().map(|(role, _)| role.to_string()).collect());
    let _ = writeln!(text, "\n{}{roles}", pad("class", width));
    for (class, name) in names.iter().enumerate() {
        let counts = row(columns.iter().map(|(_, counts)| counts[class].to_string()).collect());
        let _ = writeln!(text, "{}{counts}", pad(&cut(name, width), width));
    }
    text
}

/// What the images of a folder are used for, where its name does not say it.
fn purpose(dataset: &Dataset, role: Role) -> &'static str {
    match role {
        Role::Train if dataset.scored().is_none() => " (hold some out with --val 20%)",
        Role::Val => ", which choose the best epoch",
        Role::Test if dataset.val.is_none() => ", which choose the best epoch too, unless --val is given",
        Role::Test => ", used once, after the last epoch",
        Role::Train => "",
    }
}
