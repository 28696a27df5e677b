//! Batches made in the background: of floats as the network reads them, or of bytes for a device that transforms and
//! normalises them.
//!
//! One thread makes the batches in order and keeps up to [`PREFETCH`] of them ready. If images must be decoded, resized
//! or, as floats, RandAugmented, a thread pool shares the images of a batch; images in memory at the right size take a few
//! microseconds each, for which one thread is enough. A dropped [`Batch`] returns its buffers, which are reused.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use alexnet_core::network::Shards;
use alexnet_core::random::Philox;
use alexnet_core::reference::{rand_augment, sample};
use rayon::prelude::*;

use super::augment::resized_crop::resize_box;
use super::augment::{MEAN, Normalize, STD, SampledTransform, TransformConfig, crop_and_flip};
use super::error::{DataError, Result};
use super::order::{self, Draw, Planned};
use super::preprocess::{Fit, Preprocess};
use super::split::Split;

/// Number of finished batches kept ready.
pub const PREFETCH: usize = 3;

/// What a [`Loader`] makes from a split.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Images per batch; the last batch may have fewer.
    pub batch_size: usize,
    /// Height and width of the images in a batch: the network's input size.
    pub image_size: usize,
    /// Resizing and normalisation.
    pub preprocess: Preprocess,
    /// Use the order of [`order::shuffled`] instead of the split's own.
    pub shuffle: bool,
    /// With `shuffle`: draw every class equally often, see [`order::balanced`].
    pub balanced: bool,
    /// Augmentation.
    pub transforms: TransformConfig,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// The epoch, from 0; order and augmentation depend on it.
    pub epoch: u32,
    /// How the steps of training are divided; plain batches in order if `None`. `batch_size` is then the largest micro-batch.
    pub shards: Option<Shards>,
    /// Which batches are made, by their number in the epoch: not those done before a run was interrupted, nor those that another
    /// process makes.
    pub numbers: Range<usize>,
    /// Threads that decode and resize; 0: all cores.
    pub threads: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions {
            batch_size: 128,
            image_size: super::cifar::SIZE,
            preprocess: Preprocess::default(),
            shuffle: false,
            balanced: false,
            transforms: TransformConfig::NONE,
            seed: 0,
            epoch: 0,
            shards: None,
            numbers: 0..usize::MAX,
            threads: 0,
        }
    }
}

impl LoaderOptions {
    /// Bytes of all batches that are ready, being made, and in use (one at a time), whatever the size of the data set.
    /// In addition, each thread holds the image that it decodes.
    pub fn memory<T: PixelValue>(&self) -> u64 {
        let image = self.image_size as u64 * self.image_size as u64 * 3 * size_of::<T>() as u64;
        let label = (size_of::<u32>() + size_of::<Draw>()) as u64;
        (self.batch_size as u64).saturating_mul((PREFETCH as u64 + 2) * (image + label))
    }
}

/// What a loader's images consist of: `f32`, transformed and normalised, or `u8`, for which all but the resized crop is left to do.
pub trait PixelValue: Copy + Default + Send + Sync + 'static {
    /// Whether they are transformed.
    const TRANSFORMED: bool;
    /// Completes an image of bytes, of which `left` is to be done.
    fn complete(pixels: &[u8], size: usize, left: &SampledTransform, normalize: &Normalize, out: &mut [Self]);
}

impl PixelValue for f32 {
    const TRANSFORMED: bool = true;
    fn complete(pixels: &[u8], size: usize, left: &SampledTransform, normalize: &Normalize, out: &mut [f32]) {
        normalize.apply(pixels, size, left, out);
    }
}

impl PixelValue for u8 {
    const TRANSFORMED: bool = false;
    fn complete(pixels: &[u8], _: usize, _: &SampledTransform, _: &Normalize, out: &mut [u8]) {
        out.copy_from_slice(pixels);
    }
}

/// Images of a batch. Dropping it returns its buffers to the loader.
#[derive(Debug)]
pub struct Batch<T: PixelValue = f32> {
    /// Index of the batch in the epoch, from 0.
    pub index: usize,
    /// Number of images; less than the batch size only in the last batch.
    pub count: usize,
    buffers: Buffers<T>,
    back: SyncSender<Buffers<T>>,
}

#[derive(Debug, Default)]
struct Buffers<T> {
    images: Vec<T>,
    labels: Vec<u32>,
    draws: Vec<Draw>,
}

impl<T: PixelValue> Batch<T> {
    /// The images, NHWC, `count`·image_size·image_size·3 values.
    pub fn images(&self) -> &[T] {
        &self.buffers.images
    }

    /// The `count` labels.
    pub fn labels(&self) -> &[u32] {
        &self.buffers.labels
    }

    /// Which `count` images of the epoch they are.
    pub fn draws(&self) -> &[Draw] {
        &self.buffers.draws
    }
}

impl<T: PixelValue> Drop for Batch<T> {
    fn drop(&mut self) {
        // If the channel is full or the loader is gone, the buffers are freed.
        let _ = self.back.try_send(std::mem::take(&mut self.buffers));
    }
}

/// An iterator over the batches of one epoch. Dropping it ends its threads.
///
/// An error is returned in place of its batch and ends the iteration.
#[derive(Debug)]
pub struct Loader<T: PixelValue = f32> {
    receiver: Option<Receiver<Result<Batch<T>>>>,
    thread: Option<JoinHandle<()>>,
    cancelled: Arc<AtomicBool>,
    /// Batches that are left.
    left: usize,
    waited: std::time::Duration,
}

impl Loader {
    /// Starts making the batches of `split`.
    ///
    /// # Errors
    /// A batch size or image size of 0; threads that cannot be started.
    pub fn new(split: &Split, options: LoaderOptions) -> Result<Self> {
        Self::start(split, options)
    }
}

impl Loader<u8> {
    /// Starts making the batches of `split`, of bytes.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn bytes(split: &Split, options: LoaderOptions) -> Result<Self> {
        Self::start(split, options)
    }
}

impl<T: PixelValue> Loader<T> {
    fn start(split: &Split, options: LoaderOptions) -> Result<Self> {
        for (what, value) in [("batch size", options.batch_size), ("image size", options.image_size)] {
            if value == 0 {
                return Err(DataError::Setting { what, value: "0".into(), expected: "at least 1" });
            }
        }
        let planned = order::batches(split.len(), &options);
        let left = planned.len();
        let (sender, receiver) = sync_channel(PREFETCH);
        let (back, returned) = sync_channel(PREFETCH + 2);
        let cancelled = Arc::new(AtomicBool::new(false));
        // Copying an image that needs no work costs less than handing it to another thread.
        let fit = options.preprocess.fit(options.image_size);
        let TransformConfig { rand_augment, .. } = options.transforms;
        let ready = split.is_ready(fit) && !options.transforms.on_host() && !(T::TRANSFORMED && rand_augment.is_some());
        let threads = if ready { 1 } else { options.threads };
        let pool = (threads != 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("loader-{index}"))
                    .build()
                    .map_err(|error| DataError::Thread(error.to_string()))
            })
            .transpose()?;
        let maker = Maker {
            split: split.clone(),
            order: order::draws(split.labels(), &options),
            philox: Philox::new(options.seed),
            normalize: Normalize::new(options.preprocess.mean, options.preprocess.std),
            fit,
            options,
            cancelled: cancelled.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || maker.run(&planned, pool.as_ref(), &sender, &back, &returned))
            .map_err(|error| DataError::Thread(error.to_string()))?;
        Ok(Loader {
            receiver: Some(receiver),
            thread: Some(thread),
            cancelled,
            left,
            waited: std::time::Duration::ZERO,
        })
    }

    /// Total time that [`Loader::next`] waited for batches: what loading costs the training.
    pub fn waited(&self) -> std::time::Duration {
        self.waited
    }
}

impl<T: PixelValue> Iterator for Loader<T> {
    type Item = Result<Batch<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let start = std::time::Instant::now();
        let received = self.receiver.as_ref()?.recv();
        self.waited += start.elapsed();
        match received {
            Ok(Ok(batch)) => {
                self.left -= 1;
                Some(Ok(batch))
            }
            other => {
                self.left = 0;
                Some(other.unwrap_or_else(|_| Err(DataError::Thread("it ended before the epoch did".into()))))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<T: PixelValue> Drop for Loader<T> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State of the background thread.
struct Maker {
    split: Split,
    order: Vec<Draw>,
    philox: Philox,
    normalize: Normalize,
    fit: Fit,
    options: LoaderOptions,
    cancelled: Arc<AtomicBool>,
}

thread_local! {
    static SCRATCH: std::cell::RefCell<[Vec<u8>; 4]> = const { std::cell::RefCell::new([const { Vec::new() }; 4]) };
}

impl Maker {
    fn run<T: PixelValue>(
        &self,
        planned: &[Planned],
        pool: Option<&rayon::ThreadPool>,
        sender: &SyncSender<Result<Batch<T>>>,
        back: &SyncSender<Buffers<T>>,
        returned: &Receiver<Buffers<T>>,
    ) {
        for Planned { number, images } in planned {
            let mut buffers = returned.try_recv().unwrap_or_default();
            let result = self.fill(images.clone(), pool, &mut buffers).map(|()| Batch {
                index: *number,
                count: buffers.labels.len(),
                buffers,
                back: back.clone(),
            });
            let failed = result.is_err();
            if self.cancelled.load(Ordering::Relaxed) || sender.send(result).is_err() || failed {
                return;
            }
        }
    }

    fn fill<T: PixelValue>(
        &self,
        planned: Range<usize>,
        pool: Option<&rayon::ThreadPool>,
        buffers: &mut Buffers<T>,
    ) -> Result<()> {
        let image = self.options.image_size * self.options.image_size * 3;
        let Buffers { images, labels, draws } = buffers;
        draws.clear();
        draws.extend(&self.order[planned]);
        labels.clear();
        labels.extend(draws.iter().map(|draw| self.split.labels()[draw.index as usize]));
        images.resize(draws.len() * image, T::default());
        let Some(pool) = pool else {
            return images.chunks_exact_mut(image).zip(draws).try_for_each(|(out, draw)| self.image(*draw, out));
        };
        // The first failure by position, not by time, so that the error does not depend on the number of threads.
        let failure = pool.install(|| {
            images
                .par_chunks_exact_mut(image)
                .enumerate()
                .filter_map(|(i, out)| Some((i, self.image(draws[i], out).err()?)))
                .min_by_key(|(i, _)| *i)
        });
        failure.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn image<T: PixelValue>(&self, drawn: Draw, out: &mut [T]) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Ok(());
        }
        let options = &self.options;
        let (index, element) = (drawn.index as usize, drawn.element());
        SCRATCH.with_borrow_mut(|[scratch, changed, spare, cropped]| {
            let pixels = match options.transforms.resized_crop {
                None => self.split.image(index, self.fit, scratch)?,
                Some(scale) => {
                    let (original, width, height) = self.split.original(index, scratch)?;
                    let from = scale.sample(&self.philox, options.epoch, element, [width, height]);
                    cropped.resize(options.image_size * options.image_size * 3, 0);
                    resize_box(original, width, &from, options.image_size, spare, cropped)
                        .map_err(|reason| DataError::Decode { path: format!("image {index}").into(), reason })?;
                    &*cropped
                }
            };
            let shape = options.transforms.shape(self.philox, options.epoch, options.image_size, 1, [MEAN, STD]);
            let draw = sample(&shape, element);
            if !T::TRANSFORMED || shape.operations == 0 {
                T::complete(pixels, options.image_size, &draw, &self.normalize, out);
                return Ok(());
            }
            changed.resize(pixels.len(), 0);
            crop_and_flip(pixels, options.image_size, &draw, changed);
            rand_augment(&shape, element, changed, spare);
            let rest = SampledTransform { right: 0, down: 0, flip: false, ..draw };
            T::complete(changed, options.image_size, &rest, &self.normalize, out);
            Ok(())
        })
    }
}
