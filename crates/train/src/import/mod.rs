//! Import of weights from other programs: safetensors files and PyTorch state dicts.

mod choose;
pub mod classes;
pub mod convert;
mod names;
pub mod pickle;
mod preprocess;
pub mod pytorch;
pub mod recognise;
mod zipped;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use alexnet_core::device::Parameter;
use alexnet_core::{Device, Network};

use crate::FileError;
use crate::file_kind::FileKind;
use crate::run::{checkpoint, memory, summary};

pub use preprocess::preprocess;

/// Why weights cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A safetensors file that cannot be read, or a tensor that does not fit.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A PyTorch file that cannot be read.
    #[error("{}: {source}", path.display())]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pytorch::Error,
    },
    /// The tensors fit no known variant of AlexNet.
    #[error("{} does not hold a known AlexNet: {reason}", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// A tensor with NaN or an infinity.
    #[error("tensor {name} of {} has the value {value}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// NaN or an infinity.
        value: f32,
    },
    /// A batch norm's running variance that is below zero: the square root of it is NaN.
    #[error("tensor {name} of {} has the value {value}, and a variance is not negative", path.display())]
    NegativeVariance {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The first negative value.
        value: f32,
    },
    /// The file records a preprocessing that this program does not do.
    #[error("{} records a preprocessing that this program does not do: {reason}", path.display())]
    Preprocess {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The last layer has another number of classes than requested.
    #[error("{} has a last layer of {found} classes, {wanted} are wanted", path.display())]
    Classes {
        /// The file.
        path: PathBuf,
        /// Its classes.
        found: usize,
        /// Classes of the data, or of `--classes`.
        wanted: usize,
    },
}

/// Named tensors in a file of weights.
pub struct WeightFile {
    path: PathBuf,
    file: Contents,
    /// torchvision's name, where a tensor has one, and its name in the file.
    names: Vec<(String, String)>,
    remark: Option<String>,
}

enum Contents {
    Safetensors(checkpoint::Weights),
    PyTorch(Box<pytorch::StateDict>),
}

/// Opens a safetensors file or a PyTorch state dict; the contents tell which. `key` names the dict of a PyTorch file, or
/// the prefix of the names, that is to be taken; without it the most likely is.
///
/// # Errors
/// The file cannot be read or is neither.
pub fn open(path: &Path, key: Option<&str>) -> Result<WeightFile, Error> {
    let kind = FileKind::of_file(path).map_err(|error| checkpoint::Error::from(FileError::on("read", path)(error)))?;
    if matches!(kind, FileKind::PyTorchZip | FileKind::PyTorchLegacy | FileKind::Zip) {
        return open_pytorch(path, key).map_err(|source| Error::PyTorch { path: path.into(), source });
    }
    let file = checkpoint::open_weights(path)?;
    let raw: Vec<String> = file.shapes().into_iter().map(|(name, _)| name).collect();
    let all: Vec<&str> = raw.iter().map(String::as_str).collect();
    let mut groups = names::groups(&all);
    if let Some(key) = key {
        groups.retain(|group| group.prefix == key);
        if groups.is_empty() {
            let reason = format!("no tensors named `{key}.{}` and so on", names::FIRST);
            return Err(Error::Unrecognised { path: path.into(), reason });
        }
    }
    let label = |group: &names::Group| group.prefix.clone();
    let mut remark = None;
    if let [first, second, ..] = groups.as_slice()
        && file.note("format_version").is_none()
        && first.names.len() == second.names.len()
    {
        let places: HashMap<&str, usize> = second.names.iter().map(|(name, at)| (name.as_str(), *at)).collect();
        let mut same = true;
        for (name, index) in &first.names {
            let Some(&other) = places.get(name.as_str()) else { continue };
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            // Counters of batch norms are no floats, and count nothing here.
            if let (Ok(own), Ok(other)) = (file.read(&raw[*index]), file.read(&raw[other])) {
                same &= bits(own) == bits(other);
            }
        }
        remark = Some(of_two(path, &label(first), &label(second), same));
    }
    let own = groups.into_iter().next().unwrap_or_default().and_others(&all);
    let own = own.into_iter().map(|(name, index)| (name, raw[index].clone())).collect();
    Ok(WeightFile { path: path.into(), file: Contents::Safetensors(file), names: own, remark })
}

/// That one of two networks was taken.
fn of_two(path: &Path, own: &str, other: &str, same: bool) -> String {
    let quoted = |label: &str| {
        if label.is_empty() { "the tensors without a prefix".into() } else { format!("`{label}`") }
    };
    let same = if same { "has the same values" } else { "differs" };
    let (file, own, quoted) = (path.display(), quoted(own), quoted(other));
    format!("{file}: took {own}; {quoted} fits too and {same} (alexnet import --key {other} takes it)")
}

fn open_pytorch(path: &Path, key: Option<&str>) -> Result<WeightFile, pytorch::Error> {
    let mut state = pytorch::open(path, key)?;
    let mut remark = None;
    if let Some(other) = state.others.first().cloned() {
        let same = state.same_values(&other)?;
        remark = Some(of_two(path, &state.label, &other.label, same));
    }
    let names = state.shapes().map(|(name, _)| (name.to_owned(), name.to_owned())).collect();
    Ok(WeightFile { path: path.into(), file: Contents::PyTorch(Box::new(state)), names, remark })
}

impl WeightFile {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its user should know: other weights in it that fit, and tensors that a network with these parameters leaves
    /// unused.
    pub fn remarks<B>(&self, parameters: &[Parameter<B>]) -> Vec<String> {
        let mut remarks: Vec<String> = self.remark.iter().cloned().collect();
        // A run's checkpoint has momentum and averages besides.
        if self.note("format_version").is_none() {
            let used = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
            let shapes = self.shapes();
            let unused = shapes.iter().map(|(name, _)| name.as_str());
            let unused: Vec<&str> =
                unused.filter(|name| !used(name) && !name.ends_with("num_batches_tracked")).collect();
            if !unused.is_empty() {
                let (count, some) = (summary::count(unused.len(), "tensor"), names::quoted(&unused, 3));
                remarks.push(format!("{}: {count} left unused: {some}", self.path.display()));
            }
        }
        remarks
    }

    /// Names, without wrappers' prefixes, and shapes.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let found: HashMap<String, Vec<usize>> = match &self.file {
            Contents::Safetensors(file) => file.shapes().into_iter().collect(),
            Contents::PyTorch(state) => {
                state.shapes().filter_map(|(name, shape)| Some((name.to_owned(), shape?.to_vec()))).collect()
            }
        };
        self.names.iter().filter_map(|(name, raw)| Some((name.clone(), found.get(raw)?.clone()))).collect()
    }

    /// A string from the metadata of a safetensors file, or what an export of this program adds to a PyTorch file.
    pub fn note(&self, key: &str) -> Option<String> {
        match &self.file {
            Contents::Safetensors(file) => file.note(key).map(String::from),
            Contents::PyTorch(state) => state.notes.get(key).cloned(),
        }
    }

    /// The values of a tensor, rounded to f32.
    ///
    /// # Errors
    /// It is missing, or not of a floating-point type.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let raw = self.names.iter().find(|(own, _)| own == name).map_or(name, |(_, raw)| raw);
        match &mut self.file {
            Contents::Safetensors(file) => Ok(file.read(raw)?),
            Contents::PyTorch(state) => {
                state.read(raw).map_err(|source| Error::PyTorch { path: self.path.clone(), source })
            }
        }
    }

    /// Sets the parameters of `network` by name. From a run with `--ema`, the moving averages are taken; momentum is
    /// ignored. With `replace` the last layer keeps its values.
    ///
    /// # Errors
    /// A parameter is missing, has another shape or type, a value that is not finite or a negative variance; the number
    /// of classes differs; the device failed.
    pub fn initialise<D: Device<Element = f32>>(
        &mut self,
        network: &mut Network<D>,
        replace: bool,
    ) -> Result<(), Error> {
        let shapes = self.shapes();
        // Whether this program wrote it: in other files, names decide which of several networks is taken.
        let run = self.note("format_version").is_some();
        let (device, parameters) = network.device_and_parameters();
        let last = last_layer(parameters);
        for parameter in parameters {
            let own = &parameter.name;
            let is_last = own.strip_prefix(&last).is_some_and(|rest| rest.starts_with('.'));
            if replace && is_last {
                continue;
            }
            let path = self.path.clone();
            let fail = |reason| checkpoint::Error::Tensor { path: path.clone(), name: own.clone(), reason };
            let found = shapes.iter().find(|(name, _)| name == own).map(|(_, shape)| shape);
            let Some(shape) = found else {
                // A weight that an unknown function would make is named as such.
                self.read(own)?;
                return Err(fail("is missing".into()).into());
            };
            if *shape != parameter.shape {
                return Err(match (is_last, shape.first(), parameter.shape.first()) {
                    (true, Some(&found), Some(&wanted)) if shape[1..] == parameter.shape[1..] => {
                        Error::Classes { path: self.path.clone(), found, wanted }
                    }
                    _ => fail(format!("has shape {shape:?}, the network needs {:?}", parameter.shape)).into(),
                });
            }
            let average = format!("{}{own}", checkpoint::AVERAGE);
            let averaged = run && shapes.iter().any(|(name, shape)| *name == average && *shape == parameter.shape);
            // The tensor as stored, and as f32.
            memory::claim(2 * (size_of::<f32>() * parameter.len()) as u64)
                .map_err(|error| checkpoint::Error::from(FileError::on("read", &path)(error)))?;
            let values = self.read(if averaged { &average } else { own })?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFinite { path: self.path.clone(), name: own.clone(), value: *value });
            }
            let negative = values.iter().find(|&&value| own.ends_with(".running_var") && value < 0.0);
            if let Some(&value) = negative {
                return Err(Error::NegativeVariance { path: self.path.clone(), name: own.clone(), value });
            }
            device.write(&values, &mut parameter.value).map_err(checkpoint::Error::from)?;
        }
        Ok(())
    }
}

/// The name of the layer that computes the logits.
fn last_layer<B>(parameters: &[Parameter<B>]) -> String {
    parameters.last().map_or("", Parameter::layer).to_owned()
}

#[cfg(test)]
mod tests;
