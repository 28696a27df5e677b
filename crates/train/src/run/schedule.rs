//! The learning rate of every step.

use serde::{Deserialize, Serialize};

/// Learning rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// lr·γ^⌊epoch / step-size⌋, as PyTorch's StepLR
    Step,
    /// Half a cosine from lr after the warm-up to 0 at the end
    Cosine,
    /// Half a cosine up from lr/25 to lr during the warm-up, then another down to lr/250000, as PyTorch's OneCycleLR
    OneCycle,
    /// Straight up to lr during the warm-up, then straight down to 0 at the end
    Triangle,
    /// lr all the way
    Constant,
}

/// The learning rate as a function of the step.
///
/// With s the step and e = ⌊s / steps per epoch⌋ the epoch, both from 0, W the steps of the warm-up and T those of the
/// whole run:
/// - step: lr·γ^⌊e / step-size⌋;
/// - cosine: lr·(1 + cos(π·(s − W) / (T − W))) / 2 from step W on, lr before;
/// - triangle: lr·(T − s) / (T − W) from step W on, lr before;
/// - constant: lr;
///
/// and during the warm-up, s < W, that times (s + 1) / W. One-cycle has a warm-up of its own. With
/// cos(a, b, x) = b + (a − b)·(1 + cos(π·x)) / 2, which falls from a to b as x goes from 0 to 1:
/// - one-cycle: cos(lr/25, lr, s / (W − 1)) up to step W − 1, then cos(lr, lr/25/10⁴, (s − W + 1) / (T − W)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The peak learning rate, lr.
    pub base: f64,
    /// The schedule.
    pub schedule: Schedule,
    /// Epochs between two drops of `step`.
    pub step_size: usize,
    /// Factor of a drop of `step`, γ.
    pub gamma: f64,
    /// Warm-up steps, W.
    pub warmup_steps: u64,
    /// Steps per epoch.
    pub epoch_steps: u64,
    /// Total steps, T.
    pub total_steps: u64,
}

impl LearningRate {
    /// The learning rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        let length = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let rate = match self.schedule {
            Schedule::OneCycle => {
                let (first, peak) = (self.base / 25.0, self.warmup_steps as f64 - 1.0);
                // No division by 0: a warm-up of one step is at lr throughout.
                return match (step as f64) < peak {
                    true => half_cosine(first, self.base, step as f64 / peak),
                    false => half_cosine(self.base, first / 1e4, (step as f64 - peak) / length),
                };
            }
            Schedule::Triangle => self.base * (1.0 - step.saturating_sub(self.warmup_steps) as f64 / length).max(0.0),
            Schedule::Constant => self.base,
            Schedule::Step => {
                let drops = step / self.epoch_steps.max(1) / (self.step_size as u64).max(1);
                self.base * self.gamma.powi(drops.min(i32::MAX as u64) as i32)
            }
            Schedule::Cosine => half_cosine(self.base, 0.0, step.saturating_sub(self.warmup_steps) as f64 / length),
        };
        match step < self.warmup_steps {
            true => rate * (step + 1) as f64 / self.warmup_steps as f64,
            false => rate,
        }
    }
}

/// Half a cosine from `from` to `to` as `done` goes from 0 to 1.
fn half_cosine(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()) / 2.0
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
        // torch.optim.lr_scheduler.StepLR(step_size=30, gamma=0.1) with lr 0.01, stepped once per epoch.
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
        for schedule in [Schedule::Step, Schedule::Cosine, Schedule::Triangle, Schedule::Constant] {
            let rate = LearningRate { schedule, warmup_steps: 4, ..RATE };
            for (step, share) in [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0)] {
                close(rate.at(step), 0.01 * share);
            }
        }
    }

    #[test]
    fn one_cycle_as_pytorch() {
        // optimiser = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        // torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=T, pct_start=W / T, cycle_momentum=False)
        // and optimiser.param_groups[0]['lr'] before each step.
        let rate = |warmup_steps, total_steps| {
            let schedule = Schedule::OneCycle;
            LearningRate { base: 0.1, schedule, warmup_steps, total_steps, ..RATE }
        };
        #[rustfmt::skip]
        let twenty = [
            0.0040000000000000036, 0.018058874503045733, 0.052000000000000005, 0.08594112549695429, 0.1,
            0.09890738440717015, 0.09567729017303851, 0.0904508879153485, 0.08345659649182165, 0.0750001,
            0.0654509879153485, 0.05522660225769002, 0.04477379774230999, 0.03454941208465151, 0.025000300000000013,
            0.01654380350817838, 0.009549512084651508, 0.0043231098269614805, 0.0010930155928298624, 4e-07,
        ];
        for (step, expected) in (0..).zip(twenty) {
            close(rate(5, 20).at(step), expected);
        }
        for (step, expected) in [
            (1, 0.00400264950421679),
            (150, 0.05225216681225469),
            (299, 0.1),
            (300, 0.09999949645161448),
            (650, 0.049775802175648615),
            (998, 9.035483855369959e-07),
        ] {
            close(rate(300, 1000).at(step), expected);
        }
        for (step, expected) in [(0, 0.09619399184965784), (6, 0.0038064081503421656), (7, 4e-07)] {
            close(rate(0, 8).at(step), expected);
        }
        // A warm-up of one step, where PyTorch divides by zero; and beyond the end.
        close(rate(1, 20).at(0), 0.1);
        close(rate(5, 20).at(500), 4e-07);
    }

    #[test]
    fn triangle_falls_as_pytorch() {
        // torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 16) with lr 0.1, after a warm-up of 4 steps.
        let rate = LearningRate { base: 0.1, schedule: Schedule::Triangle, warmup_steps: 4, total_steps: 20, ..RATE };
        for (step, expected) in
            [(0, 0.1), (1, 0.09375), (4, 0.07500000000000001), (9, 0.04375), (15, 0.006250000000000001)]
        {
            close(rate.at(4 + step), expected);
        }
        close(rate.at(20), 0.0);
        close(rate.at(500), 0.0);
    }

    #[test]
    fn constant_stays() {
        close(LearningRate { schedule: Schedule::Constant, ..RATE }.at(39_099), 0.01);
    }
}
