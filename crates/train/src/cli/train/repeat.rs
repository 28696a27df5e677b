//! `--runs`: one run per seed, each in its own folder, and the mean and standard deviation of their test accuracies.

use std::cell::OnceCell;
use std::fs::File;
use std::path::Path;

use super::start::{Resumed, Start};
use crate::cli::job::Job;
use crate::cli::{hint, output};
use crate::print::{notice, say};
use crate::run::config::Config;
use crate::run::folder::{METRICS, numbered, still_there};
use crate::run::metrics::{self, Record};
use crate::run::{Error, Outcome, RunFolder, summary};

/// Trains `runs` runs, with the seed of `config` and those after it; resumes or skips runs that exist in `out`.
pub fn run(config: &Config, runs: usize, out: Option<&Path>, job: &Job) -> anyhow::Result<Outcome> {
    let last_seed = config.seed.saturating_add(runs as u64 - 1);
    Config { seed: last_seed, ..config.clone() }.validate(&|key| format!("--{key} of the last run"))?;
    if config.epochs == 0 {
        let message = "--runs compares trained networks, but --epochs is 0";
        return Err(hint::usage(message, "give --epochs 1 or more, or leave --runs out"));
    }
    let folder = match out {
        Some(path) => path.to_owned(),
        None => numbered(Path::new("runs"), &config.model().variant)?,
    };
    let stop = OnceCell::new();
    let (mut records, mut open) = (Vec::new(), None);
    for seed in config.seed..=last_seed {
        still_ours(open.as_ref(), &folder)?;
        let path = folder.join(format!("seed-{seed}"));
        let config = Config { seed, ..config.clone() };
        let resumed = match RunFolder::check_free(&path) {
            Ok(()) => None,
            Err(_) => Some(Resumed::open(&path)?),
        };
        if let Some(resumed) = &resumed {
            let run = resumed.config()?;
            config.may_resume(&run)?;
            // A mean needs runs of one length: other epochs also stretch the schedule.
            if run.epochs != config.epochs {
                let message = format!("{} is a run of --epochs {}, not {}", path.display(), run.epochs, config.epochs);
                return Err(hint::usage(message, "give the other runs' --epochs, or another folder with --out"));
            }
        }
        let ended = |run: &Resumed| run.epochs() >= config.epochs || config.out_of_patience(run.stale());
        let done = resumed.as_ref().filter(|run| ended(run)).map(Resumed::epochs);
        if done.is_none() {
            say(&format!("\nseed {seed}, run {} of {runs}", records.len() + 1));
            let config = config.clone();
            let outcome =
                Start { config, out: Some(&path), resumed, accept_data_changes: false, stop: &stop, job }.run()?;
            if outcome == Outcome::Interrupted {
                notice(&format!("the other runs: the same command with --out {}", folder.display()));
                return Ok(outcome);
            }
        }
        let record = last_record(&path)?;
        if done.map_or(record.epoch != config.epochs && config.patience == 0, |done| record.epoch != done) {
            let file = path.join(METRICS);
            let (file, epoch, epochs) = (file.display(), record.epoch, done.unwrap_or(config.epochs));
            let message = format!("{file} ends with epoch {epoch}, but the run has {epochs}");
            return Err(hint::failure(message, "remove the folder of this run and repeat the command"));
        }
        records.push((seed, record));
        open = open.or_else(|| File::open(&folder).ok());
    }
    let accuracies: Vec<f64> = records.iter().filter_map(|(_, record)| record.reported().1).collect();
    let split = records.first().map_or("test", |(_, record)| record.reported().0);
    let (mean, deviation) = statistics(&accuracies);
    say("");
    for (seed, record) in &records {
        let epochs = summary::count(record.epoch, "epoch");
        let accuracy = record.reported().1.unwrap_or(f64::NAN);
        say(&format!("seed {seed}: {split} accuracy {:.2}% after {epochs}", accuracy * 100.0));
    }
    let spread = deviation.map_or_else(String::new, |d| format!(", standard deviation {:.2}%", d * 100.0));
    say(&format!("{split} accuracy {:.2}%{spread}, n = {}", mean * 100.0, accuracies.len()));
    still_ours(open.as_ref(), &folder)?;
    let path = folder.join("summary.json");
    output::write(&path, json(&records, split, mean, deviation).as_bytes(), true)?;
    say(&format!("wrote {}", path.display()));
    Ok(Outcome::Finished)
}

/// Checks that the folder of the runs is the one in which the first of them was done.
fn still_ours(open: Option<&File>, folder: &Path) -> Result<(), Error> {
    open.map_or(Ok(()), |open| still_there(open, folder))
}

/// The record of the last epoch, which has a test accuracy, or a validation accuracy where there is no test set.
fn last_record(run: &Path) -> anyhow::Result<Record> {
    let path = run.join(METRICS);
    metrics::read(&path)?.pop().filter(|record| record.reported().1.is_some()).ok_or_else(|| {
        let message = format!("{} does not end with an accuracy", path.display());
        hint::failure(message, "remove the folder of this run and repeat the command")
    })
}

/// Mean and, for two or more values, the sample standard deviation (over n − 1).
fn statistics(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

fn json(records: &[(u64, Record)], split: &str, mean: f64, deviation: Option<f64>) -> String {
    let runs: Vec<_> = records
        .iter()
        .map(|(seed, record)| {
            let mut run = serde_json::json!({ "seed": seed, "folder": format!("seed-{seed}") });
            run["last_epoch"] = serde_json::to_value(record).unwrap_or_default();
            run
        })
        .collect();
    let test = serde_json::json!({ "mean": mean, "standard_deviation": deviation, "n": records.len() });
    format!("{:#}\n", serde_json::json!({ format!("{split}_acc"): test, "runs": runs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_standard_deviation() {
        // statistics.mean and statistics.stdev of Python.
        let (mean, deviation) = statistics(&[0.83, 0.84, 0.835, 0.829]);
        assert!((mean - 0.8335).abs() < 1e-15);
        assert!((deviation.unwrap() - 0.005_066_228_051_190_225_5).abs() < 1e-15, "{deviation:?}");
        assert_eq!(statistics(&[0.5]), (0.5, None));
    }
}
