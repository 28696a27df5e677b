//! One training step and one inference for all devices: loaded, queued, captured as a graph the second time and replayed
//! from then on where the device captures.

use alexnet_ops::expect_len;

use super::pass::Profiler;
use super::{Metrics, MicroBatch, Network, Phase, equal};
use crate::architecture::Architecture;
use crate::arguments::{Augment, MixPairs, SoftmaxCrossEntropy};
use crate::device::{Device, Element};
use crate::shape::{AugmentShape, Draw, LossShape, Mix, MixShape};
use crate::{Error, Result, Sgd};

/// Graphs that are kept: one for each micro-batch of a full step and of an epoch's last one, and of inference. Further
/// ones run eagerly.
const MAX_GRAPHS: usize = 64;

/// What the launches of a step or an inference depend on, besides the arrays and what [`Device::begin_step`] writes: equal
/// keys can share a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StepKey {
    Train {
        images: usize,
        /// With a step of zero.
        micro: MicroBatch,
        /// Whether it ends with an update, and [`Sgd::decay_all`].
        update: Option<bool>,
        mixed: bool,
    },
    /// An update by the gradients of several shards.
    Update {
        /// Of the step.
        images: usize,
        decay_all: bool,
    },
    Infer {
        images: usize,
        /// Whether the average is in the place of the weights.
        averaged: bool,
    },
}

/// Images in bytes, for [`Network::load_bytes`].
#[derive(Debug)]
pub enum Images<'a, B> {
    /// A data set that lies on the device, of which the draws name those of the batch.
    Dataset {
        /// (·, H, W, 3).
        images: &'a B,
        /// How many.
        len: usize,
    },
    /// Those of the batch (N, H, W, 3), on the host.
    Batch(&'a [u8]),
}

/// What is known of a key.
pub(super) enum CaptureState<G> {
    /// It has run once, so that all kernels are compiled and loaded.
    Warm,
    Captured(G),
}

impl<D: Device> Network<D> {
    /// Loads images (N, H, W, C) and labels (N) for [`Network::step`].
    ///
    /// # Errors
    /// No image or more than [`Network::max_batch`]; a length that is no whole number of images; a label that is not a
    /// class; the device's.
    pub fn load(&mut self, images: &[D::Element], labels: &[u32]) -> Result<()> {
        let n = self.images_in(images)?;
        self.check_labels(labels, n)?;
        self.make_room()?;
        self.device.write(images, &mut self.batch.activations[0])?;
        self.device.write_labels(labels, &mut self.batch.labels)?;
        (self.batch.loaded, self.batch.mixed) = (n, false);
        Ok(())
    }

    /// Loads images in bytes (·, H, W, 3), transformed as `shape` says; their random numbers are those of `draws` (N). For
    /// [`Network::step`] and [`Network::infer`].
    ///
    /// # Errors
    /// No image or more than [`Network::max_batch`]; a shape of other images than the network's; a draw beyond the data set;
    /// a label that is not a class; the device's.
    pub fn load_bytes(
        &mut self,
        images: Images<'_, D::Bytes>,
        shape: &AugmentShape,
        draws: &[Draw],
        labels: &[u32],
    ) -> Result<()> {
        let n = self.check_batch(draws.len())?;
        self.make_room()?;
        equal("shape.batch", shape.batch, n)?;
        equal("shape.side", shape.side, self.architecture.image_size)?;
        equal("channels", self.architecture.channels, 3)?;
        self.check_labels(labels, n)?;
        let (images, dataset) = match images {
            Images::Dataset { images, len } => {
                let most = draws.iter().map(|draw| draw.index as usize + 1).max().unwrap_or(0);
                expect_len("network", "images", len, most)?;
                (images, Some(len))
            }
            Images::Batch(images) => {
                equal("images", images.len(), n * shape.image_len())?;
                let uploads = match &mut self.uploads {
                    Some(uploads) => uploads,
                    none => none.insert(self.device.uploads(self.max_batch * shape.image_len())?),
                };
                (self.device.upload(images, uploads)?, None)
            }
        };
        let to = match &mut self.draws {
            Some(to) => to,
            none => none.insert(self.device.labels(2 * self.max_batch)?),
        };
        let words: Vec<u32> = draws.iter().flat_map(|draw| [draw.index, draw.repeat]).collect();
        self.device.write_labels(&words, to)?;
        let shape = AugmentShape { dataset, ..*shape };
        self.device.augment(Augment { shape: &shape, images, draws: to, out: &mut self.batch.activations[0] })?;
        self.device.write_labels(labels, &mut self.batch.labels)?;
        (self.batch.loaded, self.batch.mixed) = (n, false);
        Ok(())
    }

    /// Mixes the batch that was loaded with `labels` in pairs, images and labels, for [`Network::step`]: the loss is then
    /// λ times that with the own labels and 1 − λ times that with the partners'.
    ///
    /// # Errors
    /// No batch was loaded; other labels than its own; the device's.
    pub fn mix(&mut self, mix: Mix, labels: &[u32]) -> Result<()> {
        let n = self.check_batch(self.batch.loaded)?;
        self.check_labels(labels, n)?;
        let Architecture { image_size: side, channels, .. } = self.architecture;
        let shape = MixShape { batch: n, side, channels, mix };
        self.device.mix(MixPairs { shape: &shape, x: &mut self.batch.activations[0] })?;
        let (second, weight) = match &mut self.batch.second {
            Some(second) => second,
            none => none.insert((self.device.labels(self.max_batch)?, self.device.zeros(1)?)),
        };
        let partners: Vec<u32> = labels.iter().rev().copied().collect();
        self.device.write_labels(&partners, second)?;
        self.device.write(&[D::Element::from_f64(shape.weight().into())], weight)?;
        self.batch.mixed = true;
        Ok(())
    }

    /// Whether steps and inferences are captured as CUDA graphs, on a device that has them; at first they are not. The
    /// results have the same bits.
    pub fn use_cuda_graph(&mut self, on: bool) {
        self.use_cuda_graph = on;
        self.graphs.clear();
    }

    /// How many different steps and inferences are captured.
    pub fn captured_graphs(&self) -> usize {
        self.graphs.iter().filter(|(_, state)| matches!(state, CaptureState::Captured(_))).count()
    }

    /// Forward and backward over the micro-batch that was loaded; with an `optimizer`, which the step's last micro-batch
    /// needs, the update of the parameters too.
    ///
    /// Its gradients replace those that are there or are added to them, as `micro.slot` says. Losses and correct predictions are
    /// added to [`Network::metrics`]. A device that queues its work returns at once; errors of its kernels come with a later
    /// call. On other devices a step whose loss is not finite updates nothing.
    ///
    /// Where the micro-batches of a step are computed [together](super::Shards::together), it waits for [`Network::update`].
    ///
    /// # Errors
    /// No batch was loaded; a network for inference; a slot beyond those of [`Network::shard`], or with several shards an
    /// optimizer, which is [`Network::update`]'s; the device's.
    pub fn step(&mut self, micro: &MicroBatch, optimizer: Option<&Sgd>) -> Result<()> {
        if self.waits() {
            return self.wait(micro, optimizer);
        }
        let key = StepKey::Train {
            images: self.batch.loaded,
            micro: MicroBatch { step: 0, ..*micro },
            update: optimizer.map(|optimizer| optimizer.decay_all),
            mixed: self.batch.mixed,
        };
        let device = self.device.clone();
        device.exclusive(&mut || {
            self.begin_step(micro, optimizer)?;
            self.run(key, &|network| network.eager_step(micro, optimizer, &mut |_| Ok(())))
        })
    }

    /// [`Network::step`], eagerly, with a call of `profiler` after each phase: the work up to there is queued by then, and
    /// done on a device that does not queue.
    ///
    /// # Errors
    /// As [`Network::step`]; the profiler's.
    pub fn step_with_profiler(
        &mut self,
        micro: &MicroBatch,
        optimizer: Option<&Sgd>,
        profiler: &mut dyn FnMut(Phase) -> Result<()>,
    ) -> Result<()> {
        if self.waits() {
            return self.wait(micro, optimizer);
        }
        let device = self.device.clone();
        device.exclusive(&mut || {
            self.begin_step(micro, optimizer)?;
            self.eager_step(micro, optimizer, profiler)
        })
    }

    pub(super) fn check_trains(&self) -> Result<()> {
        if self.trains() {
            return Ok(());
        }
        let message = "the network was made for inference and has no memory for gradients".into();
        Err(Error::Device { device: self.device.name(), message })
    }

    /// Whether a micro-batch can be computed.
    pub(super) fn check_micro(&self, micro: &MicroBatch, optimizer: Option<&Sgd>) -> Result<()> {
        self.check_batch(self.batch.loaded)?;
        self.check_trains()?;
        self.check_slot(&micro.slot, optimizer.is_some())
    }

    fn begin_step(&mut self, micro: &MicroBatch, optimizer: Option<&Sgd>) -> Result<()> {
        self.check_micro(micro, optimizer)?;
        self.begin_metrics(micro)?;
        self.device.begin_step(micro.step, optimizer)
    }

    /// Prepares the sums for a micro-batch.
    pub(super) fn begin_metrics(&mut self, micro: &MicroBatch) -> Result<()> {
        self.clear_totals(&micro.slot)?;
        // Where it costs no waiting, a step's micro-batches are added up before they join the sums.
        if micro.first_image == 0
            && let Some(metrics) = self.poll_metrics()?
        {
            self.set_metrics(Metrics::default())?;
            self.earlier = metrics;
        }
        Ok(())
    }

    fn eager_step(&mut self, micro: &MicroBatch, optimizer: Option<&Sgd>, profiler: &mut Profiler<'_>) -> Result<()> {
        self.swap_gradients(micro.slot.array);
        let computed = self.forward_and_backward(micro, optimizer, profiler);
        self.swap_gradients(micro.slot.array);
        computed.and_then(|()| self.add_sums(&micro.slot, 0..self.parameters.len()))
    }

    fn forward_and_backward(
        &mut self,
        micro: &MicroBatch,
        optimizer: Option<&Sgd>,
        profiler: &mut Profiler<'_>,
    ) -> Result<()> {
        let n = self.batch.loaded;
        self.forward(n, Some(micro), profiler)?;
        self.loss(micro)?;
        profiler(Phase::Loss)?;
        let diverged = self.poll_metrics()?.is_some_and(|metrics| !metrics.loss.is_finite());
        if optimizer.is_some() && diverged {
            return Ok(());
        }
        self.backward(n, micro, optimizer, profiler)
    }

    /// The loss of a micro-batch and its gradient, after the forward pass.
    pub(super) fn loss(&mut self, micro: &MicroBatch) -> Result<()> {
        let n = self.batch.loaded;
        let classes = self.architecture.classes;
        let shape = LossShape { batch: n, classes, smoothing: micro.smoothing, divisor: micro.step_images };
        let logits = &self.batch.activations[self.batch.activations.len() - 1];
        let dlogits = self.layers.last().and_then(|last| self.batch.gradients.get_mut(last.dy));
        let (losses, correct) = (&mut self.batch.losses, &mut self.batch.correct);
        let second = self.batch.second.as_ref().filter(|_| self.batch.mixed).map(|(labels, weight)| (labels, weight));
        self.device.softmax_cross_entropy(SoftmaxCrossEntropy {
            shape: &shape,
            logits,
            labels: &self.batch.labels,
            second,
            class_weights: self.class_weights.as_ref(),
            losses,
            correct,
            dlogits,
        })?;
        self.add_totals(&micro.slot)
    }

    /// The forward pass without dropout over the images that were loaded; the logits can be read afterwards.
    ///
    /// # Errors
    /// No batch was loaded; the device's.
    pub fn infer(&mut self) -> Result<()> {
        self.infer_images(self.batch.loaded)
    }

    /// The forward pass without dropout over images (N, H, W, C); the logits can be read afterwards.
    ///
    /// # Errors
    /// No image or more than [`Network::max_batch`]; a length that is no whole number of images; the device's.
    pub fn predict(&mut self, images: &[D::Element]) -> Result<()> {
        let n = self.images_in(images)?;
        // They have no labels to train by.
        self.batch.loaded = 0;
        self.device.write(images, &mut self.batch.activations[0])?;
        self.infer_images(n)
    }

    /// [`Network::infer`], eagerly, with a call of `profiler` after each phase: the work up to there is queued by then.
    ///
    /// # Errors
    /// As [`Network::infer`]; the profiler's.
    pub fn infer_with_profiler(&mut self, profiler: &mut dyn FnMut(Phase) -> Result<()>) -> Result<()> {
        let n = self.check_batch(self.batch.loaded)?;
        self.forward(n, None, profiler)
    }

    fn infer_images(&mut self, n: usize) -> Result<()> {
        let n = self.check_batch(n)?;
        let device = self.device.clone();
        let key = StepKey::Infer { images: n, averaged: self.averaged };
        device.exclusive(&mut || self.run(key, &|network| network.forward(n, None, &mut |_| Ok(()))))
    }

    /// Does `work`, which launches the same for equal keys: as a graph from the second time on.
    pub(super) fn run(&mut self, key: StepKey, work: &dyn Fn(&mut Self) -> Result<()>) -> Result<()> {
        if !self.use_cuda_graph {
            return work(self);
        }
        let Some(place) = self.graphs.iter().position(|(known, _)| *known == key) else {
            // Eagerly the first time: what is compiled or loaded at first use cannot be captured.
            work(self)?;
            if self.graphs.len() < MAX_GRAPHS {
                self.graphs.push((key, CaptureState::Warm));
            }
            return Ok(());
        };
        if let CaptureState::Captured(graph) = &mut self.graphs[place].1
            // SAFETY: the graph was captured with this network's arrays, which live as long as it does and are only given
            // out for exchange by `device_and_parameters`, which drops all graphs. An average that takes the weights' place
            // is part of the key. No other thread's launches are in the graph: it was captured within `exclusive`.
            && unsafe { self.device.launch_graph(graph) }?
        {
            return Ok(());
        }
        let device = self.device.clone();
        let captured = device.capture(&mut || work(self))?;
        let Some(mut graph) = captured else { return work(self) };
        // SAFETY: as above.
        let replayed = unsafe { device.launch_graph(&mut graph) }?;
        self.graphs[place].1 = CaptureState::Captured(graph);
        if replayed { Ok(()) } else { work(self) }
    }

    /// Sums since [`Network::set_metrics`]; waits for the steps that were queued.
    ///
    /// # Errors
    /// The device's, that of any step before included.
    pub fn metrics(&self) -> Result<Metrics> {
        let [loss, correct] = self.device.read_totals(&self.sums)?;
        Ok(Metrics { loss: self.earlier.loss + loss, correct: self.earlier.correct + correct as u64 })
    }
    /// The same where it takes no waiting; none on a device that queues its work.
    ///
    /// # Errors
    /// The device's.
    pub fn poll_metrics(&self) -> Result<Option<Metrics>> {
        if D::QUEUES { Ok(None) } else { self.metrics().map(Some) }
    }
    /// Sets the sums that the next steps are added to.
    ///
    /// # Errors
    /// The device's.
    pub fn set_metrics(&mut self, metrics: Metrics) -> Result<()> {
        self.earlier = Metrics::default();
        self.device.write_totals([metrics.loss, metrics.correct as f64], &mut self.sums)
    }
}
