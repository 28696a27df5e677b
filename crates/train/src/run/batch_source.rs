//! Where batches come from: the loader, or the device itself out of a data set that lies on it.

use alexnet_core::random::Philox;
use alexnet_core::shape::AugmentShape;
use alexnet_core::{Device, Network};

use super::config::Config;
use super::error::Result;
use crate::data::augment::TransformConfig;
use crate::data::mix::MixConfig;
use crate::data::{Balance, Batch, Loader, LoaderOptions, Preprocess, Split, order};

/// A split's images on the device, in bytes (images, S, S, 3).
pub struct DeviceDataset<D: Device> {
    images: D::Bytes,
    len: usize,
}

impl<D: Device<Element = f32>> DeviceDataset<D> {
    /// Copies the images there. None where the host has to make the batches: for a device without memory of its own, for
    /// images in files or not yet resized, for RandAugment and resized crops, and if the device's memory is full.
    ///
    /// # Errors
    /// The device's.
    pub fn new(
        network: &Network<D>,
        split: &Split,
        transforms: TransformConfig,
        preprocess: &Preprocess,
    ) -> Result<Option<Self>> {
        let (device, fit) = (network.device(), preprocess.fit(network.architecture().image_size));
        let suits = split.is_ready(fit) && !transforms.on_host() && device.memory()?.is_some();
        let Some(pixels) = split.pixels().filter(|_| suits) else { return Ok(None) };
        match device.bytes(pixels.len()) {
            Ok(mut images) => {
                device.write_bytes(pixels, &mut images)?;
                Ok(Some(Self { images, len: split.len() }))
            }
            Err(alexnet_core::Error::Operator(alexnet_core::ops::Error::OutOfMemory { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The batches of a split, in order: [`BatchSource::advance`] to each, then [`BatchSource::load`] it.
pub struct BatchSource<'a, D: Device> {
    source: Source<'a, D>,
    transforms: TransformConfig,
    preprocess: Preprocess,
    mix: MixConfig,
    seed: u64,
    epoch: u32,
}

enum Source<'a, D: Device> {
    /// Made on the host.
    Loader { loader: Loader, batch: Option<Batch> },
    /// Made on the device.
    Device {
        dataset: &'a DeviceDataset<D>,
        split: &'a Split,
        order: Vec<u32>,
        batch_size: usize,
        /// Where in `order` the batch at hand starts and ends.
        start: usize,
        end: usize,
        /// Of the batch at hand.
        labels: Vec<u32>,
    },
}

impl<'a, D: Device<Element = f32>> BatchSource<'a, D> {
    /// The training batches of `epoch` from batch `first` on, of images of `size` pixels a side: shuffled, transformed and
    /// mixed as the settings say.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn train(
        config: &Config,
        preprocess: Preprocess,
        size: usize,
        split: &'a Split,
        dataset: Option<&'a DeviceDataset<D>>,
        epoch: u32,
        first: usize,
    ) -> Result<Self> {
        let options = LoaderOptions {
            batch_size: config.batch_size,
            image_size: size,
            preprocess,
            shuffle: !config.no_shuffle,
            balanced: config.balance == Balance::Sampler,
            transforms: config.transforms(),
            seed: config.seed,
            epoch,
            first_batch: first,
            threads: config.thread_count(),
        };
        Self::new(options, config.mix_config(), split, dataset)
    }

    /// All of a split in its own order and as it is, in batches as large as the network takes.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn evaluate(
        network: &Network<D>,
        split: &'a Split,
        dataset: Option<&'a DeviceDataset<D>>,
        preprocess: Preprocess,
        threads: usize,
    ) -> Result<Self> {
        let (batch_size, image_size) = (network.max_batch(), network.architecture().image_size);
        let options = LoaderOptions { batch_size, image_size, preprocess, threads, ..LoaderOptions::default() };
        Self::new(options, MixConfig::default(), split, dataset)
    }

    fn new(
        options: LoaderOptions,
        mix: MixConfig,
        split: &'a Split,
        dataset: Option<&'a DeviceDataset<D>>,
    ) -> Result<Self> {
        let LoaderOptions { batch_size, preprocess, shuffle, transforms, seed, epoch, first_batch, .. } = options;
        let source = match dataset {
            Some(dataset) => {
                let order = match shuffle {
                    true => order::shuffled(split.len(), seed, epoch),
                    false => (0..split.len() as u32).collect(),
                };
                let end = first_batch * batch_size;
                Source::Device { dataset, split, order, batch_size, start: end, end, labels: Vec::new() }
            }
            None => Source::Loader { loader: Loader::new(split, options)?, batch: None },
        };
        Ok(Self { source, transforms, preprocess, mix, seed, epoch })
    }

    /// Goes to the next batch and returns how many images it has; none after the last.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn advance(&mut self) -> Result<usize> {
        match &mut self.source {
            Source::Loader { loader, batch } => {
                // Its buffers go back first.
                *batch = None;
                *batch = loader.next().transpose()?;
                Ok(batch.as_ref().map_or(0, |batch| batch.count))
            }
            Source::Device { split, order, batch_size, start, end, labels, .. } => {
                *start = *end;
                *end = (*start + *batch_size).min(order.len());
                labels.clear();
                labels.extend(order[*start..*end].iter().map(|&index| split.labels()[index as usize]));
                Ok(labels.len())
            }
        }
    }

    /// The labels of the batch at hand.
    pub fn labels(&self) -> &[u32] {
        match &self.source {
            Source::Loader { batch, .. } => batch.as_ref().map_or(&[], Batch::labels),
            Source::Device { labels, .. } => labels,
        }
    }

    /// The images of the batch at hand (N, S, S, 3), if they are on the host.
    pub fn images(&self) -> Option<&[f32]> {
        match &self.source {
            Source::Loader { batch, .. } => batch.as_ref().map(Batch::images),
            Source::Device { .. } => None,
        }
    }

    /// Loads the batch at hand into the network, mixed as the settings say.
    ///
    /// # Errors
    /// The device's.
    pub fn load(&self, network: &mut Network<D>) -> Result<()> {
        let (side, philox) = (network.architecture().image_size, Philox::new(self.seed));
        let index = match &self.source {
            Source::Loader { batch, .. } => {
                let Some(batch) = batch else { return Ok(()) };
                network.load(batch.images(), batch.labels())?;
                batch.index
            }
            Source::Device { dataset, order, batch_size, start, end, labels, .. } => {
                let indices = &order[*start..*end];
                let TransformConfig { padding, flip, jitter, cutout, rand_augment: _, resized_crop: _ } =
                    self.transforms;
                let shape = AugmentShape {
                    batch: indices.len(),
                    images: dataset.len,
                    side,
                    padding,
                    philox,
                    epoch: self.epoch,
                    flip,
                    jitter,
                    cutout,
                    mean: self.preprocess.mean,
                    std: self.preprocess.std,
                };
                network.load_from(&dataset.images, &shape, indices, labels)?;
                start / batch_size
            }
        };
        match self.mix.draw(&philox, self.epoch, index as u32, side) {
            Some(mix) => Ok(network.mix(mix, self.labels())?),
            None => Ok(()),
        }
    }
}
