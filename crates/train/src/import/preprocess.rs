//! The preprocessing that a file of weights was trained with.

use super::{Error, WeightFile, recognise};
use crate::data::{Normalise, Preprocess};
use crate::run::model::Model;

/// Number of classes of ImageNet's challenge.
const IMAGENET_CLASSES: usize = 1000;

/// The preprocessing of weights for the network `model`: what the user says, else what the file records; of a file of this program that records
/// none, CIFAR-10's; of a foreign file with torchvision's layers or ImageNet's number of classes, ImageNet's; else
/// CIFAR-10's.
///
/// # Errors
/// The file records what this program does not do, and the user does not say otherwise.
pub fn preprocess(weights: &WeightFile, model: &Model, given: Option<Normalise>) -> Result<Preprocess, Error> {
    let Some(given) = given else { return recorded(weights, model) };
    // Numbers alone leave the resizing as it is.
    let default = recorded(weights, model).unwrap_or_default();
    Ok(given.preprocess(default, model.image_size))
}

fn recorded(weights: &WeightFile, model: &Model) -> Result<Preprocess, Error> {
    if let Some(text) = weights.note("preprocess") {
        let fail = |reason| Error::Preprocess { path: weights.path().into(), reason };
        return Preprocess::from_json(&text, model.image_size).map_err(fail);
    }
    // From before it was recorded.
    if weights.note("architecture").is_some() {
        return Ok(Preprocess::CIFAR10);
    }
    let classes = || recognise::classes(&weights.shapes().into_iter().collect(), model);
    let imagenet = model.variant == "torchvision" || classes() == Some(IMAGENET_CLASSES);
    Ok(if imagenet { Preprocess::imagenet(model.image_size) } else { Preprocess::CIFAR10 })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::import;

    /// A safetensors file with a last layer of so many classes, and these metadata.
    fn file(classes: usize, metadata: Value) -> (tempfile::TempDir, WeightFile) {
        let bias = json!({ "dtype": "F32", "shape": [classes], "data_offsets": [0, classes * 4] });
        let header = json!({ "__metadata__": metadata, "classifier.6.bias": bias }).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + classes * 4, 0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let weights = import::open(&path, None).unwrap();
        (folder, weights)
    }

    fn model(variant: &str, image_size: usize) -> Model {
        Model { variant: variant.into(), image_size, groups: 1, ..Model::default() }
    }

    #[test]
    fn a_file_is_taken_for_what_it_says_or_looks_like() {
        let own = json!({ "architecture": "{}" });
        let recorded = Preprocess { resize: Some(260), ..Preprocess::imagenet(224) };
        let written = json!({ "architecture": "{}", "preprocess": recorded.to_json(224).to_string() });
        for (variant, side, classes, metadata, expected) in [
            ("torchvision", 224, 10, json!({ "format": "pt" }), Preprocess::imagenet(224)),
            ("torchvision", 224, 10, own.clone(), Preprocess::CIFAR10),
            ("original", 227, 1000, json!({}), Preprocess::imagenet(227)),
            ("original", 227, 10, json!({}), Preprocess::CIFAR10),
            ("cifar", 32, 10, json!({}), Preprocess::CIFAR10),
            ("torchvision", 224, 1000, written.clone(), recorded),
            ("torchvision", 448, 1000, written, Preprocess { resize: Some(520), ..recorded }),
        ] {
            let (_folder, weights) = file(classes, metadata.clone());
            let found = preprocess(&weights, &model(variant, side), None).unwrap();
            assert_eq!(found, expected, "{variant} {side} {classes} {metadata}");
        }
    }

    #[test]
    fn what_the_user_says_comes_first() {
        let (_folder, weights) = file(1000, json!({ "preprocess": "{\"mean\": 7}" }));
        let model = model("torchvision", 224);
        let error = preprocess(&weights, &model, None).unwrap_err().to_string();
        assert!(error.contains("a.safetensors records a preprocessing"), "{error}");
        let given = |text: &str| preprocess(&weights, &model, Some(text.parse().unwrap())).unwrap();
        assert_eq!(given("cifar10"), Preprocess::CIFAR10);
        assert_eq!(given("imagenet"), Preprocess::imagenet(224));
        let (_folder, weights) = file(1000, json!({}));
        let values = preprocess(&weights, &model, Some("0.5,0.25".parse().unwrap())).unwrap();
        assert_eq!(values, Preprocess { mean: [0.5; 3], std: [0.25; 3], resize: Some(256) });
    }
}
