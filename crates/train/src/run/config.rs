//! The settings of a run, their defaults, and their form as TOML.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alexnet_core::alexnet::Variant;
use alexnet_core::network::Shards;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::model::Model;
use super::schedule::{LearningRate, Schedule};
use super::tta::Tta;
use crate::data::decode::Exif;
use crate::data::mix::MixConfig;
use crate::data::{Augment, Balance, CropScale, HoldOut, Normalise, RandAugment, TransformConfig};

pub(crate) mod as_text;
mod checkpoint_every;
mod device;
mod validate;

pub use checkpoint_every::CheckpointEvery;
pub use device::{DeviceKind, Precision, WeightFormat};
pub use validate::{LARGEST_IMAGE, flag};

/// The variant of AlexNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// For 32x32 images: 3x3 first window, pools that do not overlap
    Cifar,
    /// The tutorial's layers as printed, 11x11 first window; 96x96
    #[value(name = "paper-k11")]
    #[serde(rename = "paper-k11")]
    PaperK11,
    /// torchvision.models.alexnet, takes its weights; 224x224
    Torchvision,
    /// Krizhevsky, Sutskever and Hinton, 2012, with LRN; 227x227
    Original,
    /// For 32x32 images: full resolution at first, batch norms, narrow linear layers
    Modern,
}

impl Arch {
    /// As `alexnet-core` names it.
    pub const fn variant(self) -> Variant {
        match self {
            Self::Cifar => Variant::Cifar,
            Self::PaperK11 => Variant::PaperK11,
            Self::Torchvision => Variant::Torchvision,
            Self::Original => Variant::Original,
            Self::Modern => Variant::Modern,
        }
    }
}

/// The settings of a run. A key in TOML is the flag of the same name without its dashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `auto`, `cifar10`, `sample` or a folder.
    pub data: String,
    /// What is done with the orientation in the metadata of pictures.
    pub exif: Exif,
    /// Maximum number of training images.
    pub limit_train: Option<usize>,
    /// Training images held out for validation.
    pub val: Option<HoldOut>,
    /// Which of them are held out.
    pub val_seed: u32,
    /// Maximum number of test images.
    pub limit_test: Option<usize>,
    /// Leave broken pictures out.
    pub skip_broken: bool,
    /// Augmentation of the training images.
    #[serde(with = "as_text")]
    pub augment: Augment,
    /// Largest shift of a crop in pixels; an eighth of the image size if `None`.
    pub crop_padding: Option<usize>,
    /// Least and largest share of a picture's area that a resized crop takes; 0.08 to 1 if `None`.
    pub crop_scale: Option<CropScale>,
    /// Height and width of cutout's square in pixels; half the image size if `None`.
    pub cutout: Option<usize>,
    /// Strength of the colour jitter.
    pub jitter: f64,
    /// Number and magnitude of RandAugment's operations.
    pub rand_augment: Option<RandAugment>,
    /// α of MixUp; 0: off.
    pub mixup: f64,
    /// α of CutMix; 0: off.
    pub cutmix: f64,
    /// What is done about classes of different sizes.
    pub balance: Balance,
    /// Keep the training images in order.
    pub no_shuffle: bool,
    /// The variant of AlexNet.
    pub arch: Arch,
    /// Image size of the network; the variant's own if `None`.
    pub resize: Option<usize>,
    /// Mean and deviation of the images; that of the weights in `init`, else CIFAR-10's, if `None`.
    pub normalise: Option<Normalise>,
    /// Groups of the 2nd, 4th and 5th convolution of `original`.
    pub groups: usize,
    /// Rate of the dropout layers.
    pub dropout: f64,
    /// A batch norm before every ReLU; `modern` always has them.
    pub batch_norm: bool,
    /// A residual shortcut around every convolution that keeps the shape.
    pub residual: bool,
    /// Initialise the first convolution as a whitening of training patches.
    pub whiten: bool,
    /// Initialise the other convolutions as identities.
    pub identity: bool,
    /// File of weights to start from.
    pub init: Option<String>,
    /// Do not load the last layer from `init`.
    pub replace_classifier: bool,
    /// Frozen layers, separated by commas: `features`, `classifier.1` …
    pub freeze: Option<String>,
    /// Number of passes over the training set.
    pub epochs: usize,
    /// Images per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per update.
    pub accumulate: usize,
    /// Parts of a step whose gradients are added by a binary tree; 0: one per process.
    #[serde(skip_serializing_if = "is_one")]
    pub shards: usize,
    /// Batch norms normalise by the statistics of the whole step, not of each part.
    pub sync_bn: bool,
    /// Learning rate.
    pub lr: f64,
    /// Learning rate of the layers `features.*`; `lr` if `None`.
    pub lr_features: Option<f64>,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Weight decay.
    pub weight_decay: f64,
    /// Apply weight decay to biases and norms too.
    pub decay_all: bool,
    /// Label smoothing of the training loss.
    pub label_smoothing: f64,
    /// Decay per update of the moving average of the weights; 0: no average.
    pub ema: f64,
    /// Views of an image whose logits are averaged in evaluation.
    pub tta: Tta,
    /// Learning rate schedule.
    pub schedule: Schedule,
    /// Epochs between two drops of `step`.
    pub step_size: usize,
    /// Factor of a drop.
    pub gamma: f64,
    /// Epochs of linear warm-up.
    pub warmup: f64,
    /// Epochs between two evaluations.
    pub test_every: usize,
    /// Evaluations without a higher accuracy after which the run ends; 0: never.
    pub patience: usize,
    /// Seed of all randomness.
    pub seed: u64,
    /// Device to compute on.
    #[serde(with = "as_text")]
    pub device: DeviceKind,
    /// Number format of a GPU.
    pub precision: Precision,
    /// Launch a GPU's kernels one by one, not as a graph.
    pub no_graph: bool,
    /// Compute every convolution directly.
    pub no_winograd: bool,
    /// Number of threads; 0: all cores.
    pub threads: usize,
    /// When a checkpoint is due.
    pub checkpoint_every: CheckpointEvery,
    /// Updates between two records of a step's loss; 0: none.
    pub log_every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "auto".into(),
            exif: Exif::Apply,
            limit_train: None,
            val: None,
            val_seed: 0,
            limit_test: None,
            skip_broken: false,
            augment: Augment::DEFAULT,
            crop_padding: None,
            crop_scale: None,
            cutout: None,
            jitter: 0.0,
            rand_augment: None,
            mixup: 0.0,
            cutmix: 0.0,
            balance: Balance::None,
            no_shuffle: false,
            arch: Arch::Cifar,
            resize: None,
            normalise: None,
            groups: 1,
            dropout: 0.5,
            batch_norm: false,
            residual: false,
            whiten: false,
            identity: false,
            init: None,
            replace_classifier: false,
            freeze: None,
            epochs: 100,
            batch_size: 128,
            accumulate: 1,
            shards: 0,
            sync_bn: false,
            lr: 0.01,
            lr_features: None,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            decay_all: false,
            label_smoothing: 0.0,
            ema: 0.0,
            tta: Tta::None,
            schedule: Schedule::Step,
            step_size: 30,
            gamma: 0.1,
            warmup: 0.0,
            test_every: 1,
            patience: 0,
            seed: 0,
            device: DeviceKind::Auto,
            precision: Precision::Fp32,
            no_graph: false,
            no_winograd: false,
            threads: 0,
            checkpoint_every: CheckpointEvery::Time(Duration::from_secs(60)),
            log_every: 20,
        }
    }
}

/// Most bytes of settings; all of them have some kilobytes.
pub const LARGEST_TOML: u64 = 1 << 20;

/// The settings that may change when a run is resumed: none affects the steps done so far. Another device or precision
/// rounds differently from then on.
pub const MAY_CHANGE: [&str; 11] = [
    "epochs",
    "patience",
    "threads",
    "device",
    "precision",
    "no-graph",
    "data",
    "skip-broken",
    "checkpoint-every",
    "log-every",
    "test-every",
];

impl Config {
    /// Reads a file; missing keys have their default.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown key, or a value that is not allowed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::regular_file::read_text(path, LARGEST_TOML).map_err(Error::io("read", path))?;
        let config = Self::parse(&text, path)?;
        config.validate(&|key| format!("{key} in {}", path.display()))?;
        Ok(config)
    }

    /// Parses TOML; `path` is for messages.
    ///
    /// # Errors
    /// The text is not TOML or has an unknown key.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(&renewed(text))
            .map_err(|e| Error::Config { path: path.to_owned(), message: e.to_string().trim_end().to_owned() })
    }

    /// Parses the settings in a checkpoint of a run.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn of_run(text: &str, path: &Path) -> Result<Self> {
        let mut config = Self::parse(text, path)?;
        // Before this key existed, everything decayed.
        let has = |key| text.lines().any(|line| line.starts_with(key));
        config.decay_all |= !has("decay-all");
        // Before this one, the orientation was not looked at: a resumed run goes on with the same pixels.
        if !has("exif") {
            config.exif = Exif::Ignore;
        }
        // One is not written: the settings are then those of before this key existed.
        if !has("shards") {
            config.shards = 1;
        }
        Ok(config)
    }

    /// The test-time augmentation of the run that wrote a checkpoint, from its settings; none for imported weights.
    /// Unknown keys are ignored.
    pub fn tta_of_run(text: &str) -> Tta {
        #[derive(Deserialize)]
        struct Views {
            #[serde(default)]
            tta: Tta,
        }
        toml::from_str::<Views>(text).map_or(Tta::None, |views| views.tta)
    }

    /// What the run that wrote a checkpoint did with the orientation of pictures, from its settings; imported weights, and
    /// runs from before this was a setting, take pictures upright.
    pub fn exif_of_run(text: &str) -> Exif {
        #[derive(Deserialize)]
        struct Key {
            #[serde(default)]
            exif: Exif,
        }
        toml::from_str::<Key>(text).map_or(Exif::Apply, |key| key.exif)
    }

    /// The settings as TOML, including defaults; [`Config::parse`] reads them back.
    ///
    /// # Errors
    /// None for validated settings.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| unwritable(&error))
    }

    /// These settings with those of `given` in their place: a struct whose fields are named as the keys, absent where a
    /// setting stays.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number that TOML cannot hold.
    pub fn with(&self, given: &impl Serialize) -> Result<Self> {
        let (given, mut table) = (to_table(given)?, to_table(self)?);
        // A size of the other variant, or of a transformation that is now off, no longer applies.
        if given.get("arch").is_some_and(|arch| Some(arch) != table.get("arch")) {
            table.remove("resize");
        }
        let augment = given.get("augment").and_then(|list| list.as_str()?.parse::<Augment>().ok());
        for (on, key) in augment.into_iter().flat_map(|augment| augment.sized()) {
            if !on {
                table.remove(key);
            }
        }
        // Another rate alone keeps the ratio of the features' rate to it.
        if let (Some(lr), None, Some(features)) =
            (given.get("lr").and_then(toml::Value::as_float), given.get("lr-features"), self.lr_features)
            && self.lr > 0.0
            && lr != self.lr
        {
            table.insert("lr-features".into(), (features / self.lr * lr).into());
        }
        // Not written where it is one, which is not its default.
        if self.shards == 1 {
            table.insert("shards".into(), 1.into());
        }
        table.extend(given);
        if table.get("freeze").is_some_and(|layers| layers.as_str() == Some("none")) {
            table.remove("freeze");
        }
        table.try_into().map_err(|error| unwritable(&error))
    }

    /// Whether a layer is frozen.
    pub fn freezes(&self, layer: &str) -> bool {
        let within = |name: &str| layer.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.freeze.iter().flat_map(|list| list.split(',')).any(|name| within(name.trim()))
    }

    /// Factor of the learning rate of a layer.
    pub fn rate_of(&self, layer: &str) -> f64 {
        match self.lr_features {
            Some(rate) if layer.starts_with("features.") && self.lr > 0.0 => rate / self.lr,
            _ => 1.0,
        }
    }

    /// Height and width of the network's images.
    pub fn image_size(&self) -> usize {
        self.resize.unwrap_or(self.arch.variant().image_size())
    }

    /// Augmentation of the training images, in numbers.
    pub fn transforms(&self) -> TransformConfig {
        let default = self.augment.at(self.image_size());
        TransformConfig {
            padding: self.crop_padding.unwrap_or(default.padding),
            resized_crop: default.resized_crop.map(|scale| self.crop_scale.unwrap_or(scale)),
            cutout: self.cutout.unwrap_or(default.cutout),
            rand_augment: self.rand_augment,
            jitter: self.jitter as f32,
            ..default
        }
    }

    /// MixUp and CutMix of the training batches.
    pub fn mix_config(&self) -> MixConfig {
        MixConfig { mixup: self.mixup, cutmix: self.cutmix }
    }

    /// The network as a checkpoint names it.
    pub fn model(&self) -> Model {
        Model {
            variant: self.arch.variant().name().into(),
            image_size: self.image_size(),
            groups: self.groups,
            dropout: self.dropout,
            batch_norm: self.batch_norm || self.arch == Arch::Modern,
            residual: self.residual,
        }
    }

    /// How every step is divided, in one process.
    ///
    /// # Errors
    /// [`Error::Network`] for what [`Config::validate`] refuses.
    pub fn shards_of_steps(&self) -> Result<Shards> {
        let shards = Shards::new(self.shards.max(1), self.batch_size, self.accumulate)?;
        Ok(if self.sync_bn { shards.with_sync_batch_norm()? } else { shards })
    }

    /// Updates per epoch of `images` images.
    pub fn epoch_steps(&self, images: usize) -> usize {
        images.div_ceil(self.batch_size * self.accumulate)
    }

    /// The learning rate schedule for `images` training images.
    pub fn learning_rate(&self, images: usize) -> LearningRate {
        let epoch_steps = self.epoch_steps(images) as u64;
        LearningRate {
            base: self.lr,
            schedule: self.schedule,
            step_size: self.step_size,
            gamma: self.gamma,
            warmup_steps: (self.warmup * epoch_steps as f64).round() as u64,
            epoch_steps,
            total_steps: epoch_steps * self.epochs as u64,
        }
    }

    /// Whether a run ends after so many evaluations without a higher accuracy.
    pub fn out_of_patience(&self, stale: usize) -> bool {
        self.patience > 0 && stale >= self.patience
    }

    /// Number of threads to start.
    pub fn thread_count(&self) -> usize {
        threads(self.threads)
    }

    /// Checks that `self` differs from the settings of a resumed `run` in [`MAY_CHANGE`] only.
    ///
    /// # Errors
    /// [`Error::Changed`] with the first key that must not differ.
    pub fn may_resume(&self, run: &Self) -> Result<()> {
        match self.differences(run)?.into_iter().find(|(key, ..)| !MAY_CHANGE.contains(&key.as_str())) {
            Some((key, new, old)) => Err(Error::Changed { key, old, new }),
            None => Ok(()),
        }
    }

    /// The keys with another value in `other`: key, own value, other value.
    ///
    /// # Errors
    /// As [`Config::to_toml`].
    pub fn differences(&self, other: &Self) -> Result<Vec<(String, String, String)>> {
        let table = |config: &Self| -> Result<_> {
            let mut table = to_table(config)?;
            // Not written where it is one.
            table.entry("shards").or_insert(1.into());
            Ok(table)
        };
        let (own, other) = (table(self)?, table(other)?);
        let text = |value: Option<&toml::Value>| value.map_or("none".into(), toml::Value::to_string);
        let added = other.keys().filter(|key| !own.contains_key(*key));
        let differ = own.keys().chain(added).filter(|key| own.get(*key) != other.get(*key));
        Ok(differ.map(|key| (key.clone(), text(own.get(key)), text(other.get(key)))).collect())
    }
}

/// The cores for this process, if it shares its machine's with other ranks; 0: not set.
static SHARE: AtomicUsize = AtomicUsize::new(0);

/// Sets how many cores this process uses at most; other ranks on this machine have the others.
pub fn share_cores(cores: usize) {
    SHARE.store(cores, Ordering::Relaxed);
}

/// The threads to start if `wanted` are asked for: no more than there are cores, which 0 stands for.
pub fn threads(wanted: usize) -> usize {
    let share = Some(SHARE.load(Ordering::Relaxed)).filter(|cores| *cores > 0);
    let cores = share.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    if wanted == 0 { cores.unwrap_or(1) } else { cores.map_or(wanted, |cores| wanted.min(cores)) }
}

fn is_one(shards: &usize) -> bool {
    *shards == 1
}

/// Settings with `checkpoint-every` where older ones have `save-every`: seconds, or 0 for the end of an epoch.
fn renewed(text: &str) -> Cow<'_, str> {
    let seconds = |line: &str| {
        let value = line.strip_prefix("save-every")?.trim_start().strip_prefix('=')?;
        value.split('#').next()?.trim().parse::<f64>().ok()
    };
    let Some((line, seconds)) = text.lines().find_map(|line| Some((line, seconds(line)?))) else { return text.into() };
    let every = if seconds > 0.0 { format!("{seconds}s") } else { "1".into() };
    text.replacen(line, &format!("checkpoint-every = \"{every}\""), 1).into()
}

fn unwritable(error: &dyn std::fmt::Display) -> Error {
    Error::Config { path: "config.toml".into(), message: error.to_string() }
}

/// Settings as a table; a number beyond TOML's integers is named.
fn to_table(settings: &impl Serialize) -> Result<toml::Table> {
    toml::Table::try_from(settings).map_err(|error| {
        let json = serde_json::to_value(settings).unwrap_or_default();
        match json.as_object().into_iter().flatten().find(|(_, value)| value.is_u64() && !value.is_i64()) {
            Some((key, value)) => {
                Error::Setting { name: flag(key), value: value.to_string(), expected: format!("at most {}", i64::MAX) }
            }
            None => unwritable(&error),
        }
    })
}

#[cfg(test)]
mod tests;
