//! Limits of the settings.

use super::{Arch, Config, DeviceKind};
use crate::data::{Augment, Balance};
use crate::run::error::{Error, Result};

/// The largest image size of a network: the bytes that follow from it still fit the counters.
pub const LARGEST_IMAGE: usize = 4096;

/// What a key is called in a message: `--lr`, or `lr in my.toml`.
type Name<'a> = &'a dyn Fn(&str) -> String;

/// The name of a flag.
pub fn flag(key: &str) -> String {
    format!("--{key}")
}

impl Config {
    /// Checks every value by itself and against the others; `name` gives a key its name in a message.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first value that is not allowed, [`Error::Conflict`] two that contradict each other.
    pub fn validate(&self, name: Name) -> Result<()> {
        self.check_counts(name)?;
        self.check_numbers(name)?;
        self.check_pixels(name)?;
        self.check_conflicts(name)
    }

    fn check_counts(&self, name: Name) -> Result<()> {
        for (key, value, most) in [("epochs", self.epochs, 1_000_000), ("threads", self.threads, 1024)] {
            if value > most {
                return refuse(name, key, value, &format!("at most {most}"));
            }
        }
        for (key, value) in [
            ("batch-size", Some(self.batch_size)),
            ("accumulate", Some(self.accumulate)),
            ("step-size", Some(self.step_size)),
            ("groups", Some(self.groups)),
            ("resize", self.resize),
            ("limit-train", self.limit_train),
            ("val", self.val.map(|val| val.of(usize::MAX))),
            ("limit-test", self.limit_test),
            ("crop-padding", self.crop_padding),
            ("cutout", self.cutout),
            ("test-every", Some(self.test_every)),
        ] {
            if value == Some(0) {
                return refuse(name, key, 0, "at least 1");
            }
        }
        let shards = self.shards.max(1);
        if !shards.is_power_of_two() {
            return refuse(name, "shards", shards, "a power of two");
        }
        if shards > self.batch_size {
            return refuse(name, "shards", shards, &format!("at most {}, {}", name("batch-size"), self.batch_size));
        }
        if self.batch_size.checked_mul(self.accumulate).is_none_or(|images| images > u32::MAX as usize) {
            return refuse(name, "accumulate", self.accumulate, "batch-size times accumulate below 2^32");
        }
        if i64::try_from(self.seed).is_err() {
            return refuse(name, "seed", self.seed, "at most 9223372036854775807");
        }
        Ok(())
    }

    fn check_numbers(&self, name: Name) -> Result<()> {
        for (key, value) in
            [("lr", self.lr), ("weight-decay", self.weight_decay), ("gamma", self.gamma), ("warmup", self.warmup)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(name, key, value, "a finite number, 0 or more");
            }
        }
        for (key, value) in [
            ("momentum", self.momentum),
            ("dropout", self.dropout),
            ("label-smoothing", self.label_smoothing),
            ("ema", self.ema),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(name, key, value, "a number from 0 to below 1");
            }
        }
        if let Some(rate) = self.lr_features.filter(|rate| !(rate.is_finite() && *rate >= 0.0)) {
            return refuse(name, "lr-features", rate, "a finite number, 0 or more");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return refuse(name, "jitter", self.jitter, "a number from 0 to 1");
        }
        for (key, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if !(alpha == 0.0 || (0.001..=1000.0).contains(&alpha)) {
                return refuse(name, key, alpha, "0, or a number from 0.001 to 1000");
            }
        }
        Ok(())
    }

    fn check_pixels(&self, name: Name) -> Result<()> {
        let image_size = self.image_size();
        for (key, pixels, most, what) in [
            ("resize", self.resize, LARGEST_IMAGE, ""),
            ("crop-padding", self.crop_padding, image_size, "the image size, "),
            ("cutout", self.cutout, image_size, "the image size, "),
        ] {
            if let Some(pixels) = pixels.filter(|&pixels| pixels > most) {
                return refuse(name, key, pixels, &format!("at most {what}{most}"));
            }
        }
        Ok(())
    }

    fn check_conflicts(&self, name: Name) -> Result<()> {
        let weights = format!("cannot be used with {}", name("init"));
        let Augment { crop, resized_crop, .. } = self.augment;
        let conflicts = [
            ("crop-padding", self.crop_padding.is_some() && !self.augment.crop, {
                format!("is given, but {} has no crop", name("augment"))
            }),
            ("augment", crop && resized_crop, "has crop and resized-crop, which exclude each other".into()),
            ("crop-scale", self.crop_scale.is_some() && !resized_crop, {
                format!("is given, but {} has no resized-crop", name("augment"))
            }),
            ("balance", self.balance == Balance::Sampler && self.no_shuffle, {
                format!("is sampler, which draws at random, but {} keeps the order", name("no-shuffle"))
            }),
            ("lr-features", self.lr_features.is_some_and(|rate| rate > 0.0) && self.lr == 0.0, {
                format!("is given, but {} is 0; both follow the same schedule", name("lr"))
            }),
            ("cutout", self.cutout.is_some() && !self.augment.cutout, {
                format!("is given, but {} has no cutout", name("augment"))
            }),
            ("nesterov", self.nesterov && self.momentum == 0.0, "needs a momentum above 0".into()),
            ("groups", self.groups != 1 && self.arch != Arch::Original, {
                format!("is {}, but only `original` has groups", self.groups)
            }),
            ("whiten", self.whiten && self.init.is_some(), weights.clone()),
            ("identity", self.identity && self.init.is_some(), weights),
            ("batch-size", self.batch_size == 1 && self.model().batch_norm, "is 1, batch norm needs 2 or more".into()),
            (
                "shards",
                {
                    let few = self.shards > 1 && self.batch_size < 2 * self.shards;
                    few && self.model().batch_norm && !self.sync_bn
                },
                {
                    format!(
                        "is {}, but batch norm needs 2 or more images in each, {} has {}",
                        self.shards,
                        name("batch-size"),
                        self.batch_size
                    )
                },
            ),
            ("sync-bn", self.sync_bn && !self.model().batch_norm, {
                format!("is given, but the network has no batch norm; {} adds them", name("batch-norm"))
            }),
            ("sync-bn", self.sync_bn && self.accumulate > 1, {
                format!(
                    "needs all images of a step at once, but with {} {} they come one batch after another; a larger {} in more {} \
                     takes no more memory per process",
                    name("accumulate"),
                    self.accumulate,
                    name("batch-size"),
                    name("shards")
                )
            }),
            (
                "replace-classifier",
                self.replace_classifier && self.init.is_none(),
                "needs weights to start from".into(),
            ),
            ("warmup", self.epochs > 0 && self.warmup > self.epochs as f64, {
                format!("is {} epochs, longer than the run of {}", self.warmup, self.epochs)
            }),
            ("precision", self.device == DeviceKind::Cpu && !self.precision.is_for_cpu(), {
                format!("is {}, but the CPU computes in fp32 and bf16 only", self.precision)
            }),
        ];
        match conflicts.into_iter().find(|(_, found, _)| *found) {
            Some((key, _, message)) => Err(Error::Conflict { key, message: format!("{} {message}", name(key)) }),
            None => Ok(()),
        }
    }
}

fn refuse(name: Name, key: &str, value: impl ToString, expected: &str) -> Result<()> {
    Err(Error::Setting { name: name(key), value: value.to_string(), expected: expected.into() })
}
