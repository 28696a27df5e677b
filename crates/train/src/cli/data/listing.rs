//! `alexnet data show --json`.

use serde_json::{Map, Value, json};

use crate::data::{Dataset, Split};

/// Name, source, classes, and per split the number of images, the number per class, and the file and label of each image
/// (no files for images that the data set does not hold as files).
pub fn listing(dataset: &Dataset) -> Value {
    let of = |split: &Split| {
        let files: Option<Vec<String>> =
            (0..split.len()).map(|index| Some(split.file(index)?.to_string_lossy().into_owned())).collect();
        json!({
            "images": split.len(),
            "per_class": split.counts(dataset.classes.len()),
            "files": files.filter(|files| !files.is_empty()),
            "labels": split.labels(),
        })
    };
    let splits: Map<String, Value> =
        dataset.splits().map(|(role, split)| (role.word().to_owned(), of(split))).collect();
    json!({
        "name": dataset.name,
        "source": dataset.source,
        "classes": dataset.classes,
        "fingerprint": dataset.fingerprint,
        "splits": splits,
    })
}
