//! Recognises the variant of AlexNet in a file of weights by the shapes of its tensors.

use std::collections::HashMap;

use alexnet_core::alexnet::Variant;

use super::{Error, WeightFile};
use crate::run::config::LARGEST_IMAGE;
use crate::run::model::Model;

/// What the user knows about the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The variant.
    pub variant: Option<Variant>,
    /// Side of the images.
    pub image: Option<usize>,
    /// Groups of the second, fourth and fifth convolution.
    pub groups: Option<usize>,
    /// Whether there are residual shortcuts, which have no tensors to recognise them by.
    pub residual: bool,
}

/// Image sides to try, since shapes need not determine the side.
const SIDES: std::ops::RangeInclusive<usize> = 1..=512;

/// Returns the network and its number of classes.
///
/// The variant's default side is tried first: several sides may lead to the same shapes.
///
/// # Errors
/// No variant has tensors of these shapes.
pub fn recognise(weights: &WeightFile, known: Known) -> Result<(Model, usize), Error> {
    let shapes: HashMap<String, Vec<usize>> = weights.shapes().into_iter().collect();
    let fail = |reason: String| Error::Unrecognised { path: weights.path().into(), reason };
    // Files of this program record the architecture.
    let noted = weights.note("architecture").and_then(|note| serde_json::from_str::<Model>(&note).ok());
    let mut candidates: Vec<Model> = noted.into_iter().filter(|model| model.image_size <= LARGEST_IMAGE).collect();
    let batch_norm = shapes.keys().any(|name| name.ends_with(".running_mean"));
    // torchvision first: `paper-k11` at 224 pixels has the same tensors.
    for variant in [Variant::Torchvision, Variant::Cifar, Variant::PaperK11, Variant::Original, Variant::Modern] {
        let grouped: &[usize] = if variant == Variant::Original { &[1, 2] } else { &[1] };
        for &groups in grouped {
            let others = SIDES.filter(|_| variant != Variant::Torchvision);
            for image in std::iter::once(variant.image_size()).chain(others) {
                candidates.push(Model {
                    variant: variant.name().into(),
                    image_size: image,
                    groups,
                    dropout: 0.5,
                    batch_norm,
                    residual: known.residual,
                });
            }
        }
    }
    if let Some(image) = known.image {
        candidates.dedup_by_key(|model| (model.variant.clone(), model.groups));
        candidates.iter_mut().for_each(|model| model.image_size = image);
    }
    candidates.retain(|model| {
        known.variant.is_none_or(|variant| variant.name() == model.variant)
            && known.groups.is_none_or(|groups| groups == model.groups)
    });
    let fits = candidates.into_iter().find_map(|model| fits(&shapes, &model).map(|classes| (model, classes)));
    fits.ok_or_else(|| match shapes.get("features.0.weight") {
        Some(shape) => fail(format!("its features.0.weight has shape {shape:?}, and no variant has its other tensors")),
        None => fail("it has no tensor features.0.weight".into()),
    })
}

/// The number of classes, if the shapes are those of the model's parameters.
fn fits(shapes: &HashMap<String, Vec<usize>>, model: &Model) -> Option<usize> {
    // Only the shape of the last parameter depends on the number of classes.
    let last = model.architecture(1)?.layers.last()?.name.clone();
    let classes = *shapes.get(&format!("{last}.bias"))?.first()?;
    let architecture = model.architecture(classes)?;
    // A cheap test first: `trace` follows an image through all layers.
    let conv = shapes.get("features.0.weight")?;
    if !matches!(conv.as_slice(), [_, 3, height, width] if height == width && *height <= model.image_size + 4) {
        return None;
    }
    let parameters = architecture.parameters().ok()?;
    parameters.iter().all(|spec| shapes.get(&spec.name) == Some(&spec.shape)).then_some(classes)
}
