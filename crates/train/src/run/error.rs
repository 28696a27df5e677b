//! What can go wrong with a run, each error naming the thing it met, and the next step as a hint.

use std::io;
use std::path::{Path, PathBuf};

use super::memory::gib;

/// A `Result` with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value that it cannot have.
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
    Settings {
        /// Which, and how.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A configuration file cannot be understood.
    #[error("cannot read the configuration {}: {message}", path.display())]
    Config {
        /// The file, or the checkpoint that holds it.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// The folder of a new run holds a run.
    #[error("{} already holds a run", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The file to write is there already.
    #[error("{} already exists", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The port cannot be had.
    #[error("cannot serve on 127.0.0.1:{port}: {source}")]
    Port {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The folder given holds no checkpoint.
    #[error("{} is no run: {reason}", path.display())]
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
    /// A resumed run was given another value for something that its results depend on.
    #[error("--{key} {new} contradicts the run, which was started with {key} = {old}")]
    Changed {
        /// The setting.
        key: String,
        /// The run's value.
        old: String,
        /// The value given.
        new: String,
    },
    /// A run is resumed, or a checkpoint evaluated, on data that it does not fit.
    #[error("{message}")]
    Data {
        /// What differs.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The network does not fit the memory.
    #[error("a batch of {batch} images needs {}, {} is free", gib(*needs), gib(*free))]
    Memory {
        /// Images a batch.
        batch: usize,
        /// Bytes the plan takes.
        needs: u64,
        /// Bytes available.
        free: u64,
        /// The largest batch that fits, if one does.
        largest: Option<usize>,
    },
    /// A device's gradients are not the numerical ones.
    #[error("{failed} of {count} gradients of {device} are outside the tolerance, see above")]
    Gradients {
        /// Parameters whose check failed.
        failed: usize,
        /// Parameters checked.
        count: usize,
        /// The device.
        device: String,
    },
    /// The loss is no number any more.
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
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] super::checkpoint::Error),
    /// Someone's weights cannot be taken.
    #[error(transparent)]
    Import(#[from] crate::import::Error),
    /// Loading failed.
    #[error(transparent)]
    Loading(#[from] crate::data::DataError),
    /// The network or its device failed.
    #[error(transparent)]
    Network(#[from] alexnet_core::Error),
}

impl Error {
    /// For `map_err`: the operating system refused `action` on `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Setting { .. } | Self::Gradients { .. } => return None,
            Self::Settings { hint, .. } | Self::Data { hint, .. } => (*hint).into(),
            Self::Config { .. } => "`alexnet train --help` lists the settings; a key is a flag without its dashes".into(),
            Self::Io { source, .. } => return io_hint(source).map(String::from),
            Self::Exists { path } => format!(
                "go on with it by `alexnet train --resume {0}`, or choose another folder with --out",
                path.display()
            ),
            Self::Port { .. } => "choose another with --port, or any that is free with --port 0".into(),
            Self::FileExists { .. } => "choose another file, or write over it with --force".into(),
            Self::NotARun { .. } => {
                "give a run folder (runs/NAME) that holds last.safetensors; a run stopped before its first checkpoint is started again".into()
            }
            Self::Busy { .. } => "wait for it, or start another run with --out".into(),
            Self::Changed { key, .. } => {
                format!("leave --{key} out to go on, or start a new run; only {} may change", super::config::MAY_CHANGE.map(|key| format!("--{key}")).join(", "))
            }
            Self::Memory { largest: Some(largest), .. } => format!(
                "use --batch-size {largest} or less; in training --accumulate keeps the updates those of a larger batch"
            ),
            Self::Memory { largest: None, .. } => {
                "not even a batch of 1 fits: choose a smaller --arch or --resize, or close other programs".into()
            }
            Self::Diverged { learning_rate, kept, .. } => format!(
                "start again with a smaller learning rate (--lr {:?}) or a warm-up (--warmup 1); the last good checkpoint is {}",
                rounded(learning_rate / 10.0),
                kept.display()
            ),
            Self::Checkpoint(error) => return checkpoint_hint(error),
            Self::Import(error) => return error.hint(),
            Self::Loading(error) => error.hint(),
            Self::Network(error) => return network_hint(error),
        })
    }

    /// Whether the command line or the configuration is to blame, not the world.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Setting { .. } | Self::Settings { .. } | Self::Config { .. } | Self::Changed { .. })
    }
}

/// Two significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

/// What to do about a refusal of the operating system.
pub fn io_hint(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some disk space: a run of `cifar` takes up to 560 MB; then go on with --resume"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "check the folder's permissions, or choose another with --out"
        }
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder; choose another",
        _ => return None,
    })
}

/// What to do about a checkpoint that cannot be used.
pub fn checkpoint_hint(error: &super::checkpoint::Error) -> Option<String> {
    use super::checkpoint::Error;
    Some(match error {
        Error::Io { source, .. } => return io_hint(source).map(String::from),
        Error::Malformed { .. } | Error::Damaged { .. } => {
            "use another copy: a run folder has last.safetensors and best.safetensors".into()
        }
        Error::Foreign { .. } => "`alexnet import FILE -o CHECKPOINT` makes a checkpoint of anyone's weights".into(),
        Error::Tensor { .. } => "choose the --arch, --resize, --groups and classes that the file was made with".into(),
        Error::Core(error) => return network_hint(error),
        #[allow(unreachable_patterns)]
        _ => return None,
    })
}

/// What to do about an error of the network.
pub fn network_hint(error: &alexnet_core::Error) -> Option<String> {
    use alexnet_core::{Error, ops};
    Some(match error {
        Error::NoOutput { smallest: Some(smallest), .. } => {
            format!("use --resize {smallest} or more, or --arch cifar, which is made for 32x32")
        }
        Error::NoOutput { .. } => "use a larger --resize".into(),
        Error::Operator(ops::Error::OutOfMemory { .. }) => {
            "use a smaller --batch-size; --accumulate keeps the updates the same".into()
        }
        Error::Operator(ops::Error::Label { .. }) => "the data has more classes than the network".into(),
        Error::Device { device, .. } if device.starts_with("cuda") => "`alexnet doctor` checks what a GPU needs, \
             `alexnet doctor --fetch-nvrtc` fetches NVRTC, --device cpu runs without a GPU"
            .into(),
        _ => return None,
    })
}
