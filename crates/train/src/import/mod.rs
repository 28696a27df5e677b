//! Import of weights from other programs: safetensors files and PyTorch state dicts.

pub mod pickle;
pub mod pytorch;
pub mod recognise;

mod preprocess;

use std::io::Read;
use std::path::{Path, PathBuf};

use alexnet_core::device::Parameter;
use alexnet_core::{Device, Network};

use crate::run::checkpoint;

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
    /// Common prefix of all names, such as `module.`.
    prefix: String,
}

enum Contents {
    Safetensors(checkpoint::Weights),
    PyTorch(Box<pytorch::StateDict>),
}

/// Opens a safetensors file or a PyTorch state dict; the contents tell which.
///
/// # Errors
/// The file cannot be read or is neither.
pub fn open(path: &Path) -> Result<WeightFile, Error> {
    let mut start = Vec::new();
    // If the file cannot be opened, the attempt below reports it.
    let opened = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    let file = if opened.is_ok() && pytorch::recognises(&start) {
        let state = pytorch::open(path).map_err(|source| Error::PyTorch { path: path.into(), source })?;
        Contents::PyTorch(Box::new(state))
    } else {
        Contents::Safetensors(checkpoint::open_weights(path)?)
    };
    let mut weights = WeightFile { path: path.into(), file, prefix: String::new() };
    let first = ".features.0.weight";
    let names: Vec<String> = weights.shapes().into_iter().map(|(name, _)| name).collect();
    if !names.iter().any(|name| *name == first[1..])
        && let Some(name) = names.iter().find(|name| name.ends_with(first) && !name.starts_with("momentum."))
    {
        weights.prefix = name[..name.len() - first.len() + 1].to_owned();
    }
    Ok(weights)
}

impl WeightFile {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names, without the common prefix, and shapes, in the file's order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shapes = match &self.file {
            Contents::Safetensors(file) => file.shapes(),
            Contents::PyTorch(state) => state.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect(),
        };
        let own = |(name, shape): (String, _)| Some((name.strip_prefix(&self.prefix)?.to_owned(), shape));
        shapes.into_iter().filter_map(own).collect()
    }

    /// A string from the metadata of a safetensors file.
    pub fn note(&self, key: &str) -> Option<String> {
        match &self.file {
            Contents::Safetensors(file) => file.note(key),
            Contents::PyTorch(_) => None,
        }
    }

    /// The values of a tensor, rounded to f32.
    ///
    /// # Errors
    /// It is missing, or not of a floating-point type.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let name = format!("{}{name}", self.prefix);
        match &mut self.file {
            Contents::Safetensors(file) => Ok(file.read(&name)?),
            Contents::PyTorch(state) => {
                state.read(&name).map_err(|source| Error::PyTorch { path: self.path.clone(), source })
            }
        }
    }

    /// Sets the parameters of `network` by name. From a run with `--ema`, the moving averages are taken; momentum is
    /// ignored. With `replace` the last layer keeps its values.
    ///
    /// # Errors
    /// A parameter is missing or has another shape or type; the number of classes differs; the device failed.
    pub fn initialise<D: Device<Element = f32>>(
        &mut self,
        network: &mut Network<D>,
        replace: bool,
    ) -> Result<(), Error> {
        let shapes = self.shapes();
        let (device, parameters) = network.device_and_parameters();
        let last = last_layer(parameters);
        for parameter in parameters {
            let own = &parameter.name;
            let is_last = own.strip_prefix(&last).is_some_and(|rest| rest.starts_with('.'));
            if replace && is_last {
                continue;
            }
            let fail = |reason| checkpoint::Error::Tensor { path: self.path.clone(), name: own.clone(), reason };
            let found = shapes.iter().find(|(name, _)| name == own).map(|(_, shape)| shape);
            let shape = found.ok_or_else(|| fail("is missing".into()))?;
            if *shape != parameter.shape {
                return Err(match (is_last, shape.first(), parameter.shape.first()) {
                    (true, Some(&found), Some(&wanted)) if shape[1..] == parameter.shape[1..] => {
                        Error::Classes { path: self.path.clone(), found, wanted }
                    }
                    _ => fail(format!("has shape {shape:?}, the network needs {:?}", parameter.shape)).into(),
                });
            }
            let average = format!("{}{own}", checkpoint::AVERAGE);
            let averaged = shapes.iter().any(|(name, shape)| *name == average && *shape == parameter.shape);
            let values = self.read(if averaged { &average } else { own })?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFinite { path: self.path.clone(), name: own.clone(), value: *value });
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
