//! What the commands that use a trained network have in common: loaded it.

use std::path::{Path, PathBuf};

use super::device::{self, AnyDevice};
use crate::picture;
use crate::run::checkpoint::{self, Checkpoint, Metadata};
use crate::run::classifier::{Classifier, architecture_of, checkpoint_of};
use crate::run::config::{self, Config, DeviceKind};
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

/// An open checkpoint and its file.
pub struct LoadedCheckpoint {
    /// The file.
    pub path: PathBuf,
    /// Its contents.
    pub checkpoint: Checkpoint,
}

impl LoadedCheckpoint {
    /// Opens a run's best checkpoint, or a checkpoint file.
    ///
    /// # Errors
    /// There is none; the file is damaged or not a checkpoint of this program.
    pub fn new(path: &Path) -> Result<Self> {
        let path = checkpoint_of(path)?;
        let checkpoint = checkpoint::open(&path)?;
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
        let limits = args.limits(batch)?;
        let architecture = architecture_of(self.metadata(), &self.path)?;
        match device::open(args.device, limits.thread_count())? {
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
        let bytes = self.checkpoint.parameter(&spec.name, &spec.shape)?;
        let weights: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Some(picture::filters(&weights, spec.shape[0], spec.shape[2])))
    }
}
