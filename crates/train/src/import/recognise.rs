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

/// torchvision first: `paper-k11` at 224 pixels has the same tensors.
const ALL: [Variant; 5] = [Variant::Torchvision, Variant::Cifar, Variant::PaperK11, Variant::Original, Variant::Modern];

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
    for variant in ALL {
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
    fits.ok_or_else(|| fail(nearest(&shapes, known, batch_norm)))
}

/// The number of classes, if the shapes are those of the model's parameters.
fn fits(shapes: &HashMap<String, Vec<usize>>, model: &Model) -> Option<usize> {
    // A cheap test first: `trace` follows an image through all layers.
    let conv = shapes.get("features.0.weight")?;
    if !matches!(conv.as_slice(), [_, 3, height, width] if height == width && *height <= model.image_size + 4) {
        return None;
    }
    let classes = classes(shapes, model)?;
    let parameters = model.architecture(classes)?.parameters().ok()?;
    parameters.iter().all(|spec| shapes.get(&spec.name) == Some(&spec.shape)).then_some(classes)
}

/// The number of classes of the last layer, the only one whose shape depends on it.
pub(super) fn classes(shapes: &HashMap<String, Vec<usize>>, model: &Model) -> Option<usize> {
    let last = model.architecture(1)?.layers.last()?.name.clone();
    let of = |kind: &str| shapes.get(&format!("{last}.{kind}"))?.first().copied();
    of("bias").or_else(|| of("weight")).filter(|&classes| classes > 0)
}

/// Which tensors of a model are missing, have another shape, or are too much; most of them by name.
pub fn differences(shapes: &HashMap<String, Vec<usize>>, model: &Model) -> Vec<String> {
    let classes = classes(shapes, model).unwrap_or(1000);
    let parameters = model.architecture(classes).and_then(|architecture| architecture.parameters().ok());
    let Some(parameters) = parameters else { return vec![format!("{0}x{0} images are too small", model.image_size)] };
    let mut found: Vec<String> = parameters
        .iter()
        .filter_map(|spec| match shapes.get(&spec.name) {
            None => Some(format!("tensor `{}` is missing", spec.name)),
            Some(shape) if *shape != spec.shape => {
                Some(format!("tensor `{}` has shape {shape:?}, the network needs {:?}", spec.name, spec.shape))
            }
            Some(_) => None,
        })
        .collect();
    let mut extra: Vec<&String> = shapes
        .keys()
        .filter(|name| super::names::is_weight(name) && !parameters.iter().any(|spec| spec.name == **name))
        .collect();
    extra.sort();
    found.extend(extra.iter().map(|name| format!("tensor `{name}` is too much")));
    found
}

/// Why no variant fits: the nearest, and what it needs.
fn nearest(shapes: &HashMap<String, Vec<usize>>, known: Known, batch_norm: bool) -> String {
    if !shapes.contains_key("features.0.weight") {
        let mut names: Vec<&str> = shapes.keys().map(String::as_str).collect();
        names.sort_unstable();
        return super::names::without_first(&names, "");
    }
    let variants = known.variant.map_or_else(|| ALL.to_vec(), |variant| vec![variant]);
    let nearest = variants
        .into_iter()
        .map(|variant| {
            let image_size = known.image.unwrap_or(variant.image_size());
            let groups = known.groups.unwrap_or(1);
            let residual = known.residual;
            let variant = variant.name().to_owned();
            Model { variant, image_size, groups, dropout: 0.5, batch_norm, residual }
        })
        .map(|model| (differences(shapes, &model), model))
        .min_by_key(|(differences, _)| differences.len());
    let Some((differences, model)) = nearest else { return "no variant has its tensors".into() };
    let some = differences.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let more = if differences.len() > 3 { format!("; and {} more", differences.len() - 3) } else { String::new() };
    format!("the nearest is {} at {1}x{1}, but {some}{more}", model.variant, model.image_size)
}
