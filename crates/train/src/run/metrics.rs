//! `metrics.jsonl`: one JSON object per finished epoch; `metrics.csv`: the same as a table; `steps.jsonl`: one object per
//! logged step.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::folder::still_there;
use super::scaling::Scaling;
use crate::print::csv;
use crate::{atomic_file, regular_file};

/// Largest file: 3 million lines of `steps.jsonl`.
const LARGEST: u64 = 256 << 20;

/// The record of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Updates since the start.
    pub step: u64,
    /// Learning rate of the epoch's last update.
    pub lr: f64,
    /// Mean training loss over the epoch, each image in the step that trained on it, with label smoothing and dropout.
    pub train_loss: f64,
    /// Training accuracy, likewise, from 0 to 1.
    pub train_acc: f64,
    /// Mean test loss after the epoch, without smoothing and dropout. Only after epochs that --test-every selects; with
    /// validation images only after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    /// Test accuracy, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_acc: Option<f64>,
    /// Mean of the test accuracies of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_balanced_acc: Option<f64>,
    /// Mean of the classes' F1 on the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_macro_f1: Option<f64>,
    /// Mean loss of the validation images: a folder's own, or those that --val holds out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Accuracy on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_acc: Option<f64>,
    /// Mean of the accuracies of the classes on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_balanced_acc: Option<f64>,
    /// Mean of the classes' F1 on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_macro_f1: Option<f64>,
    /// Training images per second, without the evaluation.
    pub images_per_s: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
    /// Name of the data set; `sample` for the embedded one.
    pub dataset: String,
    /// Loss scaling at the end of the epoch, with --precision fp16.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

impl Record {
    /// The split that selects the best epoch, `val` or (without validation images) `test`, with its loss and accuracy; NaN if the
    /// epoch was not evaluated.
    pub fn selection_metric(&self) -> (&'static str, f64, f64) {
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        match self.val_acc {
            Some(accuracy) => ("val", known(self.val_loss), accuracy),
            None => ("test", known(self.test_loss), known(self.test_acc)),
        }
    }

    /// The split whose accuracy the run reports, `test`, or `val` where there is no test set, with the accuracy.
    pub fn reported(&self) -> (&'static str, Option<f64>) {
        if self.test_acc.is_some() { ("test", self.test_acc) } else { ("val", self.val_acc) }
    }
}

/// The record of a step that --log-every selects.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Updates since the start, this one included.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Learning rate of the update.
    pub lr: f64,
    /// Mean training loss of the step's images.
    pub loss: f64,
}

/// The records of a run's `metrics.jsonl`. A last line that is unfinished is left out: a run may be writing it.
///
/// # Errors
/// The file cannot be read; a line is damaged.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    Ok(read_lines(path, |_| true)?.0)
}

/// The records of a run's `steps.jsonl`, likewise.
///
/// # Errors
/// As [`read`].
pub fn read_steps(path: &Path) -> Result<Vec<StepRecord>> {
    Ok(read_lines(path, |_| true)?.0)
}

/// The first records of a file, as long as they are to `keep`, and the bytes that they take. A kill or a power cut leaves
/// an unfinished last line, or zeros, after them.
///
/// # Errors
/// The file cannot be read; a line is damaged in another way, or a record to keep follows what is left out.
fn read_lines<T: DeserializeOwned>(path: &Path, keep: impl Fn(&T) -> bool) -> Result<(Vec<T>, Vec<u8>)> {
    let mut text = regular_file::read(path, LARGEST).map_err(Error::io("read", path))?;
    let (mut records, mut kept, mut torn) = (Vec::new(), 0, None);
    for (line, number) in text.split_inclusive(|&byte| byte == b'\n').zip(1..) {
        let damaged = |line, reason| Err(Error::Line { path: path.into(), line, reason });
        match serde_json::from_slice(line) {
            Ok(record) if line.ends_with(b"\n") && keep(&record) => {
                if let Some(torn) = torn {
                    return damaged(torn, format!("is followed by line {number}, which came before it"));
                }
                records.push(record);
                kept += line.len();
            }
            Err(_) if line.trim_ascii().is_empty() && line.ends_with(b"\n") => {
                return damaged(number, "is blank".into());
            }
            Err(error) if line.ends_with(b"\n") && !line.contains(&0) => {
                let column = error.column();
                return damaged(number, format!("is no record from column {column} on"));
            }
            _ => torn = torn.or(Some(number)),
        }
    }
    text.truncate(kept);
    Ok((records, text))
}

/// The loss of the first epoch with the accuracy of the best one, for checkpoints that do not hold it.
pub fn loss_of_best(records: &[Record], best_accuracy: Option<f64>) -> Option<f64> {
    let best = records.iter().map(Record::selection_metric).find(|(_, _, accuracy)| Some(*accuracy) == best_accuracy);
    best.map(|(_, loss, _)| loss)
}

/// Columns of `metrics.csv`, in this order; those that no epoch has are left out.
const COLUMNS: [&str; 19] = [
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_acc",
    "val_loss",
    "val_acc",
    "val_balanced_acc",
    "val_macro_f1",
    "test_loss",
    "test_acc",
    "test_balanced_acc",
    "test_macro_f1",
    "images_per_s",
    "seconds",
    "dataset",
    "loss_scale",
    "good_steps",
    "skipped_steps",
];

/// The records as CSV: a header, one line per record; a key of the records that is no known column comes last.
fn table(records: &[Record]) -> String {
    let rows: Vec<serde_json::Value> = records.iter().map(|record| serde_json::json!(record)).collect();
    let mut names: Vec<&str> = COLUMNS.into();
    for name in rows.iter().filter_map(|row| row.as_object()).flat_map(|row| row.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.retain(|name| rows.iter().any(|row| row.get(name).is_some()));
    let text = |row: &serde_json::Value, name: &str| match row.get(name) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let head = (!rows.is_empty()).then(|| names.iter().map(|name| (*name).into()).collect());
    csv(head.into_iter().chain(rows.iter().map(|row| names.iter().map(|name| text(row, name)).collect())))
}

/// A file of JSON lines, open for appending.
#[derive(Clone, Debug)]
struct Lines {
    file: Arc<File>,
    path: PathBuf,
}

impl Lines {
    /// Opens or creates the file and keeps its first lines as long as they are records that are to `keep`: those that a
    /// killed run wrote after its last checkpoint will be written again. Returns the records that are kept.
    ///
    /// It is written anew, so that what it is linked to stays as it is.
    fn open<T: DeserializeOwned>(path: &Path, keep: impl Fn(&T) -> bool) -> Result<(Self, Vec<T>)> {
        let (records, text) = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            _ => read_lines(path, keep)?,
        };
        atomic_file::write(path, true, &text).map_err(Error::io("write", path))?;
        let file = File::options().append(true).open(path).map_err(Error::io("write", path))?;
        Ok((Self { file: Arc::new(file), path: path.into() }, records))
    }

    fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let io = |error| Error::io("write", &self.path)(error);
        let mut line = serde_json::to_string(record).map_err(|error| io(error.into()))?;
        line.push('\n');
        (&*self.file).write_all(line.as_bytes()).map_err(io)
    }

    /// Waits until the lines are on the disk.
    fn sync(&self) -> Result<()> {
        still_there(&self.file, &self.path)?;
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }
}

/// `steps.jsonl`, open for appending.
#[derive(Debug)]
pub struct Steps(Lines);

impl Steps {
    /// Opens or creates the file and keeps the records of the first `steps` updates.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, steps: u64) -> Result<Self> {
        Ok(Self(Lines::open(path, |record: &StepRecord| record.step <= steps)?.0))
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, record: &StepRecord) -> Result<()> {
        self.0.append(record)
    }
}

/// `metrics.jsonl`, open for appending, and the same as `metrics.csv`, which is written anew with [`Records::flush`].
#[derive(Debug)]
pub struct Metrics {
    lines: Lines,
    records: Vec<Record>,
}

impl Metrics {
    /// Opens or creates the files and keeps the records of the first `epochs` epochs.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(path: &Path, epochs: usize) -> Result<Self> {
        let (lines, records) = Lines::open(path, |record: &Record| record.epoch <= epochs)?;
        // A run of before this file, or one that was killed between the two.
        write_table(&lines.path, &table(&records))?;
        Ok(Self { lines, records })
    }

    /// Appends a record to `metrics.jsonl`.
    ///
    /// # Errors
    /// The file was replaced or cannot be written.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        still_there(&self.lines.file, &self.lines.path)?;
        self.lines.append(record)?;
        self.records.push(record.clone());
        Ok(())
    }
}

fn write_table(metrics: &Path, table: &str) -> Result<()> {
    let path = metrics.with_extension("csv");
    atomic_file::write(&path, true, table.as_bytes()).map_err(Error::io("write", &path))
}

/// The records of a run at some moment, to be put on the disk by any thread.
#[derive(Debug)]
pub struct Records {
    steps: Lines,
    metrics: Lines,
    table: String,
}

impl Records {
    /// Those that are appended so far.
    pub fn of(steps: &Steps, metrics: &Metrics) -> Self {
        Self { steps: steps.0.clone(), metrics: metrics.lines.clone(), table: table(&metrics.records) }
    }

    /// Waits until the lines are on the disk, and writes `metrics.csv`.
    ///
    /// # Errors
    /// A file was replaced or cannot be written.
    pub fn flush(&self) -> Result<()> {
        self.steps.sync()?;
        self.metrics.sync()?;
        write_table(&self.metrics.path, &self.table)
    }
}

#[cfg(test)]
mod tests;
