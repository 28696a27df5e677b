//! The state of loss scaling, as checkpoints and metrics keep it.

use alexnet_core::device::Scaler;
use serde::{Deserialize, Serialize};

/// Loss scaling of a run in fp16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Factor of the loss.
    pub loss_scale: f32,
    /// Updates since it last changed.
    pub good_steps: u32,
    /// Updates skipped since the start because a gradient was infinite or NaN.
    pub skipped_steps: u32,
}

impl From<Scaler> for Scaling {
    fn from(Scaler { scale, good_steps, skipped }: Scaler) -> Self {
        Self { loss_scale: scale, good_steps, skipped_steps: skipped }
    }
}

impl Scaling {
    /// As the device takes it.
    pub fn scaler(&self) -> Scaler {
        Scaler { scale: self.loss_scale, good_steps: self.good_steps, skipped: self.skipped_steps }
    }
}
