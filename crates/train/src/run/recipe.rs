//! Recipes: named sets of settings that were chosen together, as TOML files in `recipes/`.

use std::path::PathBuf;

use super::config::Config;
use super::error::Result;

/// A named set of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Recipe {
    /// The tutorial's training: SGD with a step schedule, crop and flip, weight decay on everything; 100 epochs
    Tutorial,
    /// The same network with today's training: warm-up, cosine, Nesterov, label smoothing; 60 epochs
    Strong,
    /// `strong` with batch norm before every ReLU, twice the learning rate, and RandAugment; 170 epochs
    StrongBn,
    /// A modern AlexNet, `--arch modern`, with a whitening first convolution; one cosine over 80 epochs
    Modern,
    /// `modern`'s network in about ten minutes: a triangular learning rate over 7 epochs
    Fast,
    /// Fine-tuning on photos: --init FILE --replace-classifier; a new head at 0.01, features at 0.001; 20 epochs
    Finetune,
}

impl Recipe {
    /// Name and contents of its file.
    pub const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Tutorial => ("tutorial.toml", include_str!("../../recipes/tutorial.toml")),
            Self::Strong => ("strong.toml", include_str!("../../recipes/strong.toml")),
            Self::StrongBn => ("strong-bn.toml", include_str!("../../recipes/strong-bn.toml")),
            Self::Modern => ("modern.toml", include_str!("../../recipes/modern.toml")),
            Self::Fast => ("fast.toml", include_str!("../../recipes/fast.toml")),
            Self::Finetune => ("finetune.toml", include_str!("../../recipes/finetune.toml")),
        }
    }

    /// Its settings; missing keys have their default.
    ///
    /// # Errors
    /// None for the recipes in the tree.
    pub fn config(self) -> Result<Config> {
        let (name, text) = self.file();
        Config::parse(text, &PathBuf::from(name))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_recipe_is_valid_and_says_what_it_is() {
        for recipe in Recipe::value_variants() {
            let (file, text) = recipe.file();
            recipe.config().unwrap().validate(&|key| format!("{key} in {file}")).unwrap();
            let value = recipe.to_possible_value().unwrap();
            assert_eq!(file, format!("{}.toml", value.get_name()));
            let help = value.get_help().unwrap().to_string();
            assert_eq!(text.lines().next().unwrap(), format!("# {help}"));
        }
    }

    #[test]
    fn the_tutorials_is_the_default_but_for_the_decay_of_biases() {
        assert_eq!(Recipe::Tutorial.config().unwrap(), Config { decay_all: true, ..Config::default() });
    }
}
