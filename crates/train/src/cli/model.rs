//! What the commands that use a trained network have in common: loaded it.

use std::path::{Path, PathBuf};

use super::device::{self, AnyDevice};
use crate::data::decode::Exif;
use crate::file_kind::FileKind;
use crate::import::{self, convert};
use crate::picture;
use crate::print::notice;
use crate::run::checkpoint::{self, Checkpoint, Metadata};
use crate::run::classifier::{Classifier, architecture_of, checkpoint_of};
use crate::run::config::{self, Config, DeviceKind, WeightFormat};
use crate::run::model::Model;
use crate::run::{Result, memory};

/// Flags that choose the device.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N
    ///
    /// auto takes the first GPU if there is one, else the CPU.
    #[arg(long, default_value_t = DeviceKind::Auto)]
    pub device: DeviceKind,
    /// CPU threads; 0: all cores
    ///
    /// The results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Compute every convolution directly, for comparisons
    ///
    /// The 3x3 convolutions of stride 1 use Winograd's algorithm where it is faster.
    #[arg(long)]
    pub no_winograd: bool,
    /// Format of the weights: fp32, or half (on the CPU)
    ///
    /// half rounds each weight to half precision (fp16) and computes with it in fp32: half the memory, and faster where few
    /// images wait for the weights. With it, auto takes the CPU.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "fp32")]
    pub weights: WeightFormat,
}

impl DeviceArgs {
    /// Checked settings for batches of `batch` images.
    ///
    /// # Errors
    /// A number that is not allowed.
    pub fn limits(&self, batch: usize) -> Result<Config> {
        let limits = Config { batch_size: batch, threads: self.threads, ..Config::default() };
        limits.validate(&config::flag)?;
        Ok(limits)
    }
}

/// The checkpoint that `alexnet import` would make of weights from another program.
fn imported(path: &Path) -> Result<Checkpoint> {
    let mut weights = import::open(path, None)?;
    let (network, metadata) = convert::network(&mut weights, convert::Options::default())?;
    weights.remarks(network.parameters()).iter().for_each(|remark| notice(remark));
    let Model { variant, image_size: side, .. } = &metadata.model;
    let classes = metadata.classes.len();
    notice(&format!("{}: weights only, taken as {variant}, images {side}x{side}, {classes} classes", path.display()));
    Ok(checkpoint::in_memory(path, &network, &metadata)?)
}

/// The flag for the orientation of pictures.
#[derive(Clone, Debug, clap::Args)]
pub struct ExifArgs {
    /// apply or ignore the EXIF orientation of pictures [default: the run's]
    ///
    /// Phones store how a picture is to be turned beside its pixels. apply turns it upright, as viewers show it; ignore
    /// takes the pixels as they are stored.
    #[arg(long, value_name = "MODE")]
    exif: Option<Exif>,
}

impl ExifArgs {
    /// What was asked for, else what the run did that wrote the checkpoint.
    pub fn of(&self, metadata: &Metadata) -> Exif {
        self.exif.unwrap_or_else(|| Config::exif_of_run(&metadata.config))
    }
}

/// An open checkpoint and its file.
pub struct LoadedCheckpoint {
    /// The file.
    pub path: PathBuf,
    /// Its contents.
    pub checkpoint: Checkpoint,
}

impl LoadedCheckpoint {
    /// Opens a run's best checkpoint, a checkpoint file, or weights of another program: PyTorch's, or safetensors.
    ///
    /// # Errors
    /// There is none; the file is damaged or not a checkpoint of this program.
    pub fn new(path: &Path) -> Result<Self> {
        use checkpoint::Error;
        let (run, path) = (path, checkpoint_of(path)?);
        let checkpoint = match checkpoint::open(&path) {
            Err(Error::WrongKind { kind: FileKind::PyTorchZip | FileKind::PyTorchLegacy | FileKind::Zip, .. })
            | Err(Error::Foreign { own: false, .. }) => imported(&path)?,
            opened => opened?,
        };
        // Before anything is built for them.
        checkpoint.fits(&architecture_of(checkpoint.metadata(), &path)?)?;
        if run.is_dir() && path.ends_with("last.safetensors") && checkpoint.metadata().progress.best_accuracy.is_some()
        {
            notice(&format!("{} has no best.safetensors: this is {}", run.display(), path.display()));
        }
        Ok(Self { path, checkpoint })
    }

    /// The checkpoint's metadata.
    pub fn metadata(&self) -> &Metadata {
        self.checkpoint.metadata()
    }

    /// Builds the network on a device, for batches of up to `batch` images.
    ///
    /// # Errors
    /// Too little memory; weights that do not fit the layers; no such device.
    pub fn classifier(&self, args: &DeviceArgs, batch: usize) -> Result<Classifier> {
        args.limits(batch)?;
        let architecture = architecture_of(self.metadata(), &self.path)?;
        match device::open_for_inference(args.device, args.threads, !args.no_winograd, args.weights)? {
            AnyDevice::Cpu(device) => {
                memory::fits(&*device, &architecture, batch, memory::Use::Inference)?;
                Classifier::new(device, &self.checkpoint, architecture, batch)
            }
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(device) => {
                memory::fits(&*device, &architecture, batch, memory::Use::Inference)?;
                Classifier::new(device, &self.checkpoint, architecture, batch)
            }
        }
    }

    /// A picture of the first layer's filters, if its input is RGB.
    ///
    /// # Errors
    /// The weights do not fit the layers.
    pub fn filters(&self) -> Result<Option<picture::Picture>> {
        let specs = architecture_of(self.metadata(), &self.path)?.parameters()?;
        let colours = specs.first().filter(|spec| spec.shape.len() == 4 && spec.shape[1] == 3);
        let Some(spec) = colours else { return Ok(None) };
        let weights = self.checkpoint.parameters(std::slice::from_ref(spec))?.concat();
        Ok(Some(picture::filters(&weights, spec.shape[0], spec.shape[2])))
    }
}
