//! The folder of a run: `config.toml`, `metrics.jsonl`, `metrics.csv`, `steps.jsonl`, TensorBoard events,
//! `last.safetensors`, `best.safetensors`, and of data in files `files.txt` and `broken.txt`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alexnet_core::Device;

use super::checkpoint::{self, Metadata, Tensors};
use super::config::{Config, LARGEST_TOML};
use super::error::{Error, Result};
use super::metrics::{Metrics, Steps};
use super::tensorboard;
use crate::{atomic_file, regular_file};

const CONFIG: &str = "config.toml";
/// Its first line.
const HEAD: &str = "# The settings of this run. To start another with them: alexnet train --config FILE";
/// One record per epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The same as a table.
pub const METRICS_CSV: &str = "metrics.csv";
/// One record per logged step.
pub const STEPS: &str = "steps.jsonl";
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const BROKEN: &str = "broken.txt";
const FILES: &str = "files.txt";
const EVENTS: &str = "events.out.tfevents.";

/// A run's folder, locked against other processes while this value lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Whether this process created it.
    made: bool,
    /// The open folder, which holds the lock; `None` where folders cannot be opened.
    open: Option<File>,
    /// Whether this process writes to it; of several ranks the first does.
    writes: bool,
}

/// The files that are written every epoch.
pub struct Outputs {
    /// `metrics.jsonl` and `metrics.csv`.
    pub metrics: Metrics,
    /// `steps.jsonl`.
    pub steps: Steps,
    /// The TensorBoard events.
    pub events: tensorboard::Writer,
}

/// The checkpoints that a state is saved as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedAs {
    /// The one to resume from.
    Last,
    /// The best one.
    Best,
    /// Both: one file with two names, where that is possible.
    Both,
}

/// Seconds since 1970, as in TensorBoard events.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl RunFolder {
    /// Checks that a new run may use the folder `path`: it does not exist or holds no run. A run that was killed before
    /// its first checkpoint does not count.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::Foreign`] for a file of the user's that a run would overwrite.
    pub fn check_free(path: &Path) -> Result<()> {
        let recorded = fs::metadata(path.join(METRICS)).is_ok_and(|metrics| metrics.len() > 0);
        if recorded || [LAST, BEST].iter().any(|file| path.join(file).exists()) {
            return Err(Error::Exists { path: path.into() });
        }
        match fs::read(path.join(CONFIG)) {
            Ok(text) if !text.starts_with(HEAD.as_bytes()) => return Err(Error::Foreign { path: path.join(CONFIG) }),
            _ => {}
        }
        // Of a run before its first checkpoint these are empty or not there.
        let written = [METRICS_CSV, STEPS, FILES, BROKEN].map(|file| path.join(file));
        match written.into_iter().find(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0)) {
            Some(path) => Err(Error::Foreign { path }),
            None => Ok(()),
        }
    }

    /// Creates the folder of a new run: `path`, or `runs/NAME-N` with the first free number.
    ///
    /// # Errors
    /// The folder holds a run; the system's.
    pub fn create(path: Option<&Path>, name: &str) -> Result<Self> {
        let (path, made) = match path {
            Some(path) => {
                let made = !path.exists();
                atomic_file::create_folders(path).map_err(Error::io("create", path))?;
                (path.to_owned(), made)
            }
            None => (numbered(Path::new("runs"), name)?, true),
        };
        let open = lock(&path)?;
        Self::check_free(&path)?;
        sweep(&path);
        Ok(Self { path, made, open, writes: true })
    }

    /// The folder of a run that another rank writes: nothing is opened here, and nothing written.
    pub fn of_other_rank(path: &Path) -> Self {
        Self { path: path.into(), made: false, open: None, writes: false }
    }

    /// Whether this process writes to it.
    pub const fn writes(&self) -> bool {
        self.writes
    }

    /// Opens the folder of a run to resume it, and removes temporary files of a killed process.
    ///
    /// # Errors
    /// There is no run, or another process trains in it.
    pub fn reopen(path: &Path) -> Result<Self> {
        if path.is_file() {
            return Err(Error::NotARun { path: path.into(), reason: "it is a file" });
        }
        if !path.is_dir() {
            return Err(Error::NoFolder { path: path.into() });
        }
        if !path.join(LAST).is_file() {
            return Err(Error::NotARun { path: path.into(), reason: "it has no last.safetensors" });
        }
        let open = lock(path)?;
        sweep(path);
        Ok(Self { path: path.into(), made: false, open, writes: true })
    }

    /// Checks that the folder at the path is the one that was opened and locked. Before each write by its path.
    ///
    /// # Errors
    /// [`Error::Replaced`]: it was removed or moved, and another run may be there.
    pub fn still_ours(&self) -> Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| still_there(open, &self.path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint to resume from.
    pub fn last(&self) -> PathBuf {
        self.path.join(LAST)
    }

    /// The checkpoint with the best accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// The settings that were written, unless the file cannot be read.
    pub fn config(&self) -> Option<Config> {
        let path = self.path.join(CONFIG);
        let text = regular_file::read_text(&path, LARGEST_TOML).ok()?;
        Config::of_run(&text, &path).ok()
    }

    /// Writes the settings in effect, as TOML.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, toml: &str) -> Result<()> {
        self.still_ours()?;
        let path = self.path.join(CONFIG);
        let text = format!("{HEAD}\n{toml}");
        atomic_file::write(&path, true, text.as_bytes()).map_err(Error::io("write", &path))
    }

    /// Adds lines to the list of broken pictures, `broken.txt`, and returns its path. A line is a path, a tab and a
    /// reason; a path is listed once.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn add_broken(&self, lines: &[String]) -> Result<PathBuf> {
        self.still_ours()?;
        let path = self.path.join(BROKEN);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(Error::io("read", &path))?,
        };
        let picture = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        let mut listed: BTreeMap<String, String> = text.lines().map(|line| (picture(line), line.into())).collect();
        let before = listed.len();
        for line in lines {
            listed.entry(picture(line)).or_insert_with(|| line.clone());
        }
        if listed.len() > before {
            let text: String = listed.values().flat_map(|line| [line, "\n"]).collect();
            atomic_file::write(&path, true, text.as_bytes()).map_err(Error::io("write", &path))?;
        }
        Ok(path)
    }

    /// The list of the run's files, `files.txt`.
    pub fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    /// Opens metrics and events for a run with `epochs` finished epochs and `steps` updates.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn outputs(&self, epochs: usize, steps: u64) -> Result<Outputs> {
        self.still_ours()?;
        let metrics = Metrics::open(&self.path.join(METRICS), epochs)?;
        let steps = Steps::open(&self.path.join(STEPS), steps)?;
        let events = tensorboard::Writer::create(&self.path, now()).map_err(Error::io("write", &self.path))?;
        Ok(Outputs { metrics, steps, events })
    }

    /// Saves a state as the checkpoint to resume from, as the best one, or as both.
    ///
    /// The best is written first: a process killed in between resumes from the checkpoint before and finds the best again.
    ///
    /// # Errors
    /// A file cannot be written; the old one stays.
    pub fn save<D: Device<Element = f32>>(
        &self,
        tensors: &Tensors<'_, D>,
        metadata: &Metadata,
        saved: SavedAs,
    ) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        self.still_ours()?;
        // If the folder went meanwhile, that is the reason.
        self.save_files(tensors, metadata, saved).or_else(|error| self.still_ours().and(Err(error.into())))
    }

    fn save_files<D: Device<Element = f32>>(
        &self,
        &Tensors { device, parameters }: &Tensors<'_, D>,
        metadata: &Metadata,
        saved: SavedAs,
    ) -> Result<(), checkpoint::Error> {
        let save = |path: &Path| checkpoint::save(path, Tensors { device, parameters }, metadata);
        if saved != SavedAs::Last {
            save(&self.best())?;
        }
        match saved {
            SavedAs::Best => Ok(()),
            // A hard link: the bytes are on the disk once.
            SavedAs::Both if atomic_file::link(&self.best(), &self.last()).is_ok() => Ok(()),
            _ => save(&self.last()),
        }
    }

    /// Removes everything that this process wrote, after the first checkpoint could not be written.
    pub fn abandon(self) {
        if self.still_ours().is_err() {
            return;
        }
        let id = format!(".{}", std::process::id());
        let ours = |name: &str| {
            [CONFIG, METRICS, METRICS_CSV, STEPS, LAST, BROKEN, FILES].contains(&name)
                || (name.starts_with(EVENTS) && name.ends_with(&id))
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if ours(&entry.file_name().to_string_lossy()) {
                // The first error is the one to report.
                let _ = fs::remove_file(entry.path());
            }
        }
        if self.made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Removes temporary files of a killed process.
fn sweep(path: &Path) {
    atomic_file::sweep(path, &[CONFIG, METRICS, METRICS_CSV, STEPS, LAST, BEST, BROKEN, FILES].map(OsStr::new));
}

/// Checks that a path still leads to the file or folder that was opened there.
///
/// # Errors
/// [`Error::Replaced`]; the system's.
pub fn still_there(open: &File, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;

        let own = open.metadata().map_err(Error::io("read", path))?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("read", path)(error)),
            _ => return Err(Error::Replaced { path: path.into() }),
        }
    }
    let _ = (open, path);
    Ok(())
}

/// Creates `parent/name-N` with the first free number.
///
/// # Errors
/// The system's.
pub fn numbered(parent: &Path, name: &str) -> Result<PathBuf> {
    atomic_file::create_folders(parent).map_err(Error::io("create", parent))?;
    let mut number = 1u32;
    loop {
        let path = parent.join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// Opens the folder and locks it until this process ends, however it ends; without a lock where folders cannot be locked.
fn lock(path: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    loop {
        return match folder.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.into() }),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(folder)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        for expected in ["cifar-1", "cifar-2", "cifar-3"] {
            assert_eq!(numbered(&runs, "cifar").unwrap(), runs.join(expected));
        }
    }

    #[test]
    fn a_folder_is_for_one_process_and_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let run = RunFolder::create(Some(&path), "x").unwrap();
        assert!(matches!(RunFolder::create(Some(&path), "x"), Err(Error::Busy { .. })));
        drop(run);
        // Nothing was written, so that it is still free.
        drop(RunFolder::create(Some(&path), "x").unwrap());
        assert!(matches!(RunFolder::reopen(&path), Err(Error::NotARun { .. })));
        fs::write(path.join(LAST), "").unwrap();
        assert!(matches!(RunFolder::create(Some(&path), "x"), Err(Error::Exists { .. })));
        let [left, mine] = ["last.safetensors.tmp-77-a1b2c3", "thesis.tmp-backup.docx"].map(|name| path.join(name));
        [&left, &mine].into_iter().for_each(|file| fs::write(file, "half").unwrap());
        drop(RunFolder::reopen(&path).unwrap());
        assert!(!left.exists() && mine.exists() && path.join(LAST).exists());
    }

    #[test]
    fn a_run_killed_before_its_first_checkpoint_leaves_the_folder_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = RunFolder::create(Some(&path), "x").unwrap();
        run.write_config("lr = 1\n").unwrap();
        drop(run.outputs(0, 0).unwrap());
        let [left, mine] = ["best.safetensors.tmp-7-a1b2c3", "thesis.tmp-backup.docx"].map(|name| path.join(name));
        [&left, &mine].into_iter().for_each(|file| fs::write(file, "half").unwrap());
        drop(run);
        assert!(path.join(METRICS).exists());
        drop(RunFolder::create(Some(&path), "x").unwrap());
        assert!(!left.exists() && mine.exists());
        fs::write(path.join(METRICS), "{}\n").unwrap();
        assert!(matches!(RunFolder::create(Some(&path), "x"), Err(Error::Exists { .. })));
    }

    #[test]
    fn files_of_the_users_are_not_written_over() {
        for name in [CONFIG, METRICS_CSV, STEPS, FILES, BROKEN] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            fs::write(&path, "# mine\nlr = 1\n").unwrap();
            let error = RunFolder::create(Some(folder.path()), "x").unwrap_err();
            assert!(matches!(&error, Error::Foreign { .. }) && error.to_string().contains(name), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\nlr = 1\n");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_replaced_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let replace: [fn(&Path); 3] = [
            |path| fs::remove_dir_all(path).unwrap(),
            |path| fs::rename(path, path.with_extension("moved")).unwrap(),
            |path| fs::rename(path, path.with_extension("other")).and_then(|()| fs::create_dir(path)).unwrap(),
        ];
        for replace in replace {
            let run = RunFolder::create(Some(&path), "x").unwrap();
            run.write_config("lr = 1\n").unwrap();
            replace(&path);
            let there = path.exists();
            let replaced = |result: Result<()>| matches!(result, Err(Error::Replaced { .. }));
            assert!(replaced(run.write_config("lr = 2\n")) && replaced(run.add_broken(&["x".into()]).map(drop)));
            assert!(replaced(run.outputs(0, 0).map(drop)));
            run.abandon();
            assert_eq!(path.exists(), there);
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn an_abandoned_folder_is_gone_unless_it_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = RunFolder::create(Some(&path), "x").unwrap();
        run.write_config("lr = 1\n").unwrap();
        drop(run.outputs(0, 0).unwrap());
        run.abandon();
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        let run = RunFolder::create(Some(&path), "x").unwrap();
        drop(run.outputs(0, 0).unwrap());
        run.abandon();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }
}
