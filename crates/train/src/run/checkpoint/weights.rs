//! A safetensors file. Its header is parsed once, within limits: it is JSON that anybody may have written. The tensors stay in
//! the file until they are read.
//!
//! They are read, not mapped: whoever cuts or overwrites a mapped file ends the process that has it mapped, or changes
//! weights that were checked.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata as Tensors, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{Error, Result};
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

/// Where the bytes of a file are.
enum Source {
    File(File),
    Memory(Vec<u8>),
}

/// A safetensors file with a checked structure.
pub struct Weights {
    pub(super) path: PathBuf,
    source: Source,
    /// The header with the number before it.
    pub(super) header: Vec<u8>,
    tensors: Tensors,
}

/// Opens any safetensors file. Takes memory for its header only.
///
/// # Errors
/// The file cannot be read or is not a complete safetensors file.
pub fn open_weights(path: &Path) -> Result<Weights> {
    let io = |error| FileError::on("read", path)(error);
    let mut file = regular_file::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut header = Vec::new();
    Read::by_ref(&mut file).take(START as u64).read_to_end(&mut header).map_err(io)?;
    // Before a file of any size is read: what is of another kind is named, and the header fits it.
    let kind = FileKind::of(&header);
    if !matches!(kind, FileKind::Safetensors | FileKind::Zeros | FileKind::Unknown) {
        return Err(Error::WrongKind { path: path.to_owned(), kind });
    }
    let malformed = |reason| Error::Malformed { path: path.to_owned(), reason };
    let end = header_len(&header, len).map_err(malformed)?;
    let rest = end.saturating_sub(header.len() as u64);
    Read::by_ref(&mut file).take(rest).read_to_end(&mut header).map_err(io)?;
    header.truncate(end as usize);
    let tensors = parse(&header, len).map_err(malformed)?;
    Ok(Weights { path: path.to_owned(), source: Source::File(file), header, tensors })
}

impl Weights {
    /// Of a file's bytes; `path` is for messages.
    pub(super) fn of(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let malformed = |reason| Error::Malformed { path: path.to_owned(), reason };
        let end = header_len(&bytes, bytes.len() as u64).map_err(malformed)? as usize;
        let header = bytes[..end].to_vec();
        let tensors = parse(&header, bytes.len() as u64).map_err(malformed)?;
        Ok(Self { path: path.to_owned(), source: Source::Memory(bytes), header, tensors })
    }

    /// The description of a tensor.
    ///
    /// # Errors
    /// It is missing.
    pub(super) fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.info(name).ok_or_else(|| self.fail(name, "is missing".into()))
    }

    pub(super) fn fail(&self, name: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.clone(), name: name.into(), reason }
    }

    /// Checks that there is a tensor of the network, of this `shape`.
    ///
    /// # Errors
    /// It is missing, or has another shape or type.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        let info = self.tensor(name)?;
        if info.shape != shape {
            return Err(self.fail(name, format!("has shape {:?}, the network needs {shape:?}", info.shape)));
        }
        if info.dtype != Dtype::F32 {
            return Err(self.fail(name, format!("has type {}, the network needs F32", info.dtype)));
        }
        Ok(())
    }

    /// Reads the bytes of the tensors from `offset` on, counted from the end of the header.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than when it was opened.
    pub(super) fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let start = self.header.len() + offset;
        let read = match &self.source {
            Source::Memory(bytes) => bytes.get(start..start + to.len()).map(|from| to.copy_from_slice(from)),
            Source::File(file) => {
                let mut file = file;
                match file.seek(SeekFrom::Start(start as u64)).and_then(|_| file.read_exact(to)) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    result => Some(result.map_err(FileError::on("read", &self.path))?),
                }
            }
        };
        let reason = || "it was cut short while it was read".into();
        read.ok_or_else(|| Error::Malformed { path: self.path.clone(), reason: reason() })
    }

    /// Name and description of every tensor, in the order of the file.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, &TensorInfo)> {
        self.tensors.offset_keys().into_iter().filter_map(|name| {
            let info = self.tensors.info(&name)?;
            Some((name, info))
        })
    }

    /// Names and shapes of all tensors, including momentum and averages, in the order of the file.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    /// A string from the file's metadata.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.tensors.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The values of a floating-point tensor of any width, rounded to f32.
    ///
    /// # Errors
    /// It is missing or has another type; the file cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.tensor(name)?;
        let mut data = vec![0; info.data_offsets.1 - info.data_offsets.0];
        self.read_at(info.data_offsets.0, &mut data)?;
        Ok(match info.dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            other => return Err(self.fail(name, format!("has type {other}, expected floating-point numbers"))),
        })
    }
}
