//! What the commands that use a trained network have in common: opening it.

use std::path::{Path, PathBuf};

use super::device::{self, Opened};
use crate::picture;
use crate::run::checkpoint::{self, Checkpoint, Metadata};
use crate::run::classifier::{Classifier, architecture_of, checkpoint_of};
use crate::run::config::{self, Config, DeviceKind};
use crate::run::{Result, memory};

/// Where the network is computed.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
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

impl Place {
    /// The settings that batches of `batch` images are computed with.
    ///
    /// # Errors
    /// A number that is not allowed.
    pub fn limits(&self, batch: usize) -> Result<Config> {
        let limits = Config { batch_size: batch, threads: self.threads, ..Config::default() };
        limits.validate(&config::flag)?;
        Ok(limits)
    }
}

/// A checkpoint that was opened, and where it lies.
pub struct Opening {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub checkpoint: Checkpoint,
}

impl Opening {
    /// Opens a run's best checkpoint, or a checkpoint file.
    ///
    /// # Errors
    /// There is none; the file is damaged or of another program.
    pub fn new(path: &Path) -> Result<Self> {
        let path = checkpoint_of(path)?;
        let checkpoint = checkpoint::open(&path)?;
        Ok(Self { path, checkpoint })
    }

    /// What the checkpoint says of itself.
    pub fn metadata(&self) -> &Metadata {
        self.checkpoint.metadata()
    }

    /// The network on its device, for batches of up to `batch` images.
    ///
    /// # Errors
    /// It does not fit the memory; the weights do not fit the layers; the device is not there.
    pub fn classifier(&self, place: &Place, batch: usize) -> Result<Classifier> {
        let limits = place.limits(batch)?;
        let architecture = architecture_of(self.metadata(), &self.path)?;
        match device::open(place.device, limits.thread_count())? {
            Opened::Cpu(device) => {
                memory::fits(&*device, &architecture, batch, false)?;
                Classifier::new(device, &self.checkpoint, architecture, batch)
            }
            Opened::Cuda(device) => {
                memory::fits(&*device, &architecture, batch, false)?;
                Classifier::new(device, &self.checkpoint, architecture, batch)
            }
        }
    }

    /// A drawing of the first layer's filters, if it sees colours.
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
