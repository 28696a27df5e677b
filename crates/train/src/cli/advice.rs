//! One line each about what a user may not have noticed. They are no errors: the run goes on.

use crate::data::{Balance, Dataset};
use crate::print::visible;
use crate::run::Config;
use crate::run::config::Arch;
use crate::run::summary::count;

/// Ratio of the largest class to the smallest from which the classes count as imbalanced.
const IMBALANCED: usize = 3;
/// Ratio of a picture's shorter side to the network's input from which most of the picture is lost.
const SHRUNK: usize = 2;
/// Input size of the smallest network that is made for photos.
const PHOTOS: usize = 128;

/// That pictures are shrunk to a small network's input, and what to add.
pub fn small_input(dataset: &Dataset, config: &Config) -> Option<String> {
    let (size, [width, height]) = (config.image_size(), dataset.extent?);
    let shrunk = width.min(height) as usize >= SHRUNK * size && size < PHOTOS;
    let add = match config.arch {
        Arch::Torchvision | Arch::Original => "a larger --resize shows it more",
        _ => "add --arch torchvision, or fine-tune one with --init FILE --replace-classifier",
    };
    shrunk.then(|| format!("your pictures are about {width}×{height}; the network sees {size}×{size}: {add}"))
}

/// That some classes have many more images than others, and what to add.
pub fn imbalance(dataset: &Dataset, config: &Config) -> Option<String> {
    let counts = dataset.train.counts(dataset.classes.len());
    let present = || counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let (most, least) = (present().max_by_key(|(_, count)| **count)?, present().min_by_key(|(_, count)| **count)?);
    // The first few images of a set that --limit-train takes say nothing of it.
    let asked = config.balance == Balance::None && !config.no_shuffle && config.limit_train.is_none();
    let imbalanced = asked && *most.1 >= IMBALANCED * *least.1;
    imbalanced.then(|| {
        let [most, least] = [most, least].map(|(class, number)| (visible(&dataset.classes[class]), number));
        format!(
            "classes are imbalanced: {} has {}, {} has {}; --balance sampler draws every class equally often",
            most.0,
            count(*most.1, "image"),
            least.0,
            least.1
        )
    })
}
