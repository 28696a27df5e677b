//! A checkpoint: one safetensors file, readable by any safetensors library.
//!
//! Tensors: the parameters under torchvision's names, the optimiser's momentum under `momentum.NAME`, and under
//! `ema.NAME` the moving average if the run keeps one; everything but a resumed run uses the average then. The file's
//! `__metadata__` has strings only, as the format demands: `format_version`, `architecture`, `preprocess`, `data`, `classes`,
//! `config`, `seed`, `step`, `progress`, and two checksums, which docs/formats.md defines.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alexnet_core::device::{CHUNK, Parameter};
use alexnet_core::{Device, Network};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use verify::{CHECKSUM, INFERENCE_CHECKSUM, NO_CHECKSUM, needed};

use super::config::LARGEST_TOML;
use super::memory;
use super::model::Model;
use crate::data::{Preprocess, classes};
use crate::file_kind::FileKind;
use crate::hex::hex;
use crate::{FileError, atomic_file};

mod progress;
mod verify;
mod weights;

pub use progress::Progress;
pub use weights::{Weights, open_weights};

/// The format that this program writes, and the only one that it reads.
const FORMAT_VERSION: &str = "1";
/// Prefix of the name of a moving average.
pub const AVERAGE: &str = "ema.";
/// Prefix of the name of a momentum.
const MOMENTUM: &str = "momentum.";

/// An error while writing or reading a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused the file.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Not a safetensors file, or a truncated one.
    #[error("{} is not a complete safetensors file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A safetensors file without this program's metadata.
    #[error("{} has weights but is not a checkpoint of this program: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
        /// Whether a version of this program wrote it.
        own: bool,
    },
    /// A file of another kind.
    #[error("{} is not a checkpoint: it is {kind}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// The checksum does not match the contents.
    #[error("{} is damaged: its checksum does not match its contents", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A tensor of the network is missing or has the wrong shape or type.
    #[error("{}: tensor `{name}` {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// The progress that the file tells contradicts itself or the run.
    #[error("{}: its progress is not that of a run: {field} is {value}, expected {expected}", path.display())]
    Progress {
        /// The file.
        path: PathBuf,
        /// The key.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// A weight is infinite or NaN: there would be no state to go on from.
    #[error("weight {name} has an element that is {value}")]
    NotFinite {
        /// The parameter.
        name: String,
        /// The element.
        value: f32,
    },
    /// The network's device failed.
    #[error(transparent)]
    Core(#[from] alexnet_core::Error),
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// The data set of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// Name of the data set.
    pub name: String,
    /// Differs if the data do.
    pub fingerprint: String,
}

/// A checkpoint without its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// The network.
    pub model: Model,
    /// The data set.
    pub data: TrainedOn,
    /// Class names, indexed by label.
    pub classes: Vec<String>,
    /// The settings in effect, as TOML.
    pub config: String,
    /// Seed of the run.
    pub seed: u64,
    /// Progress of a run.
    pub progress: Progress,
    /// How its images are resized and normalised.
    pub preprocess: Preprocess,
}

/// The tensors of a checkpoint: those of a network, or a [copy](Network::snapshot) of them.
pub struct Tensors<'a, D: Device> {
    /// Where they are.
    pub device: &'a D,
    /// With momentum and average, where there are.
    pub parameters: &'a [Parameter<D::Buffer>],
}

impl<'a, D: Device> From<&'a Network<D>> for Tensors<'a, D> {
    fn from(network: &'a Network<D>) -> Self {
        Self { device: network.device(), parameters: network.parameters() }
    }
}

/// Writes a checkpoint atomically.
///
/// # Errors
/// The file cannot be written, or a weight is infinite or NaN (the old file stays); the device failed.
pub fn save<'a, D: Device<Element = f32> + 'a>(
    path: &Path,
    tensors: impl Into<Tensors<'a, D>>,
    metadata: &Metadata,
) -> Result<()> {
    let (tensors, failed) = (tensors.into(), |error| FileError::on("write", path)(error).into());
    atomic_file::write_with(path, true, failed, |file: &mut File| write(file, tensors, metadata, failed))
}

/// Bytes of the tensors that [`save`] writes.
pub fn size<B>(parameters: &[Parameter<B>]) -> u64 {
    let copies = |kept: [bool; 2]| 1 + kept.into_iter().filter(|kept| *kept).count();
    let bytes = |p: &Parameter<B>| p.len() * size_of::<f32>() * copies([p.momentum.is_some(), p.average.is_some()]);
    parameters.iter().map(|parameter| bytes(parameter) as u64).sum()
}

/// Writes a checkpoint to an open file.
///
/// # Errors
/// As [`save`]; the system's, converted by `failed`.
pub fn write<'a, D: Device<Element = f32> + 'a>(
    file: &mut (impl Write + Seek),
    tensors: impl Into<Tensors<'a, D>>,
    metadata: &Metadata,
    failed: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let Tensors { device, parameters } = tensors.into();
    let mut tensors = Vec::new();
    for parameter in parameters {
        tensors.push((parameter.name.clone(), parameter, &parameter.value));
    }
    for parameter in parameters {
        if let Some(momentum) = &parameter.momentum {
            tensors.push((format!("{MOMENTUM}{}", parameter.name), parameter, momentum));
        }
    }
    for parameter in parameters {
        if let Some(average) = &parameter.average {
            tensors.push((format!("{AVERAGE}{}", parameter.name), parameter, average));
        }
    }
    let mut header = header(metadata, tensors.iter().map(|(name, p, _)| (name.as_str(), p.shape.as_slice())));
    // The metadata comes first in the header, and the checksums first in them.
    let [whole, inference] = [0, 1].map(|i| header.match_indices(NO_CHECKSUM).nth(i).map_or(0, |(at, _)| at));
    let mut values = Vec::new();
    let mut each =
        |parameter: &Parameter<D::Buffer>, buffer: &D::Buffer, take: &mut dyn FnMut(&[f32]) -> Result<()>| {
            (0..parameter.len()).step_by(CHUNK).try_for_each(|start| {
                values.resize(CHUNK.min(parameter.len() - start), 0.0);
                device.read_at(buffer, start, &mut values)?;
                take(&values)
            })
        };
    let mut hash = Sha256::new();
    hash.update((header.len() as u64).to_le_bytes());
    hash.update(&header);
    let has = |name: &str| tensors.iter().any(|(other, ..)| other == name);
    for (_, parameter, buffer) in tensors.iter().filter(|(name, ..)| needed(name, has)) {
        each(parameter, buffer, &mut |values| {
            hash.update(bytemuck::cast_slice::<f32, u8>(values));
            Ok(())
        })?;
    }
    header.replace_range(inference..inference + NO_CHECKSUM.len(), &hex(&hash.finalize()));
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(&failed);
    put(&(header.len() as u64).to_le_bytes())?;
    put(header.as_bytes())?;
    for (index, (name, parameter, buffer)) in tensors.iter().enumerate() {
        each(parameter, buffer, &mut |values| {
            if index < parameters.len()
                && let Some(&value) = values.iter().find(|value| !value.is_finite())
            {
                return Err(Error::NotFinite { name: name.clone(), value });
            }
            put(bytemuck::cast_slice(values))
        })?;
    }
    let Hashing { inner, hash } = out;
    let file = inner.into_inner().map_err(|error| failed(error.into_error()))?;
    let offset = 8 + whole as u64;
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(hex(&hash.finalize()).as_bytes())).map_err(failed)
}

/// The JSON header with zeros as checksums, padded with spaces to a multiple of eight bytes.
fn header<'a>(metadata: &Metadata, tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> String {
    let json = |value: serde_json::Result<String>| value.expect("plain data has a JSON form");
    let mut header = serde_json::Map::new();
    let strings = serde_json::json!({
        CHECKSUM: NO_CHECKSUM,
        INFERENCE_CHECKSUM: NO_CHECKSUM,
        "format_version": FORMAT_VERSION,
        "architecture": json(serde_json::to_string(&metadata.model)),
        "preprocess": metadata.preprocess.to_json(metadata.model.image_size).to_string(),
        "data": json(serde_json::to_string(&metadata.data)),
        "classes": json(serde_json::to_string(&metadata.classes)),
        "config": metadata.config,
        "seed": metadata.seed.to_string(),
        "step": metadata.progress.step.to_string(),
        "progress": json(serde_json::to_string(&metadata.progress)),
    });
    header.insert("__metadata__".into(), strings);
    let mut offset = 0;
    for (name, shape) in tensors {
        let end = offset + shape.iter().product::<usize>() * size_of::<f32>();
        let info = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.into(), info);
        offset = end;
    }
    let mut text = serde_json::Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An open checkpoint: complete, with parsed metadata. Its tensors are checked when they are read.
pub struct Checkpoint {
    weights: Weights,
    metadata: Metadata,
}

/// Opens a checkpoint and reads its metadata.
///
/// # Errors
/// The file cannot be read, is truncated, or is not a checkpoint of this program.
pub fn open(path: &Path) -> Result<Checkpoint> {
    parsed(open_weights(path)?)
}

/// The checkpoint whose file `path` has these bytes, on another machine maybe.
///
/// # Errors
/// As [`open`].
pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<Checkpoint> {
    parsed(Weights::of(path, bytes)?)
}

/// The checkpoint that [`save`] would write to `path`, in memory.
///
/// # Errors
/// As [`save`]; too little memory.
pub fn in_memory<D: Device<Element = f32>>(
    path: &Path,
    network: &Network<D>,
    metadata: &Metadata,
) -> Result<Checkpoint> {
    let weights: usize = network.parameters().iter().map(|parameter| parameter.len()).sum();
    memory::claim((weights * size_of::<f32>()) as u64).map_err(FileError::on("read", path))?;
    let mut bytes = io::Cursor::new(Vec::new());
    write(&mut bytes, network, metadata, |error| FileError::on("write", path)(error).into())?;
    parsed(Weights::of(path, bytes.into_inner())?)
}

fn parsed(weights: Weights) -> Result<Checkpoint> {
    let path = weights.path.clone();
    let own = weights.note("format_version").is_some();
    let foreign = |reason: String| Error::Foreign { path: path.to_owned(), reason, own };
    let get = |key: &str| weights.note(key).ok_or_else(|| foreign(format!("its metadata has no `{key}`")));
    let version = get("format_version")?;
    if version != FORMAT_VERSION {
        return Err(foreign(format!("its format version is {version}, this program reads {FORMAT_VERSION}")));
    }
    get(CHECKSUM)?;
    let unread = |key: &str, error: serde_json::Error| foreign(format!("its `{key}` cannot be read: {error}"));
    let model: Model = serde_json::from_str(get("architecture")?).map_err(|e| unread("architecture", e))?;
    let preprocess = match weights.note("preprocess") {
        Some(text) => Preprocess::from_json(text, model.image_size)
            .map_err(|reason| foreign(format!("its `preprocess` cannot be used: {reason}")))?,
        // From before it was recorded.
        None => Preprocess::CIFAR10,
    };
    let config = get("config")?;
    if config.len() as u64 > LARGEST_TOML {
        return Err(foreign(format!("its `config` has {} bytes, the limit is {LARGEST_TOML}", config.len())));
    }
    let metadata = Metadata {
        model,
        data: serde_json::from_str(get("data")?).map_err(|e| unread("data", e))?,
        classes: classes::parse(get("classes")?)
            .map_err(|reason| foreign(format!("its `classes` cannot be used: {reason}")))?,
        config: config.into(),
        seed: get("seed")?.parse().map_err(|_| foreign("its `seed` is not a number".into()))?,
        progress: serde_json::from_str(get("progress")?).map_err(|e| unread("progress", e))?,
        preprocess,
    };
    Ok(Checkpoint { weights, metadata })
}

impl Checkpoint {
    /// Everything but the tensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

#[cfg(test)]
mod tests;
