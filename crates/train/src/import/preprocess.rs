//! The preprocessing that a file of weights was trained with.

use super::{Error, WeightFile};
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
    let classes = || {
        let last = format!("{}.bias", model.architecture(1)?.layers.last()?.name);
        weights.shapes().into_iter().find(|(name, _)| *name == last)?.1.first().copied()
    };
    let imagenet = model.variant == "torchvision" || classes() == Some(IMAGENET_CLASSES);
    Ok(if imagenet { Preprocess::imagenet(model.image_size) } else { Preprocess::CIFAR10 })
}
