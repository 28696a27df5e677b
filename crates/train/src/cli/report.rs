//! `alexnet report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::dataset::{self, Choice};
use super::hint;
use super::model::{DeviceArgs, LoadedCheckpoint};
use super::output;
use crate::data;
use crate::report::test::test;
use crate::report::{self, Plot, Run, plot};
use crate::run::{Config, Error, folder, metrics};

/// Test images per batch.
const BATCH: usize = 128;

/// Write an HTML page about runs: curves, confusion, mistakes
///
/// Curves of several runs share one plot; settings that differ, and how the confusion of each run differs from that of the
/// first, are shown beside them. The page needs no network access and follows the browser's light or dark
/// theme.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Page to write
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Also write each plot as an SVG file into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Leave out the evaluation of the test images
    ///
    /// The page then has no confusion matrix and no mistakes.
    #[arg(long)]
    no_test: bool,
    /// auto, cifar10, sample or a folder [default: the run's data]
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Use only N test images, spread over the set [default: the run's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit_test: Option<u64>,
    /// Mistakes to show
    #[arg(long, value_name = "N", default_value_t = 24)]
    mistakes: usize,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Reports.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    output::check_free(&args.output, args.force)?;
    let mut runs: Vec<Run> = Vec::new();
    for path in &args.runs {
        let mut run = open(args, path)?;
        // Legends and file names tell runs apart by their name.
        if runs.iter().any(|other| other.name == run.name) {
            run.name = format!("{}-{}", run.name, runs.len() + 1);
        }
        runs.push(run);
    }
    let page = report::page(&runs);
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        let curves = report::curves(&runs).into_iter().map(|plot| (plot, &names[..]));
        let tests = runs.iter().flat_map(report::test_plots);
        let compared = report::compare::confusions(&runs).into_iter().map(|(_, plot)| plot);
        let tests = tests.chain(compared.filter(|plot| !plot.svg.is_empty())).map(|plot| (plot, &[][..]));
        for (Plot { file, svg }, names) in curves.chain(tests) {
            let svg = plot::standalone(&svg, names);
            output::write(&folder.join(format!("{file}.svg")), svg.as_bytes(), args.force)?;
        }
    }
    output::write(&args.output, page.as_bytes(), args.force)?;
    output::line(&format!("wrote {}: {} kB", args.output.display(), page.len().div_ceil(1000)))?;
    Ok(ExitCode::SUCCESS)
}

fn open(args: &Args, path: &Path) -> anyhow::Result<Run> {
    if path.is_file() {
        return Err(Error::NotARun { path: path.into(), reason: "it is a file" }.into());
    }
    if !path.is_dir() {
        return Err(Error::NoFolder { path: path.into() }.into());
    }
    let loaded = LoadedCheckpoint::new(path)?;
    let metadata = loaded.metadata();
    let config = Config::parse(&metadata.config, &loaded.path)?;
    // Before the test, which takes longer.
    let records = metrics::read(&path.join(folder::METRICS))?;
    let steps = match path.join(folder::STEPS) {
        file if file.exists() => metrics::read_steps(&file)?,
        _ => Vec::new(),
    };
    let full = path.canonicalize().unwrap_or_else(|_| path.into());
    let name = full.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let tested = match args.no_test {
        true => None,
        false => {
            let mut classifier = match loaded.classifier(&args.device, BATCH) {
                // There is no flag for the batch size, and results do not depend on it.
                Err(Error::Memory { largest: Some(largest), .. }) => loaded.classifier(&args.device, largest)?,
                opened => opened?,
            };
            let limit = args.limit_test.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)).or(config.limit_test);
            let choice = Choice { data: args.data.as_deref(), role: None, limit, skip_broken: config.skip_broken };
            let (image_size, resize) = (classifier.side(), classifier.preprocess().resize);
            let exif = classifier.exif;
            let options = data::Options { image_size, resize, exif, ..hint::data_options() };
            let scored = dataset::scored(&choice, &loaded, &options)?;
            Some(test(
                &mut classifier,
                &scored.split,
                &scored.images(),
                &scored.name,
                args.device.limits(BATCH)?.thread_count(),
                args.mistakes,
            )?)
        }
    };
    Ok(Run {
        name,
        path: path.into(),
        records,
        input: metadata.preprocess.describe(metadata.model.image_size),
        steps,
        network: format!("{}, {1}×{1}", metadata.model.variant, metadata.model.image_size),
        config: metadata.config.clone(),
        filters: loaded.filters()?,
        tested,
    })
}
