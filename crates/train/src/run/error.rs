//! Errors of a run. Each names the thing it is about; what to do next is added by `cli/hint.rs`.

use std::io;
use std::path::{Path, PathBuf};

use super::bytes::gib;
use crate::FileError;

/// A `Result` with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A machine has fewer GPUs than ranks.
    #[error("{ranks} ranks on this machine, but {gpus} GPUs: each rank has one of its own")]
    TooFewGpus {
        /// Ranks on this machine.
        ranks: usize,
        /// GPUs from the first that may be used on.
        gpus: usize,
    },
    /// A setting has a value that is not allowed.
    #[error("{name} is {value}, expected {expected}")]
    Setting {
        /// The flag, or the key and its file.
        name: String,
        /// The value found.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// Two settings contradict each other.
    #[error("{message}")]
    Conflict {
        /// The key of the setting to change.
        key: &'static str,
        /// Which settings, and how.
        message: String,
    },
    /// A setting of the network is not that of the file of weights it starts from.
    #[error("{} does not fit {}, which is {}{tensor}", typed(key, value), path.display(), typed(key, fits))]
    NotTheFiles {
        /// The setting.
        key: &'static str,
        /// The user's value.
        value: String,
        /// The file.
        path: PathBuf,
        /// The value that fits.
        fits: String,
        /// A tensor that is missing, too much, or of another shape.
        tensor: String,
    },
    /// A configuration file cannot be parsed.
    #[error("cannot read the configuration {}: {message}", path.display())]
    Config {
        /// The file, or the checkpoint that holds it.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// The operating system refused a file or folder.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The reader of standard output is gone, as with `| head`.
    #[error("nobody reads standard output")]
    Closed,
    /// The folder of a new run holds a run.
    #[error("{} already holds a run", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A new run would overwrite a file that is no part of an unfinished start.
    #[error("{} is there already, and a new run would overwrite it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file to write exists already.
    #[error("{} already exists", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The folder of the file to write does not exist.
    #[error("cannot write {}: there is no folder {}", path.display(), folder.display())]
    NoOutputFolder {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The address or its port cannot be opened.
    #[error("cannot serve on {host}, port {port}: {source}")]
    Port {
        /// The address or name.
        host: String,
        /// The port.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder of a run does not exist.
    #[error("no such folder: {}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The folder given holds no checkpoint.
    #[error("{} is not a run folder: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// Another process writes into the run folder.
    #[error("another process is training in {}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The folder of a run that trains, or a file that it writes to, is no longer the one at its path.
    #[error("{} was removed or replaced while the run trained", path.display())]
    Replaced {
        /// The folder or file.
        path: PathBuf,
    },
    /// A line of a run's records cannot be read.
    #[error("{} is damaged: line {line} {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A resumed run was given a new value for a setting that its results depend on.
    #[error("--{key} {new} contradicts the run, which was started with {key} = {old}")]
    Changed {
        /// The setting.
        key: String,
        /// The run's value.
        old: String,
        /// The value given.
        new: String,
    },
    /// The network does not fit the memory.
    #[error("a batch of {batch} images needs {}, {} is free", gib(*needs), gib(*free))]
    Memory {
        /// Images per batch.
        batch: usize,
        /// Bytes that the plan needs.
        needs: u64,
        /// Bytes available.
        free: u64,
        /// The largest batch that fits, if one does.
        largest: Option<usize>,
    },
    /// The disk has no room for a run's checkpoints.
    #[error("{} needs {} of disk space, {} is free", path.display(), gib(*needs), gib(*free))]
    DiskSpace {
        /// The run's folder.
        path: PathBuf,
        /// Bytes needed beside what is there.
        needs: u64,
        /// Bytes available.
        free: u64,
    },
    /// The disk became full while a checkpoint was written.
    #[error("{file}")]
    DiskFull {
        /// The system's error.
        file: FileError,
        /// Bytes of a checkpoint.
        checkpoint: u64,
    },
    /// Gradients of a device differ from the numerical ones.
    #[error("{failed} of {count} gradients of {device} are outside the tolerance, see above")]
    Gradients {
        /// Parameters whose check failed.
        failed: usize,
        /// Parameters checked.
        count: usize,
        /// The device.
        device: String,
    },
    /// The loss or a weight is NaN or infinite.
    #[error("{what} became {value} at step {step} (epoch {epoch}, learning rate {learning_rate})")]
    Diverged {
        /// `the loss`, `a weight` …
        what: &'static str,
        /// NaN or inf.
        value: f64,
        /// The optimiser's step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
        /// The learning rate of the step.
        learning_rate: f64,
        /// The checkpoint that was kept.
        kept: PathBuf,
    },
    /// The network's logits for a picture are NaN or infinite.
    #[error("the network's outputs for {picture} are not finite ({value}{layer})")]
    Outputs {
        /// The picture.
        picture: String,
        /// NaN or an infinity.
        value: f32,
        /// `, from layer NAME on`.
        layer: String,
    },
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] super::checkpoint::Error),
    /// Weights from another program cannot be used.
    #[error(transparent)]
    Import(#[from] crate::import::Error),
    /// A data set cannot be read.
    #[error(transparent)]
    Loading(#[from] crate::data::DataError),
    /// The network or its device failed.
    #[error(transparent)]
    Network(#[from] alexnet_core::Error),
    /// The ranks of the job cannot go on.
    #[error(transparent)]
    Ranks(#[from] alexnet_ranks::Error),
    /// Another rank of the job failed, which says why.
    #[error("another rank has stopped with an error")]
    OtherRank,
}

/// A flag and its value, as they are typed.
pub fn typed(key: &str, value: &str) -> String {
    let between = if matches!(value, "true" | "false") { '=' } else { ' ' };
    format!("--{key}{between}{value}")
}

impl Error {
    /// For `map_err`: the operating system refused `action` on `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let failed = FileError::on(action, path);
        move |source| failed(source).into()
    }

    /// Whether the command line or a configuration file is wrong (exit code 2).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Setting { .. }
                | Self::Conflict { .. }
                | Self::NotTheFiles { .. }
                | Self::Foreign { .. }
                | Self::Config { .. }
                | Self::Changed { .. }
        )
    }
}
