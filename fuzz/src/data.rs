//! Data sets in files, and pictures.

use alexnet_train::data::decode::{self, Exif};
use alexnet_train::data::{Dataset, Fit, Options, cifar, resize};

use super::{Folder, uncounted};

/// A file of a data set: how it is called, and whether the input is compressed to it.
const FILES: [(&str, &str); 14] = [
    ("cifar10", "cifar-10-batches-py/data_batch_3"),
    ("cifar10", "cifar-10-batches-py/batches.meta"),
    ("cifar100", "cifar-100-python/train"),
    ("cifar100", "cifar-100-python/meta"),
    ("cifar100-binary", "cifar-100-binary/train.bin"),
    ("cifar100-binary", "cifar-100-binary/fine_label_names.txt"),
    ("mnist", "train-images-idx3-ubyte"),
    ("mnist", "t10k-labels-idx1-ubyte"),
    ("mnist-gz", "train-images-idx3-ubyte.gz"),
    ("mnist-gz", "t10k-labels-idx1-ubyte.gz"),
    ("stl10", "stl10_binary/train_X.bin"),
    ("stl10", "stl10_binary/test_y.bin"),
    ("list", "labels.csv"),
    // Not looked for: its files have a checksum each.
    ("cifar10-binary", ""),
];

/// A data set in which one file is the input but for its first byte, which says which file of which format that is.
pub fn dataset(input: &[u8]) -> usize {
    let Some((&choice, bytes)) = input.split_first() else { return 0 };
    let (set, name) = FILES[usize::from(choice) % FILES.len()];
    if name.is_empty() {
        if let Ok(split) = cifar::split(&[bytes], &["x.bin"]) {
            assert_eq!(split.len(), bytes.len() / cifar::RECORD);
            let mut again = Vec::new();
            for (&label, image) in split.labels().iter().zip(split.pixels().unwrap_or_default().chunks(cifar::IMAGE)) {
                cifar::push_record(&mut again, label as u8, image);
            }
            assert!(again == bytes, "records are written otherwise than they were read");
        }
        return 0;
    }
    thread_local!(static SETS: Folder = sets());
    SETS.with(|sets| {
        let (folder, name) = (sets.path().join(set), format!("{set}/{name}"));
        let original = std::fs::read(sets.path().join(&name)).expect("a file of the set");
        sets.write(&name, bytes);
        let opened = Dataset::open_folder(&folder, &Options::default());
        sets.write(&name, &original);
        let Ok(dataset) = opened else { return };
        for split in [&dataset.train, &dataset.test] {
            assert!(split.labels().iter().all(|&label| (label as usize) < dataset.classes.len()), "{}", dataset.name);
            assert_eq!(split.labels().len(), split.len());
            if let (Some(pixels), Some(side)) = (split.pixels(), split.image_size()) {
                assert_eq!(pixels.len(), split.len() * side * side * 3);
            }
        }
    });
    0
}

/// Small data sets in every format.
fn sets() -> Folder {
    let folder = Folder::new();
    let put = |name: &str, bytes: &[u8]| drop(folder.write(name, bytes));
    let image: Vec<u8> = (0..cifar::IMAGE).map(|i| (i * 7) as u8).collect();
    for batch in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        put(&format!("cifar10/cifar-10-batches-py/{batch}"), &pickled("labels", &image));
    }
    let names = b"\x80\x02}X\x0b\0\0\0label_names](X\x01\0\0\0aX\x01\0\0\0bes.";
    put("cifar10/cifar-10-batches-py/batches.meta", names);
    for split in ["train", "test"] {
        put(&format!("cifar100/cifar-100-python/{split}"), &pickled("fine_labels", &image));
        put(&format!("cifar100-binary/cifar-100-binary/{split}.bin"), &[&[9, 1], &image[..]].concat());
        put(&format!("stl10/stl10_binary/{split}_X.bin"), &[5; 2 * 96 * 96 * 3]);
        put(&format!("stl10/stl10_binary/{split}_y.bin"), &[10, 1]);
    }
    let names = b"\x80\x02}X\x10\0\0\0fine_label_names](X\x01\0\0\0aX\x01\0\0\0bes.";
    put("cifar100/cifar-100-python/meta", names);
    put("cifar100-binary/cifar-100-binary/fine_label_names.txt", b"apple\naquarium_fish\n");
    for split in ["train", "t10k"] {
        let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4][..], &[7; 32]].concat();
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 3, 9];
        for (kind, bytes) in [("images-idx3", &images[..]), ("labels-idx1", &labels)] {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, bytes).expect("memory can be written");
            put(&format!("mnist/{split}-{kind}-ubyte"), bytes);
            put(&format!("mnist-gz/{split}-{kind}-ubyte.gz"), &gzip.finish().expect("memory can be written"));
        }
    }
    put("list/labels.csv", b"id,label\n1,cat\n2,dog\n");
    // A picture of one pixel.
    let pixel = b"P6 1 1 255\n\x10\x20\x30";
    let bmp = [&b"BM:\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0"[..], &[0; 24], &[1, 2, 3, 0]];
    put("list/train/1.bmp", &bmp.concat());
    put("list/train/2.bmp", &bmp.concat());
    put("list/train/notes.ppm", pixel);
    folder
}

/// A batch of one image in the python version of CIFAR.
fn pickled(labels: &str, image: &[u8]) -> Vec<u8> {
    let mut file = b"\x80\x02}(X".to_vec();
    file.extend((labels.len() as u32).to_le_bytes());
    file.extend(labels.bytes());
    file.extend(b"]K\x01aX\x04\0\0\0datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86");
    file.extend(b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    file.extend((image.len() as u32).to_le_bytes());
    file.extend(image);
    file.extend(b"tbu.");
    file
}

/// A picture: the pixels have the size that is said, and can be resized for a network. Decoding may take twice the bytes of
/// the pixels besides.
pub fn picture(input: &[u8]) -> usize {
    if let Ok((pixels, width, height)) = decode::decode(input, Exif::Apply) {
        assert_eq!(pixels.len(), width * height * 3);
        let mut out = [0; 8 * 8 * 3];
        let cropped = resize::resize(&pixels, width, height, Fit { short: 9, crop: 8 }, &mut out);
        let fitted = resize::resize(&pixels, width, height, 8, &mut out);
        assert_eq!(cropped.is_ok(), fitted.is_ok());
        let ignored = decode::decode(input, Exif::Ignore).expect("the orientation alone is no reason to refuse");
        assert_eq!(ignored.0.len(), pixels.len());
    }
    // Of 16 bits and four channels at the most.
    let area = uncounted(|| {
        let reader = image::ImageReader::new(std::io::Cursor::new(input)).with_guessed_format().ok()?;
        reader.into_dimensions().ok().map(|(width, height)| u64::from(width) * u64::from(height))
    });
    usize::try_from(2 * 8 * area.unwrap_or(0).min(256 << 20)).unwrap_or(usize::MAX)
}
