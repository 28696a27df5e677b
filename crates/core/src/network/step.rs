//! The queued step: loaded, done without waiting, recorded the second time and replayed from then on.

use super::{MicroBatch, Network};
use crate::architecture::Architecture;
use crate::device::{Device, Element};
use crate::shape::{AugmentShape, LossShape, Mix, MixShape};
use crate::{Error, Result, Sgd};

/// Different steps that are kept recorded: each of the micro-batches of a full batch and of an epoch's last one. Those
/// beyond are done by hand.
const MOST_RECORDINGS: usize = 64;

/// What a step's work depends on, beside the arrays and what [`Device::begin_step`] tells: the same work can be
/// replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    images: usize,
    /// With a step of zero.
    micro: MicroBatch,
    /// Whether it ends with an update, and by [`Sgd::decay_all`].
    update: Option<bool>,
    mixed: bool,
}

/// What was done with a work before.
pub(super) enum Known<R> {
    /// It was done once, so that all is compiled and loaded.
    Done,
    /// It was recorded.
    Recorded(R),
}

impl<D: Device> Network<D> {
    /// Puts images (N, H, W, C) and labels (N) in place for [`Network::step`].
    ///
    /// # Errors
    /// A batch that does not fit, a label that is not a class, the device's.
    pub fn load(&mut self, images: &[D::Element], labels: &[u32]) -> Result<()> {
        let n = self.images_in(images)?;
        self.check_labels(labels, n)?;
        self.device.write(images, &mut self.activations[0])?;
        self.device.write_labels(labels, &mut self.labels)?;
        (self.loaded, self.mixed) = (n, false);
        Ok(())
    }

    /// The same with images out of a data set that lies on the device: `indices` says which, `shape` what they undergo.
    ///
    /// # Errors
    /// A batch that does not fit, an index beyond the data set, a label that is not a class, the device's.
    pub fn load_from(
        &mut self,
        images: &D::Bytes,
        shape: &AugmentShape,
        indices: &[u32],
        labels: &[u32],
    ) -> Result<()> {
        let (n, size) = (indices.len(), self.architecture.image);
        if n == 0 || n > self.batch || shape.batch != n || shape.side != size || self.architecture.channels != 3 {
            return Err(Error::Batch { found: n, planned: self.batch });
        }
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= shape.images) {
            let expected = shape.images;
            let (argument, found) = ("indices", index as usize);
            return Err(alexnet_ops::Error::Length { operator: "augment", argument, found, expected }.into());
        }
        self.check_labels(labels, n)?;
        let to = match &mut self.indices {
            Some(to) => to,
            none => none.insert(self.device.labels(self.batch)?),
        };
        self.device.write_labels(indices, to)?;
        self.device.augment(shape, images, to, &mut self.activations[0])?;
        self.device.write_labels(labels, &mut self.labels)?;
        (self.loaded, self.mixed) = (n, false);
        Ok(())
    }

    /// Mixes the batch that was loaded with `labels` in pairs, images and labels, for [`Network::step`] or
    /// [`Network::train_loaded`]: the loss is then λ times that with the own labels and 1 − λ times that with the
    /// partners'.
    ///
    /// # Errors
    /// No batch was loaded; other labels than its own; the device's.
    pub fn mix(&mut self, mix: Mix, labels: &[u32]) -> Result<()> {
        let n = self.loaded_images()?;
        self.check_labels(labels, n)?;
        let Architecture { image: side, channels, .. } = self.architecture;
        let shape = MixShape { batch: n, side, channels, mix };
        self.device.mix(&shape, &mut self.activations[0])?;
        let (second, weight) = match &mut self.second {
            Some(second) => second,
            none => none.insert((self.device.labels(self.batch)?, self.device.zeros(1)?)),
        };
        let partners: Vec<u32> = labels.iter().rev().copied().collect();
        self.device.write_labels(&partners, second)?;
        self.device.write(&[D::Element::from_f64(shape.weight().into())], weight)?;
        self.mixed = true;
        Ok(())
    }

    pub(super) fn loaded_images(&self) -> Result<usize> {
        match self.loaded {
            0 => Err(Error::Batch { found: 0, planned: self.batch }),
            n => Ok(n),
        }
    }

    /// Whether [`Network::step`] records its work the second time and replays it from then on, where the device can.
    pub fn replay_steps(&mut self, on: bool) {
        self.replays = on;
        self.recordings.clear();
    }

    /// How many different steps are recorded.
    pub fn recorded_steps(&self) -> usize {
        self.recordings.iter().filter(|(_, known)| matches!(known, Known::Recorded(_))).count()
    }

    /// Forward and backward over the micro-batch that was loaded, and the update by `rule` if it is the step's last
    /// one. Losses and hits are added to [`Network::totals`]; nothing is read back, so that a device that queues its
    /// work goes on without waiting.
    ///
    /// # Errors
    /// No batch was loaded; the device's.
    pub fn step(&mut self, micro: &MicroBatch, rule: Option<&Sgd>) -> Result<()> {
        let device = self.device.clone();
        device.exclusive(&mut || self.exclusive_step(micro, rule))
    }

    fn exclusive_step(&mut self, micro: &MicroBatch, rule: Option<&Sgd>) -> Result<()> {
        let n = self.loaded_images()?;
        self.for_training()?;
        self.device.begin_step(micro.step, rule)?;
        let work = Work {
            images: n,
            micro: MicroBatch { step: 0, ..*micro },
            update: rule.map(|rule| rule.decay_all),
            mixed: self.mixed,
        };
        if !self.replays {
            return self.work(n, micro, rule);
        }
        let place = self.recordings.iter().position(|(known, _)| *known == work);
        let Some(place) = place else {
            // Done by hand the first time: what is compiled or loaded at first use cannot be recorded.
            self.work(n, micro, rule)?;
            if self.recordings.len() < MOST_RECORDINGS {
                self.recordings.push((work, Known::Done));
            }
            return Ok(());
        };
        if let Known::Recorded(recording) = &mut self.recordings[place].1
            // SAFETY: the recording was made from this network's arrays, which live as long as it does and are only
            // given out for exchange by `device_and_parameters`, which forgets all recordings.
            && unsafe { self.device.replay(recording) }?
        {
            return Ok(());
        }
        let device = self.device.clone();
        let recorded = device.record(&mut || self.work(n, micro, rule))?;
        let Some(mut recording) = recorded else { return self.work(n, micro, rule) };
        // SAFETY: as above.
        let replayed = unsafe { device.replay(&mut recording) }?;
        self.recordings[place].1 = Known::Recorded(recording);
        if replayed { Ok(()) } else { self.work(n, micro, rule) }
    }

    fn work(&mut self, n: usize, micro: &MicroBatch, rule: Option<&Sgd>) -> Result<()> {
        self.forward(n, Some(micro), &mut |_| ())?;
        let classes = self.architecture.classes;
        let shape = LossShape { batch: n, classes, smoothing: micro.smoothing, divisor: micro.step_images };
        self.queue_loss(&shape, true)?;
        self.device.add_totals(n, &self.losses, &self.correct, &mut self.totals)?;
        self.backward(n, micro, rule, &mut |_| ())
    }

    /// Sums of losses and of hits since [`Network::set_totals`]; waits for the steps that were queued.
    ///
    /// # Errors
    /// The device's, that of any step before included.
    pub fn totals(&self) -> Result<[f64; 2]> {
        self.device.read_totals(&self.totals)
    }
    /// Sets the sums of losses and of hits.
    ///
    /// # Errors
    /// The device's.
    pub fn set_totals(&mut self, totals: [f64; 2]) -> Result<()> {
        self.device.write_totals(totals, &mut self.totals)
    }
}
