//! The loader: every image once per epoch, and the same bits at any thread count and from any position.

use std::path::Path;
use std::time::{Duration, Instant};

use alexnet_core::random::Philox;
use alexnet_core::reference;
use alexnet_train::data::{
    Augment, Batch, DataError, Dataset, Loader, LoaderOptions, Options, Preprocess, Split, TransformConfig, order,
};
use proptest::prelude::*;

/// `n` images of `size`×`size`; image i is filled with the byte i, and its label is i.
fn numbered(n: usize, size: usize) -> Split {
    Split::in_memory((0..n).flat_map(|i| vec![i as u8; size * size * 3]).collect(), size, (0..n as u32).collect())
}

/// Every transformation, for images of 8×8.
fn all() -> TransformConfig {
    let rand_augment = Some("2,15".parse().unwrap());
    TransformConfig { padding: 3, flip: true, rand_augment, jitter: 0.5, cutout: 4, ..TransformConfig::NONE }
}

/// The same by a device: batches of bytes, and the operator `augment` in f32.
fn batches_of_bytes(split: &Split, options: &LoaderOptions) -> Vec<(usize, Vec<u32>, Vec<u32>)> {
    let &LoaderOptions { transforms, epoch, seed, image_size, preprocess: Preprocess { mean, std, .. }, .. } = options;
    let complete = |batch: Result<Batch<u8>, DataError>| {
        let batch = batch.unwrap();
        let shape = transforms.shape(Philox::new(seed), epoch, image_size, batch.count, [mean, std]);
        let draws: Vec<u32> = batch.draws().iter().flat_map(|draw| [draw.index, draw.repeat]).collect();
        let mut out = vec![0f32; batch.images().len()];
        reference::augment(alexnet_core::arguments::Augment {
            shape: &shape,
            images: batch.images(),
            draws: &draws,
            out: &mut out,
        });
        (batch.index, batch.labels().to_vec(), out.into_iter().map(f32::to_bits).collect())
    };
    Loader::bytes(split, options.clone()).unwrap().map(complete).collect()
}

/// Index, labels, and the bits of the images of each batch.
fn batches(split: &Split, options: LoaderOptions) -> Vec<(usize, Vec<u32>, Vec<u32>)> {
    Loader::new(split, options)
        .unwrap()
        .map(|batch| {
            let batch: Batch = batch.unwrap();
            assert_eq!(batch.count, batch.labels().len());
            (batch.index, batch.labels().to_vec(), batch.images().iter().map(|value| value.to_bits()).collect())
        })
        .collect()
}

fn write_png(path: &Path, width: u32, height: u32, value: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([value, x as u8, y as u8])).save(path).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn every_image_once_an_epoch(
        n in 0usize..200, batch_size in 1usize..50, shuffle: bool, seed: u64, epoch in 0u32..9,
    ) {
        let options = LoaderOptions {
            batch_size, image_size: 8, shuffle, seed, epoch, transforms: all(), ..Default::default()
        };
        let batches = batches(&numbered(n, 8), options);
        prop_assert_eq!(batches.len(), n.div_ceil(batch_size));
        for (position, (index, labels, images)) in batches.iter().enumerate() {
            prop_assert_eq!(position, *index);
            let last = position + 1 == batches.len();
            prop_assert_eq!(labels.len(), if last { n - position * batch_size } else { batch_size });
            prop_assert_eq!(images.len(), labels.len() * 8 * 8 * 3);
        }
        let labels: Vec<u32> = batches.iter().flat_map(|batch| batch.1.clone()).collect();
        if shuffle {
            prop_assert_eq!(&labels, &order::shuffled(n, seed, epoch));
        }
        let mut sorted = labels;
        sorted.sort_unstable();
        prop_assert!(sorted.into_iter().eq(0..n as u32));
    }

    /// Resizing (from 5 to 8) uses a thread pool.
    #[test]
    fn the_same_bits_at_any_thread_count_and_from_the_middle(
        n in 1usize..100, batch_size in 1usize..40, seed: u64, epoch in 0u32..9, from in 0usize..10, resized: bool,
    ) {
        let split = numbered(n, if resized { 5 } else { 8 });
        let options = LoaderOptions {
            batch_size, image_size: 8, shuffle: true, seed, epoch, transforms: all(), threads: 1, ..Default::default()
        };
        let whole = batches(&split, options.clone());
        prop_assert_eq!(&whole, &batches(&split, LoaderOptions { threads: 4, ..options.clone() }));
        let rest = batches(&split, LoaderOptions { threads: 3, numbers: from..usize::MAX, ..options });
        prop_assert_eq!(&whole[from.min(whole.len())..], &rest[..]);
    }

    /// Resized crops are done to the bytes.
    #[test]
    fn bytes_that_a_device_completes_are_the_floats(
        n in 1usize..60, batch_size in 1usize..40, seed: u64, epoch in 0u32..9, balanced: bool, resized: bool,
        rand_augment: bool, crop: bool,
    ) {
        let size = if resized { 5 } else { 8 };
        let pixels = (0..n * size * size * 3).map(|i| (i * i % 251) as u8).collect();
        let split = Split::in_memory(pixels, size, (0..n as u32).map(|i| i * i % 5).collect());
        let transforms = TransformConfig {
            rand_augment: all().rand_augment.filter(|_| rand_augment),
            resized_crop: crop.then(Default::default),
            ..all()
        };
        let preprocess = Preprocess { resize: None, ..Preprocess::imagenet(8) };
        let options = LoaderOptions {
            batch_size, image_size: 8, shuffle: true, balanced, seed, epoch, transforms, preprocess, ..Default::default()
        };
        prop_assert_eq!(batches_of_bytes(&split, &options), batches(&split, options));
    }

    /// The transformation of an image does not depend on the batch size.
    #[test]
    fn the_same_bits_at_any_batch_size(a in 1usize..40, b in 1usize..40, seed: u64) {
        let split = numbered(60, 8);
        let all = |batch_size| {
            let options = LoaderOptions {
                batch_size, image_size: 8, shuffle: true, seed, transforms: all(), ..Default::default()
            };
            batches(&split, options).into_iter().flat_map(|batch| batch.2).collect::<Vec<u32>>()
        };
        prop_assert_eq!(all(a), all(b));
    }
}

#[test]
fn epochs_and_seeds_differ_in_order_and_in_crops() {
    let split = alexnet_train::data::sample::open().unwrap().train.limit(64);
    for shuffle in [false, true] {
        let first = |seed, epoch| {
            let options =
                LoaderOptions { seed, epoch, shuffle, transforms: Augment::DEFAULT.at(32), ..Default::default() };
            batches(&split, options)[0].2.clone()
        };
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
    }
}

#[test]
fn without_augmentation_the_images_are_only_normalised() {
    let sample = alexnet_train::data::sample::open().unwrap();
    let mut loader = Loader::new(&sample.test, LoaderOptions::default()).unwrap();
    assert_eq!(loader.size_hint(), (0, Some(2)));
    let batch = loader.next().unwrap().unwrap();
    let (mean, std) = ([0.4914f32, 0.4822, 0.4465], [0.2023f32, 0.1994, 0.2010]);
    assert_eq!(batch.images().len(), 128 * 32 * 32 * 3);
    for (i, (out, pixel)) in batch.images().iter().zip(sample.test.pixels().unwrap()).enumerate() {
        assert_eq!(*out, (f32::from(*pixel) / 255.0 - mean[i % 3]) / std[i % 3]);
    }
    assert_eq!(loader.next().unwrap().unwrap().count, 250 - 128);
    assert!(loader.next().is_none());
}

#[test]
fn files_give_the_same_bits_as_memory() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for (class, value) in [("ant", 10), ("bee", 200)] {
            for i in 0..7 {
                write_png(&folder.path().join(format!("{split}/{class}/{i}.png")), 20 + i, 31 - i, value + i as u8);
            }
        }
    }
    let open = |memory| {
        Dataset::open_folder(folder.path(), &Options { image_size: 16, memory, ..Options::default() }).unwrap().train
    };
    let (memory, files) = (open(1 << 20), open(0));
    assert!(memory.pixels().is_some() && files.pixels().is_none());
    let options = LoaderOptions {
        batch_size: 5,
        image_size: 16,
        shuffle: true,
        transforms: Augment::DEFAULT.at(16),
        ..Default::default()
    };
    let expected = batches(&memory, options.clone());
    for threads in [1, 4] {
        assert_eq!(batches(&files, LoaderOptions { threads, ..options.clone() }), expected);
    }
}

#[test]
fn a_broken_file_surfaces_at_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for i in 0..9 {
            write_png(&folder.path().join(format!("{split}/a/{i}.png")), 8, 8, 1);
        }
    }
    for broken in ["5", "7"] {
        std::fs::write(folder.path().join(format!("train/a/{broken}.png")), b"\x89PNG\r\n\x1a\nrubbish").unwrap();
    }
    let options = Options { image_size: 8, memory: 0, ..Options::default() };
    let split = Dataset::open_folder(folder.path(), &options).unwrap().train;
    for threads in [1, 4] {
        let options = LoaderOptions { batch_size: 4, image_size: 8, threads, ..Default::default() };
        let mut loader = Loader::new(&split, options.clone()).unwrap();
        assert_eq!(loader.next().unwrap().unwrap().index, 0);
        let error = loader.next().unwrap().unwrap_err();
        // The first of the two, at any number of threads.
        assert!(matches!(&error, DataError::Decode { path, .. } if path.ends_with("train/a/5.png")), "{error}");
        assert!(loader.next().is_none(), "an error ends the epoch");
        let mut later = Loader::new(&split, LoaderOptions { numbers: 2..3, ..options }).unwrap();
        assert_eq!(later.next().unwrap().unwrap().labels(), [0]);
    }
}

#[test]
fn batches_can_be_kept_without_a_deadlock() {
    let split = numbered(100, 8);
    let options = LoaderOptions { batch_size: 2, image_size: 8, ..Default::default() };
    let kept: Vec<Batch> = Loader::new(&split, options).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept.len(), 50);
    assert!(kept.iter().enumerate().all(|(i, batch)| batch.labels() == [2 * i as u32, 2 * i as u32 + 1]));
}

#[test]
fn buffers_are_recycled() {
    let split = numbered(200, 8);
    let loader = Loader::new(&split, LoaderOptions { batch_size: 1, image_size: 8, ..Default::default() }).unwrap();
    let places: std::collections::HashSet<usize> =
        loader.map(|batch| batch.unwrap().images().as_ptr() as usize).collect();
    assert!(places.len() <= alexnet_train::data::loader::PREFETCH + 2, "{} buffers for 200 batches", places.len());
}

#[test]
fn dropping_early_ends_at_once() {
    let start = Instant::now();
    let sample = alexnet_train::data::sample::open().unwrap();
    for taken in 0..5 {
        // With resizing to 1024, a whole epoch would take far longer than the test may.
        let options = LoaderOptions { batch_size: 4, image_size: 1024, shuffle: true, ..Default::default() };
        let mut loader = Loader::new(&sample.train, options).unwrap();
        loader.by_ref().take(taken).for_each(|batch| assert_eq!(batch.unwrap().count, 4));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn settings_of_zero_are_errors() {
    let split = numbered(3, 8);
    for options in
        [LoaderOptions { batch_size: 0, ..Default::default() }, LoaderOptions { image_size: 0, ..Default::default() }]
    {
        assert!(matches!(Loader::new(&split, options), Err(DataError::Setting { .. })));
    }
}
