//! A data set: classes, training images and test images.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cifar::{self, Manifest};
use super::error::{DataError, Result};
use super::fetch::{self, Sources};
use super::report::{Event, Reporter};
use super::{folder, resize, sample};

/// Classes, training and test images.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// `cifar10`, `sample`, or the folder's name.
    pub name: String,
    /// Where it came from, for people and for the metrics.
    pub source: String,
    /// The folder that holds it; none for the embedded sample.
    pub path: Option<PathBuf>,
    /// The names of the classes by label.
    pub classes: Vec<String>,
    /// The images to train on.
    pub train: Split,
    /// Those that were held out of them to choose by, see [`Dataset::hold_out`].
    pub val: Option<Split>,
    /// The images to test on.
    pub test: Split,
    /// Set when `auto` had to fall back to the embedded sample: why, and what to do. It was already reported.
    pub warning: Option<String>,
    /// Sixteen hexadecimal digits that differ when the data differ: to tell that a run is resumed on other data.
    pub fingerprint: String,
}

/// What [`Dataset::open`] may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Side of the images that folders of PNG or JPEG files are brought to; [`cifar::SIZE`] by default. Give the
    /// network's input size. CIFAR-10 stays at 32 here and is resized by the loader.
    pub size: usize,
    /// Folders of images that take no more bytes than this, once resized, are decoded at once and kept in memory;
    /// larger ones are decoded as they are needed.
    pub memory: u64,
    /// The folder of `ALEXNET_DATA`, used by `auto` and `cifar10`: if it holds a data set, that is opened, else
    /// CIFAR-10 is fetched into it.
    pub folder: Option<PathBuf>,
    /// The user's cache folder; used if `folder` is none.
    pub cache: Option<PathBuf>,
    /// Where CIFAR-10 is fetched from.
    pub sources: Sources,
    /// The official files.
    pub manifest: Manifest,
    /// Where events go.
    pub report: Reporter,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            size: cifar::SIZE,
            memory: 512 << 20,
            folder: None,
            cache: None,
            sources: Sources::default(),
            manifest: Manifest::official(),
            report: Reporter::silent(),
        }
    }
}

impl Options {
    /// The options a command starts with: `ALEXNET_DATA` and the user's cache folder, events on standard error.
    pub fn from_env() -> Self {
        Options {
            folder: std::env::var_os("ALEXNET_DATA").filter(|value| !value.is_empty()).map(PathBuf::from),
            cache: dirs::cache_dir().map(|cache| cache.join("alexnet")),
            report: Reporter::stderr(),
            ..Options::default()
        }
    }

    /// Where CIFAR-10 is looked for and fetched to: `folder`, else `cache`.
    ///
    /// # Errors
    /// If there is neither.
    pub fn cifar10_folder(&self) -> Result<PathBuf> {
        self.folder.clone().or_else(|| self.cache.clone()).ok_or(DataError::NoCache)
    }
}

impl Dataset {
    /// Opens what `--data` names: `auto`, `cifar10`, `sample`, or a folder.
    ///
    /// - `cifar10`: the cached copy; else it is fetched, verified and cached.
    /// - `auto`: the same, and where nothing serves the embedded sample, with a warning.
    /// - `sample`: the images embedded in the binary; reads no file.
    /// - anything else is a folder: the official binary files, or `train/` and `val/` (or `test/`) with a folder
    ///   of PNG or JPEG images a class.
    ///
    /// # Errors
    /// See [`DataError`]; `auto` fails only where a folder that was named holds bad data.
    pub fn open(spec: &str, options: &Options) -> Result<Self> {
        match spec {
            "sample" => sample::open(),
            "cifar10" => Self::open_cifar10(options),
            "auto" => match &options.folder {
                Some(folder) if folder::is_one(folder) => Self::open_folder(folder, options),
                _ => Self::open_cifar10(options).or_else(|error| match error {
                    error if options.folder.is_some() && error.is_bad_data() => Err(error),
                    error => Self::fallback(&error, &options.report),
                }),
            },
            folder => Self::open_folder(Path::new(folder), options),
        }
    }

    /// CIFAR-10 from the cache, else fetched.
    fn open_cifar10(options: &Options) -> Result<Self> {
        let folder = options.cifar10_folder()?;
        let place = official_folder(&folder, &options.manifest).unwrap_or_else(|| folder.join(OFFICIAL_FOLDER));
        match cifar::open(&place, &options.manifest, format!("cache {}", place.display())) {
            Ok(dataset) => return Ok(dataset),
            Err(DataError::Missing { .. }) => {}
            // A folder that the user named is not overwritten, the cache is.
            Err(error) if options.folder.is_some() => return Err(error),
            Err(error) => options.report.note(format!("The cached copy is of no use: {error}. Fetching it anew.")),
        }
        let source = fetch::fetch(&folder, &options.sources, &options.manifest, &options.report)?;
        cifar::open(&folder.join(OFFICIAL_FOLDER), &options.manifest, source)
    }

    /// The embedded sample, because of `error`.
    fn fallback(error: &DataError, report: &Reporter) -> Result<Self> {
        let mut dataset = sample::open()?;
        let warning = format!(
            "This is NOT the whole CIFAR-10: only the {} training and {} test images inside the binary\n\
             are used, and accuracies will be far lower than on the real set.\n{error}\nhint: {}",
            sample::TRAIN,
            sample::TEST,
            error.hint()
        );
        report.tell(Event::Warning(warning.clone()));
        dataset.source += ", because CIFAR-10 could not be fetched";
        dataset.warning = Some(warning);
        Ok(dataset)
    }

    /// Opens a folder: official files in it or in its `cifar-10-batches-bin`, or folders of images.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open_folder(path: &Path, options: &Options) -> Result<Self> {
        std::fs::read_dir(path).map_err(DataError::io("read", path))?;
        if let Some(found) = official_folder(path, &options.manifest) {
            return cifar::open(&found, &options.manifest, format!("folder {}", found.display()));
        }
        folder::open(path, options)
    }
}

/// The folder of an unpacked official archive.
pub const OFFICIAL_FOLDER: &str = "cifar-10-batches-bin";

/// `path`, or its folder from an unpacked archive, if official files are there.
pub(crate) fn official_folder(path: &Path, manifest: &Manifest) -> Option<PathBuf> {
    [path.to_path_buf(), path.join(OFFICIAL_FOLDER)].into_iter().find(|folder| manifest.any_in(folder))
}

/// Labelled images, in memory or as files that are decoded when needed. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Split(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    labels: Vec<u32>,
    images: Images,
}

#[derive(Debug)]
enum Images {
    /// All images, NHWC, `size`×`size` RGB.
    Memory { pixels: Vec<u8>, size: usize },
    /// A folder a class, and each image's name in the folder of its label.
    Files { folders: Vec<PathBuf>, names: Vec<Box<OsStr>> },
}

impl Split {
    /// Images in memory: `pixels` is NHWC with three channels.
    ///
    /// # Panics
    /// If there are not `size`·`size`·3 bytes a label.
    pub fn in_memory(pixels: Vec<u8>, size: usize, labels: Vec<u32>) -> Self {
        assert_eq!(pixels.len(), labels.len() * size * size * 3, "bytes of {} images", labels.len());
        Split(Arc::new(Inner { labels, images: Images::Memory { pixels, size } }))
    }

    /// Images as files: image i is `folders[labels[i]]/names[i]`.
    ///
    /// # Panics
    /// If the lengths differ or a label has no folder.
    pub fn in_files(folders: Vec<PathBuf>, names: Vec<Box<OsStr>>, labels: Vec<u32>) -> Self {
        assert_eq!(names.len(), labels.len(), "names and labels");
        assert!(labels.iter().all(|&label| (label as usize) < folders.len()), "a folder for each label");
        Split(Arc::new(Inner { labels, images: Images::Files { folders, names } }))
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.0.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.labels.is_empty()
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u32] {
        &self.0.labels
    }

    /// The images, NHWC, where they are in memory.
    pub fn pixels(&self) -> Option<&[u8]> {
        match &self.0.images {
            Images::Memory { pixels, .. } => Some(pixels),
            Images::Files { .. } => None,
        }
    }

    /// The side of the images in memory; files have any size.
    pub fn size(&self) -> Option<usize> {
        match &self.0.images {
            Images::Memory { size, .. } => Some(*size),
            Images::Files { .. } => None,
        }
    }

    /// The file of image `index`, where images are files.
    pub fn file(&self, index: usize) -> Option<PathBuf> {
        match &self.0.images {
            Images::Memory { .. } => None,
            Images::Files { folders, names } => Some(folders[self.0.labels[index] as usize].join(&*names[index])),
        }
    }

    /// How many images each class has.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        self.0.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    /// At most `limit` of the images, spread evenly over the split: files that lie sorted by class stay balanced.
    pub fn limit(&self, limit: usize) -> Split {
        let len = self.len();
        if limit >= len {
            return self.clone();
        }
        self.select(&(0..limit).map(|i| (i as u64 * len as u64 / limit as u64) as usize).collect::<Vec<_>>())
    }

    /// The images at these places.
    pub(super) fn select(&self, places: &[usize]) -> Split {
        let kept = || places.iter().copied();
        let labels = kept().map(|i| self.0.labels[i]).collect();
        match &self.0.images {
            Images::Memory { pixels, size } => {
                let bytes = size * size * 3;
                Split::in_memory(kept().flat_map(|i| &pixels[i * bytes..][..bytes]).copied().collect(), *size, labels)
            }
            Images::Files { folders, names } => {
                Split::in_files(folders.clone(), kept().map(|i| names[i].clone()).collect(), labels)
            }
        }
    }

    /// Image `index` as `size`×`size` RGB (HWC). Borrows from the split where it can, else fills `scratch`.
    ///
    /// # Errors
    /// [`DataError::Decode`] or [`DataError::Io`] with the path of a file that cannot be read.
    pub fn image<'a>(&'a self, index: usize, size: usize, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        match &self.0.images {
            Images::Memory { pixels, size: own } => {
                let bytes = own * own * 3;
                let image = &pixels[index * bytes..][..bytes];
                if *own == size {
                    return Ok(image);
                }
                scratch.resize(size * size * 3, 0);
                resize::resize(image, *own, *own, size, scratch)
                    .map_err(|reason| DataError::Decode { path: format!("image {index}").into(), reason })?;
            }
            Images::Files { folders, names } => {
                scratch.resize(size * size * 3, 0);
                let path = folders[self.0.labels[index] as usize].join(&*names[index]);
                resize::decode_file(&path, size, scratch)?;
            }
        }
        Ok(scratch)
    }

    /// Reads every image and gives out the errors of those that cannot be, in order.
    pub fn faults(&self, size: usize) -> Vec<DataError> {
        use rayon::prelude::*;
        let fault = |scratch: &mut Vec<u8>, index| self.image(index, size, scratch).err();
        (0..self.len()).into_par_iter().map_init(Vec::new, fault).flatten().collect()
    }

    /// Decodes all images and keeps them in memory at `size`, on all cores.
    ///
    /// # Errors
    /// The first image, in order, that does not decode.
    pub fn into_memory(&self, size: usize) -> Result<Split> {
        use rayon::prelude::*;
        let bytes = size * size * 3;
        let mut pixels = vec![0; self.len() * bytes];
        let results: Vec<Result<()>> = pixels
            .par_chunks_exact_mut(bytes.max(1))
            .enumerate()
            .map_init(Vec::new, |scratch, (index, out)| {
                out.copy_from_slice(self.image(index, size, scratch)?);
                Ok(())
            })
            .collect();
        results.into_iter().collect::<Result<()>>()?;
        Ok(Split::in_memory(pixels, size, self.0.labels.clone()))
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
