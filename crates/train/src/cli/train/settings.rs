//! The settings of a run, and the run that goes on, if one does: the same on all ranks.

use std::path::Path;

use super::Args;
use super::start::Resumed;
use crate::cli::hint;
use crate::cli::job::Job;
use crate::import::convert;
use crate::print::say;
use crate::run::config::{self, Config};
use crate::run::{Error, Recipe, RunFolder, summary};

/// The settings of a run, with the run that it goes on with; none if that is complete, which is said.
///
/// # Errors
/// The settings contradict each other, the run that goes on, or those of other ranks; the run cannot be read.
pub fn of(args: &Args, job: &Job) -> anyhow::Result<Option<(Config, Option<Resumed>)>> {
    let path =
        args.resume.as_deref().or_else(|| args.out.as_deref().filter(|out| args.runs.is_none() && holds_run(out)));
    let own = match path.filter(|_| job.leads()) {
        Some(path) => Some(Resumed::open(path)?),
        None => None,
    };
    let resumed = Resumed::shared(own, &*job.ranks)?;
    let mut config = match &resumed {
        None => {
            if let Some(out) = args.out.as_deref().filter(|_| job.leads()) {
                RunFolder::check_free(out)?;
            }
            begun(args)?
        }
        Some(resumed) if args.resume.is_some() => {
            let run = resumed.config()?;
            let config = run.with(args)?;
            config.validate(&config::flag)?;
            config.may_resume(&run)?;
            resumed.warn_of_edits(&config)?;
            config
        }
        Some(resumed) => again(args, &resumed.config()?, resumed.folder.path())?,
    };
    config.resize = Some(config.image_size());
    if config.shards == 0 {
        config.shards = job.ranks.size();
        config.validate(&config::flag)?;
    }
    compare(&config, job)?;
    if job.ranks.size() > config.shards {
        let message = format!(
            "{} ranks are more than the {} of a step",
            job.ranks.size(),
            summary::count(config.shards, "shard")
        );
        let hint = match resumed.is_some() {
            true => format!("start at most {}: the run keeps the number that it began with", config.shards),
            false => format!("start at most {}, or give --shards {}", config.shards, job.ranks.size()),
        };
        return Err(hint::usage(message, hint));
    }
    if let Some(resumed) = &resumed {
        let (done, stale, path) = (summary::count(resumed.epochs(), "epoch"), resumed.stale(), resumed.folder.path());
        if config.out_of_patience(stale) {
            let stale = summary::count(stale, "evaluation");
            say(&format!(
                "{} ended after {done}: accuracy has not risen in {stale}; a larger --patience, or 0, trains it further",
                path.display()
            ));
            return Ok(None);
        }
        if resumed.epochs() >= config.epochs {
            say(&format!("{} is complete after {done}; --epochs N trains it further", path.display()));
            return Ok(None);
        }
    }
    Ok(Some((config, resumed)))
}

/// Whether a folder has a run that can go on.
fn holds_run(path: &Path) -> bool {
    path.join("last.safetensors").is_file()
}

/// Checks that all ranks have the same settings and the same program.
fn compare(config: &Config, job: &Job) -> anyhow::Result<()> {
    // Machines may have other numbers of cores.
    let settings = || Config { threads: 0, ..config.clone() }.to_toml();
    job.compare(|| Ok(format!("{}{}", Job::program(), settings()?)))
}

/// The settings of a new run.
fn begun(args: &Args) -> anyhow::Result<Config> {
    let config = match (&args.config, args.recipe) {
        (Some(file), _) => Config::read(file)?,
        (None, recipe) => recipe.or(args.fine_tunes()).map_or(Ok(Config::default()), Recipe::config)?,
    };
    let mut config = config.with(args)?;
    if config.init.is_some() {
        let chosen = args.chosen()?;
        convert::take_network(&mut config, &|key| chosen.contains_key(key))?;
    }
    config.validate(&config::flag)?;
    if args.recipe == Some(Recipe::Finetune) && config.init.is_none() {
        return Err(hint::usage("--recipe finetune needs weights to start from", "give them with --init FILE"));
    }
    if args.fine_tunes().is_some() {
        say("settings of --recipe finetune, as --init and --replace-classifier are given; flags win");
    }
    args.check_schedule(&config)?;
    Ok(config)
}

/// The settings of the same command as that of a `run`, given again: with --out it goes on.
fn again(args: &Args, run: &Config, path: &Path) -> anyhow::Result<Config> {
    let mut config = begun(args)?;
    config.resize = Some(config.image_size());
    if config.shards == 0 {
        config.shards = run.shards;
    }
    match config.may_resume(run) {
        Ok(()) => Ok(config),
        Err(Error::Changed { key, old, new }) => {
            let message = format!("{} holds a run with {key} = {old}, not {new}", path.display());
            Err(hint::usage(message, "choose another folder with --out; the same command as the run's goes on with it"))
        }
        Err(error) => Err(error.into()),
    }
}
