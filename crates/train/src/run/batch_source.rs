//! Where batches come from: a loader's, of floats or of bytes, or the device itself out of a data set that lies on it.

use std::ops::Range;

use alexnet_core::network::{Images, Shards};
use alexnet_core::random::Philox;
use alexnet_core::shape::Draw;
use alexnet_core::{Device, Network};

use super::config::Config;
use super::error::Result;
use super::memory;
use crate::data::augment::TransformConfig;
use crate::data::mix::MixConfig;
use crate::data::order::Planned;
use crate::data::{Balance, Batch, Loader, LoaderOptions, PixelValue, Preprocess, Split, order};

/// A split's images on the device, in bytes (images, S, S, 3).
pub struct DeviceDataset<D: Device> {
    images: D::Bytes,
    len: usize,
}

impl<D: Device<Element = f32>> DeviceDataset<D> {
    /// Copies the images there. None where a loader has to make the batches: for a device without memory of its own, for
    /// images in files or not yet resized, for resized crops, and if the device's memory is full.
    ///
    /// # Errors
    /// The device's.
    pub fn new(
        network: &Network<D>,
        split: &Split,
        transforms: TransformConfig,
        preprocess: &Preprocess,
    ) -> Result<Option<Self>> {
        let (device, architecture) = (network.device(), network.architecture());
        let suits = split.is_ready(preprocess.fit(architecture.image_size)) && !transforms.on_host();
        let (Some((free, _)), Some(pixels)) = (device.memory()?, split.pixels().filter(|_| suits)) else {
            return Ok(None);
        };
        // Another split may need the rest for its batches.
        if pixels.len() as u64 + memory::uploads(architecture, network.max_batch()) > free {
            return Ok(None);
        }
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
    Host { loader: Loader, batch: Option<Batch> },
    /// Made on the device, of bytes that come from the host.
    Bytes { loader: Loader<u8>, batch: Option<Batch<u8>> },
    /// Made on the device.
    Device {
        dataset: &'a DeviceDataset<D>,
        split: &'a Split,
        order: Vec<Draw>,
        batches: std::vec::IntoIter<Planned>,
        /// The batch at hand, and its labels.
        batch: Option<Planned>,
        labels: Vec<u32>,
    },
}

impl<'a, D: Device<Element = f32>> BatchSource<'a, D> {
    /// The training batches of an epoch from one of its steps on, both from 0, as `shards` divide them: shuffled, transformed
    /// and mixed as the settings say.
    ///
    /// # Errors
    /// Threads that cannot be started; the device's.
    pub fn train(
        network: &Network<D>,
        config: &Config,
        preprocess: Preprocess,
        split: &'a Split,
        dataset: Option<&'a DeviceDataset<D>>,
        shards: Shards,
        (epoch, step): (u32, usize),
    ) -> Result<Self> {
        let options = LoaderOptions {
            batch_size: shards.max_batch(),
            image_size: network.architecture().image_size,
            preprocess,
            shuffle: !config.no_shuffle,
            balanced: config.balance == Balance::Sampler,
            transforms: config.transforms(),
            seed: config.seed,
            epoch,
            shards: Some(shards),
            numbers: step * shards.slots()..usize::MAX,
            threads: config.thread_count(),
        };
        Self::new(options, config.mix_config(), split, dataset, network.device().memory()?.is_some())
    }

    /// A split in its own order and as it is, in batches as large as the network takes, of which those of `numbers`; `on_host` if
    /// the images themselves are wanted.
    ///
    /// # Errors
    /// Threads that cannot be started; the device's.
    pub fn evaluate(
        network: &Network<D>,
        split: &'a Split,
        dataset: Option<&'a DeviceDataset<D>>,
        preprocess: Preprocess,
        threads: usize,
        on_host: bool,
        numbers: Range<usize>,
    ) -> Result<Self> {
        let (batch_size, image_size) = (network.max_batch(), network.architecture().image_size);
        let options =
            LoaderOptions { batch_size, image_size, preprocess, threads, numbers, ..LoaderOptions::default() };
        let bytes = !on_host && network.device().memory()?.is_some();
        Self::new(options, MixConfig::default(), split, dataset.filter(|_| !on_host), bytes)
    }

    /// The batches out of `dataset`, or else by a loader of `bytes` or floats.
    fn new(
        options: LoaderOptions,
        mix: MixConfig,
        split: &'a Split,
        dataset: Option<&'a DeviceDataset<D>>,
        bytes: bool,
    ) -> Result<Self> {
        let LoaderOptions { preprocess, transforms, seed, epoch, .. } = options;
        let source = match dataset {
            Some(dataset) => {
                let order = order::draws(split.labels(), &options);
                let batches = order::batches(split.len(), &options).into_iter();
                Source::Device { dataset, split, order, batches, batch: None, labels: Vec::new() }
            }
            None if bytes => Source::Bytes { loader: Loader::bytes(split, options)?, batch: None },
            None => Source::Host { loader: Loader::new(split, options)?, batch: None },
        };
        Ok(Self { source, transforms, preprocess, mix, seed, epoch })
    }

    /// Goes to the next batch and returns how many images it has; none after the last.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn advance(&mut self) -> Result<usize> {
        match &mut self.source {
            Source::Host { loader, batch } => next(loader, batch),
            Source::Bytes { loader, batch } => next(loader, batch),
            Source::Device { split, order, batches, batch, labels, .. } => {
                *batch = batches.next();
                labels.clear();
                if let Some(Planned { images, .. }) = batch {
                    labels.extend(order[images.clone()].iter().map(|draw| split.labels()[draw.index as usize]));
                }
                Ok(labels.len())
            }
        }
    }

    /// The labels of the batch at hand.
    pub fn labels(&self) -> &[u32] {
        match &self.source {
            Source::Host { batch, .. } => batch.as_ref().map_or(&[], Batch::labels),
            Source::Bytes { batch, .. } => batch.as_ref().map_or(&[], Batch::labels),
            Source::Device { labels, .. } => labels,
        }
    }

    /// The images of the batch at hand (N, S, S, 3), if they are made on the host.
    pub fn images(&self) -> Option<&[f32]> {
        match &self.source {
            Source::Host { batch, .. } => batch.as_ref().map(Batch::images),
            Source::Bytes { .. } | Source::Device { .. } => None,
        }
    }

    /// Loads the batch at hand into the network, mixed as the settings say.
    ///
    /// # Errors
    /// The device's.
    pub fn load(&self, network: &mut Network<D>) -> Result<()> {
        let (side, philox) = (network.architecture().image_size, Philox::new(self.seed));
        let shape = |transforms: TransformConfig| {
            let Preprocess { mean, std, .. } = self.preprocess;
            transforms.shape(philox, self.epoch, side, self.labels().len(), [mean, std])
        };
        let index = match &self.source {
            Source::Host { batch: Some(batch), .. } => {
                network.load(batch.images(), batch.labels())?;
                batch.index
            }
            Source::Bytes { batch: Some(batch), .. } => {
                let shape = shape(self.transforms);
                network.load_bytes(Images::Batch(batch.images()), &shape, batch.draws(), batch.labels())?;
                batch.index
            }
            Source::Device { dataset, order, batch: Some(batch), labels, .. } => {
                let images = Images::Dataset { images: &dataset.images, len: dataset.len };
                network.load_bytes(images, &shape(self.transforms), &order[batch.images.clone()], labels)?;
                batch.number
            }
            Source::Host { batch: None, .. }
            | Source::Bytes { batch: None, .. }
            | Source::Device { batch: None, .. } => return Ok(()),
        };
        match self.mix.draw(&philox, self.epoch, index as u32, side) {
            Some(mix) => Ok(network.mix(mix, self.labels())?),
            None => Ok(()),
        }
    }
}

/// Takes the next batch; its buffers go back first.
fn next<T: PixelValue>(loader: &mut Loader<T>, batch: &mut Option<Batch<T>>) -> Result<usize> {
    *batch = None;
    *batch = loader.next().transpose()?;
    Ok(batch.as_ref().map_or(0, |batch| batch.count))
}
