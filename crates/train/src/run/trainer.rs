//! The training loop: epochs of steps of micro-batches, an evaluation after each epoch, and checkpoints.
//!
//! A run's results are a function of its settings and its data alone. All randomness is keyed by seed and counted by epoch,
//! step and image, so that parameters, momentum and [`Progress`] are the whole state to resume from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use alexnet_core::network::{Metrics, MicroBatch, Piece, Shards};
use alexnet_core::random::Philox;
use alexnet_core::{Device, Network, Sgd};
use alexnet_ranks::Ranks;

use super::batch_source::{BatchSource, DeviceDataset};
use super::checkpoint::{Metadata, Progress, TrainedOn};
use super::config::Config;
use super::error::{Error, Result};
use super::folder::{Outputs, RunFolder, SavedAs, now};
use super::metrics::{Record, Records, StepRecord};
use super::model::Model;
use super::ranks::{agree, flag, gather};
use super::scaling::Scaling;
use super::schedule::LearningRate;
use super::stop::Stop;
use super::summary::count;
use crate::data::augment::TransformConfig;
use crate::data::{Balance, DataError, Dataset, Preprocess, order};

mod epoch_end;
mod saver;

use saver::{Saver, State};

/// How a run ended, if not with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was asked to stop, and has saved its state.
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
    /// Training images per second in this epoch.
    pub images_per_s: f64,
    /// Seconds left of the epoch's training.
    pub epoch_left: f64,
    /// Seconds left of the run's training.
    pub run_left: f64,
}

/// Is told of a run's progress.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, step: &Step);
    /// `done` of the `images` to evaluate are done.
    fn test(&mut self, done: usize, images: usize);
    /// Something happened that the user should know.
    fn note(&mut self, line: &str) {
        let _ = line;
    }
    /// An epoch is done; `best` if its [selection metric](Record::selection_metric) is the highest so far.
    fn epoch(&mut self, record: &Record, best: bool);
}

/// The splits that lie on the device.
struct DeviceDatasets<D: Device> {
    train: Option<DeviceDataset<D>>,
    val: Option<DeviceDataset<D>>,
    test: Option<DeviceDataset<D>>,
}

impl<D: Device<Element = f32>> DeviceDatasets<D> {
    fn new(network: &Network<D>, config: &Config, preprocess: &Preprocess, dataset: &Dataset) -> Result<Self> {
        let evaluated = |split| DeviceDataset::new(network, split, TransformConfig::NONE, preprocess);
        Ok(Self {
            train: DeviceDataset::new(network, &dataset.train, config.transforms(), preprocess)?,
            val: dataset.val.as_ref().map_or(Ok(None), evaluated)?,
            test: evaluated(&dataset.test)?,
        })
    }
}

/// What the epochs of a run share.
struct Epochs<'r, D: Device> {
    rate: LearningRate,
    datasets: &'r DeviceDatasets<D>,
    /// None on other ranks than the first.
    outputs: Option<&'r mut Outputs>,
    observer: &'r mut dyn Observer,
    saver: Saver<'r, D>,
}

impl<D: Device> Epochs<'_, D> {
    /// The records so far, with the events written.
    fn records(&mut self, folder: &RunFolder) -> Result<Option<Records>> {
        let Some(outputs) = &mut self.outputs else { return Ok(None) };
        outputs.events.flush().map_err(Error::io("write events in", folder.path()))?;
        Ok(Some(Records::of(&outputs.steps, &outputs.metrics)))
    }
}

/// What a run needs.
pub struct Trainer<'a, D: Device<Element = f32>> {
    /// The network, initialised or restored.
    pub network: Network<D>,
    /// The network's name in checkpoints.
    pub model: Model,
    /// Resizing and normalisation of the images.
    pub preprocess: Preprocess,
    /// The settings.
    pub config: &'a Config,
    /// The images, limited as the settings say.
    pub dataset: &'a Dataset,
    /// Where its files are.
    pub folder: &'a RunFolder,
    /// Requests the run to stop.
    pub stop: Stop,
    /// How far it is.
    pub progress: Progress,
    /// Whether there is memory for a copy of the network, of which checkpoints are written while it trains.
    pub copies: bool,
    /// The ranks of the job; the network is [divided](Network::shard) among them. The first one writes the run's files.
    pub ranks: Arc<dyn Ranks>,
}

impl<D: Device<Element = f32>> Trainer<'_, D> {
    /// Saves the state as it is, for the first time.
    ///
    /// # Errors
    /// The checkpoint cannot be written.
    pub fn save(&self) -> Result<()> {
        self.state()?.write(self.folder, &(&self.network).into(), SavedAs::Last)
    }

    /// Trains until all epochs are done or it is asked to stop. Of several ranks the first has `outputs`, and saves.
    ///
    /// # Errors
    /// The loss or a weight is infinite or NaN; a file cannot be written: the last good checkpoint stays. An image cannot be
    /// read: the state before it is saved, as if it was asked to stop.
    pub fn run(&mut self, outputs: Option<&mut Outputs>, observer: &mut dyn Observer) -> Result<Outcome> {
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
        match (self.network.device().scaling()?, &self.progress.scaling) {
            (Some(_), Some(scaling)) => self.network.device().set_scaling(&scaling.scaler())?,
            (Some(_), None) => {}
            // Begun in fp16, resumed in another precision.
            (None, _) => self.progress.scaling = None,
        }
        self.network.set_rates(|layer| self.config.rate_of(layer));
        if self.config.balance == Balance::Weights {
            let counts = self.dataset.train.counts(self.network.architecture().classes);
            self.network.set_class_weights(&order::class_weights(&counts))?;
        }
        self.network.use_cuda_graph(!self.config.no_graph);
        let datasets = DeviceDatasets::new(&self.network, self.config, &self.preprocess, self.dataset)?;
        thread::scope(|scope| {
            let (device, every) = (self.network.shared_device(), self.config.checkpoint_every);
            let mut saver = Saver::start(scope, self.folder, device, every, self.copies, &self.progress);
            if self.progress.epoch + 1 < self.config.epochs {
                // Now, and not at the end of the first epoch.
                saver.copy(&self.network)?;
            }
            let mut epochs = Epochs { rate, datasets: &datasets, outputs, observer, saver };
            let outcome = self.train(&mut epochs);
            epochs.saver.end(outcome)
        })
    }

    /// The epochs that are left.
    fn train(&mut self, epochs: &mut Epochs<'_, D>) -> Result<Outcome> {
        let mut broken = 0;
        self.record_broken(&mut broken, epochs.observer)?;
        while self.progress.epoch < self.config.epochs && !self.config.out_of_patience(self.progress.stale) {
            if self.agree(flag::STOP, self.stop.requested())? {
                self.save_now(epochs, false)?;
                return Ok(Outcome::Interrupted);
            }
            let (trained, alone) = (self.train_epoch(epochs), self.ranks.size() == 1);
            // After an error of one rank the others are in the middle of a step: nothing can be agreed with them.
            if alone || trained.is_ok() {
                self.record_broken(&mut broken, epochs.observer)?;
            }
            let finished = match trained {
                Ok(true) => self.finish_epoch(epochs),
                stopped => stopped,
            };
            let ended = match finished {
                Ok(true) => continue,
                Ok(false) => self.save_now(epochs, false).and(Ok(Outcome::Interrupted)),
                // The weights are good: nothing that was trained is lost. The rank that failed waits: its end is that of all.
                Err(error @ (Error::Loading(_) | Error::OtherRank)) => {
                    self.save_now(epochs, false)?;
                    self.ranks.barrier()?;
                    Err(error)
                }
                Err(error) => Err(error),
            };
            if let (Err(Error::Replaced { .. }), true) = (&ended, alone) {
                // A file; for the folder, this is the same error again.
                epochs.saver.save_now(&self.network, self.state()?, None, false)?;
            }
            return ended;
        }
        Ok(Outcome::Finished)
    }

    /// Lists the broken pictures that were left out in the run's folder, and says how many there are if there are more
    /// than `known`.
    fn record_broken(&self, known: &mut usize, observer: &mut dyn Observer) -> Result<()> {
        let Some(broken) = self.dataset.train.broken() else { return Ok(()) };
        // Every rank finds those of its own images.
        let all = gather(&*self.ranks, broken.lines().join("\n").as_bytes())?;
        let all = String::from_utf8_lossy(&all.join(&b'\n')).into_owned();
        let lines: BTreeSet<String> = all.lines().filter(|line| !line.is_empty()).map(String::from).collect();
        if lines.len() <= *known || !self.folder.writes() {
            return Ok(());
        }
        *known = lines.len();
        let lines: Vec<String> = lines.into_iter().collect();
        let list = self.folder.add_broken(&lines)?;
        let pictures = super::summary::count(*known, "broken picture");
        observer.note(&format!("left out {pictures}, listed in {}", list.display()));
        Ok(())
    }

    /// The remaining steps of an epoch. False if it was asked to stop.
    fn train_epoch(&mut self, epochs: &mut Epochs<'_, D>) -> Result<bool> {
        let (config, split, steps) = (self.config, &self.dataset.train, epochs.rate.epoch_steps as usize);
        if self.progress.step_in_epoch >= steps {
            return Ok(true);
        }
        let (epoch, dataset) = (self.progress.epoch as u32, epochs.datasets.train.as_ref());
        let (network, shards, first) = (&self.network, self.shards()?, self.progress.step_in_epoch);
        let mut batches = BatchSource::train(network, config, self.preprocess, split, dataset, shards, (epoch, first))?;
        // Running sums continue from their values: when they are read makes no difference to their bits.
        self.network.set_metrics(Metrics { loss: self.progress.loss_sum, correct: self.progress.correct })?;
        // Images whose loss is known.
        let mut known = self.progress.images;
        while self.progress.step_in_epoch < steps {
            let start = Instant::now();
            let (learning_rate, before) = (epochs.rate.at(self.progress.step), self.progress.loss_sum);
            let images = match self.step(&mut batches, learning_rate) {
                Ok(images) => images,
                Err(error) => {
                    if matches!(error, Error::Loading(_) | Error::OtherRank) {
                        self.read_metrics(true, epochs.observer)?;
                    }
                    return Err(error);
                }
            };
            let progress = &mut self.progress;
            progress.step += 1;
            progress.step_in_epoch += 1;
            progress.images += images as u64;
            let (step, last) = (progress.step, progress.step_in_epoch == steps);
            // 0 logs no step.
            let logged = |step: u64| config.log_every > 0 && step.is_multiple_of(config.log_every);
            let log = logged(step);
            // Before a logged step too, whose loss is the difference.
            let due = log || logged(step + 1) || progress.step_in_epoch == 1 || last;
            let read = self.read_metrics(due, epochs.observer)?;
            if read {
                known = self.progress.images;
            }
            self.progress.seconds += start.elapsed().as_secs_f64();
            if let Some(outputs) = epochs.outputs.as_mut().filter(|_| log) {
                let loss = (self.progress.loss_sum - before) / images as f64;
                let record = StepRecord { step, epoch: self.progress.epoch + 1, lr: learning_rate, loss };
                outputs.steps.append(&record)?;
                let points = [("train/loss_of_step", loss), ("train/learning_rate_of_step", learning_rate)];
                for (tag, value) in points {
                    outputs
                        .events
                        .scalar(tag, step, value as f32, now())
                        .map_err(Error::io("write events in", self.folder.path()))?;
                }
            }
            epochs.observer.step(&self.report(steps, known));
            let written = epochs.saver.poll();
            let mut flags = if self.stop.requested() { flag::STOP } else { 0 };
            flags |= if epochs.saver.due() { flag::SAVE } else { 0 };
            flags = agree(&*self.ranks, flags)?;
            let (stop, save) = (flags & flag::STOP > 0, flags & flag::SAVE > 0 && !last);
            if !read && (stop || save || written.is_err()) {
                self.read_metrics(true, epochs.observer)?;
            }
            written?;
            if stop {
                return Ok(false);
            }
            if save {
                self.save_later(epochs, false, true)?;
            }
        }
        Ok(true)
    }

    /// Whether a flag holds here or on another rank.
    fn agree(&self, flag: u8, holds: bool) -> Result<bool> {
        Ok(agree(&*self.ranks, if holds { flag } else { 0 })? > 0)
    }

    /// How steps are divided, and what of them is computed here.
    fn shards(&self) -> Result<Shards> {
        self.network.shards().map_or_else(|| self.config.shards_of_steps(), Ok)
    }

    /// Images of the step at hand.
    fn images_of_step(&self) -> usize {
        let whole = self.config.batch_size * self.config.accumulate;
        whole.min(self.dataset.train.len() - self.progress.step_in_epoch * whole)
    }

    fn micro(&self, piece: &Piece, step_images: usize) -> MicroBatch {
        MicroBatch {
            philox: Philox::new(self.config.seed),
            step: self.progress.step as u32,
            first_image: piece.images.start,
            step_images,
            slot: piece.slot,
            smoothing: self.config.label_smoothing,
        }
    }

    fn sgd(&self, learning_rate: f64) -> Sgd {
        let Config { momentum, weight_decay, nesterov, decay_all, .. } = *self.config;
        Sgd { learning_rate, momentum, weight_decay, nesterov, decay_all }
    }

    /// Moves the average of the weights after an update. At first it follows them more closely, as TensorFlow's
    /// ExponentialMovingAverage does with `num_updates`, so that the initial weights are soon forgotten.
    fn average(&mut self) -> Result<()> {
        if self.config.ema > 0.0 {
            let done = self.progress.step as f64;
            self.network.ema(self.config.ema.min((1.0 + done) / (10.0 + done)))?;
        }
        Ok(())
    }

    /// One update from its micro-batches, queued. Returns how many images it had.
    fn step(&mut self, batches: &mut BatchSource<'_, D>, learning_rate: f64) -> Result<usize> {
        let (shards, images, sgd) = (self.shards()?, self.images_of_step(), self.sgd(learning_rate));
        // A picture may be broken after some micro-batches of the step, which is then repeated when the run is resumed.
        let may_fail = self.dataset.train.pixels().is_none();
        let before = if may_fail && shards.slots() > 1 { Some(self.statistics()?) } else { None };
        let mut pieces = shards.pieces(images).peekable();
        let mut last = None;
        let mut loaded = Ok(());
        while let (Ok(()), Some(piece)) = (&loaded, pieces.next()) {
            loaded = self.load(batches);
            if pieces.peek().is_none() {
                last = Some(piece);
            } else if loaded.is_ok() {
                self.network.step(&self.micro(&piece, images), None)?;
            }
        }
        // Before the last micro-batch, in which gradients may be sent: all ranks do that or none.
        if may_fail && self.agree(flag::FAILED, loaded.is_err())? {
            loaded = loaded.and(Err(Error::OtherRank));
        }
        if let (Err(Error::Loading(_) | Error::OtherRank), Some(before)) = (&loaded, &before) {
            self.restore(before)?;
        }
        loaded?;
        if let Some(piece) = last {
            // With one shard it updates the weights.
            self.network.step(&self.micro(&piece, images), (shards.count() == 1).then_some(&sgd))?;
        }
        if shards.count() > 1 {
            self.network.update(self.progress.step as u32, images, &sgd)?;
        }
        self.average()?;
        Ok(images)
    }

    /// Loads the next micro-batch.
    fn load(&mut self, batches: &mut BatchSource<'_, D>) -> Result<()> {
        if batches.advance()? == 0 {
            return Err(DataError::Thread("it ended before the epoch did".into()).into());
        }
        batches.load(&mut self.network)
    }

    /// What micro-batches change before the update: the sums of the metrics, and the running statistics of batch norms.
    fn statistics(&mut self) -> Result<(Metrics, Vec<Vec<f32>>)> {
        let metrics = self.network.metrics()?;
        let mut values = Vec::new();
        for parameter in self.network.parameters().iter().filter(|parameter| is_statistic(&parameter.name)) {
            let mut value = vec![0.0; parameter.len()];
            self.network.device().read(&parameter.value, &mut value)?;
            values.push(value);
        }
        Ok((metrics, values))
    }

    fn restore(&mut self, (metrics, values): &(Metrics, Vec<Vec<f32>>)) -> Result<()> {
        // What is queued writes them too.
        self.network.metrics()?;
        let (device, parameters) = self.network.device_and_parameters();
        let statistics = parameters.iter_mut().filter(|parameter| is_statistic(&parameter.name));
        for (parameter, value) in statistics.zip(values) {
            device.write(value, &mut parameter.value)?;
        }
        Ok(self.network.set_metrics(*metrics)?)
    }

    /// Takes note of the results of the steps: if they are `due`, waiting for what is queued, or else if that takes no
    /// waiting. Returns whether it did.
    fn read_metrics(&mut self, due: bool, observer: &mut dyn Observer) -> Result<bool> {
        let metrics = if due { Some(self.network.metrics()?) } else { self.network.poll_metrics()? };
        let Some(Metrics { loss, correct }) = metrics else { return Ok(false) };
        if !loss.is_finite() {
            return Err(self.state()?.diverged("the loss", loss, self.folder));
        }
        (self.progress.loss_sum, self.progress.correct) = (loss, correct);
        let scaling = self.network.device().scaling()?.map(Scaling::from);
        if let (Some(new), old) = (&scaling, &self.progress.scaling) {
            let skipped = new.skipped_steps - old.as_ref().map_or(0, |old| old.skipped_steps);
            if skipped > 0 {
                observer.note(&format!(
                    "step {}: {} left out, a gradient was infinite or NaN; the loss is now scaled by {}",
                    self.progress.step,
                    count(skipped as usize, "update"),
                    new.loss_scale
                ));
            }
        }
        self.progress.scaling = scaling;
        Ok(true)
    }

    /// The sums are over `known` images.
    fn report(&self, steps: usize, known: u64) -> Step {
        let Progress { epoch, step_in_epoch, loss_sum, correct, images, seconds, .. } = self.progress;
        let images_per_s = rate_of(images, seconds);
        let an_epoch = self.dataset.train.len() as f64 / images_per_s.max(f64::MIN_POSITIVE);
        let epoch_left = (self.dataset.train.len() as u64).saturating_sub(images) as f64 / images_per_s.max(1e-9);
        Step {
            epoch: epoch + 1,
            epochs: self.config.epochs,
            done: step_in_epoch,
            steps,
            loss: loss_sum / known.max(1) as f64,
            accuracy: correct as f64 / known.max(1) as f64,
            images_per_s,
            epoch_left,
            run_left: epoch_left + an_epoch * (self.config.epochs - epoch).saturating_sub(1) as f64,
        }
    }

    /// The state, to be saved.
    fn state(&self) -> Result<State> {
        let metadata = Metadata {
            model: self.model.clone(),
            data: TrainedOn { name: self.dataset.name.clone(), fingerprint: self.dataset.fingerprint.clone() },
            classes: self.dataset.classes.clone(),
            config: self.config.to_toml()?,
            seed: self.config.seed,
            progress: self.progress.clone(),
            preprocess: self.preprocess,
        };
        let rate = self.config.learning_rate(self.dataset.train.len());
        Ok(State { metadata, learning_rate: rate.at(self.progress.step.saturating_sub(1)) })
    }

    /// Saves the state while training goes on, if it is the best or a checkpoint is due.
    fn save_later(&mut self, epochs: &mut Epochs<'_, D>, best: bool, due: bool) -> Result<()> {
        if best || due {
            self.network.gather_momentum()?;
        }
        let Some(records) = epochs.records(self.folder)? else { return Ok(()) };
        if epochs.saver.save(&self.network, self.state()?, records, best, due)? {
            let line = "there is no memory for a copy of the network: training waits while a checkpoint is written";
            epochs.observer.note(line);
        }
        Ok(())
    }

    /// Saves the state before it returns.
    fn save_now(&mut self, epochs: &mut Epochs<'_, D>, best: bool) -> Result<()> {
        self.network.gather_momentum()?;
        let Some(records) = epochs.records(self.folder)? else { return Ok(()) };
        epochs.saver.save_now(&self.network, self.state()?, Some(records), best)
    }
}

fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

fn rate_of(images: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
}
