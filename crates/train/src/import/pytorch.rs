//! Reads PyTorch files: zip archives (since PyTorch 1.6), and the older format.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use super::choose::{self, Candidate, Entry};
use super::pickle::{self, ElementType, Pickle, Storage, Tensor};
use super::zipped::Archive;
use crate::regular_file;

/// First bytes of the older format: protocol 2 and a ten-byte integer, 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// Most bytes of a pickle; a state dict's has some hundred bytes per tensor.
const LARGEST_PICKLE: u64 = 16 << 20;
/// Most bytes of a note.
const LARGEST_NOTE: u64 = 1 << 20;

/// Why a PyTorch file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read the file: {0}")]
    Io(#[from] std::io::Error),
    /// Not a zip archive, or a truncated one.
    #[error("the archive is damaged: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// The file, or a record, is not as PyTorch writes it.
    #[error("{0}")]
    Damaged(String),
    /// A record that PyTorch does not write.
    #[error("the archive's record `{name}` is refused: {reason}")]
    Record {
        /// The record.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The pickle is refused.
    #[error(transparent)]
    Pickle(#[from] pickle::Error),
    /// The file has no state dict.
    #[error("the file holds no state dict: {0}")]
    NoStateDict(String),
    /// A tensor that does not fit its storage or the file.
    #[error("tensor `{name}` {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What does not fit.
        reason: String,
    },
}

/// Where the bytes of each storage are.
enum Records {
    /// Records `FOLDER/data/KEY` of a zip archive.
    Zip { archive: Box<Archive>, folder: String },
    /// Offsets in the file, by key.
    Legacy { file: BufReader<File>, offsets: HashMap<String, u64> },
}

/// A state dict; its tensors are read on demand.
pub struct StateDict {
    entries: Vec<(String, Entry)>,
    /// The other dicts in the file whose names fit.
    pub(super) others: Vec<Candidate>,
    /// Which dict it is, as [`Candidate::label`].
    pub(super) label: String,
    /// What a file of this program says of itself, as JSON by key.
    pub(super) notes: HashMap<String, String>,
    records: Records,
    /// The storage that was read last: many tensors may be views of one.
    last: Option<(String, Vec<f32>)>,
}

/// Whether a file starts like a PyTorch file.
pub fn recognises(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(LEGACY_MAGIC)
}

/// Opens a state dict, or a checkpoint that holds one in any dict (`import/choose.rs` says which); `key` names one.
///
/// # Errors
/// The file cannot be read, or is not a PyTorch state dict.
pub fn open(path: &Path, key: Option<&str>) -> Result<StateDict, Error> {
    let mut file = BufReader::new(regular_file::open(path)?);
    let mut start = Vec::new();
    file.by_ref().take(LEGACY_MAGIC.len() as u64).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let (pickle, mut records) = if start == LEGACY_MAGIC { open_legacy(file)? } else { open_zip(file)? };
    let (chosen, others) = choose::choose(&pickle, key).map_err(Error::NoStateDict)?;
    let notes = records.notes()?;
    Ok(StateDict { entries: chosen.entries, others, label: chosen.label, notes, records, last: None })
}

impl Records {
    /// The records that an export of this program adds, see [`export::pytorch`](crate::export::pytorch).
    fn notes(&mut self) -> Result<HashMap<String, String>, Error> {
        let Records::Zip { archive, folder } = self else { return Ok(HashMap::new()) };
        let names = archive.names()?;
        let mut notes = HashMap::new();
        for key in ["classes", "preprocess"] {
            let name = format!("{folder}extra/{key}.json");
            if names.contains(&name) {
                let bytes = archive.read(&name, LARGEST_NOTE)?;
                notes.insert(key.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(notes)
    }
}

fn open_zip(file: BufReader<File>) -> Result<(Pickle, Records), Error> {
    let mut archive = Box::new(Archive::open(file)?);
    let refuse = |name: &str, reason| Error::Record { name: name.into(), reason };
    let no_state = |reason: &str| Error::NoStateDict(reason.into());
    let names = archive.names()?;
    for name in &names {
        if name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..") {
            return Err(refuse(name, "its path leads out of the archive"));
        }
    }
    let name = names.iter().find(|name| name.ends_with("/data.pkl"));
    let name = name.ok_or_else(|| no_state(&format!("the archive has no data.pkl; it is {}", contents(&names))))?;
    let folder = name.trim_end_matches("data.pkl").to_owned();
    if names.iter().any(|name| name.starts_with(&format!("{folder}code/"))) {
        return Err(no_state("it is a TorchScript archive; save the module's state_dict() instead"));
    }
    if names.contains(&format!("{folder}byteorder")) {
        let order = archive.read(&format!("{folder}byteorder"), 16)?;
        if order.trim_ascii() != b"little" {
            return Err(refuse("byteorder", "only little-endian archives are read"));
        }
    }
    let bytes = archive.read(name, LARGEST_PICKLE)?;
    Ok((pickle::read(&bytes)?, Records::Zip { archive, folder }))
}

/// What a zip archive of another program is.
fn contents(names: &[String]) -> String {
    let known = [
        ("archive_format", "what torch.export writes (.pt2)"),
        ("model.weights.h5", "a Keras model"),
        (".npy", "a NumPy archive"),
        (".mlmodel", "a Core ML package"),
        ("saved_model.pb", "a TensorFlow SavedModel"),
    ];
    let known = known.iter().find(|(end, _)| names.iter().any(|name| name.ends_with(end)));
    known.map_or_else(
        || names.first().map_or("an empty archive".into(), |name| format!("a zip archive with `{name}`")),
        |(_, what)| (*what).into(),
    )
}

/// The older format: five pickles (magic number, version, system, state dict, keys), then per key the number of elements
/// and the elements.
fn open_legacy(mut file: BufReader<File>) -> Result<(Pickle, Records), Error> {
    let size = file.get_ref().metadata()?.len();
    let no_state = |reason: &str| Error::NoStateDict(reason.into());
    let mut front = Vec::new();
    file.by_ref().take(LARGEST_PICKLE).read_to_end(&mut front)?;
    let mut at = 0;
    let mut next = || -> Result<Pickle, Error> {
        let pickle = pickle::read(front.get(at..).unwrap_or_default())?;
        at += pickle.len;
        Ok(pickle)
    };
    let (_magic, _version, _system) = (next()?, next()?, next()?);
    let pickle = next()?;
    let keys = next()?;
    let keys = keys.list(&keys.root).ok_or_else(|| no_state("the list of storages is missing"))?;
    let elements: HashMap<&str, ElementType> =
        pickle.storages.iter().map(|storage| (storage.key.as_str(), storage.element)).collect();
    let mut offsets = HashMap::new();
    let mut offset = at as u64;
    for key in keys {
        let key = key.text().ok_or_else(|| no_state("a storage's key is no string"))?;
        let Some(element) = elements.get(&*key) else {
            return Err(no_state("it lists a storage that nothing in it uses"));
        };
        let short = || Error::Damaged("the file ends before its last tensor: it was cut short".into());
        let mut len = [0; 8];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut len).map_err(|_| short())?;
        offsets.insert(key.into_owned(), offset + 8);
        let end = u64::from_le_bytes(len).checked_mul(element.bytes() as u64).and_then(|n| n.checked_add(offset + 8));
        offset = end.filter(|&end| end <= size).ok_or_else(short)?;
    }
    Ok((pickle, Records::Legacy { file, offsets }))
}

impl StateDict {
    /// Names and shapes in order; `None` for what is no tensor that could be read.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, Option<&[usize]>)> {
        self.entries.iter().map(|(name, entry)| match entry {
            Entry::Tensor(tensor) => (name.as_str(), Some(tensor.shape.as_slice())),
            Entry::Opaque(_) => (name.as_str(), None),
        })
    }

    /// Reads a tensor as f32, in row order.
    ///
    /// # Errors
    /// The tensor is missing, not of a floating-point type, or does not fit its storage or the file.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        match self.entries.iter().find(|(key, _)| key == name) {
            Some((_, Entry::Tensor(tensor))) => {
                let tensor = Rc::clone(tensor);
                self.values(name, &tensor)
            }
            Some((_, Entry::Opaque(global))) => Err(unread(name, global)),
            None => Err(Error::Tensor { name: name.into(), reason: "is missing".into() }),
        }
    }

    /// Whether the tensors of `other` have the values of this dict's tensors of the same names.
    ///
    /// # Errors
    /// A tensor cannot be read.
    pub(super) fn same_values(&mut self, other: &Candidate) -> Result<bool, Error> {
        let own: HashMap<String, Rc<Tensor>> =
            self.entries.iter().filter_map(|(name, entry)| Some((name.clone(), Rc::clone(entry.tensor()?)))).collect();
        for (name, entry) in &other.entries {
            let (Some(theirs), Some(ours)) = (entry.tensor(), own.get(name)) else { continue };
            if theirs == ours || matches!(ours.storage.element, ElementType::Other(_)) {
                continue;
            }
            let (theirs, ours) = (self.values(name, theirs)?, self.values(name, ours)?);
            if bytemuck::cast_slice::<f32, u8>(&theirs) != bytemuck::cast_slice::<f32, u8>(&ours) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn values(&mut self, name: &str, tensor: &Tensor) -> Result<Vec<f32>, Error> {
        let fail = |reason: String| Error::Tensor { name: name.into(), reason };
        let Storage { key, element, len, .. } = &tensor.storage;
        let outside = || fail("reaches beyond its storage".into());
        if let Some((_, storage)) = self.last.as_ref().filter(|(last, _)| last == key) {
            return gather(tensor, storage).ok_or_else(outside);
        }
        let bytes = (*len as u64).checked_mul(element.bytes() as u64);
        let bytes = bytes.ok_or_else(|| fail("has a storage longer than any file".into()))?;
        let raw = match &mut self.records {
            Records::Zip { archive, folder } => archive.read(&format!("{folder}data/{key}"), bytes)?,
            Records::Legacy { file, offsets } => {
                let offset = offsets.get(key).ok_or_else(|| fail("has no storage in the file".into()))?;
                file.seek(SeekFrom::Start(*offset))?;
                let mut storage = Vec::new();
                file.by_ref().take(bytes).read_to_end(&mut storage)?;
                storage
            }
        };
        if raw.len() as u64 != bytes {
            return Err(fail(format!("has a storage of {} bytes, not {bytes}", raw.len())));
        }
        let storage = floats(&raw, *element).ok_or_else(|| fail("is not of floating-point numbers".into()))?;
        drop(raw);
        let values = gather(tensor, &storage).ok_or_else(outside)?;
        self.last = (values.len() < storage.len()).then(|| (key.clone(), storage));
        Ok(values)
    }
}

/// A weight that an unknown function would make.
pub(super) fn unread(name: &str, global: &str) -> Error {
    let reason = format!("is made by `{global}`, which is not read and was not called");
    Error::Tensor { name: name.into(), reason }
}

fn floats(bytes: &[u8], element: ElementType) -> Option<Vec<f32>> {
    Some(match element {
        ElementType::Float => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        ElementType::Double => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        ElementType::Half => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        ElementType::BFloat16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        ElementType::Other(_) => return None,
    })
}

/// The view's elements in row order; `None` if one lies outside the storage. A view may repeat elements (stride 0), so its
/// size is checked against the storage before memory is allocated.
fn gather(tensor: &Tensor, storage: &[f32]) -> Option<Vec<f32>> {
    let storage = storage.get(tensor.storage.part.clone())?;
    let len = tensor.shape.iter().try_fold(1usize, |len, &side| len.checked_mul(side))?;
    if len > storage.len() {
        return None;
    }
    let mut values = Vec::with_capacity(len);
    let mut index = vec![0; tensor.shape.len()];
    for _ in 0..len {
        let mut at = tensor.offset;
        for (&i, &stride) in index.iter().zip(&tensor.strides) {
            at = at.checked_add(stride.checked_mul(i)?)?;
        }
        let value = *storage.get(at)?;
        values.push(if tensor.negative { -value } else { value });
        for (i, &side) in index.iter_mut().zip(&tensor.shape).rev() {
            *i += 1;
            if *i < side {
                break;
            }
            *i = 0;
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use alexnet_core::{Architecture, LayerKind, LayerSpec};

    use super::*;
    use crate::data::Preprocess;
    use crate::export::{Model, Tensor as Exported, pytorch};

    fn file() -> (Vec<u8>, Vec<u8>) {
        let conv = LayerKind::Conv { filters: 2, kernel: 3, stride: 1, padding: 0, groups: 1 };
        let layers = vec![LayerSpec { name: "features.0".into(), kind: conv }];
        let architecture = Architecture { name: "small".into(), image_size: 3, channels: 3, classes: 2, layers };
        let bytes: Vec<u8> = (0..54).flat_map(|i| (i as f32 * 0.37).to_le_bytes()).collect();
        let parameters = vec![
            Exported { name: "features.0.weight".into(), shape: vec![2, 3, 3, 3], bytes: bytes.as_slice().into() },
            Exported { name: "features.0.bias".into(), shape: vec![2], bytes: bytes[..8].into() },
        ];
        (
            pytorch::to_bytes(&Model {
                architecture: &architecture,
                classes: &[],
                preprocess: Preprocess::default(),
                parameters,
            })
            .unwrap(),
            bytes,
        )
    }

    fn opened(bytes: &[u8]) -> Result<StateDict, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        std::fs::write(&path, bytes).unwrap();
        open(&path, None)
    }

    #[test]
    fn what_is_exported_is_imported_bit_for_bit() {
        let (file, bytes) = file();
        assert!(recognises(&file));
        let mut state = opened(&file).unwrap();
        let shapes: Vec<_> = state.shapes().map(|(name, shape)| (name.to_owned(), shape.unwrap().to_vec())).collect();
        assert_eq!(
            shapes,
            [("features.0.weight".to_owned(), vec![2, 3, 3, 3]), ("features.0.bias".to_owned(), vec![2])]
        );
        let weight = state.read("features.0.weight").unwrap();
        assert_eq!(bytemuck::cast_slice::<f32, u8>(&weight), bytes);
        assert!(matches!(state.read("features.1.weight"), Err(Error::Tensor { .. })));
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let (file, _) = file();
        for length in 0..file.len() {
            if let Ok(mut state) = opened(&file[..length]) {
                assert!(state.read("features.0.weight").is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn a_pickle_that_calls_is_refused_by_name() {
        let refused = |pickle: &[u8]| pickle::read(pickle).unwrap_err().to_string();
        assert!(refused(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.").contains("`os.system`"));
        assert!(refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").contains("`builtins.eval`"));
        assert!(refused(b"(S'ls'\nios\nsystem\n.").contains("`os.system`"));
        assert!(refused(b"\x80\x02ctorch\nload\n.").contains("`torch.load`"));
        let deep = [&b"\x80\x02)"[..], &[0x85; 1000], b"."].concat();
        assert_eq!(pickle::read(&deep).unwrap_err(), pickle::Error::TooLarge);
    }
}
