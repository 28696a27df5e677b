//! What follows an epoch's steps: evaluation, the choice of the best epoch, metrics, checkpoint, and early stopping.

use std::time::Instant;

use alexnet_core::Device;

use super::{Epochs, Observer, Trainer, rate_of};
use crate::data::Split;
use crate::run::batch_source::DeviceDataset;
use crate::run::checkpoint::Progress;
use crate::run::config::Config;
use crate::run::error::{Error, Result};
use crate::run::evaluate::{Classified, Evaluation, Protocol, evaluate_among};
use crate::run::folder::{Outputs, now};
use crate::run::metrics::Record;
use crate::run::ranks::flag;
use crate::run::summary::count;

impl<D: Device<Element = f32>> Trainer<'_, D> {
    /// Test, metrics and checkpoint of an epoch whose steps are done. False if it was asked to stop.
    pub(super) fn finish_epoch(&mut self, epochs: &mut Epochs<'_, D>) -> Result<bool> {
        let Epochs { rate, datasets, outputs, observer, .. } = epochs;
        let start = Instant::now();
        let epoch = self.progress.epoch + 1;
        let last = epoch == self.config.epochs;
        let due = last || epoch.is_multiple_of(self.config.test_every);
        let (mut val, mut test, mut ends) = (None, None, last);
        // With images held out, the test set is used once, at the end: after the last epoch, or when patience is over.
        if let Some(split) = self.dataset.val.as_ref().filter(|_| due) {
            let Some(found) = self.evaluate(split, datasets.val.as_ref(), "the val loss", *observer)? else {
                return Ok(false);
            };
            ends |= self.config.out_of_patience(self.stale_after(found.accuracy()));
            val = Some(found);
        }
        let tested = if self.dataset.val.is_some() { ends } else { due };
        if tested && !self.dataset.test.is_empty() {
            let split = &self.dataset.test;
            let Some(found) = self.evaluate(split, datasets.test.as_ref(), "the test loss", *observer)? else {
                return Ok(false);
            };
            test = Some(found);
        }
        let lr = rate.at(self.progress.step.saturating_sub(1));
        let record = self.record(val.as_ref(), test.as_ref(), lr, start.elapsed().as_secs_f64());
        let (_, loss, accuracy) = record.selection_metric();
        let best = self.is_best(accuracy, loss);
        let stale = self.stale_after(accuracy);
        let Progress { best_accuracy, best_loss, .. } = self.progress;
        // Metrics before checkpoint: a process killed in between repeats what came after the last checkpoint, and the lines
        // that are already there are dropped then. The other way round a line could be lost.
        if let Some(outputs) = outputs {
            self.folder.still_ours()?;
            outputs.metrics.append(&record)?;
            write_events(outputs, &record).map_err(Error::io("write events in", self.folder.path()))?;
        }
        self.progress = Progress {
            epoch,
            step: self.progress.step,
            best_accuracy: if best { Some(accuracy) } else { best_accuracy },
            best_loss: if best { Some(loss) } else { best_loss },
            scaling: self.progress.scaling,
            stale,
            ..Progress::default()
        };
        let impatient = self.config.out_of_patience(stale);
        if last || impatient {
            self.save_now(epochs, best)?;
        } else {
            let due = self.agree(flag::SAVE, epochs.saver.due_after(epoch))?;
            self.save_later(epochs, best, due)?;
        }
        epochs.observer.epoch(&record, best);
        if impatient && !last {
            let (stale, path) = (count(stale, "evaluation"), self.folder.path().display());
            epochs.observer.note(&format!(
                "accuracy has not risen in {stale}: the run ends (--patience); {path}/best.safetensors is the best"
            ));
        }
        Ok(true)
    }

    /// Evaluates a split with the averaged weights, if there are. None if it was asked to stop.
    fn evaluate(
        &mut self,
        split: &Split,
        dataset: Option<&DeviceDataset<D>>,
        what: &'static str,
        observer: &mut dyn Observer,
    ) -> Result<Option<Evaluation>> {
        let Config { tta, .. } = *self.config;
        let protocol = Protocol { preprocess: self.preprocess, tta, threads: self.config.thread_count() };
        let stop = &self.stop;
        let mut tell = |batch: Classified<'_>| observer.test(batch.done(), split.len());
        let ranks = &*self.ranks;
        let found = self
            .network
            .averaged(|network| evaluate_among(network, split, dataset, protocol, stop, ranks, &mut tell))?;
        match found {
            Some(found) if !found.loss.is_finite() => Err(self.state()?.diverged(what, found.loss, self.folder)),
            found => Ok(found),
        }
    }

    /// Whether this value of the selection metric is a new best; NaN where the epoch was not evaluated. Of equals the one
    /// with the lower loss wins: small validation sets tie often.
    fn is_best(&self, accuracy: f64, loss: f64) -> bool {
        let Progress { best_accuracy, best_loss, .. } = self.progress;
        self.is_higher(accuracy) || (best_accuracy == Some(accuracy) && best_loss.is_some_and(|best| loss < best))
    }

    fn is_higher(&self, accuracy: f64) -> bool {
        !accuracy.is_nan() && self.progress.best_accuracy.is_none_or(|best| accuracy > best)
    }

    /// Evaluations since the accuracy last rose, after an epoch with this value.
    fn stale_after(&self, accuracy: f64) -> usize {
        match () {
            () if accuracy.is_nan() => self.progress.stale,
            () if self.is_higher(accuracy) => 0,
            () => self.progress.stale + 1,
        }
    }

    fn record(&self, val: Option<&Evaluation>, test: Option<&Evaluation>, lr: f64, test_seconds: f64) -> Record {
        let Progress { epoch, step, loss_sum, correct, images, seconds, .. } = self.progress;
        Record {
            epoch: epoch + 1,
            step,
            lr,
            train_loss: loss_sum / images.max(1) as f64,
            train_acc: correct as f64 / images.max(1) as f64,
            test_loss: test.map(|test| test.loss),
            test_acc: test.map(Evaluation::accuracy),
            test_balanced_acc: test.map(Evaluation::balanced_accuracy),
            test_macro_f1: test.map(Evaluation::macro_f1),
            val_loss: val.map(|val| val.loss),
            val_acc: val.map(Evaluation::accuracy),
            val_balanced_acc: val.map(Evaluation::balanced_accuracy),
            val_macro_f1: val.map(Evaluation::macro_f1),
            images_per_s: rate_of(images, seconds),
            seconds: seconds + test_seconds,
            dataset: self.dataset.name.clone(),
            scaling: self.progress.scaling,
        }
    }
}

fn write_events(outputs: &mut Outputs, record: &Record) -> std::io::Result<()> {
    let curves = [
        ("train/loss", Some(record.train_loss)),
        ("train/accuracy", Some(record.train_acc)),
        ("val/loss", record.val_loss),
        ("val/accuracy", record.val_acc),
        ("val/macro_f1", record.val_macro_f1),
        ("test/loss", record.test_loss),
        ("test/accuracy", record.test_acc),
        ("test/macro_f1", record.test_macro_f1),
        ("learning_rate", Some(record.lr)),
        ("images_per_s", Some(record.images_per_s)),
    ];
    for (tag, value) in curves.into_iter().filter_map(|(tag, value)| Some((tag, value?))) {
        outputs.events.scalar(tag, record.step, value as f32, now())?;
    }
    outputs.events.flush()
}
