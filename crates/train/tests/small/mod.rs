//! A small run on the embedded images, on any device.
#![allow(dead_code)] // Each test file is a crate of its own and uses a part.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use alexnet_core::device::Parameter;
use alexnet_core::random::Philox;
use alexnet_core::{Architecture, Device, LayerKind, LayerSpec, Network};
use alexnet_ranks::{Ranks, Single};
use alexnet_train::data::{Dataset, Options, Preprocess};
use alexnet_train::run::checkpoint::{self, Progress};
use alexnet_train::run::config::CheckpointEvery;
use alexnet_train::run::metrics::Record;
use alexnet_train::run::model::Model;
use alexnet_train::run::scaling::Scaling;
use alexnet_train::run::schedule::Schedule;
use alexnet_train::run::trainer::Step;
use alexnet_train::run::{Config, Error, Observer, Outcome, RunFolder, Stop, Trainer};

/// Convolution, pool, dropout and a linear layer: everything whose state a resumed run must find again.
pub fn architecture() -> Architecture {
    let layer = |name: &str, kind| LayerSpec { name: name.into(), kind };
    let layers = vec![
        layer("features.0", LayerKind::Conv { filters: 8, kernel: 3, stride: 4, padding: 1, groups: 1 }),
        layer("features.1", LayerKind::Relu),
        layer("features.2", LayerKind::MaxPool { kernel: 2, stride: 2, padding: 0 }),
        layer("flatten", LayerKind::Flatten),
        layer("classifier.0", LayerKind::Dropout { rate: 0.5 }),
        layer("classifier.1", LayerKind::Linear { outputs: 10 }),
    ];
    Architecture { name: "small".into(), image_size: 32, channels: 3, classes: 10, layers }
}

/// The same, with a batch norm if the settings ask for it.
pub fn architecture_of(config: &Config) -> Architecture {
    let mut architecture = architecture();
    if config.batch_norm {
        let kind = LayerKind::BatchNorm { epsilon: 1e-5, momentum: 0.1 };
        architecture.layers.insert(1, LayerSpec { name: "features.0.norm".into(), kind });
    }
    architecture
}

/// Four steps per epoch, each of two micro-batches, the last one short.
pub fn config() -> Config {
    Config {
        epochs: 2,
        batch_size: 16,
        accumulate: 2,
        limit_train: Some(100),
        limit_test: Some(40),
        schedule: Schedule::Cosine,
        warmup: 0.5,
        label_smoothing: 0.1,
        nesterov: true,
        lr: 0.05,
        checkpoint_every: CheckpointEvery::Epochs(1),
        log_every: 3,
        seed: 3,
        ..Config::default()
    }
}

pub fn dataset(config: &Config) -> Dataset {
    let mut dataset = Dataset::open("sample", &Options::default()).unwrap();
    if let Some(val) = config.val {
        dataset.hold_out(val.of(dataset.train.len()), config.val_seed);
    }
    dataset.train = dataset.train.limit(config.limit_train.unwrap());
    dataset.test = dataset.test.limit(config.limit_test.unwrap());
    dataset
}

/// Weight of every parameter, and its momentum with its average after it, as bits.
pub type State = Vec<(Vec<u32>, Vec<u32>)>;

pub fn state<D: Device<Element = f32>>(network: &Network<D>) -> State {
    let bits = |buffer: &D::Buffer, len: usize| {
        let mut values = vec![0f32; len];
        network.device().read(buffer, &mut values).unwrap();
        values.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let both = |p: &Parameter<D::Buffer>| {
        let kept = p.momentum.iter().chain(&p.average);
        (bits(&p.value, p.len()), kept.flat_map(|buffer| bits(buffer, p.len())).collect())
    };
    network.parameters().iter().map(both).collect()
}

/// What is done with something seen.
pub type See<'a, T> = Option<Box<dyn FnMut(T) + 'a>>;

/// What to do during a run.
#[derive(Default)]
pub struct Watch<'a> {
    pub step: See<'a, Step>,
    pub test: See<'a, usize>,
    pub epochs: Vec<(Record, bool)>,
    pub notes: Vec<String>,
    /// Initial loss scale of a new run.
    pub scaling: Option<Scaling>,
}

impl Observer for Watch<'_> {
    fn step(&mut self, step: &Step) {
        self.step.iter_mut().for_each(|see| see(*step));
    }
    fn test(&mut self, done: usize, _: usize) {
        self.test.iter_mut().for_each(|see| see(done));
    }
    fn note(&mut self, line: &str) {
        self.notes.push(line.into());
    }
    fn epoch(&mut self, record: &Record, best: bool) {
        self.epochs.push((record.clone(), best));
    }
}

/// Starts the run in `path`, or resumes it if there is one.
pub fn go<D: Device<Element = f32>>(
    device: Arc<D>,
    path: &Path,
    config: &Config,
    stop: &Stop,
    watch: &mut Watch,
) -> Result<(Outcome, State), Error> {
    go_on(device, path, config, &dataset(config), stop, watch)
}

/// The same on a data set of one's own, of ten classes.
pub fn go_on<D: Device<Element = f32>>(
    device: Arc<D>,
    path: &Path,
    config: &Config,
    dataset: &Dataset,
    stop: &Stop,
    watch: &mut Watch,
) -> Result<(Outcome, State), Error> {
    go_among(device, Arc::new(Single), path, config, dataset, stop, watch)
}

/// The same on one of the ranks of a job.
pub fn go_among<D: Device<Element = f32>>(
    device: Arc<D>,
    ranks: Arc<dyn Ranks>,
    path: &Path,
    config: &Config,
    dataset: &Dataset,
    stop: &Stop,
    watch: &mut Watch,
) -> Result<(Outcome, State), Error> {
    let shards = config.shards_of_steps()?;
    let mut network = Network::new(device, architecture_of(config), shards.max_batch(), true)?;
    network.shard(shards, ranks.clone())?;
    let resumes = path.join("last.safetensors").exists();
    let (folder, progress) = if resumes {
        let folder = RunFolder::reopen(path)?;
        let checkpoint = checkpoint::open(&folder.last())?;
        if config.ema > 0.0 {
            network.keep_average()?;
        }
        checkpoint.restore(&mut network)?;
        (folder, checkpoint.metadata().progress.clone())
    } else {
        network.initialise(Philox::new(config.seed))?;
        if config.ema > 0.0 {
            network.keep_average()?;
        }
        (RunFolder::create(Some(path), "small")?, Progress { scaling: watch.scaling, ..Progress::default() })
    };
    let mut outputs = folder.outputs(progress.epoch, progress.step)?;
    let model = Model { variant: "small".into(), image_size: 32, groups: 1, dropout: 0.5, ..Model::default() };
    let mut trainer = Trainer {
        network,
        model,
        preprocess: Preprocess::default(),
        config,
        dataset,
        folder: &folder,
        stop: stop.clone(),
        progress,
        copies: true,
        ranks,
    };
    if !resumes {
        trainer.save()?;
    }
    let outcome = trainer.run(Some(&mut outputs), watch)?;
    Ok((outcome, state(&trainer.network)))
}

/// The records of logged steps; losses as bits.
pub fn steps(run: &Path) -> Vec<(u64, usize, u64)> {
    let found = alexnet_train::run::metrics::read_steps(&run.join("steps.jsonl")).unwrap();
    found.iter().map(|record| (record.step, record.epoch, record.loss.to_bits())).collect()
}

/// The records, with the times set to zero.
pub fn records(run: &Path) -> Vec<Record> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let untimed = |line: &str| Record { images_per_s: 0.0, seconds: 0.0, ..serde_json::from_str(line).unwrap() };
    text.lines().map(untimed).collect()
}
