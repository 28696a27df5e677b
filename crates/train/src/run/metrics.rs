//! `metrics.jsonl`: one JSON object per finished epoch; `metrics.csv`: the same as a table; `steps.jsonl`: one object per
//! logged step.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
#[derive(Debug)]
struct Lines {
    file: File,
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
        Ok((Self { file, path: path.into() }, records))
    }

    fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let io = |error| Error::io("write", &self.path)(error);
        let mut line = serde_json::to_string(record).map_err(|error| io(error.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(io)
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

    /// Waits until the records are on the disk; before each checkpoint, which continues after them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.0.sync()
    }
}

/// `metrics.jsonl`, open for appending, and `metrics.csv`, which is written anew after each epoch.
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
        let metrics = Self { lines, records };
        // A run of before this file, or one that was killed between the two.
        metrics.write_table()?;
        Ok(metrics)
    }

    /// Appends a record and waits until it is on the disk.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        self.lines.append(record)?;
        self.lines.sync()?;
        self.records.push(record.clone());
        self.write_table()
    }

    fn write_table(&self) -> Result<()> {
        let path = self.lines.path.with_extension("csv");
        atomic_file::write(&path, true, table(&self.records).as_bytes()).map_err(Error::io("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize) -> Record {
        Record {
            epoch,
            step: 391 * epoch as u64,
            lr: 0.01,
            train_loss: 2.0082,
            train_acc: 0.233,
            test_loss: Some(1.7),
            test_acc: Some(0.383),
            test_balanced_acc: Some(0.383),
            test_macro_f1: Some(0.37),
            val_loss: None,
            val_acc: None,
            val_balanced_acc: None,
            val_macro_f1: None,
            images_per_s: 512.0,
            seconds: 100.0,
            dataset: "cifar10".into(),
            scaling: None,
        }
    }

    #[test]
    fn the_loss_of_an_older_runs_best_is_in_its_records() {
        let of = |epoch, accuracy, loss| Record { test_acc: Some(accuracy), test_loss: Some(loss), ..record(epoch) };
        let records = [of(1, 0.5, 1.5), of(2, 0.75, 1.25), of(3, 0.75, 1.0)];
        // Before ties went to the lower loss, the first one was kept.
        assert_eq!(loss_of_best(&records, Some(0.75)), Some(1.25));
        assert_eq!([loss_of_best(&records, Some(0.8)), loss_of_best(&[], None)], [None; 2]);
    }

    fn epochs(path: &Path) -> Vec<usize> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().epoch).collect()
    }

    #[test]
    fn what_came_after_the_checkpoint_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        (1..=3).for_each(|epoch| metrics.append(&record(epoch)).unwrap());
        assert_eq!(epochs(&path), [1, 2, 3]);
        let mut metrics = Metrics::open(&path, 2).unwrap();
        assert_eq!(epochs(&path), [1, 2]);
        metrics.append(&record(3)).unwrap();
        assert_eq!(epochs(&path), [1, 2, 3]);
    }

    fn csv_epochs(path: &Path) -> Vec<String> {
        let mut reader = csv::Reader::from_path(path.with_extension("csv")).unwrap();
        reader.records().map(|row| row.unwrap()[0].to_owned()).collect()
    }

    #[test]
    fn the_table_has_the_same_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        assert_eq!(std::fs::read(path.with_extension("csv")).unwrap(), b"");
        let plain = |epoch| Record { test_balanced_acc: None, test_macro_f1: None, ..record(epoch) };
        let named = Record { dataset: "pets, \"all\"".into(), ..plain(1) };
        metrics.append(&named).unwrap();
        // A column that only some epochs have.
        metrics.append(&Record { test_loss: None, test_acc: None, val_acc: Some(0.5), ..plain(2) }).unwrap();
        metrics.append(&plain(3)).unwrap();
        let text = std::fs::read_to_string(path.with_extension("csv")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "epoch,step,lr,train_loss,train_acc,val_acc,test_loss,test_acc,images_per_s,seconds,dataset",
                "1,391,0.01,2.0082,0.233,,1.7,0.383,512.0,100.0,\"pets, \"\"all\"\"\"",
                "2,782,0.01,2.0082,0.233,0.5,,,512.0,100.0,cifar10",
            ]
        );
        assert_eq!(csv_epochs(&path), ["1", "2", "3"]);
        // Resumed after the second epoch, and of a run that has no table yet.
        std::fs::remove_file(path.with_extension("csv")).unwrap();
        let mut metrics = Metrics::open(&path, 2).unwrap();
        assert_eq!(csv_epochs(&path), ["1", "2"]);
        metrics.append(&record(3)).unwrap();
        assert_eq!(csv_epochs(&path), ["1", "2", "3"]);
        // Every key has its place.
        let all = Record {
            val_loss: Some(1.0),
            val_acc: Some(1.0),
            val_balanced_acc: Some(1.0),
            val_macro_f1: Some(1.0),
            scaling: Some(Scaling { loss_scale: 1.0, good_steps: 0, skipped_steps: 0 }),
            ..record(1)
        };
        assert_eq!(table(&[all]).lines().next().unwrap(), COLUMNS.join(","));
    }

    #[test]
    fn steps_after_the_checkpoint_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.jsonl");
        let mut steps = Steps::open(&path, 0).unwrap();
        let step = |step| StepRecord { step, epoch: 1, lr: 0.01, loss: 2.5 };
        [20, 40, 60].iter().for_each(|&number| steps.append(&step(number)).unwrap());
        let mut steps = Steps::open(&path, 45).unwrap();
        assert_eq!(read_steps(&path).unwrap(), [step(20), step(40)]);
        steps.append(&step(60)).unwrap();
        assert_eq!(read_steps(&path).unwrap(), [20, 40, 60].map(step));
    }

    #[test]
    fn a_torn_line_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        metrics.append(&record(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in [&whole[..whole.len() - 1], &whole[..20], b"\0\0\0\0\n", b"\0\0\0\0"] {
            std::fs::write(&path, [&whole, torn].concat()).unwrap();
            assert_eq!(read(&path).unwrap().len(), 1);
            drop(Metrics::open(&path, 5).unwrap());
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn any_other_damage_stops_and_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).unwrap();
        (1..=3).for_each(|epoch| metrics.append(&record(epoch)).unwrap());
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.split_inclusive('\n').collect();
        for (text, line, reason) in [
            (whole.replacen("\"epoch\":1", "\"epoch\":x", 1), 1, "is no record from column"),
            (whole.replacen("\"epoch\":3", "\"epoch\":x", 1), 3, "is no record from column"),
            (whole.replacen('\n', "\n\n", 1), 2, "is blank"),
            (format!("{whole} \r\n"), 4, "is blank"),
            (format!("{}\0\0\n{}", lines[0], lines[1]), 2, "is followed by line 3"),
            (format!("{}{}{}", lines[0], lines[2], lines[1]), 2, "is followed by line 3"),
            ("precious\nuser data\n".into(), 1, "is no record from column"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = Metrics::open(&path, 2).map(drop).unwrap_err();
            assert!(matches!(&error, Error::Line { line: found, .. } if *found == line), "{text}: {error}");
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_it_is_linked_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["metrics.jsonl", "other.jsonl"].map(|name| folder.path().join(name));
        let mut metrics = Metrics::open(&other, 0).unwrap();
        (1..=3).for_each(|epoch| metrics.append(&record(epoch)).unwrap());
        let link: [fn(&Path, &Path) -> std::io::Result<()>; 2] =
            [|to, path| std::os::unix::fs::symlink(to, path), |to, path| std::fs::hard_link(to, path)];
        for link in link {
            link(&other, &path).unwrap();
            Metrics::open(&path, 1).unwrap().append(&record(2)).unwrap();
            assert_eq!((epochs(&path), epochs(&other)), (vec![1, 2], vec![1, 2, 3]));
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        drop(Metrics::open(&path, 1).unwrap());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.jsonl");
        let mut steps = Steps::open(&path, 0).unwrap();
        steps.append(&StepRecord { step: 1, epoch: 1, lr: 0.01, loss: 2.5 }).unwrap();
        steps.sync().unwrap();
        std::fs::copy(&path, folder.path().join("edited")).unwrap();
        std::fs::rename(folder.path().join("edited"), &path).unwrap();
        assert!(matches!(steps.sync(), Err(Error::Replaced { .. })));
    }

    #[test]
    fn scaling_survives() {
        let scaled =
            Record { scaling: Some(Scaling { loss_scale: 32768.0, good_steps: 7, skipped_steps: 1 }), ..record(1) };
        let text = serde_json::to_string(&scaled).unwrap();
        assert!(text.contains("\"loss_scale\":32768.0,\"good_steps\":7,\"skipped_steps\":1"), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), scaled);
        let plain = serde_json::to_string(&record(1)).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&plain).unwrap(), record(1));
    }

    #[test]
    fn val_selects_where_it_is_there() {
        assert_eq!(record(1).selection_metric(), ("test", 1.7, 0.383));
        let held_out = Record { val_loss: Some(1.5), val_acc: Some(0.4), ..record(1) };
        assert_eq!(held_out.selection_metric(), ("val", 1.5, 0.4));
        let before_the_last =
            Record { test_loss: None, test_acc: None, test_balanced_acc: None, test_macro_f1: None, ..held_out };
        assert_eq!(before_the_last.selection_metric(), ("val", 1.5, 0.4));
        let text = serde_json::to_string(&before_the_last).unwrap();
        assert!(!text.contains("test"), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), before_the_last);
    }

    #[test]
    fn the_keys() {
        let value: serde_json::Value = serde_json::to_value(record(1)).unwrap();
        let mut keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        keys.sort();
        let mut expected = [
            "epoch",
            "step",
            "lr",
            "train_loss",
            "train_acc",
            "test_loss",
            "test_acc",
            "test_balanced_acc",
            "test_macro_f1",
            "images_per_s",
            "seconds",
            "dataset",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }
}
