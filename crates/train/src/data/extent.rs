//! The usual width and height of a folder's pictures, from a few headers.

use super::split::Split;

/// Pictures whose headers are read.
const SAMPLED: usize = 15;

/// Width and height of the picture with the median area among a few of a split's files, spread evenly over it. Nothing is
/// decoded; files whose header cannot be read are left to the errors of decoding. None for images in memory.
pub fn typical(split: &Split) -> Option<[u32; 2]> {
    let mut extents: Vec<[u32; 2]> = (0..split.len().min(SAMPLED))
        .filter_map(|i| split.file(i * split.len() / split.len().min(SAMPLED)))
        .filter_map(|path| image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_dimensions().ok())
        .map(|(width, height)| [width, height])
        .collect();
    extents.sort_by_key(|&[width, height]| (u64::from(width) * u64::from(height), width));
    extents.get(extents.len() / 2).copied()
}
