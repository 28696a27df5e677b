//! Names of the classes of imported weights.

use std::path::Path;

use super::WeightFile;
use crate::data::{self, cifar};
use crate::regular_file;
use crate::run::Error;
use crate::run::model::Model;

/// The 1,000 classes of ImageNet (ILSVRC 2012) in their usual order, a name per line: `AlexNet_Weights.DEFAULT` of
/// torchvision names them so (BSD licence).
const IMAGENET: &str = include_str!("imagenet.txt");

/// Largest file of names.
const LARGEST: u64 = 4 << 20;

/// The names of ImageNet's classes.
pub fn imagenet() -> Vec<String> {
    IMAGENET.lines().map(String::from).collect()
}

/// The names in the file's metadata; ImageNet's for 1,000 classes of torchvision's network; else the classes' numbers.
///
/// # Errors
/// What is wrong with the names in the metadata.
pub fn of_file(weights: &WeightFile, model: &Model, count: usize) -> Result<Vec<String>, String> {
    if let Some(note) = weights.note("classes") {
        let names = data::classes::parse(&note).map_err(|reason| format!("its `classes` cannot be used: {reason}"))?;
        if names.len() != count {
            return Err(format!("it names {} classes, but has {count} outputs", names.len()));
        }
        return Ok(names);
    }
    Ok(match (model.variant.as_str(), count) {
        ("torchvision", 1000) => imagenet(),
        _ => (0..count).map(|class| class.to_string()).collect(),
    })
}

/// The names that `--classes` gives: `cifar10`, `imagenet`, a file with a name per line, or names with commas.
///
/// # Errors
/// A file that cannot be read, or an empty name.
pub fn given(words: &str) -> Result<Vec<String>, Error> {
    match words {
        "cifar10" => return Ok(cifar::CLASSES.map(String::from).to_vec()),
        "imagenet" => return Ok(imagenet()),
        _ => (),
    }
    let path = Path::new(words);
    let names: Vec<String> = if path.exists() {
        let text = regular_file::read_text(path, LARGEST).map_err(Error::io("read", path))?;
        text.trim_start_matches('\u{feff}')
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    } else {
        words.split(',').map(|name| name.trim().to_owned()).collect()
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(Error::Setting {
            name: "--classes".into(),
            value: format!("`{words}`"),
            expected: "cifar10, imagenet, a file with one name per line, or names separated by commas".into(),
        });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_has_a_thousand_names() {
        let names = imagenet();
        assert_eq!(names.len(), 1000);
        assert_eq!((&*names[0], &*names[283], &*names[999]), ("tench", "Persian cat", "toilet tissue"));
        assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), 1000);
        assert!(names.iter().all(|name| !name.is_empty() && name.trim() == name));
    }
}
