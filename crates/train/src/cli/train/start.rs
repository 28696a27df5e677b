//! Starts a new run or resumes one.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Device, Network};
use alexnet_ranks::Ranks;
use anyhow::Context;

use super::data::{self, RunData};
use crate::cli::device::{self, AnyDevice};
use crate::cli::job::Job;
use crate::cli::{advice, hint};
use crate::data::{DataError, Dataset, Normalise, Preprocess};
use crate::import::{self, WeightFile};
use crate::print::{notice, say};
use crate::run::checkpoint::{self, Checkpoint, Metadata, Progress};
use crate::run::classifier::checkpoint_of;
use crate::run::config::Config;
use crate::run::file_list::FileList;
use crate::run::folder::{METRICS, Outputs};
use crate::run::metrics::{self, Record};
use crate::run::ranks::share;
use crate::run::{Error, Observer, Outcome, RunFolder, Stop, Trainer, disk, initial, memory, summary};

/// A run that is resumed.
pub struct Resumed {
    /// The run's folder.
    pub(super) folder: RunFolder,
    checkpoint: Checkpoint,
    /// The pictures that it was trained on.
    pub(super) files: Option<FileList>,
}

impl Resumed {
    /// Opens the run in a folder.
    ///
    /// # Errors
    /// The folder has no run, or another process trains in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = RunFolder::reopen(path)?;
        let checkpoint = checkpoint::open(&folder.last())?;
        // Before its progress is judged and its data are loaded.
        checkpoint.verify()?;
        let files = FileList::read(&folder.files())?;
        let resumed = Self { folder, checkpoint, files };
        resumed.metadata().progress.check(&resumed.config()?, &resumed.folder.last())?;
        Ok(resumed)
    }

    /// That of the first rank, on all ranks. Its file is sent: it may lie on the disk of one machine.
    ///
    /// # Errors
    /// The file cannot be read; a rank ended or did not answer.
    pub fn shared(own: Option<Self>, ranks: &dyn Ranks) -> Result<Option<Self>, Error> {
        if ranks.size() == 1 {
            return Ok(own);
        }
        let (mut path, mut files, mut checkpoint) = Default::default();
        if let Some(own) = &own {
            path = own.folder.path().to_string_lossy().into_owned().into_bytes();
            files = own.files.as_ref().map_or_else(String::new, FileList::to_string).into_bytes();
            let last = own.folder.last();
            checkpoint = std::fs::read(&last).map_err(Error::io("read", &last))?;
        }
        let path = share(ranks, path)?;
        if path.is_empty() {
            return Ok(None);
        }
        let (files, checkpoint) = (share(ranks, files)?, share(ranks, checkpoint)?);
        if own.is_some() {
            return Ok(own);
        }
        let path = PathBuf::from(String::from_utf8_lossy(&path).into_owned());
        let folder = RunFolder::of_other_rank(&path);
        let checkpoint = checkpoint::of_bytes(&folder.last(), checkpoint)?;
        let files = (!files.is_empty()).then(|| FileList::parse(&String::from_utf8_lossy(&files)));
        Ok(Some(Self { folder, checkpoint, files }))
    }

    /// The settings it was started with.
    pub fn config(&self) -> Result<Config, Error> {
        Config::of_run(&self.checkpoint.metadata().config, &self.folder.last())
    }

    /// Warns of settings that somebody wrote into config.toml: the run goes on with those of its checkpoint, and with `config`,
    /// what the command line makes of them.
    ///
    /// # Errors
    /// As [`Resumed::config`].
    pub fn warn_of_edits(&self, config: &Config) -> Result<(), Error> {
        let Some(edited) = self.folder.config() else { return Ok(()) };
        let given = config.differences(&self.config()?)?;
        let edits = edited.differences(config)?.into_iter().map(|(key, ..)| key);
        let edits: Vec<String> = edits.filter(|key| given.iter().all(|(given, ..)| given != key)).collect();
        if !edits.is_empty() {
            notice(&format!(
                "{}/config.toml has other values of {}; the run goes on with its checkpoint's; give changes as options",
                self.folder.path().display(),
                edits.join(", ")
            ));
        }
        Ok(())
    }

    /// What its checkpoint says.
    pub(super) fn metadata(&self) -> &Metadata {
        self.checkpoint.metadata()
    }

    /// Evaluations since the best one.
    pub fn stale(&self) -> usize {
        self.metadata().progress.stale
    }

    /// Number of finished epochs.
    pub fn epochs(&self) -> usize {
        self.checkpoint.metadata().progress.epoch
    }
}

/// Everything that a run needs except its device.
pub struct Start<'a> {
    /// The settings, with the image size.
    pub config: Config,
    /// The folder of a new run.
    pub out: Option<&'a Path>,
    /// The run to resume.
    pub resumed: Option<Resumed>,
    /// Whether a resumed run may go on with data whose files were added or removed.
    pub accept_data_changes: bool,
    /// Set when the process starts to handle signals: only once there is a run to save.
    pub stop: &'a OnceCell<Stop>,
    /// The processes that train it.
    pub job: &'a Job,
}

impl Start<'_> {
    /// Trains on the device of the settings.
    ///
    /// # Errors
    /// Any of the run's.
    pub fn run(self) -> anyhow::Result<Outcome> {
        // Errors that do not depend on the data are reported before it is downloaded; CIFAR-10's classes stand in.
        architecture(&self.config, 10)?.trace()?;
        let Config { device, threads, precision, no_winograd, .. } = self.config;
        match device::open_of_rank(device, threads, precision, !no_winograd, &*self.job.ranks)? {
            AnyDevice::Cpu(device) => train(device, self),
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(device) => train(device, self),
        }
    }
}

fn architecture(config: &Config, classes: usize) -> anyhow::Result<Architecture> {
    config.model().architecture(classes).context("the variant is unknown")
}

/// Trains on a device.
fn train<D: Device<Element = f32>>(device: Arc<D>, start: Start<'_>) -> anyhow::Result<Outcome> {
    let Start { config, out, resumed, accept_data_changes, stop, job } = start;
    let ranks = job.ranks.clone();
    let shards = config.shards_of_steps()?.among(ranks.rank(), ranks.size()).map_err(Error::from)?;
    // The sums of the own shards, and gradients of the other ranks.
    let (average, sums) = (config.ema > 0.0, shards.arrays() + usize::from(shards.ranks() > 1));
    let together = if shards.together() { shards.own() } else { 1 };
    let purpose = memory::Use::Training { average, shards: shards.count(), together, sums };
    memory::fits(&*device, &architecture(&config, 10)?, config.batch_size, purpose)?;
    let mut weights = match (&config.init, &resumed) {
        (Some(file), None) => Some(import::open(&checkpoint_of(Path::new(file))?, None).map_err(Error::from)?),
        _ => None,
    };
    let mut preprocess = match &resumed {
        Some(Resumed { checkpoint, .. }) => checkpoint.metadata().preprocess,
        None => preprocess(&config, weights.as_ref())?,
    };
    let RunData { dataset, mut files, changed } =
        job.one_first(|| data::open(&config, &preprocess, resumed.as_ref(), accept_data_changes))?;
    job.compare(|| Ok(data::fingerprint(&dataset, files.as_ref())))?;
    if config.normalise == Some(Normalise::Auto) && resumed.is_none() {
        preprocess = preprocess.measured(&dataset.train, config.image_size())?;
    }
    let architecture = architecture(&config, dataset.classes.len())?;
    let (plan, free) = memory::fits(&*device, &architecture, config.batch_size, purpose)?;
    if let Some(Resumed { checkpoint, .. }) = &resumed {
        checkpoint.fits(&architecture)?;
    }
    let model = config.model();
    let mut network = Network::new(device, architecture, shards.max_batch(), true)?;
    freeze(&mut network, &config)?;
    network.shard(shards, ranks.clone())?;
    match &resumed {
        Some(Resumed { checkpoint, .. }) => {
            if average {
                network.keep_average()?;
            }
            checkpoint.restore(&mut network)?;
        }
        None => initialise(&mut network, &config, &dataset, &preprocess, weights.as_mut())?,
    }
    drop(weights);
    let path = resumed.as_ref().map(|resumed| resumed.folder.path()).or(out).unwrap_or(Path::new("runs"));
    if job.leads() {
        disk::fits(path, checkpoint::size(network.parameters()), config.epochs)?;
    }
    describe(&network, &dataset, &config, &preprocess, &memory::line(&plan, free))?;
    if !job.is_alone() {
        say(&format!("ranks    {}", job.line(config.thread_count())?));
        if let Some(engine) = network.engine().filter(|engine| *engine != ranks.name()) {
            say(&format!("exchange {engine}"));
        }
    }

    let fresh = resumed.is_none();
    let (folder, progress) = match resumed {
        Some(Resumed { folder, checkpoint, .. }) => {
            let mut progress = checkpoint.metadata().progress.clone();
            let steps = config.epoch_steps(dataset.train.len());
            match changed {
                // Of the larger data set that it was.
                true => progress.step_in_epoch = progress.step_in_epoch.min(steps),
                false => progress.check_step(steps, &folder.last()).map_err(Error::from)?,
            }
            if progress.best_loss.is_none() && job.is_alone() {
                let records = metrics::read(&folder.path().join(METRICS))?;
                progress.best_loss = metrics::loss_of_best(&records, progress.best_accuracy);
            }
            (folder, progress)
        }
        None if job.leads() => (RunFolder::create(out, &model.variant)?, Progress::default()),
        None => (RunFolder::of_other_rank(path), Progress::default()),
    };
    let stop = match stop.get() {
        Some(stop) => stop,
        None => {
            let signals = Stop::on_signals(job.is_alone()).context("cannot handle Ctrl-C")?;
            stop.get_or_init(|| signals)
        }
    }
    .clone();
    let mut trainer = Trainer {
        network,
        model,
        preprocess,
        config: &config,
        dataset: &dataset,
        folder: &folder,
        stop,
        progress,
        copies: plan.copy > 0,
        ranks,
    };
    let mut outputs = match begin(&mut trainer, fresh, files.as_ref(), changed) {
        Ok(outputs) => outputs,
        Err(error) => {
            if fresh {
                folder.abandon();
            }
            return Err(error.into());
        }
    };
    let mut watcher = job.observer();
    let outcome = trainer.run(outputs.as_mut(), &mut watcher as &mut dyn Observer);
    watcher.clear();
    if let (Err(Error::Loading(error)), true) = (&outcome, job.is_alone()) {
        // Its picture may be replaced by one that can be read.
        if let (DataError::Decode { path, .. }, Some(files)) = (error, &mut files) {
            files.forget(&dataset.name_of(path));
            files.write(&folder.files())?;
        }
        let Progress { epoch, step_in_epoch, .. } = trainer.progress;
        let path = folder.path().display();
        let at = format!("epoch {} after step {step_in_epoch}", epoch + 1);
        notice(&format!("stopped in {at}; the state is saved, go on with: alexnet train --resume {path}"));
    }
    let outcome = outcome?;
    conclude(outcome, &trainer, &folder);
    Ok(outcome)
}

/// The preprocessing of a new run; with `--normalise auto` its numbers are still to be measured.
fn preprocess(config: &Config, weights: Option<&WeightFile>) -> Result<Preprocess, Error> {
    match (weights, config.normalise) {
        (Some(weights), given) => Ok(import::preprocess(weights, &config.model(), given)?),
        (None, Some(given)) => Ok(given.preprocess(Preprocess::CIFAR10, config.image_size())),
        (None, None) => Ok(Preprocess::CIFAR10),
    }
}

/// The weights of a new run.
fn initialise<D: Device<Element = f32>>(
    network: &mut Network<D>,
    config: &Config,
    dataset: &Dataset,
    preprocess: &Preprocess,
    weights: Option<&mut WeightFile>,
) -> Result<(), Error> {
    if config.init.is_none() || config.replace_classifier {
        network.initialise(Philox::new(config.seed))?;
    }
    if config.identity {
        initial::identity(network)?;
    }
    if config.whiten {
        initial::whiten(network, &dataset.train, *preprocess, config.seed, config.thread_count())?;
    }
    if let Some(weights) = weights {
        weights.initialise(network, config.replace_classifier)?;
        weights.remarks(network.parameters()).iter().for_each(|remark| notice(remark));
    }
    if config.ema > 0.0 {
        network.keep_average()?;
    }
    Ok(())
}

/// Prints data, device, network and memory.
fn describe<D: Device<Element = f32>>(
    network: &Network<D>,
    dataset: &Dataset,
    config: &Config,
    preprocess: &Preprocess,
    memory: &str,
) -> anyhow::Result<()> {
    say(&data::line(dataset));
    data::only_held_out(dataset, config).iter().for_each(|line| say(line));
    for line in [advice::small_input(dataset, config), advice::imbalance(dataset, config)].into_iter().flatten() {
        notice(&line);
    }
    let model = config.model();
    say(&format!("device   {}", network.device().name()));
    say(&format!("network  {}, images {1}x{1}", model.variant, model.image_size));
    say(&format!("input    {}", preprocess.describe(model.image_size)));
    say(summary::table(network.architecture())?.trim_end());
    say(&format!("memory   {memory}"));
    Ok(())
}

/// Writes the settings and, for a new run, the first checkpoint; opens metrics and events; prints the run's line.
fn begin<D: Device<Element = f32>>(
    trainer: &mut Trainer<'_, D>,
    fresh: bool,
    files: Option<&FileList>,
    changed: bool,
) -> Result<Option<Outputs>, Error> {
    if !trainer.folder.writes() {
        return Ok(None);
    }
    let config = trainer.config;
    trainer.folder.write_config(&config.to_toml()?)?;
    let outputs = trainer.folder.outputs(trainer.progress.epoch, trainer.progress.step)?;
    if fresh || changed {
        trainer.save()?;
    }
    let list = trainer.folder.files();
    if let Some(files) = files.filter(|_| fresh || changed || !list.exists()) {
        files.write(&list)?;
    }
    let Progress { epoch, step_in_epoch, .. } = trainer.progress;
    let from = match fresh {
        true => String::new(),
        false => format!(", resumes at epoch {} step {}", epoch + 1, step_in_epoch + 1),
    };
    let epochs = summary::count(config.epochs, "epoch");
    let steps = summary::count(config.epoch_steps(trainer.dataset.train.len()), "step");
    let path = trainer.folder.path().display();
    say(&format!("run      {path}: {epochs} of {steps}, seed {}{from}", config.seed));
    Ok(Some(outputs))
}

/// Prints how the run ended and the command for the next step.
fn conclude<D: Device<Element = f32>>(outcome: Outcome, trainer: &Trainer<'_, D>, folder: &RunFolder) {
    let path = folder.path().display();
    match (outcome, trainer.progress.best_accuracy) {
        (Outcome::Interrupted, _) => {
            notice(&format!("interrupted; the state is saved, resume it with: alexnet train --resume {path}"));
        }
        (Outcome::Finished, Some(best)) => {
            let split = if trainer.dataset.val.is_some() { "validation" } else { "test" };
            let records = metrics::read(&folder.path().join(METRICS)).unwrap_or_default();
            let balanced = balanced_where_it_differs(&records, best);
            // The test set's, where validation images chose the best epoch.
            let tested = records.last().filter(|_| trainer.dataset.val.is_some()).and_then(|record| record.test_acc);
            let test = tested.map_or_else(String::new, |accuracy| {
                format!(", test accuracy {:.2}% after the last epoch", accuracy * 100.0)
            });
            let skip = if trainer.config.skip_broken { " --skip-broken" } else { "" };
            say(&format!(
                "best {split} accuracy {:.2}%{balanced}{test}; evaluate it with: alexnet eval {path}{skip}",
                best * 100.0
            ));
        }
        (Outcome::Finished, None) => say(&format!("wrote {}", folder.last().display())),
    }
}

/// The balanced accuracy of the best epoch, where accuracy alone would flatter it: large classes make up for small ones.
fn balanced_where_it_differs(records: &[Record], best: f64) -> String {
    let best_first = |a: &&Record, b: &&Record| a.selection_metric().1.total_cmp(&b.selection_metric().1);
    let of_best = records.iter().filter(|record| record.selection_metric().2 == best).min_by(best_first);
    let balanced = of_best.and_then(|record| record.val_balanced_acc.or(record.test_balanced_acc));
    match balanced.filter(|balanced| best - balanced >= 0.05) {
        Some(balanced) => format!(" (balanced {:.2}%)", balanced * 100.0),
        None => String::new(),
    }
}

/// Freezes the layers that the settings name.
fn freeze<D: Device<Element = f32>>(network: &mut Network<D>, config: &Config) -> anyhow::Result<()> {
    let Some(list) = &config.freeze else { return Ok(()) };
    for name in list.split(',') {
        let alone = Config { freeze: Some(name.into()), ..Config::default() };
        if !network.parameters().iter().any(|parameter| alone.freezes(parameter.layer())) {
            let message = format!("--freeze {name}: no layer with weights has this name");
            let mut layers: Vec<_> = network.parameters().iter().map(|parameter| parameter.layer()).collect();
            layers.dedup();
            let hint = format!("choose features, classifier, or some of {}", layers.join(", "));
            return Err(hint::usage(message, hint));
        }
    }
    network.freeze(|layer| config.freezes(layer));
    match network.parameters().iter().all(|parameter| parameter.gradient.is_none()) {
        true => Err(hint::usage(format!("--freeze {list} leaves nothing to train"), "leave a layer out of it")),
        false => Ok(()),
    }
}
