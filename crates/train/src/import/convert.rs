//! Makes a checkpoint of weights from another program.

use std::path::Path;
use std::sync::Arc;

use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network};
use clap::ValueEnum;

use super::recognise::{Known, recognise};
use super::{WeightFile, classes};
use crate::data::{self, Normalise};
use crate::run::checkpoint::{Metadata, Progress, TrainedOn};
use crate::run::classifier::{architecture_of, checkpoint_of};
use crate::run::config::Arch;
use crate::run::model::Model;
use crate::run::{Config, Error, memory};

/// What the user wants of the checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the user knows about the file.
    pub known: Known,
    /// The names of the classes; the file's if `None`.
    pub classes: Option<Vec<String>>,
    /// How pixels are scaled; as the file says, or the variant's usual, if `None`.
    pub normalise: Option<Normalise>,
    /// Initialise the last layer anew.
    pub replace_classifier: bool,
    /// Seed of the new layer.
    pub seed: u64,
}

/// The network with the weights of a file, and what its checkpoint says.
///
/// # Errors
/// The file is not of a known variant, or has another number of classes; too little memory.
pub fn network(weights: &mut WeightFile, options: Options) -> Result<(Network<Cpu>, Metadata), Error> {
    let Options { known, classes, normalise, replace_classifier, seed } = options;
    let (model, found) = recognise(weights, known)?;
    let unrecognised = |reason| super::Error::Unrecognised { path: weights.path().into(), reason };
    let classes = classes.map_or_else(|| classes::of_file(weights, &model, found), Ok).map_err(unrecognised)?;
    data::classes::check(&classes).map_err(unrecognised)?;
    let wanted = classes.len();
    if wanted != found && !replace_classifier {
        return Err(super::Error::Classes { path: weights.path().into(), found, wanted }.into());
    }
    let mut config = Config { seed, ..Config::default() };
    config.take_model(&model);
    let metadata = Metadata {
        preprocess: super::preprocess(weights, &model, normalise)?,
        data: TrainedOn { name: "imported".into(), fingerprint: String::new() },
        classes,
        config: config.to_toml()?,
        seed,
        progress: Progress::default(),
        model,
    };
    let architecture = architecture_of(&metadata, weights.path())?;
    let device = Cpu::new(0)?;
    memory::fits(&device, &architecture, 1, memory::Use::Inference)?;
    let mut network = Network::new(Arc::new(device), architecture, 1, false)?;
    if replace_classifier {
        network.initialise(Philox::new(seed))?;
    }
    weights.initialise(&mut network, replace_classifier)?;
    Ok((network, metadata))
}

impl Config {
    /// Takes the network of a file of weights.
    pub fn take_model(&mut self, model: &Model) {
        let named = Arch::value_variants().iter().find(|arch| arch.variant().name() == model.variant);
        self.arch = named.copied().unwrap_or(self.arch);
        self.resize = Some(model.image_size);
        self.groups = model.groups;
        // `modern` always has them.
        self.batch_norm = model.batch_norm && self.arch != Arch::Modern;
        self.residual = model.residual;
    }
}

/// Settings that choose the network.
const OF_NETWORK: [&str; 5] = ["arch", "resize", "groups", "batch-norm", "residual"];

/// Takes the network of the file that `--init` names for a new run. `given` are the settings that the user chose: they
/// must be the file's.
///
/// # Errors
/// [`Error::NotTheFiles`] names the setting that does not fit and the one that would; the file cannot be read.
pub fn take_network(config: &mut Config, given: &dyn Fn(&str) -> bool) -> Result<(), Error> {
    let Some(init) = &config.init else { return Ok(()) };
    let path = &checkpoint_of(Path::new(init))?;
    let weights = super::open(path, None)?;
    let known = Known {
        variant: given("arch").then(|| config.arch.variant()),
        image: config.resize.filter(|_| given("resize")),
        groups: given("groups").then_some(config.groups),
        residual: config.residual,
    };
    let chosen = config.model();
    let taken = match recognise(&weights, known) {
        Ok((model, _)) => model,
        // What it is, if it is not what the user says.
        Err(error) => match recognise(&weights, Known { residual: config.residual, ..Known::default() }) {
            Ok((model, _)) => model,
            Err(_) => return Err(error.into()),
        },
    };
    let value = |model: &Model, key: &str| match key {
        "arch" => model.variant.clone(),
        "resize" => model.image_size.to_string(),
        "groups" => model.groups.to_string(),
        "batch-norm" => model.batch_norm.to_string(),
        _ => model.residual.to_string(),
    };
    if let Some(key) = OF_NETWORK.into_iter().find(|key| given(key) && value(&chosen, key) != value(&taken, key)) {
        let shapes = weights.shapes().into_iter().collect();
        // The file's network but for what the user says.
        let mut own = taken.clone();
        if given("arch") {
            own.variant.clone_from(&chosen.variant);
        }
        if given("arch") || given("resize") {
            own.image_size = chosen.image_size;
        }
        own.groups = if given("groups") { chosen.groups } else { own.groups };
        own.batch_norm = if given("batch-norm") { chosen.batch_norm } else { own.batch_norm };
        let tensors = super::recognise::differences(&shapes, &own);
        let example = tensors.first().map_or_else(String::new, |tensor| format!(": {tensor}"));
        return Err(Error::NotTheFiles {
            key,
            value: value(&chosen, key),
            path: path.into(),
            fits: value(&taken, key),
            tensor: example,
        });
    }
    config.take_model(&taken);
    Ok(())
}
