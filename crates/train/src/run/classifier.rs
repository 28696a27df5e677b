//! A trained network that classifies images, for eval, predict, report and serve.

use std::path::{Path, PathBuf};

use alexnet_core::{Architecture, Device, Network};

use super::batch_source::DeviceDataset;
use super::checkpoint::{Checkpoint, Metadata};
use super::config::{Config, LARGEST_IMAGE};
use super::error::{Error, Result};
use super::evaluate::{Classified, Evaluation, Protocol, evaluate};
use super::stop::Stop;
use super::tta::Tta;
use crate::data::augment::{Normalize, SampledTransform, TransformConfig};
use crate::data::decode::Exif;
use crate::data::{Fit, Preprocess, Split};

/// A network for inference on a device whose type is not known at compile time.
pub trait DynNetwork: Send {
    /// The device's name.
    fn device_name(&self) -> String;
    /// The layers.
    fn architecture(&self) -> &Architecture;
    /// As [`Network::predict`].
    fn predict(&mut self, images: &[f32]) -> alexnet_core::Result<()>;
    /// As [`Network::read_logits`].
    fn read_logits(&self, to: &mut [f32]) -> alexnet_core::Result<()>;
    /// As [`Network::read_output`].
    fn read_output(&self, layer: usize, to: &mut [f32]) -> alexnet_core::Result<()>;
    /// As [`Network::first_not_finite`].
    fn first_not_finite(&self, images: usize) -> alexnet_core::Result<Option<String>>;
    /// As [`evaluate()`], with the split on the device if it can be.
    fn evaluate(
        &mut self,
        split: &Split,
        protocol: Protocol,
        seen: &mut dyn FnMut(Classified<'_>),
    ) -> Result<Evaluation>;
}

impl<D: Device<Element = f32>> DynNetwork for Network<D> {
    fn device_name(&self) -> String {
        self.device().name()
    }
    fn architecture(&self) -> &Architecture {
        self.architecture()
    }
    fn predict(&mut self, images: &[f32]) -> alexnet_core::Result<()> {
        self.predict(images)
    }
    fn read_logits(&self, to: &mut [f32]) -> alexnet_core::Result<()> {
        self.read_logits(to)
    }
    fn read_output(&self, layer: usize, to: &mut [f32]) -> alexnet_core::Result<()> {
        self.read_output(layer, to)
    }
    fn first_not_finite(&self, images: usize) -> alexnet_core::Result<Option<String>> {
        Ok(self.first_not_finite(images)?.map(String::from))
    }
    fn evaluate(
        &mut self,
        split: &Split,
        protocol: Protocol,
        seen: &mut dyn FnMut(Classified<'_>),
    ) -> Result<Evaluation> {
        let dataset = DeviceDataset::new(self, split, TransformConfig::NONE, &protocol.preprocess)?;
        let evaluation = evaluate(self, split, dataset.as_ref(), protocol, &Stop::default(), seen)?;
        Ok(evaluation.unwrap_or_else(|| unreachable!("nobody asked it to stop")))
    }
}

/// The checkpoint at `path`: the file itself, or a run's best, or its last if no epoch is done.
///
/// # Errors
/// The folder has neither.
pub fn checkpoint_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    ["best.safetensors", "last.safetensors"]
        .map(|name| path.join(name))
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NotARun { path: path.into(), reason: "it has no checkpoint" })
}

/// The layers of a checkpoint's network.
///
/// # Errors
/// A variant that this program does not know; a size of images, or a number of classes, that it cannot have.
pub fn architecture_of(metadata: &Metadata, path: &Path) -> Result<Architecture> {
    let foreign = |reason| super::checkpoint::Error::Foreign { path: path.into(), reason, own: true };
    let unknown = || foreign(format!("its variant `{}` is unknown", metadata.model.variant));
    let side = metadata.model.image_size;
    if side > LARGEST_IMAGE {
        return Err(foreign(format!("its images have a side of {side} pixels, more than {LARGEST_IMAGE}")).into());
    }
    let architecture = metadata.model.architecture(metadata.classes.len()).ok_or_else(unknown)?;
    // Before memory is taken: what the metadata say must have an output.
    architecture.trace()?;
    Ok(architecture)
}

/// What to do about [`NotFinite`] outputs.
pub const DIVERGED: &str = "the weights have diverged or are too large: use an earlier checkpoint";

/// A logit that is NaN or infinite: the network says nothing about the picture.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the network's outputs are not finite ({value}{layer})")]
pub struct NotFinite {
    value: f32,
    /// `, from layer NAME on`.
    layer: String,
}

impl NotFinite {
    /// The error that names the picture.
    pub fn of(self, picture: impl Into<String>) -> Error {
        Error::Outputs { picture: picture.into(), value: self.value, layer: self.layer }
    }
}

/// The first logit that is not finite.
fn not_finite(logits: &[f32]) -> Option<f32> {
    logits.iter().copied().find(|logit| !logit.is_finite())
}

/// A network with its classes' names.
pub struct Classifier {
    network: Box<dyn DynNetwork>,
    preprocess: Preprocess,
    normalize: Normalize,
    classes: Vec<String>,
    images: Vec<f32>,
    /// The views by which an image is classified.
    pub tta: Tta,
    /// What is done with the orientation of pictures: as in the run. For the callers, who decode them.
    pub exif: Exif,
    scratch: Vec<f32>,
}

impl Classifier {
    /// Puts a checkpoint's weights on a device, for batches of up to `batch` images; `tta` and `exif` as in its run.
    ///
    /// # Errors
    /// Weights that do not fit the layers; the device failed.
    pub fn new<D: Device<Element = f32> + 'static>(
        device: std::sync::Arc<D>,
        checkpoint: &Checkpoint,
        architecture: Architecture,
        batch: usize,
    ) -> Result<Self> {
        let mut network = Network::new(device, architecture, batch, false)?;
        checkpoint.restore(&mut network)?;
        network.use_cuda_graph(true);
        let Metadata { classes, config, preprocess, .. } = checkpoint.metadata();
        Ok(Self {
            network: Box::new(network),
            preprocess: *preprocess,
            normalize: Normalize::new(preprocess.mean, preprocess.std),
            classes: classes.clone(),
            images: Vec::new(),
            tta: Config::tta_of_run(config),
            exif: Config::exif_of_run(config),
            scratch: Vec::new(),
        })
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The network.
    pub fn network(&self) -> &dyn DynNetwork {
        &*self.network
    }

    /// Side of the images in pixels.
    pub fn side(&self) -> usize {
        self.network.architecture().image_size
    }

    /// How the network's images are made of pictures: the lengths for [`resize`](crate::data::resize::resize).
    pub fn fit(&self) -> Fit {
        self.preprocess.fit(self.side())
    }

    /// Resizing and normalisation of the network's images.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The classes' probabilities (N, classes) for RGB images (S, S, 3) of the network's size; instead of an image's,
    /// [`NotFinite`] if its logits are not.
    ///
    /// # Errors
    /// More images than a batch; the device failed.
    pub fn classify<'a>(
        &mut self,
        images: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Result<Vec<f64>, NotFinite>>> {
        let (side, classes) = (self.side(), self.classes.len().max(1));
        let images = self.normalised(images);
        let mut logits = vec![0.0; images.len() / (side * side * 3) * classes];
        let network = &mut self.network;
        let mut predict = |images: &[f32], to: &mut [f32]| {
            network.predict(images)?;
            network.read_logits(to)
        };
        let mut result = self.tta.logits(side, &mut predict, &images, &mut logits, &mut self.scratch);
        let mut found = Vec::with_capacity(logits.len() / classes);
        for (image, logits) in images.chunks_exact(side * side * 3).zip(logits.chunks_exact(classes)) {
            found.push(match not_finite(logits).filter(|_| result.is_ok()) {
                None => Ok(softmax(logits)),
                Some(value) => {
                    let layer = self.where_not_finite(image);
                    Err(NotFinite {
                        value,
                        layer: layer.unwrap_or_else(|error| {
                            result = Err(error);
                            String::new()
                        }),
                    })
                }
            });
        }
        self.images = images;
        result?;
        Ok(found)
    }

    /// Where in the layers the outputs for a normalised image are no longer finite, for [`NotFinite`]: by another forward
    /// pass of each of its views.
    fn where_not_finite(&mut self, image: &[f32]) -> alexnet_core::Result<String> {
        let (side, network, mut layer) = (self.side(), &mut self.network, None);
        let mut predict = |image: &[f32], _: &mut [f32]| -> alexnet_core::Result<()> {
            if layer.is_none() {
                network.predict(image)?;
                layer = network.first_not_finite(1)?;
            }
            Ok(())
        };
        self.tta.logits(side, &mut predict, image, &mut [], &mut self.scratch)?;
        Ok(layer.map_or_else(String::new, |layer| format!(", from layer {layer} on")))
    }

    /// The forward pass over one image alone, without further views, so that [`DynNetwork::read_output`] gives its layers'
    /// outputs. The image as for [`Classifier::classify`].
    ///
    /// # Errors
    /// The device failed.
    pub fn pass(&mut self, image: &[u8]) -> Result<()> {
        let images = self.normalised([image]);
        let result = self.network.predict(&images);
        self.images = images;
        Ok(result?)
    }

    /// The images normalised (N, S, S, 3), in the buffer of `images`, which the caller puts back.
    fn normalised<'a>(&mut self, images: impl IntoIterator<Item = &'a [u8]>) -> Vec<f32> {
        let side = self.side();
        let mut normalised = std::mem::take(&mut self.images);
        normalised.clear();
        for image in images {
            let from = normalised.len();
            normalised.resize(from + side * side * 3, 0.0);
            self.normalize.apply(image, side, &SampledTransform::default(), &mut normalised[from..]);
        }
        normalised
    }

    /// Evaluates a split; `seen` gets every batch.
    ///
    /// # Errors
    /// An image cannot be read; its logits are not finite; the device failed.
    pub fn evaluate(
        &mut self,
        split: &Split,
        threads: usize,
        seen: &mut dyn FnMut(Classified<'_>),
    ) -> Result<Evaluation> {
        let protocol = Protocol { preprocess: self.preprocess, tta: self.tta, threads };
        let classes = self.classes.len().max(1);
        let mut wrong = None;
        let mut check = |batch: Classified<'_>| {
            let mut all = batch.logits.chunks_exact(classes).enumerate();
            let first = || all.find_map(|(index, logits)| Some((batch.first + index, not_finite(logits)?)));
            wrong = wrong.or_else(first);
            if wrong.is_none() {
                seen(batch);
            }
        };
        let evaluation = self.network.evaluate(split, protocol, &mut check)?;
        let Some((index, value)) = wrong else { return Ok(evaluation) };
        let mut pixels = Vec::new();
        let image = self.normalised([split.image(index, self.fit(), &mut pixels)?]);
        let error = NotFinite { value, layer: self.where_not_finite(&image)? };
        Err(error.of(split.file(index).map_or(format!("image {index}"), |file| file.display().to_string())))
    }
}

/// The softmax of logits, in f64.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&x| (f64::from(x) - f64::from(most)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The `count` most probable classes with their probabilities; of equals the first comes first.
pub fn top(probabilities: &[f64], count: usize) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = probabilities.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::checkpoint::{Progress, TrainedOn};
    use crate::run::model::Model;

    #[test]
    fn a_side_beyond_what_can_be_counted_in_is_refused() {
        let metadata = |image| Metadata {
            model: Model { variant: "cifar".into(), image_size: image, groups: 1, ..Model::default() },
            data: TrainedOn { name: String::new(), fingerprint: String::new() },
            classes: vec!["cat".into(), "dog".into()],
            config: String::new(),
            seed: 0,
            progress: Progress::default(),
            preprocess: Preprocess::default(),
        };
        assert!(architecture_of(&metadata(32), Path::new("a")).is_ok());
        for side in [0, 4097, 1 << 32, (1 << 63) + 1, usize::MAX] {
            assert!(architecture_of(&metadata(side), Path::new("a")).is_err(), "{side}");
        }
    }

    #[test]
    fn logits_that_are_not_finite_have_no_probabilities() {
        assert_eq!(not_finite(&[f32::MAX, -0.0, f32::MIN]), None);
        assert_eq!(not_finite(&[0.0, f32::INFINITY, f32::NAN]), Some(f32::INFINITY));
        assert_eq!(not_finite(&[0.0, f32::NEG_INFINITY]), Some(f32::NEG_INFINITY));
        let error = NotFinite { value: f32::NAN, layer: ", from layer features.0 on".into() };
        assert_eq!(error.to_string(), "the network's outputs are not finite (NaN, from layer features.0 on)");
        let error = error.of("a.png").to_string();
        assert_eq!(error, "the network's outputs for a.png are not finite (NaN, from layer features.0 on)");
    }

    #[test]
    fn probabilities_and_their_order() {
        let probabilities = softmax(&[1000.0, 1001.0, 1001.0, -1000.0]);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((probabilities[1] / probabilities[0] - 1f64.exp()).abs() < 1e-9);
        let ranked: Vec<usize> = top(&probabilities, 3).into_iter().map(|(class, _)| class).collect();
        assert_eq!(ranked, [1, 2, 0]);
        assert_eq!(top(&probabilities, 9).len(), 4);
    }
}
