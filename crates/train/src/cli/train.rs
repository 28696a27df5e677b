//! `alexnet train`.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::augmentation::Augmentation;
use super::hint;
use super::job::{self, Job};
use crate::data::decode::Exif;
use crate::data::{Balance, HoldOut, Normalise};
use crate::regular_file;
use crate::run::config::{Arch, CheckpointEvery, Config, DeviceKind, LARGEST_TOML, Precision, as_text};
use crate::run::schedule::Schedule;
use crate::run::stop::INTERRUPTED;
use crate::run::{Error, Outcome, Recipe, Tta};

mod data;
mod repeat;
mod settings;
mod start;

use start::Start;

/// Train a network; by default the `cifar` variant on CIFAR-10
///
/// Settings come from the flags, then from --config FILE or --recipe NAME, then from the defaults; the settings in effect
/// are written to RUN/config.toml. Ctrl-C finishes the step, saves and exits with code 130; pressed twice, it exits at
/// once. --resume continues the run and ends with the same bits as a run without a break.
#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(allow_negative_numbers = true, args_override_self = true)]
pub struct Args {
    /// auto, cifar10, sample or a folder [default: auto] [env: ALEXNET_DATA]
    ///
    /// auto: CIFAR-10 from the cache, else downloaded, else the sample of 1,000 images in the binary. A folder holds
    /// CIFAR-10's official files, or pictures in train/CLASS/, val/CLASS/ and test/CLASS/ (one of the last two is
    /// enough), or with --val in train/CLASS/ or CLASS/ alone. ALEXNET_DATA names the folder that auto and cifar10 use
    /// in place of the cache.
    #[arg(long, value_name = "DATA", help_heading = "Data")]
    data: Option<String>,
    /// apply or ignore the EXIF orientation of pictures [default: apply]
    ///
    /// Phones store how a picture is to be turned beside its pixels. apply turns it upright, as viewers show it; ignore
    /// takes the pixels as they are stored.
    #[arg(long, value_name = "MODE", help_heading = "Data")]
    exif: Option<Exif>,
    /// Use only N training images, spread over the set [default: all]
    #[arg(long, value_name = "N", help_heading = "Data")]
    limit_train: Option<usize>,
    /// Choose the best epoch by N or N% held-out images [default: none]
    ///
    /// Training images: a number, or a share such as 20% or 0.2. The test set is then used once, at the end; a folder val/ is such a
    /// test set if there is no other. Every class gives its share; the images are the same for every --seed.
    /// --limit-train limits what is left.
    #[arg(long, value_name = "N|SHARE", help_heading = "Data")]
    val: Option<HoldOut>,
    /// Hold out other images: the number of the choice [default: 0]
    #[arg(long, value_name = "N", help_heading = "Data")]
    val_seed: Option<u32>,
    /// Use only N test images, spread over the set [default: all]
    ///
    /// Also of a folder's own validation images.
    #[arg(long, value_name = "N", help_heading = "Data")]
    limit_test: Option<usize>,
    /// Leave broken pictures out and list them in RUN/broken.txt
    ///
    /// The next picture of its class takes the place of a broken training picture; validation and test pictures are
    /// checked at the start and the broken ones left out.
    #[arg(long, value_name = "BOOL", help_heading = "Data", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    skip_broken: Option<bool>,
    #[command(flatten)]
    #[serde(flatten)]
    augmentation: Augmentation,
    /// What to do about classes of different sizes [default: none]
    ///
    /// sampler draws every class equally often, its images again and again if it is small, each time transformed in
    /// another way; batches for a GPU are then made on the CPU. weights multiplies the loss by images / (classes x
    /// images of the class), scikit-learn's balanced weights.
    #[arg(long, help_heading = "Data")]
    balance: Option<Balance>,
    /// Keep the training images in their order
    #[arg(long, value_name = "BOOL", help_heading = "Data", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_shuffle: Option<bool>,

    /// Variant of AlexNet [default: cifar]
    #[arg(long, help_heading = "Network")]
    arch: Option<Arch>,
    /// Resize images to NxN pixels [default: the variant's size]
    #[arg(long, value_name = "N", help_heading = "Network")]
    resize: Option<usize>,
    /// Mean and deviation: cifar10, imagenet, auto or M,S [default: cifar10]
    ///
    /// Each channel x of 0..1 becomes (x - mean)/deviation. imagenet also resizes the shorter side to 256 of 224 before
    /// the centre crop, as torchvision does; auto computes both numbers from the training images; M,S gives them, or six
    /// with commas for R,G,B. With --init the default is what the weights were trained with: as the file records it, else
    /// imagenet for torchvision's AlexNet. The numbers are kept in the checkpoint and used wherever it is.
    #[arg(long, alias = "normalize", value_name = "NAME|M,S", help_heading = "Network")]
    normalise: Option<Normalise>,
    /// Groups of the 2nd, 4th and 5th convolution of `original` [default: 1]
    ///
    /// 2 as on the two GPUs of 2012.
    #[arg(long, value_name = "N", help_heading = "Network")]
    groups: Option<usize>,
    /// Dropout rate before the first two linear layers [default: 0.5]
    #[arg(long, value_name = "RATE", help_heading = "Network")]
    dropout: Option<f64>,
    /// Add a batch norm before every ReLU
    ///
    /// `modern` always has them.
    #[arg(long, value_name = "BOOL", help_heading = "Network", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    batch_norm: Option<bool>,
    /// Add shortcuts around the convolutions that keep the shape
    ///
    /// The input is added before the ReLU.
    #[arg(long, value_name = "BOOL", help_heading = "Network", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    residual: Option<bool>,
    /// Initialise the first convolution as a whitening of training patches
    ///
    /// Its filters are pairs along the principal components (PCA) of the patches, scaled so that all outputs vary
    /// equally. Keep them with --freeze features.0.
    #[arg(long, value_name = "BOOL", help_heading = "Network", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    whiten: Option<bool>,
    /// Initialise every other convolution as an identity
    ///
    /// As far as it has filters and channels.
    #[arg(long, value_name = "BOOL", help_heading = "Network", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    identity: Option<bool>,
    /// Start from weights: safetensors, a PyTorch file, or a run
    ///
    /// Tensors are matched by name (torchvision's names). The file's --arch, --resize, --groups, --batch-norm and
    /// --residual are taken, also in place of a recipe's; another value given for one of them is an error. Of a run its
    /// best checkpoint is taken.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    init: Option<String>,
    /// Load every layer except the last from --init
    ///
    /// Use it when your classes differ from the file's. Without --recipe and --config, the settings are then those of
    /// --recipe finetune.
    #[arg(long, value_name = "BOOL", help_heading = "Network", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    replace_classifier: Option<bool>,
    /// Layers to leave untrained, such as features.0 [default: none]
    ///
    /// Names from the table of layers, or features or classifier for all of them, separated by commas. none trains
    /// every layer.
    #[arg(long, value_name = "LAYERS", help_heading = "Network")]
    freeze: Option<String>,

    /// Number of passes over the training set [default: 100]
    ///
    /// 0: only write the initial checkpoint.
    #[arg(long, value_name = "N", help_heading = "Optimiser")]
    epochs: Option<usize>,
    /// Images per step [default: 128]
    ///
    /// Small batches process fewer images per second; large ones need a higher --lr.
    #[arg(long, value_name = "N", help_heading = "Optimiser")]
    batch_size: Option<usize>,
    /// Add up the gradients of N batches before each update [default: 1]
    ///
    /// The update is that of a batch N times as large, in the memory of one. Batch norm, MixUp and CutMix work on each
    /// of the N batches by itself.
    #[arg(long, value_name = "N", help_heading = "Optimiser")]
    accumulate: Option<usize>,
    /// Add the gradients of N parts of a step by a binary tree [default: 0]
    ///
    /// A power of two. 0: one part per process, so 1 without mpirun. The result depends on N, but not on how many processes
    /// compute the parts. MixUp and CutMix work on each part by itself, and without --sync-bn batch norm too.
    #[arg(long, value_name = "N", help_heading = "Optimiser")]
    shards: Option<usize>,
    /// Normalise by the statistics of the whole step, not of each part
    ///
    /// Of batch norms, with several --shards: the training is then that of one part. The processes wait for each other at every
    /// batch norm, twice per step.
    #[arg(long, value_name = "BOOL", help_heading = "Optimiser", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    sync_bn: Option<bool>,
    /// Learning rate [default: 0.01]
    #[arg(long, value_name = "RATE", help_heading = "Optimiser")]
    lr: Option<f64>,
    /// Learning rate of the feature layers [default: --lr]
    ///
    /// Of the layers features.*, for fine-tuning: a tenth of --lr keeps what --init gave. The classifier has --lr; both
    /// follow the schedule.
    #[arg(long, value_name = "RATE", help_heading = "Optimiser")]
    lr_features: Option<f64>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "M", help_heading = "Optimiser")]
    momentum: Option<f64>,
    /// Use Nesterov momentum
    #[arg(long, value_name = "BOOL", help_heading = "Optimiser", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    nesterov: Option<bool>,
    /// Weight decay of convolution and linear weights [default: 0.0005]
    #[arg(long, value_name = "WD", help_heading = "Optimiser")]
    weight_decay: Option<f64>,
    /// Apply weight decay to biases and norms too
    ///
    /// PyTorch's default with one parameter group; the tutorial does so.
    #[arg(long, value_name = "BOOL", help_heading = "Optimiser", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    decay_all: Option<bool>,
    /// Label smoothing of the training loss [default: 0]
    #[arg(long, value_name = "E", help_heading = "Optimiser")]
    label_smoothing: Option<f64>,
    /// Keep a moving average of the weights: decay per update [default: 0]
    ///
    /// Exponential with warm-up; 0.999 is a good start, 0 is off. Evaluation, prediction and export use the average;
    /// --resume uses the raw weights.
    #[arg(long, value_name = "DECAY", help_heading = "Optimiser")]
    ema: Option<f64>,
    /// How the learning rate changes over the run [default: step]
    #[arg(long, help_heading = "Optimiser")]
    schedule: Option<Schedule>,
    /// With `step`: epochs between two drops [default: 30]
    #[arg(long, value_name = "EPOCHS", help_heading = "Optimiser")]
    step_size: Option<usize>,
    /// With `step`: factor of each drop [default: 0.1]
    #[arg(long, value_name = "FACTOR", help_heading = "Optimiser")]
    gamma: Option<f64>,
    /// Epochs over which the learning rate rises linearly [default: 0]
    ///
    /// May be a fraction, such as 1.5.
    #[arg(long, value_name = "EPOCHS", help_heading = "Optimiser")]
    warmup: Option<f64>,

    /// Average the logits of several views of each test image [default: none]
    ///
    /// Test-time augmentation; costs one forward pass per view. Plain --tta means --tta=mirror.
    #[arg(long, value_name = "VIEWS", help_heading = "Run", num_args = 0..=1, require_equals = true, default_missing_value = "mirror")]
    tta: Option<Tta>,
    /// Seed of weights, order, augmentation and dropout [default: 0]
    #[arg(long, value_name = "N", help_heading = "Run")]
    seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    ///
    /// auto takes the first GPU if there is one, else the CPU.
    #[arg(long, help_heading = "Run")]
    #[serde(serialize_with = "as_text::serialize_some")]
    device: Option<DeviceKind>,
    /// Number format: fp32, tf32, fp16, bf16 [default: fp32]
    ///
    /// On a GPU tf32, fp16 and bf16 use tensor cores; fp16 and bf16 store activations in half the bytes; fp16 scales the loss. On
    /// the CPU bf16 rounds the operands of products, which AVX512-BF16 or AMX multiply fast; the CPU has no tf32 and fp16.
    #[arg(long, value_name = "PRECISION", help_heading = "Run")]
    precision: Option<Precision>,
    /// Launch GPU kernels one by one, not as a CUDA graph
    ///
    /// The results are the same.
    #[arg(long, value_name = "BOOL", help_heading = "Run", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_graph: Option<bool>,
    /// Compute every convolution directly, for comparisons
    ///
    /// The 3x3 convolutions of stride 1 use Winograd's algorithm where it is faster, on a GPU in fp32 only: a quarter of the
    /// multiplications, other roundings.
    #[arg(long, value_name = "BOOL", help_heading = "Run", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_winograd: Option<bool>,
    /// CPU threads; 0: all cores [default: 0]
    ///
    /// The results do not depend on it.
    #[arg(long, value_name = "N", help_heading = "Run")]
    threads: Option<usize>,
    /// Epochs or time between checkpoints, such as 5 or 10m [default: 1m]
    ///
    /// A kill costs what came after the last one. A number counts epochs; a time is a number with s, m or h, and also saves
    /// within an epoch. Training goes on meanwhile. The best epoch is written with the next checkpoint. The end of the
    /// run, Ctrl-C and the signals that stop it save at once.
    #[arg(long, value_name = "N|TIME", help_heading = "Run")]
    checkpoint_every: Option<CheckpointEvery>,
    /// Record loss and learning rate of every Nth step [default: 20]
    ///
    /// In steps.jsonl and the TensorBoard events; 0: of none. A GPU's queue is emptied for each record, so a small N costs
    /// speed there.
    #[arg(long, value_name = "N", help_heading = "Run")]
    log_every: Option<u64>,
    /// Evaluate after every Nth epoch and the last [default: 1]
    #[arg(long, value_name = "N", help_heading = "Run")]
    test_every: Option<usize>,
    /// End the run after N evaluations without a higher accuracy [default: 0]
    ///
    /// Of the validation images, else of the test images. The best epoch stays in best.safetensors. 0: never.
    #[arg(long, value_name = "N", help_heading = "Run")]
    patience: Option<usize>,
    /// Folder of the run [default: runs/ARCH-N, the first free N]
    ///
    /// Goes on with the run there, if the settings are the same: the same command can be given until the run is complete.
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    #[serde(skip)]
    out: Option<PathBuf>,
    /// Time without an answer of a process that ends them all [default: 60s]
    ///
    /// Of several that mpirun started. A number with s, m or h, or of seconds. A process that hangs, or whose machine is gone,
    /// ends the job with a message that names it; the first step may take 10 minutes.
    #[arg(long, value_name = "TIME", help_heading = "Run", value_parser = job::time, default_value = "60s", hide_default_value = true)]
    #[serde(skip)]
    timeout: Duration,
    /// Continue the run in this folder
    ///
    /// It keeps its settings; only --epochs, --patience, --threads, --device, --precision, --no-graph, --data, --skip-broken,
    /// --checkpoint-every, --log-every and --test-every may change.
    #[arg(long, value_name = "RUN", help_heading = "Run", conflicts_with_all = ["out", "config", "recipe", "runs"])]
    #[serde(skip)]
    resume: Option<PathBuf>,
    /// With --resume: take data whose files were added or removed
    ///
    /// The classes must be the same. The epoch goes on at its step, in the order of the new set.
    #[arg(long, help_heading = "Run", requires = "resume")]
    #[serde(skip)]
    accept_data_changes: bool,
    /// Train N runs, with the seeds from --seed on, and summarise them
    ///
    /// Each goes to DIR/seed-S. At the end the test accuracies after the last epoch, their mean and their standard
    /// deviation are printed and written to DIR/summary.json. The same command with the same --out does what is left.
    #[arg(long, value_name = "N", help_heading = "Run", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip)]
    runs: Option<u16>,
    /// Start from settings that were chosen together; flags win
    #[arg(long, value_name = "NAME", help_heading = "Run", conflicts_with = "config")]
    #[serde(skip)]
    recipe: Option<Recipe>,
    /// Start from the settings in a TOML file; flags win
    ///
    /// A key is a flag without its dashes, such as `batch-size = 64`.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

impl Args {
    /// The recipe of a fine-tuning that names neither recipe nor settings.
    fn fine_tunes(&self) -> Option<Recipe> {
        let named = self.recipe.is_some() || self.config.is_some() || self.resume.is_some();
        let tunes = self.init.is_some() && self.replace_classifier == Some(true);
        (tunes && !named).then_some(Recipe::Finetune)
    }

    /// The settings that the user chose: flags, and the keys of --config. A recipe's network gives way to that of --init.
    fn chosen(&self) -> Result<toml::Table, Error> {
        let mut table = toml::Table::try_from(self).unwrap_or_default();
        if let Some(file) = &self.config {
            let text = regular_file::read_text(file, LARGEST_TOML).map_err(Error::io("read", file))?;
            table.extend(text.parse::<toml::Table>().unwrap_or_default());
        }
        Ok(table)
    }

    /// That flags of the schedule `step` are given with it only: other schedules would ignore them.
    fn check_schedule(&self, config: &Config) -> anyhow::Result<()> {
        let given = [("--step-size", self.step_size.is_some()), ("--gamma", self.gamma.is_some())];
        match given.iter().find(|(_, given)| *given && config.schedule != Schedule::Step) {
            Some((flag, _)) => {
                let schedule = config.schedule.to_possible_value().map_or_else(String::new, |v| v.get_name().into());
                let message = format!("{flag} is given, but --schedule is {schedule}, which has no steps");
                Err(hint::usage(message, format!("leave {flag} out, or give --schedule step")))
            }
            None => Ok(()),
        }
    }
}

/// Trains.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let job = Job::start(args.timeout)?;
    let outcome = train(args, &job)?;
    job.finish()?;
    Ok(match outcome {
        Outcome::Finished => ExitCode::SUCCESS,
        Outcome::Interrupted => ExitCode::from(INTERRUPTED as u8),
    })
}

fn train(args: &Args, job: &Job) -> anyhow::Result<Outcome> {
    let Some((config, resumed)) = settings::of(args, job)? else { return Ok(Outcome::Finished) };
    match args.runs {
        Some(_) if !job.is_alone() => {
            Err(hint::usage("--runs trains in one process", "start a job per seed, each with its own --out"))
        }
        Some(runs) => repeat::run(&config, runs.into(), args.out.as_deref(), job),
        None => {
            let (out, accept_data_changes) = (args.out.as_deref(), args.accept_data_changes);
            Start { config, out, resumed, accept_data_changes, stop: &OnceCell::new(), job }.run()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::help;
    use crate::data::{Augment, CropScale, RandAugment};

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Config {
        let args = Alone::try_parse_from(std::iter::once("train").chain(line.split_whitespace())).unwrap().args;
        Config::default().with(&args).unwrap()
    }

    #[test]
    fn every_key_is_a_flag_that_arrives() {
        let changed = Config {
            data: "sample".into(),
            exif: Exif::Ignore,
            limit_train: Some(1),
            val: Some(HoldOut::Percent(12.5)),
            val_seed: 3,
            skip_broken: true,
            limit_test: Some(2),
            augment: Augment::NONE,
            crop_padding: Some(11),
            crop_scale: Some(CropScale { least: 0.25, most: 0.5 }),
            balance: Balance::Sampler,
            cutout: Some(12),
            jitter: 0.5,
            rand_augment: Some(RandAugment { operations: 3, magnitude: 10 }),
            mixup: 0.25,
            cutmix: 1.5,
            no_shuffle: true,
            arch: Arch::Original,
            resize: Some(3),
            normalise: Some("0.5,0.25".parse().unwrap()),
            groups: 2,
            dropout: 0.25,
            batch_norm: true,
            residual: true,
            whiten: true,
            identity: true,
            init: Some("x".into()),
            replace_classifier: true,
            freeze: Some("features".into()),
            epochs: 4,
            batch_size: 5,
            accumulate: 6,
            shards: 4,
            sync_bn: true,
            lr: 0.125,
            lr_features: Some(0.0625),
            momentum: 0.75,
            nesterov: true,
            weight_decay: 0.5,
            decay_all: true,
            label_smoothing: 0.25,
            ema: 0.5,
            tta: Tta::Shifts,
            schedule: Schedule::Cosine,
            step_size: 7,
            gamma: 0.875,
            warmup: 1.5,
            test_every: 3,
            patience: 9,
            seed: 8,
            device: DeviceKind::Cpu,
            precision: Precision::Tf32,
            no_graph: true,
            no_winograd: true,
            threads: 9,
            checkpoint_every: CheckpointEvery::Epochs(3),
            log_every: 10,
        };
        // Each setting is written as its flag, from the TOML of a configuration in which all differ from the default.
        let table = toml::Table::try_from(&changed).unwrap();
        let default = toml::Table::try_from(Config::default()).unwrap();
        let mut line = String::new();
        for (key, value) in &table {
            assert_ne!(Some(value), default.get(key), "{key} is not put to the test");
            line += &format!(" --{key}={}", value.as_str().map_or_else(|| value.to_string(), String::from));
        }
        assert_eq!(parsed(&line), changed);
        assert_eq!(parsed(""), Config::default());
        assert!(parsed("--nesterov").nesterov);
    }

    #[test]
    fn the_help_states_the_defaults() {
        let mut cli = help::definition(false);
        let help = cli.find_subcommand_mut("train").unwrap().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let table = toml::Table::try_from(Config::default()).unwrap();
        // All other settings say their default; these are off.
        let switches = ["skip-broken", "nesterov", "decay-all", "tta", "no-shuffle", "no-graph", "replace-classifier"];
        let switches =
            [&switches[..], &["no-winograd", "batch-norm", "sync-bn", "residual", "whiten", "identity"]].concat();
        for (key, value) in table.iter().filter(|(key, _)| !switches.contains(&key.as_str())) {
            let value = match value {
                toml::Value::Float(value) => value.to_string(),
                value => value.as_str().map_or_else(|| value.to_string(), String::from),
            };
            let start = help.find(&format!("--{key} <")).unwrap_or_else(|| panic!("{key} has no help"));
            let own = &help[start..];
            let stated = own.find("[default: ").map(|at| &own[at + 10..]).unwrap_or_default();
            assert!(stated.starts_with(&format!("{value}]")), "{key} = {value}: {own:.200}");
        }
    }
}
