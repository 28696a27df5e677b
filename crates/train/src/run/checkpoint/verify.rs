//! The checksums of a checkpoint, and reading it: what is used is checked while it is read, so that a file that changes
//! meanwhile is noticed too.
//!
//! `checksum` is the SHA-256 of the file with 64 zeros in its place. `inference_checksum` is that of the header, with 64 zeros in
//! the place of either, and of the tensors that a network for inference needs: parameters, but those that have an average, and
//! averages. A file without it, from before there was one, is read whole.

use std::collections::HashMap;

use alexnet_core::architecture::ParameterSpec;
use alexnet_core::device::CHUNK;
use alexnet_core::{Architecture, Device, Network};
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use super::{AVERAGE, Checkpoint, Error, MOMENTUM, Result, Weights};
use crate::FileError;
use crate::hex::hex;
use crate::run::memory;

/// The key of the checksum of the whole file.
pub(super) const CHECKSUM: &str = "checksum";
/// The key of the checksum of what inference needs.
pub(super) const INFERENCE_CHECKSUM: &str = "inference_checksum";
/// What stands in the place of a checksum while it is computed.
pub(super) const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Which tensors are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    Whole,
    /// Those that a network for inference needs.
    Inference,
}

/// Whether inference needs the tensor `name`, where `has` tells whether there is a tensor of a name.
pub(super) fn needed(name: &str, has: impl Fn(&str) -> bool) -> bool {
    !name.starts_with(MOMENTUM) && !has(&format!("{AVERAGE}{name}"))
}

/// A part of a tensor, or of what lies between two that are read.
struct Piece {
    name: String,
    dtype: Dtype,
    /// The first element, and where it lies behind the header.
    start: usize,
    offset: usize,
    bytes: usize,
}

/// Memory for a piece: floats, so that they are aligned.
#[derive(Default)]
struct Buffer {
    values: Vec<f32>,
    bytes: usize,
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.values)[..self.bytes]
    }
}

/// The header with zeros in the place of the checksums of these `keys`, in the order of the file; `None` where one is missing.
fn without(weights: &Weights, keys: &[&str]) -> Option<Vec<u8>> {
    let (mut header, mut from) = (weights.header.clone(), 0);
    for key in keys {
        let stated = weights.note(key).filter(|stated| stated.len() == NO_CHECKSUM.len())?;
        let at = from + header[from..].windows(stated.len()).position(|window| window == stated.as_bytes())?;
        from = at + stated.len();
        header[at..from].copy_from_slice(NO_CHECKSUM.as_bytes());
    }
    Some(header)
}

impl Checkpoint {
    /// Reads the tensors, checks that they are what was written and are numbers, and gives `take` the name, the first element and
    /// the values of each part of a tensor of type F32. What was taken is to be used only if there is no error.
    fn read(&self, scope: Scope, mut take: impl FnMut(&str, usize, &[f32]) -> Result<()> + Send) -> Result<()> {
        let weights = &self.weights;
        let damaged = || Error::Damaged { path: weights.path.clone() };
        let scope = if weights.note(INFERENCE_CHECKSUM).is_some() { scope } else { Scope::Whole };
        let (key, zeroed) = match scope {
            Scope::Whole => (CHECKSUM, &[CHECKSUM][..]),
            Scope::Inference => (INFERENCE_CHECKSUM, &[CHECKSUM, INFERENCE_CHECKSUM][..]),
        };
        let mut hash = Sha256::new();
        hash.update(without(weights, zeroed).ok_or_else(damaged)?);
        let mut unsound = None;
        let (mut read, mut hashed) = (Buffer::default(), Buffer::default());
        for piece in self.pieces(scope) {
            // The next piece is read while the one before it is hashed, which takes longer.
            let fill = || {
                read.bytes = piece.bytes;
                read.values.resize(CHUNK, 0.0);
                weights.read_at(piece.offset, &mut bytemuck::cast_slice_mut(&mut read.values)[..piece.bytes])?;
                if piece.dtype == Dtype::F32 {
                    let values = &read.values[..piece.bytes / size_of::<f32>()];
                    unsound = unsound.take().or_else(|| unsound_value(&piece.name, values));
                    take(&piece.name, piece.start, values)?;
                }
                Ok(())
            };
            let (_, filled): (_, Result<()>) = rayon::join(|| hash.update(hashed.bytes()), fill);
            filled?;
            std::mem::swap(&mut read, &mut hashed);
        }
        hash.update(hashed.bytes());
        if weights.note(key) != Some(&hex(&hash.finalize())) {
            return Err(damaged());
        }
        match unsound {
            Some((name, value)) => {
                Err(weights.fail(&name, format!("has the value {value}: the run that wrote it diverged")))
            }
            None => Ok(()),
        }
    }

    /// The parts of the tensors of a scope, in the order of the file.
    fn pieces(&self, scope: Scope) -> impl Iterator<Item = Piece> {
        let has = |name: &str| self.weights.tensor(name).is_ok();
        let read = move |name: &str| scope == Scope::Whole || needed(name, has);
        self.weights.tensors().filter(move |(name, _)| read(name)).flat_map(|(name, info)| {
            let (from, to) = info.data_offsets;
            let (dtype, most) = (info.dtype, CHUNK * size_of::<f32>());
            (from..to).step_by(most).map(move |offset| Piece {
                name: name.clone(),
                dtype,
                start: (offset - from) / size_of::<f32>(),
                offset,
                bytes: most.min(to - offset),
            })
        })
    }

    /// Reads the whole file and checks it, but takes no tensor.
    ///
    /// # Errors
    /// It cannot be read or is damaged; a weight is NaN or infinite, or a running variance below zero.
    pub fn verify(&self) -> Result<()> {
        self.read(Scope::Whole, |_, _, _| Ok(()))
    }

    /// The name of the tensor that everything but a resumed run takes for a parameter: its average, if there is one.
    fn used(&self, name: &str) -> String {
        let average = format!("{AVERAGE}{name}");
        if self.weights.tensor(&average).is_ok() { average } else { name.into() }
    }

    /// Checks that the parameters of `architecture` are there, before a network is built for them or anything is read.
    ///
    /// # Errors
    /// A tensor is missing or has another shape or type; the architecture has no output.
    pub fn fits(&self, architecture: &Architecture) -> Result<()> {
        let specs = architecture.parameters()?;
        specs.iter().try_for_each(|spec| self.weights.expect(&self.used(&spec.name), &spec.shape))
    }

    /// The values of parameters, or of their averages where there are.
    ///
    /// # Errors
    /// As [`restore`](Self::restore); too little memory.
    pub fn parameters(&self, specs: &[ParameterSpec]) -> Result<Vec<Vec<f32>>> {
        let len: usize = specs.iter().map(ParameterSpec::len).sum();
        let mut places = HashMap::new();
        for (index, spec) in specs.iter().enumerate() {
            let name = self.used(&spec.name);
            self.weights.expect(&name, &spec.shape)?;
            places.insert(name, index);
        }
        memory::claim((len * size_of::<f32>()) as u64).map_err(FileError::on("read", &self.weights.path))?;
        let mut found: Vec<Vec<f32>> = specs.iter().map(|spec| Vec::with_capacity(spec.len())).collect();
        self.read(Scope::Inference, |name, _, values| {
            if let Some(&index) = places.get(name) {
                found[index].extend(values);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Sets parameters and, in a network for training, momentum and averages. A network for inference gets the averages as
    /// parameters, if there are, and reads nothing else.
    ///
    /// # Errors
    /// A tensor is missing or has another shape or type; the file is damaged, or a weight in it is NaN or infinite; the device
    /// failed. The network is not to be used then.
    pub fn restore<D: Device<Element = f32>>(&self, network: &mut Network<D>) -> Result<()> {
        let scope = if network.trains() { Scope::Whole } else { Scope::Inference };
        let (device, parameters) = network.device_and_parameters();
        let mut places = HashMap::new();
        for parameter in parameters {
            let own = match scope {
                Scope::Whole => parameter.name.clone(),
                Scope::Inference => self.used(&parameter.name),
            };
            let mut place = |name: String, to| {
                self.weights.expect(&name, &parameter.shape)?;
                places.insert(name, to);
                Ok::<_, Error>(())
            };
            place(own, &mut parameter.value)?;
            if let Some(to) = &mut parameter.average {
                place(format!("{AVERAGE}{}", parameter.name), to)?;
            }
            if let Some(to) = &mut parameter.momentum {
                place(format!("{MOMENTUM}{}", parameter.name), to)?;
            }
        }
        self.read(scope, |name, start, values| match places.get_mut(name) {
            Some(to) => Ok(device.write_at(values, to, start)?),
            None => Ok(()),
        })
    }
}

/// The first value of a weight or an average that is NaN or infinite, or of a running variance that is below zero, whose
/// square root is NaN.
fn unsound_value(name: &str, values: &[f32]) -> Option<(String, f32)> {
    let least = if name.ends_with(".running_var") { 0.0 } else { f32::MIN };
    let sound = |value: &f32| (least..=f32::MAX).contains(value);
    // Without a branch per value.
    let all = name.starts_with(MOMENTUM) || values.iter().fold(true, |all, value| all & sound(value));
    (!all).then(|| values.iter().find(|value| !sound(value)).map(|value| (name.into(), *value)))?
}
