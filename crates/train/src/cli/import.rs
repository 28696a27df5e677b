//! `alexnet import`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network};

use super::hint;
use super::output;
use crate::data::{Normalise, cifar};
use crate::import::recognise::{Known, recognise};
use crate::import::{self, WeightFile};
use crate::print::say;
use crate::run::checkpoint::{self, Metadata, Progress, TrainedOn};
use crate::run::classifier::architecture_of;
use crate::run::config::Arch;
use crate::run::model::Model;
use crate::run::{Config, Error, memory, summary};

/// Make a checkpoint from safetensors or PyTorch weights
///
/// The tensors need torchvision's names (`features.0.weight`); the variant is recognised by their shapes. No code of a
/// PyTorch file is executed. predict, eval, export and serve take the checkpoint; to train further, give it, or FILE
/// itself, to `alexnet train --init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the weights: .safetensors, .pth or .pt
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Checkpoint to write
    #[arg(long, short, value_name = "CHECKPOINT")]
    output: PathBuf,
    /// Variant of AlexNet [default: by the tensors' shapes]
    #[arg(long)]
    arch: Option<Arch>,
    /// Side of the images in pixels [default: the variant's, if it fits]
    #[arg(long, value_name = "N")]
    resize: Option<usize>,
    /// The network has residual shortcuts (.pth files do not record this)
    #[arg(long)]
    residual: bool,
    /// cifar10, names with commas, or a file of names [default: the file's]
    ///
    /// A file has one name per line. Without --classes and without names in the file, classes are numbered.
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    /// Mean and deviation: cifar10, imagenet or M,S [default: the file's]
    ///
    /// What the weights were trained with, see `alexnet train --help`. Of a file that does not record it, imagenet for
    /// torchvision's AlexNet or 1000 classes, else cifar10.
    #[arg(long, alias = "normalize", value_name = "NAME|M,S")]
    normalise: Option<Normalise>,
    /// Initialise the last layer anew
    ///
    /// Use it when --classes has another number of classes than the file.
    #[arg(long)]
    replace_classifier: bool,
    /// Seed of the new last layer's weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Overwrite CHECKPOINT if it exists
    #[arg(long)]
    force: bool,
}

/// Imports.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut config = Config { resize: args.resize, seed: args.seed, ..Config::default() };
    config.validate(&crate::run::config::flag)?;
    if args.normalise == Some(Normalise::Auto) {
        let message = "--normalise auto needs training images, which import does not read";
        return Err(hint::usage(message, "give cifar10, imagenet or numbers, or leave it out"));
    }
    output::check_free(&args.output, args.force)?;
    let mut weights = import::open(&args.file, None).map_err(Error::from)?;
    let known =
        Known { variant: args.arch.map(Arch::variant), image: args.resize, groups: None, residual: args.residual };
    let (model, found) = recognise(&weights, known).map_err(Error::from)?;
    let classes = match &args.classes {
        Some(words) => names(words)?,
        None => recorded_names(&weights, found),
    };
    let wanted = classes.len();
    if wanted != found && !args.replace_classifier {
        return Err(Error::from(import::Error::Classes { path: args.file.clone(), found, wanted }).into());
    }
    config.arch = arch(&model);
    config.resize = Some(model.image_size);
    config.groups = model.groups;
    config.batch_norm = model.batch_norm;
    config.residual = model.residual;
    let preprocess = import::preprocess(&weights, &model, args.normalise).map_err(Error::from)?;
    let metadata = Metadata {
        preprocess,
        data: TrainedOn { name: "imported".into(), fingerprint: String::new() },
        classes,
        config: config.to_toml()?,
        seed: args.seed,
        progress: Progress::default(),
        model,
    };
    let architecture = architecture_of(&metadata, &args.file)?;
    let device = Cpu::new(0)?;
    memory::fits(&device, &architecture, 1, memory::Use::Inference)?;
    let mut network = Network::new(Arc::new(device), architecture, 1, false)?;
    if args.replace_classifier {
        network.initialise(Philox::new(args.seed))?;
    }
    weights.initialise(&mut network, args.replace_classifier).map_err(Error::from)?;
    checkpoint::save(&args.output, &network, &metadata)?;
    let parameters = network.architecture().parameter_count()?;
    say(&format!(
        "wrote {}: {}, images {2}x{2}, {3} classes, {4} parameters",
        args.output.display(),
        metadata.model.variant,
        metadata.model.image_size,
        metadata.classes.len(),
        summary::grouped(parameters as u64)
    ));
    say(&format!("input: {}", metadata.preprocess.describe(metadata.model.image_size)));
    Ok(ExitCode::SUCCESS)
}

fn arch(model: &Model) -> Arch {
    use clap::ValueEnum;
    let named = Arch::value_variants().iter().find(|arch| arch.variant().name() == model.variant);
    named.copied().unwrap_or(Arch::Cifar)
}

/// The names in the file's metadata, or the classes' numbers.
fn recorded_names(weights: &WeightFile, count: usize) -> Vec<String> {
    let noted = weights.note("classes").and_then(|note| serde_json::from_str::<Vec<String>>(&note).ok());
    noted.filter(|names| names.len() == count).unwrap_or_else(|| (0..count).map(|class| class.to_string()).collect())
}

/// The names that `--classes` gives.
fn names(words: &str) -> Result<Vec<String>, Error> {
    if words == "cifar10" {
        return Ok(cifar::CLASSES.map(String::from).to_vec());
    }
    let path = Path::new(words);
    let names: Vec<String> = if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    } else {
        words.split(',').map(|name| name.trim().to_owned()).collect()
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(Error::Setting {
            name: "--classes".into(),
            value: format!("`{words}`"),
            expected: "cifar10, a file with one name per line, or names separated by commas".into(),
        });
    }
    Ok(names)
}
