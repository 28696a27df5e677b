//! CIFAR-10 and CIFAR-100, python version: pickled dicts of a NumPy array and lists of labels.

use std::path::Path;

use super::{check, in_memory, malformed, read};
use crate::data::cifar::{CLASSES, IMAGE, SIZE, planes_to_pixels};
use crate::data::dataset::Dataset;
use crate::data::error::Result;
use crate::data::split::Split;
use crate::import::pickle::{self, Pickle, Value};

/// Larger than CIFAR-100's training file of 155 MB.
const MOST: u64 = 1 << 30;

/// Opens `data_batch_1` … `data_batch_5` and `test_batch`.
pub(super) fn cifar10(folder: &Path) -> Result<Dataset> {
    let classes = names(&folder.join("batches.meta"), "label_names")?.unwrap_or(CLASSES.map(String::from).to_vec());
    let batches: Vec<String> = (1..=5).map(|batch| format!("data_batch_{batch}")).collect();
    let train = split(folder, &batches, "labels", classes.len())?;
    let test = split(folder, &["test_batch".into()], "labels", classes.len())?;
    Ok(in_memory("cifar10", folder, classes, train, test))
}

/// Opens `train` and `test` with the fine labels.
pub(super) fn cifar100(folder: &Path) -> Result<Dataset> {
    let meta = folder.join("meta");
    let classes = names(&meta, "fine_label_names")?.ok_or_else(|| malformed(&meta, "it has no fine_label_names"))?;
    let [train, test] = ["train", "test"].map(|name| split(folder, &[name.into()], "fine_labels", classes.len()));
    Ok(in_memory("cifar100", folder, classes, train?, test?))
}

fn open(path: &Path) -> Result<Pickle> {
    pickle::read(&read(path, MOST)?).map_err(|error| malformed(path, error.to_string()))
}

/// The list of names under a key; `None` if there is no such file or key.
fn names(path: &Path, key: &str) -> Result<Option<Vec<String>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let pickle = open(path)?;
    let names = pickle.get(&pickle.root, key).and_then(|list| pickle.list(list));
    Ok(names.and_then(|names| names.iter().map(|name| Some(name.text()?.into_owned())).collect()))
}

fn split(folder: &Path, files: &[String], key: &str, classes: usize) -> Result<Split> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for name in files {
        let path = folder.join(name);
        let pickle = open(&path)?;
        let own = pickle.get(&pickle.root, key).and_then(|list| pickle.list(list));
        let number = |label: &Value| if let Value::Int(label) = label { u32::try_from(*label).ok() } else { None };
        let own: Option<Vec<u32>> = own.and_then(|own| own.iter().map(number).collect());
        let own = own.ok_or_else(|| malformed(&path, format!("it has no list `{key}` of numbers")))?;
        let array = pickle.get(&pickle.root, "data").and_then(|data| pickle.array(data));
        let (array, shape) = array.ok_or_else(|| malformed(&path, "it has no array `data`"))?;
        if array.dtype != "u1" || shape != [own.len(), IMAGE] {
            let what = format!("its data are {} {shape:?}, expected bytes [{}, {IMAGE}]", array.dtype, own.len());
            return Err(malformed(&path, what));
        }
        check(&path, &own, classes)?;
        labels.extend(own);
        let start = pixels.len();
        pixels.resize(start + array.bytes.len(), 0);
        for (planes, image) in array.bytes.chunks_exact(IMAGE).zip(pixels[start..].chunks_exact_mut(IMAGE)) {
            planes_to_pixels(planes, image);
        }
    }
    Ok(Split::in_memory(pixels, SIZE, labels))
}
