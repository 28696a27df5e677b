//! `alexnet import`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::hint;
use super::output;
use crate::FileError;
use crate::data::Normalise;
use crate::import::recognise::Known;
use crate::import::{self, classes, convert};
use crate::print::notice;
use crate::run::checkpoint;
use crate::run::classifier::checkpoint_of;
use crate::run::config::{self, Arch};
use crate::run::{Config, Error, summary};

/// Make a checkpoint from safetensors or PyTorch weights
///
/// The tensors need torchvision's names (`features.0.weight`); the variant is recognised by their shapes. No code of a
/// PyTorch file is executed. predict, eval, export and serve take the checkpoint; to train further, give it, or FILE
/// itself, to `alexnet train --init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the weights (.safetensors, .pth, .pt) or run folder
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
    /// Which of several networks in the file to take, such as model_ema
    ///
    /// The keys that lead to it and the prefix of its names, with dots. Without --key it is the file's only or most usual
    /// one: state_dict, model and the like before averages.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// imagenet, cifar10, names with commas or a file [default: the file's]
    ///
    /// A file has one name per line. Without --classes and without names in the file, torchvision's weights for 1,000
    /// classes have ImageNet's names, and others are numbered.
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
    Config { resize: args.resize, seed: args.seed, ..Config::default() }.validate(&config::flag)?;
    if args.normalise == Some(Normalise::Auto) {
        let message = "--normalise auto needs training images, which import does not read";
        return Err(hint::usage(message, "give cifar10, imagenet or numbers, or leave it out"));
    }
    output::check_free(&args.output, args.force)?;
    let path = checkpoint_of(&args.file)?;
    let mut weights = import::open(&path, args.key.as_deref()).map_err(Error::from)?;
    let options = convert::Options {
        known: Known {
            variant: args.arch.map(Arch::variant),
            image: args.resize,
            groups: None,
            residual: args.residual,
        },
        classes: args.classes.as_deref().map(classes::given).transpose()?,
        normalise: args.normalise,
        replace_classifier: args.replace_classifier,
        seed: args.seed,
    };
    let (network, metadata) = convert::network(&mut weights, options)?;
    weights.remarks(network.parameters()).iter().for_each(|remark| notice(remark));
    output::write_with(&args.output, args.force, |file| {
        Ok(checkpoint::write(file, &network, &metadata, |error| FileError::on("write", &args.output)(error).into())?)
    })?;
    let parameters = network.architecture().parameter_count()?;
    output::line(&format!(
        "wrote {}: {}, images {2}x{2}, {3} classes, {4} parameters",
        args.output.display(),
        metadata.model.variant,
        metadata.model.image_size,
        metadata.classes.len(),
        summary::grouped(parameters as u64)
    ))?;
    output::line(&format!("input: {}", metadata.preprocess.describe(metadata.model.image_size)))?;
    Ok(ExitCode::SUCCESS)
}
