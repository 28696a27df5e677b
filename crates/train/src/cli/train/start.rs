//! Starts a run, or goes on with one.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Device, Network};
use anyhow::Context;

use crate::cli::device::{self, Opened};
use crate::data::{self, Dataset};
use crate::import;
use crate::run::checkpoint::{self, Checkpoint, Progress};
use crate::run::config::Config;
use crate::run::progress::{Screen, notice, say};
use crate::run::{Error, Observer, Outcome, RunFolder, Stop, Trainer, initial, memory, summary};

/// A run that is gone on with.
pub struct Resumed {
    folder: RunFolder,
    checkpoint: Checkpoint,
}

impl Resumed {
    /// Opens the run in a folder.
    ///
    /// # Errors
    /// There is none, or another process works on it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = RunFolder::reopen(path)?;
        let checkpoint = checkpoint::open(&folder.last())?;
        Ok(Self { folder, checkpoint })
    }

    /// The settings it was started with.
    pub fn config(&self) -> Result<Config, Error> {
        Config::of_run(&self.checkpoint.metadata().config, &self.folder.last())
    }

    /// Epochs that are done.
    pub fn epochs(&self) -> usize {
        self.checkpoint.metadata().progress.epoch
    }
}

/// All that a run needs but its device.
pub struct Start<'a> {
    /// The settings, with the image's side.
    pub config: Config,
    /// The folder of a new run.
    pub out: Option<&'a Path>,
    /// The run to go on with.
    pub resumed: Option<Resumed>,
    /// Set when signals are first listened to, which is not before a run needs to be saved.
    pub stop: &'a OnceCell<Stop>,
}

impl Start<'_> {
    /// Trains on the device of the settings.
    ///
    /// # Errors
    /// Anything.
    pub fn run(self) -> anyhow::Result<Outcome> {
        // What can be refused without the data is refused before it is fetched; the classes of CIFAR-10 stand in.
        architecture(&self.config, 10)?.trace()?;
        match device::open_with(self.config.device, self.config.thread_count(), self.config.precision)? {
            Opened::Cpu(device) => train(device, self),
            Opened::Cuda(device) => train(device, self),
        }
    }
}

fn architecture(config: &Config, classes: usize) -> anyhow::Result<Architecture> {
    config.model().architecture(classes).context("the variant is unknown")
}

/// Trains on a device.
fn train<D: Device<Element = f32>>(device: Arc<D>, start: Start<'_>) -> anyhow::Result<Outcome> {
    let Start { config, out, resumed, stop } = start;
    let averages = config.ema > 0.0;
    memory::fits_to_train(&*device, &architecture(&config, 10)?, config.batch_size, averages)?;
    let mut dataset =
        Dataset::open(&config.data, &data::Options { size: config.image(), ..data::Options::from_env() })?;
    if let Some(count) = config.val {
        if count >= dataset.train.len() {
            let expected = format!("fewer than the {} training images", dataset.train.len());
            return Err(Error::Setting { name: "--val".into(), value: count.to_string(), expected }.into());
        }
        dataset.hold_out(count);
    }
    dataset.train = dataset.train.limit(config.limit_train.unwrap_or(usize::MAX));
    dataset.test = dataset.test.limit(config.limit_test.unwrap_or(usize::MAX));
    if let Some(Resumed { checkpoint, .. }) = &resumed {
        same_data(checkpoint, &dataset)?;
    }
    let architecture = architecture(&config, dataset.classes.len())?;
    let (_, free) = memory::fits_to_train(&*device, &architecture, config.batch_size, averages)?;
    let model = config.model();
    let mut network = Network::new(device, architecture, config.batch_size, true)?;
    freeze(&mut network, &config)?;
    match (&resumed, &config.init) {
        (Some(Resumed { checkpoint, .. }), _) => {
            if averages {
                network.keep_average()?;
            }
            checkpoint.restore(&mut network)?;
        }
        (None, init) => {
            if init.is_none() || config.replace_classifier {
                network.initialise(Philox::new(config.seed))?;
            }
            if config.identity {
                initial::identity(&mut network)?;
            }
            if config.whiten {
                initial::whiten(&mut network, &dataset.train, config.seed, config.thread_count())?;
            }
            if let Some(init) = init {
                let mut weights = import::open(Path::new(init)).map_err(Error::from)?;
                weights.initialise(&mut network, config.replace_classifier).map_err(Error::from)?;
            }
            if averages {
                network.keep_average()?;
            }
        }
    }

    say(&format!(
        "data     {}: {} training{} and {} test images, {} classes ({})",
        dataset.name,
        summary::grouped(dataset.train.len() as u64),
        dataset.val.as_ref().map_or_else(String::new, |val| format!(", {} val", summary::grouped(val.len() as u64))),
        summary::grouped(dataset.test.len() as u64),
        dataset.classes.len(),
        dataset.source
    ));
    say(&format!("device   {}", network.device().name()));
    say(&format!("network  {}, images {1}x{1}", model.variant, model.image));
    say(summary::table(network.architecture())?.trim_end());
    say(&format!("memory   {}", memory::line(&network.memory_plan(), free)));

    let fresh = resumed.is_none();
    let (folder, progress) = match resumed {
        Some(Resumed { folder, checkpoint }) => (folder, checkpoint.metadata().progress.clone()),
        None => (RunFolder::create(out, &model.variant)?, Progress::default()),
    };
    let stop = match stop.get() {
        Some(stop) => stop,
        None => {
            let signals = Stop::on_signals().context("cannot handle Ctrl-C")?;
            stop.get_or_init(|| signals)
        }
    }
    .clone();
    let mut trainer = Trainer { network, model, config: &config, dataset: &dataset, folder: &folder, stop, progress };
    let started = (|| {
        folder.write_config(&config.to_toml()?)?;
        let outputs = folder.outputs(trainer.progress.epoch)?;
        if fresh {
            trainer.save()?;
        }
        Ok::<_, Error>(outputs)
    })();
    let mut outputs = match started {
        Ok(outputs) => outputs,
        Err(error) => {
            if fresh {
                folder.abandon();
            }
            return Err(error.into());
        }
    };
    let path = folder.path().display();
    let from = match fresh {
        true => String::new(),
        false => {
            format!(", goes on at epoch {} step {}", trainer.progress.epoch + 1, trainer.progress.step_in_epoch + 1)
        }
    };
    let epochs = summary::count(config.epochs, "epoch");
    let steps = summary::count(config.epoch_steps(dataset.train.len()), "step");
    say(&format!("run      {path}: {epochs} of {steps}, seed {}{from}", config.seed));

    let mut screen = Screen::new();
    let outcome = trainer.run(&mut outputs, &mut screen as &mut dyn Observer);
    screen.clear();
    let outcome = outcome?;
    match outcome {
        Outcome::Interrupted => {
            notice(&format!("interrupted; the state is saved, go on with: alexnet train --resume {path}"));
        }
        Outcome::Finished => match trainer.progress.best_accuracy {
            Some(best) => {
                let split = if config.val.is_some() { "val" } else { "test" };
                say(&format!("best {split} accuracy {:.2}%; evaluate it with: alexnet eval {path}", best * 100.0));
            }
            None => say(&format!("wrote {}", folder.last().display())),
        },
    }
    Ok(outcome)
}

/// Takes the layers out of training that the settings name.
fn freeze<D: Device<Element = f32>>(network: &mut Network<D>, config: &Config) -> Result<(), Error> {
    let Some(list) = &config.freeze else { return Ok(()) };
    let fail = |message, hint| Err(Error::Settings { message, hint });
    for name in list.split(',') {
        let alone = Config { freeze: Some(name.into()), ..Config::default() };
        if !network.parameters().iter().any(|parameter| alone.freezes(parameter.layer())) {
            return fail(
                format!("--freeze {name}: no layer with weights has this name"),
                "use names of the table of layers",
            );
        }
    }
    network.freeze(|layer| config.freezes(layer));
    match network.parameters().iter().all(|parameter| parameter.gradient.is_none()) {
        true => fail(format!("--freeze {list} leaves nothing to train"), "leave a layer out of it"),
        false => Ok(()),
    }
}

/// That a run goes on with the data it was started with.
fn same_data(checkpoint: &Checkpoint, dataset: &Dataset) -> Result<(), Error> {
    let run = &checkpoint.metadata().data;
    if run.fingerprint == dataset.fingerprint {
        return Ok(());
    }
    Err(Error::Data {
        message: format!("the run was trained on {}, {} ({}) is other data", run.name, dataset.name, dataset.source),
        hint: "give the run's own data with --data, or start a new run",
    })
}
