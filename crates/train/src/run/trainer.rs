//! The loop: epochs of steps of micro-batches, a test and a checkpoint after each epoch.
//!
//! What a run computes is a function of its settings and its data alone. All randomness is keyed by seed and counted
//! by epoch, step and image, so that the state to go on from is the parameters, the momentum and [`Progress`].

use std::time::{Duration, Instant};

use alexnet_core::network::{BatchResult, MicroBatch};
use alexnet_core::random::Philox;
use alexnet_core::{Device, Network, Sgd};

use super::checkpoint::{Metadata, Model, Progress, TrainedOn};
use super::config::Config;
use super::error::{Error, Result};
use super::evaluate::{Evaluation, evaluate};
use super::folder::{Outputs, RunFolder, now};
use super::metrics::Record;
use super::schedule::LearningRate;
use super::stop::Stop;
use crate::data::{DataError, Dataset, Loader, LoaderOptions};

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was asked to stop, and its state is saved.
    Interrupted,
}

/// Where an epoch is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
    /// Steps of the epoch that are done.
    pub done: usize,
    /// Steps of the epoch.
    pub steps: usize,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy of the epoch so far.
    pub accuracy: f64,
    /// Training images a second in this epoch.
    pub images_per_s: f64,
    /// Seconds left of the epoch's training.
    pub epoch_left: f64,
    /// Seconds left of the run's training.
    pub run_left: f64,
}

/// Who watches a run.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, step: &Step);
    /// So many of the test images are done.
    fn test(&mut self, done: usize, images: usize);
    /// An epoch is done; `best` if no test accuracy was higher before.
    fn epoch(&mut self, record: &Record, best: bool);
}

/// What a run works on.
pub struct Trainer<'a, D: Device<Element = f32>> {
    /// The network, initialised or restored.
    pub network: Network<D>,
    /// The network's name in checkpoints.
    pub model: Model,
    /// The settings.
    pub config: &'a Config,
    /// The images, limited as the settings say.
    pub dataset: &'a Dataset,
    /// Where it is written.
    pub folder: &'a RunFolder,
    /// Asks the run to stop.
    pub stop: Stop,
    /// How far it is.
    pub progress: Progress,
}

impl<D: Device<Element = f32>> Trainer<'_, D> {
    /// Saves the state as it is, for the first time.
    ///
    /// # Errors
    /// The checkpoint cannot be written.
    pub fn save(&mut self) -> Result<()> {
        self.save_as(false)
    }

    /// Trains until all epochs are done or it is asked to stop.
    ///
    /// # Errors
    /// The loss or a weight is no number any more; an image cannot be read; a file cannot be written. The last
    /// good checkpoint stays.
    pub fn run(&mut self, outputs: &mut Outputs, observer: &mut dyn Observer) -> Result<Outcome> {
        let images = self.dataset.train.len();
        let rate = self.config.learning_rate(images);
        // Steps are counted in 32 bits by the generator of the dropout masks.
        if u32::try_from(rate.total_steps).is_err() {
            return Err(Error::Setting {
                name: "--epochs".into(),
                value: self.config.epochs.to_string(),
                expected: format!(
                    "at most {} with this many images and this batch",
                    u64::from(u32::MAX) / rate.epoch_steps
                ),
            });
        }
        while self.progress.epoch < self.config.epochs {
            if self.stop.requested() {
                return Ok(Outcome::Interrupted);
            }
            if !self.train_epoch(&rate, outputs, observer)? || !self.finish_epoch(&rate, outputs, observer)? {
                self.save_as(false)?;
                return Ok(Outcome::Interrupted);
            }
        }
        Ok(Outcome::Finished)
    }

    /// The steps of an epoch that are not done. False if it was asked to stop.
    fn train_epoch(&mut self, rate: &LearningRate, outputs: &mut Outputs, observer: &mut dyn Observer) -> Result<bool> {
        let (config, steps) = (self.config, rate.epoch_steps as usize);
        if self.progress.step_in_epoch >= steps {
            return Ok(true);
        }
        let options = LoaderOptions {
            batch_size: config.batch_size,
            size: self.network.architecture().image,
            shuffle: !config.no_shuffle,
            augment: config.augment,
            seed: config.seed,
            epoch: self.progress.epoch as u32,
            first_batch: self.progress.step_in_epoch * config.accumulate,
            threads: config.thread_count(),
        };
        let mut loader = Loader::new(&self.dataset.train, options)?;
        let mut saved = Instant::now();
        while self.progress.step_in_epoch < steps {
            let start = Instant::now();
            let learning_rate = rate.at(self.progress.step);
            let result = self.step(&mut loader, learning_rate)?;
            let progress = &mut self.progress;
            progress.step += 1;
            progress.step_in_epoch += 1;
            progress.loss_sum += result.loss;
            progress.correct += result.correct as u64;
            progress.images += result.images as u64;
            progress.seconds += start.elapsed().as_secs_f64();
            if progress.step.is_multiple_of(CURVE_STEPS) {
                let (step, loss) = (progress.step, result.loss / result.images as f64);
                outputs
                    .events
                    .scalar("train/loss_of_step", step, loss as f32, now())
                    .map_err(Error::io("write events in", self.folder.path()))?;
            }
            observer.step(&self.report(steps));
            if self.stop.requested() {
                return Ok(false);
            }
            let pause = Duration::try_from_secs_f64(config.save_every).unwrap_or(Duration::MAX);
            if !pause.is_zero() && saved.elapsed() >= pause && self.progress.step_in_epoch < steps {
                self.save_as(false)?;
                saved = Instant::now();
            }
        }
        Ok(true)
    }

    /// One update from its micro-batches.
    fn step(&mut self, loader: &mut Loader, learning_rate: f64) -> Result<BatchResult> {
        let config = self.config;
        let whole = config.batch_size * config.accumulate;
        let images = whole.min(self.dataset.train.len() - self.progress.step_in_epoch * whole);
        let mut sum = BatchResult::default();
        while sum.images < images {
            let batch =
                loader.next().unwrap_or_else(|| Err(DataError::Thread("it ended before the epoch did".into())))?;
            let micro = MicroBatch {
                philox: Philox::new(config.seed),
                step: self.progress.step as u32,
                first_image: sum.images,
                step_images: images,
                smoothing: config.label_smoothing,
            };
            let result = self.network.train(batch.images(), batch.labels(), &micro)?;
            sum.loss += result.loss;
            sum.correct += result.correct;
            sum.images += result.images;
        }
        if !sum.loss.is_finite() {
            return Err(self.diverged("the loss", sum.loss, self.progress.step + 1, learning_rate));
        }
        let rule = Sgd {
            learning_rate,
            momentum: config.momentum,
            weight_decay: config.weight_decay,
            nesterov: config.nesterov,
        };
        self.network.update(&rule)?;
        Ok(sum)
    }

    /// Test, metrics and checkpoint of an epoch whose steps are done. False if it was asked to stop.
    fn finish_epoch(
        &mut self,
        rate: &LearningRate,
        outputs: &mut Outputs,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let start = Instant::now();
        let images = self.dataset.test.len();
        let (threads, split) = (self.config.thread_count(), &self.dataset.test);
        let mut tell = |done| observer.test(done, images);
        let Some(test) = evaluate(&mut self.network, split, threads, &self.stop, &mut tell)? else { return Ok(false) };
        let lr = rate.at(self.progress.step.saturating_sub(1));
        if !test.loss.is_finite() {
            return Err(self.diverged("the test loss", test.loss, self.progress.step, lr));
        }
        let record = self.record(&test, lr, start.elapsed().as_secs_f64());
        let best = self.progress.best_accuracy.is_none_or(|best| record.test_acc > best);
        // Metrics before checkpoint: a process killed in between does the epoch's end again, and the line that is
        // already there is dropped then. The other way round the line could be lost.
        outputs.metrics.append(&record)?;
        write_events(outputs, &record).map_err(Error::io("write events in", self.folder.path()))?;
        self.progress = Progress {
            epoch: self.progress.epoch + 1,
            step: self.progress.step,
            best_accuracy: if best { Some(record.test_acc) } else { self.progress.best_accuracy },
            ..Progress::default()
        };
        self.save_as(best)?;
        observer.epoch(&record, best);
        Ok(true)
    }

    fn record(&self, test: &Evaluation, lr: f64, test_seconds: f64) -> Record {
        let Progress { epoch, step, loss_sum, correct, images, seconds, .. } = self.progress;
        Record {
            epoch: epoch + 1,
            step,
            lr,
            train_loss: loss_sum / images.max(1) as f64,
            train_acc: correct as f64 / images.max(1) as f64,
            test_loss: test.loss,
            test_acc: test.accuracy(),
            images_per_s: rate_of(images, seconds),
            seconds: seconds + test_seconds,
            dataset: self.dataset.name.clone(),
        }
    }

    fn report(&self, steps: usize) -> Step {
        let Progress { epoch, step_in_epoch, loss_sum, correct, images, seconds, .. } = self.progress;
        let images_per_s = rate_of(images, seconds);
        let an_epoch = self.dataset.train.len() as f64 / images_per_s.max(f64::MIN_POSITIVE);
        let epoch_left = (self.dataset.train.len() as u64).saturating_sub(images) as f64 / images_per_s.max(1e-9);
        Step {
            epoch: epoch + 1,
            epochs: self.config.epochs,
            done: step_in_epoch,
            steps,
            loss: loss_sum / images.max(1) as f64,
            accuracy: correct as f64 / images.max(1) as f64,
            images_per_s,
            epoch_left,
            run_left: epoch_left + an_epoch * (self.config.epochs - epoch).saturating_sub(1) as f64,
        }
    }

    /// Saves the state, unless it is none to go on from.
    fn save_as(&mut self, best: bool) -> Result<()> {
        let mut values = Vec::new();
        for parameter in self.network.parameters() {
            values.resize(parameter.len(), 0.0);
            self.network.device().read(&parameter.value, &mut values)?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let rate = self.config.learning_rate(self.dataset.train.len()).at(self.progress.step.saturating_sub(1));
                return Err(self.diverged("a weight", f64::from(*value), self.progress.step, rate));
            }
        }
        let metadata = Metadata {
            model: self.model.clone(),
            data: TrainedOn { name: self.dataset.name.clone(), fingerprint: self.dataset.fingerprint.clone() },
            classes: self.dataset.classes.clone(),
            config: self.config.to_toml()?,
            seed: self.config.seed,
            progress: self.progress.clone(),
        };
        self.folder.save(&self.network, &metadata, best)
    }

    fn diverged(&self, what: &'static str, value: f64, step: u64, learning_rate: f64) -> Error {
        let (epoch, kept) = (self.progress.epoch + 1, self.folder.last());
        Error::Diverged { what, value, step, epoch, learning_rate, kept }
    }
}

/// Steps between two points of the curve of the training loss.
const CURVE_STEPS: u64 = 20;

fn rate_of(images: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
}

fn write_events(outputs: &mut Outputs, record: &Record) -> std::io::Result<()> {
    let curves = [
        ("train/loss", record.train_loss),
        ("train/accuracy", record.train_acc),
        ("test/loss", record.test_loss),
        ("test/accuracy", record.test_acc),
        ("learning_rate", record.lr),
        ("images_per_s", record.images_per_s),
    ];
    for (tag, value) in curves {
        outputs.events.scalar(tag, record.step, value as f32, now())?;
    }
    outputs.events.flush()
}
