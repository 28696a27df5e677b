//! The learning rate of every step.

use serde::{Deserialize, Serialize};

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// lr·γ^⌊epoch / step-size⌋, as PyTorch's StepLR
    Step,
    /// Half a cosine from lr after the warm-up to 0 at the end
    Cosine,
    /// lr all the way
    Constant,
}

/// The learning rate as a function of the step.
///
/// With s the step and e = ⌊s / steps an epoch⌋ the epoch, both from 0, W the steps of the warm-up and T those of the
/// whole run:
/// - step: lr·γ^⌊e / step-size⌋;
/// - cosine: lr·(1 + cos(π·(s − W) / (T − W))) / 2 from step W on, lr before;
/// - constant: lr;
///
/// and during the warm-up, s < W, that times (s + 1) / W.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// lr.
    pub base: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Epochs between two falls.
    pub step_size: usize,
    /// γ.
    pub gamma: f64,
    /// W.
    pub warmup_steps: u64,
    /// Steps an epoch.
    pub epoch_steps: u64,
    /// T.
    pub total_steps: u64,
}

impl LearningRate {
    /// The learning rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        let rate = match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Step => {
                let falls = step / self.epoch_steps.max(1) / (self.step_size as u64).max(1);
                self.base * self.gamma.powi(falls.min(i32::MAX as u64) as i32)
            }
            Schedule::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let done = step.saturating_sub(self.warmup_steps) as f64 / length as f64;
                self.base * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()) / 2.0
            }
        };
        match step < self.warmup_steps {
            true => rate * (step + 1) as f64 / self.warmup_steps as f64,
            false => rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LearningRate = LearningRate {
        base: 0.01,
        schedule: Schedule::Step,
        step_size: 30,
        gamma: 0.1,
        warmup_steps: 0,
        epoch_steps: 391,
        total_steps: 39_100,
    };

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-15, "{found} instead of {expected}");
    }

    #[test]
    fn step_as_pytorch() {
        // torch.optim.lr_scheduler.StepLR(step_size=30, gamma=0.1) with lr 0.01, stepped once an epoch.
        for (epoch, rate) in [(0, 1e-2), (29, 1e-2), (30, 1e-3), (59, 1e-3), (60, 1e-4), (99, 1e-5)] {
            close(RATE.at(epoch * 391), rate);
            close(RATE.at(epoch * 391 + 390), rate);
        }
    }

    #[test]
    fn cosine_ends_near_zero() {
        let rate = LearningRate { schedule: Schedule::Cosine, warmup_steps: 100, total_steps: 1100, ..RATE };
        close(rate.at(100), 0.01);
        close(rate.at(600), 0.005);
        assert!(rate.at(1099) > 0.0 && rate.at(1099) < 1e-7);
        close(rate.at(5000), 0.0);
    }

    #[test]
    fn warm_up_rises_to_the_schedule() {
        for schedule in [Schedule::Step, Schedule::Cosine, Schedule::Constant] {
            let rate = LearningRate { schedule, warmup_steps: 4, ..RATE };
            for (step, share) in [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0)] {
                close(rate.at(step), 0.01 * share);
            }
        }
    }

    #[test]
    fn constant_stays() {
        close(LearningRate { schedule: Schedule::Constant, ..RATE }.at(39_099), 0.01);
    }
}
