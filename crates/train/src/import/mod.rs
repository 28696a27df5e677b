//! Weights from other programs: safetensors files, and PyTorch's state dicts.

pub mod pickle;
pub mod pytorch;
pub mod recognise;

use std::io::Read;
use std::path::{Path, PathBuf};

use alexnet_core::device::Parameter;
use alexnet_core::{Device, Network};

use crate::run::checkpoint;

/// Why weights cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A safetensors file that cannot be read, or a tensor that does not fit.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A file of PyTorch's that cannot be read.
    #[error("{}: {source}", path.display())]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pytorch::Error,
    },
    /// The tensors are no AlexNet's that this program knows.
    #[error("{} holds no AlexNet that is known: {reason}", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// A tensor that nothing can be computed with.
    #[error("the tensor {name} of {} has the value {value}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// NaN or an infinity.
        value: f32,
    },
    /// The last layer has other classes than wanted.
    #[error("{} has a last layer of {found} classes, {wanted} are wanted", path.display())]
    Classes {
        /// The file.
        path: PathBuf,
        /// Its classes.
        found: usize,
        /// Those of the data, or those named.
        wanted: usize,
    },
}

/// Named tensors of someone's file.
pub struct Weights {
    path: PathBuf,
    file: File,
    /// What stands before the network's own names, such as `module.`.
    prefix: String,
}

enum File {
    Safetensors(checkpoint::Weights),
    PyTorch(Box<pytorch::StateDict>),
}

/// Opens a safetensors file or a state dict of PyTorch's, told apart by their contents.
///
/// # Errors
/// The file cannot be read or is neither.
pub fn open(path: &Path) -> Result<Weights, Error> {
    let mut start = Vec::new();
    // A file that cannot be opened is told by what opens it again.
    let opened = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    let file = if opened.is_ok() && pytorch::recognises(&start) {
        let state = pytorch::open(path).map_err(|source| Error::PyTorch { path: path.into(), source })?;
        File::PyTorch(Box::new(state))
    } else {
        File::Safetensors(checkpoint::open_weights(path)?)
    };
    let mut weights = Weights { path: path.into(), file, prefix: String::new() };
    let first = ".features.0.weight";
    let names: Vec<String> = weights.shapes().into_iter().map(|(name, _)| name).collect();
    if !names.iter().any(|name| *name == first[1..])
        && let Some(name) = names.iter().find(|name| name.ends_with(first) && !name.starts_with("momentum."))
    {
        weights.prefix = name[..name.len() - first.len() + 1].to_owned();
    }
    Ok(weights)
}

impl Weights {
    /// Where they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes in the file's order, without the prefix that all names of the network have.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shapes = match &self.file {
            File::Safetensors(file) => file.shapes(),
            File::PyTorch(state) => state.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect(),
        };
        let own = |(name, shape): (String, _)| Some((name.strip_prefix(&self.prefix)?.to_owned(), shape));
        shapes.into_iter().filter_map(own).collect()
    }

    /// A string that a safetensors file's metadata has.
    pub fn note(&self, key: &str) -> Option<String> {
        match &self.file {
            File::Safetensors(file) => file.note(key),
            File::PyTorch(_) => None,
        }
    }

    /// The values of a tensor, rounded to f32.
    ///
    /// # Errors
    /// It is missing, or no tensor of floating-point numbers.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let name = format!("{}{name}", self.prefix);
        match &mut self.file {
            File::Safetensors(file) => Ok(file.read(&name)?),
            File::PyTorch(state) => {
                state.read(&name).map_err(|source| Error::PyTorch { path: self.path.clone(), source })
            }
        }
    }

    /// Sets the parameters of `network` by name, those of this program's runs to their average if they kept one; momentum
    /// in the file is ignored. With `replace` the last layer
    /// keeps what it has.
    ///
    /// # Errors
    /// A parameter is missing or has another shape or type; other classes than the network's; the device failed.
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

/// The name of the layer that gives the logits.
fn last_layer<B>(parameters: &[Parameter<B>]) -> String {
    parameters.last().map_or("", Parameter::layer).to_owned()
}
