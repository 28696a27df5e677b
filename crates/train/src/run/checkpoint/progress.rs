//! How far a run is, as its checkpoint tells it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::run::config::Config;
use crate::run::scaling::Scaling;

/// Progress of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished epochs.
    pub epoch: usize,
    /// Updates since the start.
    pub step: u64,
    /// Updates in the current epoch.
    pub step_in_epoch: usize,
    /// Sum of the losses of the current epoch.
    pub loss_sum: f64,
    /// Correct predictions in the current epoch.
    pub correct: u64,
    /// Images seen in the current epoch.
    pub images: u64,
    /// Seconds spent in the current epoch.
    pub seconds: f64,
    /// The best validation (or test) accuracy so far.
    pub best_accuracy: Option<f64>,
    /// The loss of that epoch; absent in older checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_loss: Option<f64>,
    /// Evaluations since the best one, for --patience.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stale: usize,
    /// State of loss scaling, with --precision fp16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Progress {
    /// Checks that a run with the settings `config` can be that far. `path` is the checkpoint's.
    ///
    /// # Errors
    /// [`Error::Progress`] with the first field that cannot be.
    pub fn check(&self, config: &Config, path: &Path) -> Result<()> {
        let count = |field, value: u64, most: u64| (field, value.to_string(), value <= most, format!("at most {most}"));
        let number = |field, value: f64, most: f64| {
            let expected = if most == 1.0 { "0 to 1" } else { "a finite number from 0" };
            (field, value.to_string(), (0.0..=most).contains(&value), expected.to_owned())
        };
        let Self { step, images, .. } = *self;
        let (epoch, step_in_epoch) = (self.epoch as u64, self.step_in_epoch as u64);
        let per_step = (config.batch_size as u64).saturating_mul(config.accumulate as u64);
        let fields = [
            count("step", step, u32::MAX.into()),
            count("step_in_epoch", step_in_epoch, step),
            count("epoch", epoch, (config.epochs as u64).min(step.saturating_sub(step_in_epoch))),
            count("images", images, step.saturating_mul(per_step)),
            count("correct", self.correct, images),
            count("stale", self.stale as u64, epoch),
            number("loss_sum", self.loss_sum, f64::MAX),
            number("seconds", self.seconds, f64::MAX),
            number("best_accuracy", self.best_accuracy.unwrap_or(0.0), 1.0),
            number("best_loss", self.best_loss.unwrap_or(0.0), f64::MAX),
            number("loss_scale", self.scaling.map_or(1.0, |scaling| scaling.loss_scale.into()), f32::MAX.into()),
        ];
        match fields.into_iter().find(|(_, _, possible, _)| !possible) {
            Some((field, value, _, expected)) => Err(Error::Progress { path: path.into(), field, value, expected }),
            None => Ok(()),
        }
    }

    /// Checks that the epoch has a step to go on from, of `steps`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_step(&self, steps: usize, path: &Path) -> Result<()> {
        match self.step_in_epoch <= steps {
            true => Ok(()),
            false => Err(Error::Progress {
                path: path.into(),
                field: "step_in_epoch",
                value: self.step_in_epoch.to_string(),
                expected: format!("at most {steps}, the steps of an epoch"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_named() {
        let config = Config { epochs: 3, batch_size: 16, ..Config::default() };
        let good = Progress {
            epoch: 2,
            step: 10,
            step_in_epoch: 2,
            loss_sum: 40.0,
            correct: 20,
            images: 32,
            seconds: 1.5,
            best_accuracy: Some(0.5),
            best_loss: Some(1.5),
            stale: 1,
            scaling: None,
        };
        let path = Path::new("run/last.safetensors");
        good.check(&config, path).unwrap();
        Progress::default().check(&Config { epochs: 0, ..config.clone() }, path).unwrap();
        let scaling = Scaling { loss_scale: f32::NAN, good_steps: 0, skipped_steps: 0 };
        for (field, bad) in [
            ("step", Progress { step: 1 << 40, ..good.clone() }),
            ("step_in_epoch", Progress { step_in_epoch: 1_000_000, ..good.clone() }),
            ("epoch", Progress { epoch: 4, ..good.clone() }),
            ("epoch", Progress { epoch: 3, step: 4, ..good.clone() }),
            ("images", Progress { images: u64::MAX, ..good.clone() }),
            ("correct", Progress { correct: 1 << 63, ..good.clone() }),
            ("stale", Progress { stale: 9, ..good.clone() }),
            ("loss_sum", Progress { loss_sum: f64::NAN, ..good.clone() }),
            ("seconds", Progress { seconds: -1.0, ..good.clone() }),
            ("best_accuracy", Progress { best_accuracy: Some(1.5), ..good.clone() }),
            ("best_loss", Progress { best_loss: Some(f64::INFINITY), ..good.clone() }),
            ("loss_scale", Progress { scaling: Some(scaling), ..good.clone() }),
        ] {
            let error = bad.check(&config, path).unwrap_err();
            assert!(error.to_string().contains(&format!("{field} is ")), "{field}: {error}");
        }
        good.check_step(2, path).unwrap();
        assert!(good.check_step(1, path).unwrap_err().to_string().contains("step_in_epoch is 2, expected at most 1"));
    }
}
