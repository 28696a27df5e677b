//! A safetensors file in memory. Its header is parsed once, within limits: it is JSON that anybody may have written.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use alexnet_core::Device;
use alexnet_core::device::CHUNK;
use safetensors::Dtype;
use safetensors::tensor::{Metadata as Tensors, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{Error, Result, memory};
use crate::file_kind::{FileKind, START};
use crate::{FileError, regular_file};

/// Most bytes of a header. A run's has some kilobytes, and its classes.
const LARGEST_HEADER: u64 = 8 << 20;
/// Most tensors, and most strings of metadata.
const MOST_NAMES: usize = 1 << 16;
/// Most bytes of a name.
const LONGEST_NAME: usize = 1 << 10;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;

/// The metadata's strings.
#[derive(Default)]
struct Notes(HashMap<String, String>);

/// A header, in the order of the file.
#[derive(Default)]
struct Header {
    notes: Option<Notes>,
    tensors: Vec<(String, TensorInfo)>,
}

/// Takes the entries of a JSON object, whose number and names are limited.
fn entries<'de, A: MapAccess<'de>>(
    mut map: A,
    mut take: impl FnMut(&mut A, String) -> Result<(), A::Error>,
) -> Result<(), A::Error> {
    let mut count = 0;
    while let Some(name) = map.next_key::<String>()? {
        if name.len() > LONGEST_NAME {
            return Err(A::Error::custom(format!("a name has {} bytes, the limit is {LONGEST_NAME}", name.len())));
        }
        count += 1;
        if count > MOST_NAMES {
            return Err(A::Error::custom(format!("it has more than {MOST_NAMES} names, the limit")));
        }
        take(&mut map, name)?;
    }
    Ok(())
}

impl<'de> Visitor<'de> for Notes {
    type Value = Self;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<Self, A::Error> {
        entries(map, |map, name| {
            let value = map.next_value()?;
            match self.0.insert(name, value) {
                None => Ok(()),
                Some(_) => Err(A::Error::custom("two strings of its metadata have the same name")),
            }
        })?;
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Header {
    type Value = Self;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<Self, A::Error> {
        entries(map, |map, name| {
            if name != "__metadata__" {
                self.tensors.push((name, map.next_value()?));
            } else if self.notes.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("it has two __metadata__"));
            }
            Ok(())
        })?;
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

/// The length of a header with the number before it, from the first bytes of a file of `len` bytes.
fn header_len(start: &[u8], len: u64) -> Result<u64, String> {
    let kind = FileKind::of(&start[..start.len().min(START)]);
    if kind != FileKind::Safetensors {
        return Err(format!("it is {kind}"));
    }
    let header = start.first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
    match header.saturating_add(8) {
        end if end > len => Err(format!("it ends after {len} bytes, within its header of {end}: it was cut short")),
        _ if header > LARGEST_HEADER => {
            Err(format!("its header has {} MiB, the limit is {} MiB", header >> 20, LARGEST_HEADER >> 20))
        }
        end => Ok(end),
    }
}

/// The tensors of a file of `len` bytes, which lie one behind the other and fill it.
fn parse(header: &[u8], len: u64) -> Result<Tensors, String> {
    let json = header.get(8..).unwrap_or_default();
    let Header { notes, mut tensors } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut names = HashSet::new();
    for (name, info) in &tensors {
        if !names.insert(name) {
            return Err(format!("two tensors have the name {name}"));
        }
        if info.shape.len() > MOST_DIMENSIONS {
            return Err(format!("tensor {name} has {} dimensions, the limit is {MOST_DIMENSIONS}", info.shape.len()));
        }
    }
    drop(names);
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let tensors = Tensors::new(notes.map(|notes| notes.0), tensors).map_err(|error| error.to_string())?;
    let needs = (header.len() as u64).saturating_add(tensors.data_len() as u64);
    match len {
        _ if len < needs => Err(format!("it ends after {len} of {needs} bytes: it was cut short")),
        _ if len > needs => Err(format!("it has {} bytes more than its header says", len - needs)),
        _ => Ok(tensors),
    }
}

/// A safetensors file in memory, with a checked structure.
pub struct Weights {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    tensors: Tensors,
    /// Where the tensors' data begin.
    data: usize,
}

/// Reads any safetensors file. Takes no more memory than the length of the file, and some for its header.
///
/// # Errors
/// The file cannot be read or is not a complete safetensors file.
pub fn open_weights(path: &Path) -> Result<Weights> {
    let io = |error| FileError::on("read", path)(error);
    let mut file = regular_file::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(START as u64).read_to_end(&mut bytes).map_err(io)?;
    // Before a file of any size is read: what is of another kind is named, and the header fits it.
    let kind = FileKind::of(&bytes);
    if !matches!(kind, FileKind::Safetensors | FileKind::Zeros | FileKind::Unknown) {
        return Err(Error::WrongKind { path: path.to_owned(), kind });
    }
    let malformed = |reason| Error::Malformed { path: path.to_owned(), reason };
    let data = header_len(&bytes, len).map_err(malformed)?;
    let rest = data.saturating_sub(bytes.len() as u64);
    Read::by_ref(&mut file).take(rest).read_to_end(&mut bytes).map_err(io)?;
    let data = bytes.len().min(data as usize);
    let tensors = parse(&bytes[..data], len).map_err(malformed)?;
    memory::claim(len).map_err(io)?;
    bytes.try_reserve_exact((len as usize).saturating_sub(bytes.len())).map_err(|error| io(error.into()))?;
    file.take(len.saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 != len {
        return Err(malformed(format!("it ends after {} of {len} bytes: it was cut short", bytes.len())));
    }
    Ok(Weights { path: path.to_owned(), bytes, tensors, data })
}

impl Weights {
    /// Of a file's bytes; `path` is for messages.
    pub(super) fn of(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let malformed = |reason| Error::Malformed { path: path.to_owned(), reason };
        let data = header_len(&bytes, bytes.len() as u64).map_err(malformed)? as usize;
        let tensors = parse(&bytes[..data], bytes.len() as u64).map_err(malformed)?;
        Ok(Self { path: path.to_owned(), bytes, tensors, data })
    }

    /// A tensor and its bytes.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn tensor(&self, name: &str) -> Result<(&TensorInfo, &[u8])> {
        let Some(info) = self.tensors.info(name) else { return Err(self.fail(name, "is missing".into())) };
        let (from, to) = info.data_offsets;
        Ok((info, &self.bytes[self.data + from..self.data + to]))
    }

    pub(super) fn fail(&self, name: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.clone(), name: name.into(), reason }
    }

    /// The bytes of a tensor of the network, of this `shape`.
    ///
    /// # Errors
    /// It is missing, or has another shape or type.
    pub(super) fn data(&self, name: &str, shape: &[usize]) -> Result<&[u8]> {
        let (info, data) = self.tensor(name)?;
        if info.shape != shape {
            return Err(self.fail(name, format!("has shape {:?}, the network needs {shape:?}", info.shape)));
        }
        if info.dtype != Dtype::F32 {
            return Err(self.fail(name, format!("has type {}, the network needs F32", info.dtype)));
        }
        Ok(data)
    }

    /// Copies the tensor `name` into an array of the network of this `shape`.
    pub(super) fn copy<D: Device<Element = f32>>(
        &self,
        name: &str,
        shape: &[usize],
        device: &D,
        to: &mut D::Buffer,
    ) -> Result<()> {
        for (index, bytes) in self.data(name, shape)?.chunks(CHUNK * size_of::<f32>()).enumerate() {
            let values: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(bytes);
            device.write_at(&values, to, index * CHUNK)?;
        }
        Ok(())
    }

    /// Name, description and bytes of every tensor, in the order of the file.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, &TensorInfo, &[u8])> {
        self.tensors.offset_keys().into_iter().filter_map(|name| {
            let (info, data) = self.tensor(&name).ok()?;
            Some((name, info, data))
        })
    }

    /// Names and shapes of all tensors, including momentum and averages, in the order of the file.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors().map(|(name, info, _)| (name, info.shape.clone())).collect()
    }

    /// A string from the file's metadata.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.tensors.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The values of a floating-point tensor of any width, rounded to f32.
    ///
    /// # Errors
    /// It is missing or has another type.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let (info, data) = self.tensor(name)?;
        Ok(match info.dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            other => return Err(self.fail(name, format!("has type {other}, expected floating-point numbers"))),
        })
    }
}
