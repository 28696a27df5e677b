//! Folders as data sets: official files, folders of images, and errors that name what is wrong with them.

mod data;

use std::path::Path;

use alexnet_train::cli::hint::of_data;
use alexnet_train::data::{DataError, Dataset, Options};
use data::Tiny;
use image::{DynamicImage, ImageFormat};

fn options(image_size: usize) -> Options {
    Options { image_size, ..Options::default() }
}

fn open(folder: &Path) -> Result<Dataset, DataError> {
    Dataset::open(folder.to_str().unwrap(), &options(16))
}

/// Saves an image of one `colour`, in the format of the name and the colour type of `convert`.
fn save(path: &Path, colour: [u8; 3], convert: impl Fn(DynamicImage) -> DynamicImage) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(40, 30, image::Rgb(colour)));
    let format = ImageFormat::from_path(path).unwrap();
    convert(image).save_with_format(path, format).unwrap();
}

/// `train` and `val` with two classes of one image each.
fn two_classes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"] {
        save(&folder.path().join(path), [10, 20, 30], |image| image);
    }
    folder
}

#[test]
fn any_size_and_colour_type() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("train/x").join(name);
    let colour = [200, 100, 50];
    save(&at("0 rgb.png"), colour, |image| image);
    save(&at("1 rgba.png"), colour, |image| image.into_rgba8().into());
    save(&at("2 grey.png"), colour, |image| image.into_luma8().into());
    save(&at("3 grey and alpha.png"), colour, |image| image.into_luma_alpha8().into());
    save(&at("4 sixteen bits.png"), colour, |image| image.into_rgb16().into());
    save(&at("5 jpeg.JPEG"), colour, |image| image);
    save(&at("6 grey.jpg"), colour, |image| image.into_luma8().into());
    // The contents count, not the extension.
    std::fs::copy(at("5 jpeg.JPEG"), at("7 jpeg.png")).unwrap();
    save(&folder.path().join("test/x/1.png"), colour, |image| image);
    let dataset = open(folder.path()).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len(), &dataset.classes[..]), (8, 1, &["x".to_string()][..]));
    let grey = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(1, 1, image::Rgb(colour))).into_luma8()[(0, 0)][0];
    for index in 0..8 {
        let mut scratch = Vec::new();
        let pixels = dataset.train.image(index, 16, &mut scratch).unwrap();
        let expected = if [2, 3, 6].contains(&index) { [grey; 3] } else { colour };
        // JPEG rounds a plain colour by a few steps.
        let most = if index >= 5 { 3 } else { 0 };
        let worst =
            pixels.chunks_exact(3).flat_map(|pixel| pixel.iter().zip(expected).map(|(a, b)| a.abs_diff(b))).max();
        assert!(worst.unwrap() <= most, "image {index}: {:?} for {expected:?}", &pixels[..3]);
    }
}

#[test]
fn classes_are_numbered_by_name_and_other_entries_passed_over() {
    let folder = two_classes();
    for split in ["train", "val"] {
        save(&folder.path().join(split).join("Bat/9.png"), [1; 3], |image| image);
        save(&folder.path().join(split).join("Bat/10.png"), [2; 3], |image| image);
        std::fs::write(folder.path().join(split).join("readme.txt"), "x").unwrap();
        std::fs::create_dir(folder.path().join(split).join(".git")).unwrap();
        std::fs::write(folder.path().join(split).join("cat/.DS_Store"), "x").unwrap();
        std::fs::write(folder.path().join(split).join("cat/notes.txt"), "x").unwrap();
    }
    let dataset = open(folder.path()).unwrap();
    assert_eq!(dataset.classes, ["Bat", "cat", "dog"]);
    assert_eq!(dataset.train.labels(), [0, 0, 1, 2]);
    // Byte order of names: 10 before 9.
    assert_eq!(dataset.train.image(0, 16, &mut Vec::new()).unwrap()[0], 2);
    assert!(dataset.source.contains(folder.path().to_str().unwrap()));
    assert_eq!(dataset.name, folder.path().file_name().unwrap().to_str().unwrap());
}

#[test]
fn the_fingerprint_tells_folders_apart() {
    let (one, two) = (two_classes(), two_classes());
    let fingerprint = |folder: &tempfile::TempDir| open(folder.path()).unwrap().fingerprint;
    assert_eq!(fingerprint(&one), fingerprint(&two));
    save(&two.path().join("train/cat/2.png"), [0; 3], |image| image);
    assert_ne!(fingerprint(&one), fingerprint(&two));
}

#[test]
fn an_image_that_does_not_decode_is_named() {
    let good = two_classes();
    let png = std::fs::read(good.path().join("train/dog/1.png")).unwrap();
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image::open(good.path().join("train/dog/1.png")).unwrap().write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    // A PNG whose header declares 60000×60000 pixels, with the right checksum.
    let mut hostile = png.clone();
    hostile[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    // And one within the limits on sides, but far beyond what so short a file can hold.
    let mut large = png.clone();
    large[16..24].copy_from_slice(&[0, 0, 0x20, 0, 0, 0, 0x20, 0]);
    for image in [&mut hostile, &mut large] {
        let mut crc = flate2::Crc::new();
        crc.update(&image[12..29]);
        image[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    }
    // A JPEG that declares 65500×65500.
    let mut hostile_jpeg = jpeg.clone().into_inner();
    let start = hostile_jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    hostile_jpeg[start + 5..start + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    let cases: [(Vec<u8>, &str); 8] = [
        (Vec::new(), "the file is empty"),
        (b"not an image".to_vec(), "it is a text file, expected PNG, JPEG"),
        (b"GIF89a\x01\x00\x01\x00".to_vec(), "the file is cut short"),
        (png[..png.len() / 2].to_vec(), ""),
        (jpeg.into_inner()[..100].to_vec(), ""),
        (hostile, ""),
        (large, "it declares 8192×8192 pixels, too many for a file of"),
        (hostile_jpeg, ""),
    ];
    for (bytes, expected) in cases {
        let folder = two_classes();
        let path = folder.path().join("train/dog/0 broken.png");
        std::fs::write(&path, &bytes).unwrap();
        let error = open(folder.path()).unwrap_err();
        let DataError::Decode { path: named, reason } = &error else { panic!("{error}") };
        assert_eq!(*named, path);
        assert!(reason.contains(expected) && !reason.is_empty(), "{reason}");
        assert!(error.to_string().starts_with("cannot decode ") && of_data(&error).contains("replace the image"));
        // If files are decoded when needed, opening succeeds and the error comes later.
        let lazy = Dataset::open_folder(folder.path(), &Options { memory: 0, ..options(16) }).unwrap();
        let faults = lazy.train.faults(16);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].to_string(), error.to_string());
    }
}

#[test]
fn an_empty_class_is_named() {
    let folder = two_classes();
    std::fs::create_dir(folder.path().join("train/eel")).unwrap();
    std::fs::write(folder.path().join("train/eel/a.txt"), "x").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("train/eel has no picture, but 1 file: 1 .txt"), "{error}");
    let folder = two_classes();
    std::fs::remove_file(folder.path().join("val/dog/1.png")).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("val/dog has no picture"), "{error}");
}

#[test]
fn classes_that_differ_are_named() {
    let folder = two_classes();
    save(&folder.path().join("train/eel/1.png"), [0; 3], |image| image);
    save(&folder.path().join("val/Cat/1.png"), [0; 3], |image| image);
    let error = open(folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DataError::Classes { .. }), "{text}");
    assert!(text.contains("train has eel; only ") && text.ends_with("val has Cat"), "{text}");
}

#[test]
fn nothing_found_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let message = || {
        let error = open(folder.path()).unwrap_err();
        assert!(
            of_data(&error).contains("data_batch_1.bin") && of_data(&error).contains("train/CLASS"),
            "{}",
            of_data(&error)
        );
        error.to_string()
    };
    assert!(message().ends_with("it is empty"));
    std::fs::write(folder.path().join("a.zip"), "x").unwrap();
    assert!(message().ends_with("it has a.zip"), "{}", message());
    std::fs::create_dir(folder.path().join("train")).unwrap();
    assert!(message().ends_with("train: it has no class folders"), "{}", message());

    let error = open(&folder.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read ") && error.to_string().contains("nowhere"), "{error}");
    let error = open(&folder.path().join("a.zip")).unwrap_err();
    assert!(error.to_string().ends_with("a.zip is a text file, expected a folder"), "{error}");
}

#[test]
fn official_files_in_the_folder_or_below_it() {
    let tiny = Tiny::new();
    for below in ["", "cifar-10-batches-bin"] {
        let folder = tempfile::tempdir().unwrap();
        tiny.write(&folder.path().join(below));
        let options = Options { manifest: tiny.manifest.clone(), ..Options::default() };
        let dataset = Dataset::open(folder.path().to_str().unwrap(), &options).unwrap();
        assert_eq!((dataset.name.as_str(), dataset.train.len(), dataset.test.len()), ("cifar10", 6, 3));
        // ALEXNET_DATA: the same folder without naming it on the command line.
        let options = Options { folder: Some(folder.path().into()), ..options };
        assert_eq!(Dataset::open("auto", &options).unwrap().fingerprint, dataset.fingerprint);
    }
}

#[test]
fn alexnet_data_may_name_folders_of_images() {
    let folder = two_classes();
    let options = Options { folder: Some(folder.path().into()), ..options(16) };
    assert_eq!(Dataset::open("auto", &options).unwrap().classes, ["cat", "dog"]);
}

#[test]
fn official_files_that_are_wrong_are_named() {
    let tiny = Tiny::new();
    let options = Options { manifest: tiny.manifest.clone(), ..Options::default() };
    let message = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        tiny.write(folder.path());
        change(folder.path());
        let error = Dataset::open(folder.path().to_str().unwrap(), &options).unwrap_err();
        assert!(of_data(&error).contains("alexnet data fetch"), "{}", of_data(&error));
        let text = error.to_string();
        assert!(text.starts_with(folder.path().to_str().unwrap()), "{text}");
        text[folder.path().to_str().unwrap().len() + 1..].to_string()
    };
    let write = |folder: &Path, file: usize, bytes: &[u8]| {
        std::fs::write(folder.join(&tiny.manifest.files[file].name), bytes).unwrap();
    };
    assert_eq!(
        message(&|folder| write(folder, 1, &tiny.files[1][..9218])),
        "data_batch_2.bin has 9218 bytes, expected 9219: it is truncated"
    );
    assert_eq!(
        message(&|folder| write(folder, 2, &[&tiny.files[2][..], &[0]].concat())),
        "test_batch.bin has 9220 bytes, expected 9219: it is too long"
    );
    assert_eq!(
        message(&|folder| write(folder, 0, &[])),
        "data_batch_1.bin has 0 bytes, expected 9219: it is truncated"
    );
    let missing = message(&|folder| std::fs::remove_file(folder.join("data_batch_2.bin")).unwrap());
    assert_eq!(missing, "data_batch_2.bin is missing");
    let flipped = message(&|folder| {
        let mut bytes = tiny.files[0].clone();
        bytes[100] ^= 4;
        write(folder, 0, &bytes);
    });
    assert!(flipped.starts_with("data_batch_1.bin has SHA-256 ") && flipped.contains(", expected "), "{flipped}");
    let label = message(&|folder| {
        let mut bytes = tiny.files[1].clone();
        bytes[2 * 3073] = 10;
        write(folder, 1, &bytes);
    });
    assert_eq!(label, "data_batch_2.bin: record 2 has label 10, expected at most 9");
}

#[test]
fn the_official_manifest() {
    let official = alexnet_train::data::manifest::Manifest::official();
    assert!(official.files.iter().all(|file| file.bytes() == 30_730_000 && file.sha256.len() == 64));
    assert_eq!((official.files.len(), official.archive_bytes), (6, 170_052_171));
    // A sparse file of the right size costs nothing and has the wrong contents.
    let folder = tempfile::tempdir().unwrap();
    for file in &official.files {
        std::fs::File::create(folder.path().join(&file.name)).unwrap().set_len(100).unwrap();
    }
    let error = open(folder.path()).unwrap_err();
    assert!(
        error.to_string().ends_with("data_batch_1.bin has 100 bytes, expected 30730000: it is truncated"),
        "{error}"
    );
}
