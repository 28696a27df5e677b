//! The network as a checkpoint names it.

use alexnet_core::Architecture;
use alexnet_core::alexnet::{self, Variant};
use serde::{Deserialize, Serialize};

/// Which network the weights belong to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Name of the [`Variant`].
    pub variant: String,
    /// Height and width of the input image.
    #[serde(rename = "image")]
    pub image_size: usize,
    /// Groups, see [`alexnet::Options`].
    pub groups: usize,
    /// Dropout rate while training.
    pub dropout: f64,
    /// Whether a batch norm precedes every ReLU.
    #[serde(default)]
    pub batch_norm: bool,
    /// Whether convolutions that keep the shape have a residual shortcut.
    #[serde(default)]
    pub residual: bool,
}

impl Model {
    /// The layers for `classes` classes; `None` for an unknown variant.
    pub fn architecture(&self, classes: usize) -> Option<Architecture> {
        let Self { image_size: image, groups, dropout, batch_norm, residual, .. } = *self;
        let variant = Variant::from_name(&self.variant)?;
        Some(alexnet::architecture(
            variant,
            alexnet::Options { image_size: image, classes, dropout, groups, batch_norm, residual },
        ))
    }
}
