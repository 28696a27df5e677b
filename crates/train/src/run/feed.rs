//! Where the batches of an epoch come from: the loader, or the device itself out of a data set that lies on it.

use alexnet_core::random::Philox;
use alexnet_core::shape::AugmentShape;
use alexnet_core::{Device, Network};

use super::config::Config;
use super::error::Result;
use crate::data::augment::{MEAN, STD, TransformConfig};
use crate::data::{DataError, Loader, LoaderOptions, Split, order};

/// A split's images on the device, as bytes.
pub struct Resident<D: Device> {
    images: D::Bytes,
    len: usize,
}

impl<D: Device<Element = f32>> Resident<D> {
    /// Copies the images there. None if that would gain nothing or cannot be: a device that does not queue its work
    /// has the host's memory, files are decoded on the host, other sizes are resized and RandAugment is done there, and a
    /// memory may be full.
    ///
    /// # Errors
    /// The device's.
    pub fn new(network: &Network<D>, config: &Config, split: &Split) -> Result<Option<Self>> {
        let (device, size) = (network.device(), network.architecture().image);
        let on_device = D::QUEUES && config.rand_augment.is_none();
        let (true, Some(pixels), true) = (on_device, split.pixels(), split.image_size() == Some(size)) else {
            return Ok(None);
        };
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

/// The batches of one epoch, in order.
pub enum Feed<'a, D: Device> {
    /// Made on the host.
    Loader(Loader),
    /// Made on the device.
    Resident {
        /// The images.
        images: &'a Resident<D>,
        /// The epoch's order.
        order: Vec<u32>,
        /// Places in the order that are used up.
        used: usize,
        /// The last batch's labels.
        labels: Vec<u32>,
    },
}

impl<'a, D: Device<Element = f32>> Feed<'a, D> {
    /// The batches of `epoch` from batch `first` on.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new(
        config: &Config,
        size: usize,
        split: &Split,
        resident: Option<&'a Resident<D>>,
        epoch: u32,
        first: usize,
    ) -> Result<Self> {
        if let Some(images) = resident {
            let order = match config.no_shuffle {
                true => (0..split.len() as u32).collect(),
                false => order::shuffled(split.len(), config.seed, epoch),
            };
            return Ok(Feed::Resident { images, order, used: first * config.batch_size, labels: Vec::new() });
        }
        let options = LoaderOptions {
            batch_size: config.batch_size,
            image_size: size,
            shuffle: !config.no_shuffle,
            transforms: config.transforms(),
            seed: config.seed,
            epoch,
            first_batch: first,
            threads: config.thread_count(),
        };
        Ok(Feed::Loader(Loader::new(split, options)?))
    }

    /// The next batch of a loader.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn batch(loader: &mut Loader) -> Result<crate::data::Batch> {
        let ended = || Err(DataError::Thread("it ended before the epoch did".into()));
        Ok(loader.next().unwrap_or_else(ended)?)
    }

    /// Puts the next batch in place for [`Network::step`] or [`Network::train_loaded`], mixed as the settings say, and
    /// answers how many images it has.
    ///
    /// # Errors
    /// An image cannot be read; the device's.
    pub fn load(&mut self, network: &mut Network<D>, config: &Config, split: &Split, epoch: u32) -> Result<usize> {
        let side = network.architecture().image;
        let mix = |index: usize| config.mix_config().draw(&Philox::new(config.seed), epoch, index as u32, side);
        match self {
            Feed::Loader(loader) => {
                let batch = Self::batch(loader)?;
                network.load(batch.images(), batch.labels())?;
                mix(batch.index).map_or(Ok(()), |mix| network.mix(mix, batch.labels()))?;
                Ok(batch.count)
            }
            Feed::Resident { images, order, used, labels } => {
                let indices = &order[*used..(*used + config.batch_size).min(order.len())];
                labels.clear();
                labels.extend(indices.iter().map(|&index| split.labels()[index as usize]));
                let TransformConfig { padding, flip, jitter, cutout, rand_augment: _ } = config.transforms();
                let shape = AugmentShape {
                    batch: indices.len(),
                    images: images.len,
                    side,
                    padding,
                    philox: Philox::new(config.seed),
                    epoch,
                    flip,
                    jitter,
                    cutout,
                    mean: MEAN,
                    std: STD,
                };
                network.load_from(&images.images, &shape, indices, labels)?;
                mix(*used / config.batch_size).map_or(Ok(()), |mix| network.mix(mix, labels))?;
                *used += indices.len();
                Ok(indices.len())
            }
        }
    }
}
