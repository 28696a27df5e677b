//! The same run with several seeds: each in a folder of its own, and what they have in common at the end.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use super::start::{Resumed, Start};
use crate::cli::output;
use crate::report;
use crate::run::config::Config;
use crate::run::folder::{METRICS, numbered};
use crate::run::metrics::Record;
use crate::run::progress::{notice, say};
use crate::run::{Error, Outcome, RunFolder, summary};

/// Trains with the seeds from that of `config` on, `runs` in all, and goes on with those that are there already.
pub fn run(config: &Config, runs: usize, out: Option<&Path>) -> anyhow::Result<Outcome> {
    let last_seed = config.seed.saturating_add(runs as u64 - 1);
    Config { seed: last_seed, ..config.clone() }.validate(&|key| format!("--{key} of the last run"))?;
    if config.epochs == 0 {
        let hint = "give --epochs 1 or more, or leave --runs out";
        return Err(Error::Settings { message: "--runs compares trained networks, --epochs is 0".into(), hint }.into());
    }
    let folder = match out {
        Some(path) => path.to_owned(),
        None => numbered(Path::new("runs"), &config.model().variant)?,
    };
    let stop = OnceCell::new();
    let mut records = Vec::new();
    for seed in config.seed..=last_seed {
        let path = folder.join(format!("seed-{seed}"));
        let config = Config { seed, ..config.clone() };
        let resumed = match RunFolder::check_free(&path) {
            Ok(()) => None,
            Err(_) => Some(Resumed::open(&path)?),
        };
        if let Some(resumed) = &resumed {
            let run = resumed.config()?;
            config.may_resume(&run)?;
            // A mean is of runs of one length, and a schedule that was stretched is another one.
            if run.epochs != config.epochs {
                return Err(Error::Settings {
                    message: format!("{} is a run of --epochs {}, not {}", path.display(), run.epochs, config.epochs),
                    hint: "give the other runs' --epochs, or another folder with --out",
                }
                .into());
            }
        }
        if resumed.as_ref().is_none_or(|resumed| resumed.epochs() < config.epochs) {
            say(&format!("\nseed {seed}, run {} of {runs}", records.len() + 1));
            let outcome = Start { config, out: Some(&path), resumed, stop: &stop }.run()?;
            if outcome == Outcome::Interrupted {
                notice(&format!("the other runs: the same command with --out {}", folder.display()));
                return Ok(outcome);
            }
        }
        records.push((seed, last_record(&path)?));
    }
    let accuracies: Vec<f64> = records.iter().filter_map(|(_, record)| record.test_acc).collect();
    let (mean, deviation) = statistics(&accuracies);
    say("");
    for (seed, record) in &records {
        let epochs = summary::count(record.epoch, "epoch");
        say(&format!("seed {seed}: test accuracy {:.2}% after {epochs}", record.test_acc.unwrap_or(f64::NAN) * 100.0));
    }
    let spread = deviation.map_or_else(String::new, |d| format!(", standard deviation {:.2}%", d * 100.0));
    say(&format!("test accuracy {:.2}%{spread}, n = {}", mean * 100.0, accuracies.len()));
    let path = folder.join("summary.json");
    output::write(&path, json(&records, mean, deviation).as_bytes(), true)?;
    say(&format!("wrote {}", path.display()));
    Ok(Outcome::Finished)
}

/// The last epoch's record, which has a test accuracy.
fn last_record(run: &Path) -> Result<Record, Error> {
    let path: PathBuf = run.join(METRICS);
    report::records(&path)?.pop().filter(|record| record.test_acc.is_some()).ok_or_else(|| Error::Data {
        message: format!("{} does not end with a test accuracy", path.display()),
        hint: "remove the run's folder to have it done again",
    })
}

/// Mean, and the sample's standard deviation (over n − 1) if there are two or more.
fn statistics(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

fn json(records: &[(u64, Record)], mean: f64, deviation: Option<f64>) -> String {
    let runs: Vec<_> = records
        .iter()
        .map(|(seed, record)| {
            let mut run = serde_json::json!({ "seed": seed, "folder": format!("seed-{seed}") });
            run["last_epoch"] = serde_json::to_value(record).unwrap_or_default();
            run
        })
        .collect();
    let test = serde_json::json!({ "mean": mean, "standard_deviation": deviation, "n": records.len() });
    format!("{:#}\n", serde_json::json!({ "test_acc": test, "runs": runs }))
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
