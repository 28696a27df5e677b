//! A data set: classes, and the images to train on, to choose the best epoch by, and to test with.

use std::path::PathBuf;

use super::error::Result;
use super::preprocess::Fit;
use super::split::Split;

/// What a split is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Training images
    Train,
    /// Validation images, which choose the best epoch
    Val,
    /// Test images
    Test,
}

impl Role {
    /// `train`, `val` or `test`: the name in metrics, in files and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Train => "train",
            Role::Val => "val",
            Role::Test => "test",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Train => "training",
            Role::Val => "validation",
            Role::Test => "test",
        })
    }
}

/// Classes, training, validation and test images.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// `cifar10`, `sample`, or the folder's name.
    pub name: String,
    /// Where it came from, for the screen and the metrics.
    pub source: String,
    /// The folder that holds it; `None` for the embedded sample.
    pub path: Option<PathBuf>,
    /// Width and height of the training pictures before any resizing, where they differ the median: see [`extent`].
    ///
    /// [`extent`]: super::extent
    pub extent: Option<[u32; 2]>,
    /// Class names, indexed by label.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Split,
    /// Validation images, which choose the best epoch: a folder's own, or taken out of the training images by
    /// [`Dataset::hold_out`].
    pub val: Option<Split>,
    /// Test images; empty if there are none. Without [`val`](Self::val) they choose the best epoch too.
    pub test: Split,
    /// Set if `auto` fell back to the embedded sample: the reason. It was already reported.
    pub warning: Option<String>,
    /// Sixteen hexadecimal digits that differ when the data do; detects a run that is resumed on other data.
    pub fingerprint: String,
}

impl Dataset {
    /// The images of a role, if there are any.
    pub fn split(&self, role: Role) -> Option<&Split> {
        let split = match role {
            Role::Train => Some(&self.train),
            Role::Val => self.val.as_ref(),
            Role::Test => Some(&self.test),
        };
        split.filter(|split| !split.is_empty())
    }

    /// The splits that there are, with their roles.
    pub fn splits(&self) -> impl Iterator<Item = (Role, &Split)> {
        [Role::Train, Role::Val, Role::Test].into_iter().filter_map(|role| Some((role, self.split(role)?)))
    }

    /// The split that is evaluated unless another one is asked for: the test images, else the validation images.
    pub fn scored(&self) -> Option<(Role, &Split)> {
        [Role::Test, Role::Val].into_iter().find_map(|role| Some((role, self.split(role)?)))
    }

    /// Whether the images of all splits, at `image_size`, take at most `memory` bytes.
    pub fn fits(&self, image_size: usize, memory: u64) -> bool {
        let images: usize = self.splits().map(|(_, split)| split.len()).sum();
        images as u64 * (image_size * image_size * 3) as u64 <= memory
    }

    /// Decodes the images that are files and keeps them in memory as `fit` makes them, on all cores; with `originals` not
    /// the training images.
    ///
    /// # Errors
    /// The first image that cannot be decoded.
    pub fn load(&mut self, fit: impl Into<Fit>, originals: bool) -> Result<()> {
        let fit = fit.into();
        let train = (!originals).then_some(&mut self.train);
        for split in [train, self.val.as_mut(), Some(&mut self.test)].into_iter().flatten() {
            if split.image_size().is_none() {
                *split = split.into_memory(fit)?;
            }
        }
        Ok(())
    }
}
