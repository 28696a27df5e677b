//! Labelled images, in memory or as files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::broken::BrokenPictures;
use super::decode::Exif;
use super::error::{DataError, Result};
use super::preprocess::Fit;
use super::{decode, resize};

/// Labelled images, in memory or as files that are decoded when needed. Clones share the images.
///
/// A split that [skips broken pictures](Split::skipping) shows in place of each the next one of its class, so that its
/// length, its labels, and the random numbers of all other images stay the same.
#[derive(Clone, Debug)]
pub struct Split(Arc<Inner>, Option<BrokenPictures>);

#[derive(Clone, Debug)]
struct Inner {
    labels: Vec<u32>,
    images: Images,
}

#[derive(Clone, Debug)]
enum Images {
    /// All images, NHWC with 3 channels, height = width = `image_size`. `fit` if they were resized and cropped by it.
    Memory { pixels: Vec<u8>, image_size: usize, fit: Option<Fit> },
    /// One folder per class, and the path of each image in the folder of its label.
    Files { folders: Vec<PathBuf>, names: Vec<Box<OsStr>>, exif: Exif },
}

impl Split {
    /// Images in memory: `pixels` is (N, `image_size`, `image_size`, 3).
    ///
    /// # Panics
    /// If there are not `image_size`·`image_size`·3 bytes per label.
    pub fn in_memory(pixels: Vec<u8>, image_size: usize, labels: Vec<u32>) -> Self {
        assert_eq!(pixels.len(), labels.len() * image_size * image_size * 3, "bytes of {} images", labels.len());
        Split(Arc::new(Inner { labels, images: Images::Memory { pixels, image_size, fit: None } }), None)
    }

    /// Other images in place of these; broken pictures are skipped as before.
    fn with(&self, labels: Vec<u32>, images: Images) -> Self {
        Split(Arc::new(Inner { labels, images }), self.1.clone())
    }

    /// Images as files: image i is `folders[labels[i]]/names[i]`, turned upright as its metadata say.
    ///
    /// # Panics
    /// If the lengths differ, or a label has no folder.
    pub fn in_files(folders: Vec<PathBuf>, names: Vec<Box<OsStr>>, labels: Vec<u32>) -> Self {
        assert_eq!(names.len(), labels.len(), "names and labels");
        assert!(labels.iter().all(|&label| (label as usize) < folders.len()), "a folder for each label");
        Split(Arc::new(Inner { labels, images: Images::Files { folders, names, exif: Exif::Apply } }), None)
    }

    /// What is done with the orientation of files; images in memory stay as they are.
    pub fn with_exif(self, exif: Exif) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| (*shared).clone());
        if let Images::Files { exif: own, .. } = &mut inner.images {
            *own = exif;
        }
        Split(Arc::new(inner), self.1)
    }

    /// No images.
    pub fn empty() -> Self {
        Split::in_files(Vec::new(), Vec::new(), Vec::new())
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.0.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.0.labels.is_empty()
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u32] {
        &self.0.labels
    }

    /// The pixels, NHWC, if they are in memory.
    pub fn pixels(&self) -> Option<&[u8]> {
        match &self.0.images {
            Images::Memory { pixels, .. } => Some(pixels),
            Images::Files { .. } => None,
        }
    }

    /// Height and width of the images in memory; `None` for files, which have any size.
    pub fn image_size(&self) -> Option<usize> {
        match &self.0.images {
            Images::Memory { image_size, .. } => Some(*image_size),
            Images::Files { .. } => None,
        }
    }

    /// Whether the images are in memory as `fit` makes them.
    pub fn is_ready(&self, fit: Fit) -> bool {
        match self.0.images {
            Images::Memory { image_size, fit: made, .. } => {
                made == Some(fit) || (fit.short == fit.crop && image_size == fit.crop)
            }
            Images::Files { .. } => false,
        }
    }

    /// The file of image `index`, if images are files.
    pub fn file(&self, index: usize) -> Option<PathBuf> {
        match &self.0.images {
            Images::Memory { .. } => None,
            Images::Files { folders, names, .. } => Some(folders[self.0.labels[index] as usize].join(&*names[index])),
        }
    }

    /// The name of image `index` within the folder of its class, if images are files.
    pub fn name(&self, index: usize) -> Option<&OsStr> {
        match &self.0.images {
            Images::Memory { .. } => None,
            Images::Files { names, .. } => Some(&names[index]),
        }
    }

    /// Number of images per class.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        self.0.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    /// At most `limit` images, spread evenly over the split, so that images sorted by class stay balanced.
    pub fn limit(&self, limit: usize) -> Split {
        let len = self.len();
        if limit >= len {
            return self.clone();
        }
        self.select(&(0..limit).map(|i| (i as u64 * len as u64 / limit as u64) as usize).collect::<Vec<_>>())
    }

    /// The images at these indices.
    pub(super) fn select(&self, indices: &[usize]) -> Split {
        let kept = || indices.iter().copied();
        let labels = kept().map(|i| self.0.labels[i]).collect();
        let images = match &self.0.images {
            Images::Memory { pixels, image_size, fit } => {
                let bytes = image_size * image_size * 3;
                let pixels = kept().flat_map(|i| &pixels[i * bytes..][..bytes]).copied().collect();
                Images::Memory { pixels, image_size: *image_size, fit: *fit }
            }
            Images::Files { folders, names, exif } => {
                let names = kept().map(|i| names[i].clone()).collect();
                Images::Files { folders: folders.clone(), names, exif: *exif }
            }
        };
        self.with(labels, images)
    }

    /// The images with other labels: `map[label]` in place of each, of `classes` classes.
    ///
    /// # Panics
    /// If a label has no place in `map`, or two labels have the same.
    pub fn relabelled(&self, map: &[u32], classes: usize) -> Split {
        let labels = self.0.labels.iter().map(|&label| map[label as usize]).collect();
        let mut images = self.0.images.clone();
        if let Images::Files { folders, .. } = &mut images {
            let mut moved = vec![PathBuf::new(); classes];
            map.iter().zip(&*folders).for_each(|(&label, folder)| moved[label as usize].clone_from(folder));
            *folders = moved;
        }
        self.with(labels, images)
    }

    /// The same images, with the next readable one of its class in place of each that is broken; `broken` gets to know
    /// of these.
    pub fn skipping(&self, broken: &BrokenPictures) -> Split {
        Split(self.0.clone(), Some(broken.clone()))
    }

    /// The broken pictures found so far, if they are skipped.
    pub fn broken(&self) -> Option<&BrokenPictures> {
        self.1.as_ref()
    }

    /// The images that can be decoded; reads them all, on all cores. `broken` gets to know of the others.
    ///
    /// # Errors
    /// A file cannot be read for another reason; no image is left.
    pub fn without_broken(&self, fit: impl Into<Fit>, broken: &BrokenPictures) -> Result<Split> {
        let fit = fit.into();
        let good = |scratch: &mut Vec<u8>, index| match self.image(index, fit, scratch) {
            Ok(_) => Ok(true),
            Err(error) => broken.add(error).map(|()| false),
        };
        let good: Vec<bool> = (0..self.len()).into_par_iter().map_init(Vec::new, good).collect::<Result<_>>()?;
        let kept: Vec<usize> = (0..self.len()).filter(|&index| good[index]).collect();
        match kept.len() {
            0 if !self.is_empty() => Err(self.all_broken(0)),
            n if n == self.len() => Ok(self.clone()),
            _ => Ok(self.select(&kept)),
        }
    }

    /// Image `index` as RGB (`fit.crop`, `fit.crop`, 3). Borrows from the split if it can, else fills `scratch`.
    ///
    /// # Errors
    /// [`DataError::Decode`] or [`DataError::Io`] with the path of a file that cannot be read.
    pub fn image<'a>(&'a self, index: usize, fit: impl Into<Fit>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let fit = fit.into();
        match &self.0.images {
            Images::Memory { pixels, image_size: own, .. } => {
                let bytes = own * own * 3;
                let image = &pixels[index * bytes..][..bytes];
                if self.is_ready(fit) {
                    return Ok(image);
                }
                scratch.resize(fit.crop * fit.crop * 3, 0);
                resize::resize(image, *own, *own, fit, scratch)
                    .map_err(|reason| DataError::Decode { path: format!("image {index}").into(), reason })?;
            }
            Images::Files { exif, .. } => {
                scratch.resize(fit.crop * fit.crop * 3, 0);
                self.readable(index, |path| decode::decode_file(path, *exif, fit, scratch))?;
            }
        }
        Ok(scratch)
    }

    /// Image `index` as it is, before any resizing: its pixels (H, W, 3), width and height. Borrows from the split if it
    /// can, else fills `scratch`. In memory that is the image at the split's own size.
    ///
    /// # Errors
    /// As [`Split::image`].
    pub fn original<'a>(&'a self, index: usize, scratch: &'a mut Vec<u8>) -> Result<(&'a [u8], usize, usize)> {
        match &self.0.images {
            Images::Memory { pixels, image_size, .. } => {
                let bytes = image_size * image_size * 3;
                Ok((&pixels[index * bytes..][..bytes], *image_size, *image_size))
            }
            Images::Files { exif, .. } => {
                let (pixels, width, height) = self.readable(index, |path| decode::decode_original(path, *exif))?;
                *scratch = pixels;
                Ok((scratch, width, height))
            }
        }
    }

    /// Reads the file of image `index`, or if it is broken and such are skipped, the next one of its class.
    fn readable<T>(&self, index: usize, mut read: impl FnMut(&Path) -> Result<T>) -> Result<T> {
        let mut read = |index| read(&self.file(index).unwrap_or_default());
        let Some(broken) = &self.1 else { return read(index) };
        let labels = &self.0.labels;
        for other in (index..self.len()).chain(0..index).filter(|&other| labels[other] == labels[index]) {
            match read(other) {
                Ok(found) => return Ok(found),
                Err(error) => broken.add(error)?,
            }
        }
        Err(self.all_broken(index))
    }

    fn all_broken(&self, index: usize) -> DataError {
        let file = self.file(index).unwrap_or_default();
        DataError::AllBroken { path: file.parent().map_or_else(|| file.clone(), PathBuf::from) }
    }

    /// Reads every image and returns the errors of those that cannot be read, in order.
    pub fn faults(&self, image_size: usize) -> Vec<DataError> {
        let fault = |scratch: &mut Vec<u8>, index| self.image(index, image_size, scratch).err();
        (0..self.len()).into_par_iter().map_init(Vec::new, fault).flatten().collect()
    }

    /// Sum and sum of squares of all bytes of each channel, of the images as `fit` makes them, on all cores.
    ///
    /// # Errors
    /// The first image, in order, that cannot be decoded.
    pub(super) fn moments(&self, fit: Fit) -> Result<[[u128; 3]; 2]> {
        let sums = |scratch: &mut Vec<u8>, index| -> Result<[[u64; 3]; 2]> {
            let mut sums = [[0; 3]; 2];
            for pixel in self.image(index, fit, scratch)?.as_chunks::<3>().0 {
                for (c, &value) in pixel.iter().enumerate() {
                    sums[0][c] += u64::from(value);
                    sums[1][c] += u64::from(value) * u64::from(value);
                }
            }
            Ok(sums)
        };
        let images: Vec<Result<_>> = (0..self.len()).into_par_iter().map_init(Vec::new, sums).collect();
        let mut total = [[0u128; 3]; 2];
        for sums in images {
            total.as_flattened_mut().iter_mut().zip(sums?.as_flattened()).for_each(|(to, sum)| *to += u128::from(*sum));
        }
        Ok(total)
    }

    /// Decodes all images and keeps them in memory as `fit` makes them, on all cores.
    ///
    /// # Errors
    /// The first image, in order, that cannot be decoded.
    pub fn into_memory(&self, fit: impl Into<Fit>) -> Result<Split> {
        let fit = fit.into();
        let bytes = fit.crop * fit.crop * 3;
        let mut pixels = vec![0; self.len() * bytes];
        let results: Vec<Result<()>> = pixels
            .par_chunks_exact_mut(bytes.max(1))
            .enumerate()
            .map_init(Vec::new, |scratch, (index, out)| {
                out.copy_from_slice(self.image(index, fit, scratch)?);
                Ok(())
            })
            .collect();
        results.into_iter().collect::<Result<()>>()?;
        Ok(self.with(self.0.labels.clone(), Images::Memory { pixels, image_size: fit.crop, fit: Some(fit) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: usize) -> Split {
        let pixels = (0..n).flat_map(|i| [i as u8; 12]).collect();
        Split::in_memory(pixels, 2, (0..n as u32).map(|i| i / 10).collect())
    }

    #[test]
    fn a_limit_spreads_over_the_classes() {
        let split = numbered(40).limit(8);
        assert_eq!(split.counts(4), [2, 2, 2, 2]);
        let mut scratch = Vec::new();
        assert_eq!(split.image(3, 2, &mut scratch).unwrap(), [15; 12]);
        assert_eq!(numbered(4).limit(9).len(), 4);
        assert_eq!(numbered(4).limit(0).len(), 0);
    }

    #[test]
    fn images_are_resized_on_demand() {
        let split = numbered(3);
        let mut scratch = Vec::new();
        assert_eq!(split.image(2, 5, &mut scratch).unwrap(), [2; 75]);
        assert_eq!(split.into_memory(5).unwrap().pixels().unwrap()[75..150], [1; 75]);
    }
}
