//! Pictures as people have them, in every command that takes pictures: cut short, turned by their metadata, of other formats,
//! from pipes.

mod command;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use command::{Place, SHORT, tensors};
use image::RgbImage;
use image::imageops::rotate270;
use serde_json::Value;

/// Stripes of this picture's own width and brightness, as noisy as photos.
fn stripes(vertical: bool, number: u32) -> RgbImage {
    let period = 4 + number % 4;
    RgbImage::from_fn(48, 36, |x, y| {
        let along = if vertical { x } else { y };
        let light = (along + number * 3) / period % 2 * (130 + number * 7 % 90);
        let noise = (x * 31 + y * 17 + number * 57).wrapping_mul(2_654_435_761) % 1_000_003 % 25;
        image::Rgb([light + noise, light + noise * 2 / 3, light + noise / 2].map(|value| value.min(255) as u8))
    })
}

/// EXIF data that say: turn by 90 degrees, as phones write them.
const TURNED: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

fn jpeg(picture: &RgbImage, exif: Option<&[u8]>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 95);
    if let Some(exif) = exif {
        encoder.add_exif_metadata(exif).unwrap();
    }
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    encoder.encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb).unwrap();
    file
}

/// A PNG as a phone would store it: turned, with the tag.
fn turned_png(picture: &RgbImage) -> Vec<u8> {
    let mut file = Vec::new();
    let stored = rotate270(picture);
    let mut info = png::Info::with_size(stored.width(), stored.height());
    info.color_type = png::ColorType::Rgb;
    info.bit_depth = png::BitDepth::Eight;
    info.exif_metadata = Some(TURNED.into());
    let encoder = png::Encoder::with_info(&mut file, info).unwrap();
    encoder.write_header().unwrap().write_image_data(stored.as_raw()).unwrap();
    file
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn folders(place: &Place, root: &str, train: u32, save: impl Fn(&RgbImage) -> Vec<u8>, extension: &str) {
    for (split, count, first) in [("train", train, 0), ("val", 8, 1000)] {
        for (class, vertical) in [("horizontal", false), ("vertical", true)] {
            for number in 0..count {
                let path = place.path(&format!("{root}/{split}/{class}/{number:02}.{extension}"));
                write(&path, &save(&stripes(vertical, first + number)));
            }
        }
    }
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The most probable class and its probability, of each picture.
fn best(place: &Place, arguments: &str) -> Vec<(String, f64)> {
    let found = objects(&place.succeed(&format!("predict {arguments} --json --device cpu -k 1")));
    let of = |object: &Value| {
        let first = &object["predictions"][0];
        (first["class"].as_str().unwrap().to_owned(), first["probability"].as_f64().unwrap())
    };
    found.iter().map(of).collect()
}

#[test]
fn a_photo_that_was_taken_upright_is_classified_upright() {
    let place = Place::new();
    let plain = |picture: &RgbImage| {
        let mut file = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
        file.into_inner()
    };
    folders(&place, "upright", 48, plain, "png");
    folders(&place, "phone", 48, turned_png, "png");
    let train = "train --epochs 6 --batch-size 8 --augment none --device cpu";
    place.succeed(&format!("{train} --data upright --out a"));
    // Stored turned, with the tag: the same pixels, so the same weights.
    place.succeed(&format!("{train} --data phone --out b"));
    let weights = |run: &str| tensors(&place.path(&format!("{run}/last.safetensors")));
    assert!(weights("a") == weights("b"), "the runs differ");
    // Above the memory limit pictures are decoded as batches need them; here `eval` of both, and what `data` shows.
    let accuracy = |arguments: &str| -> f64 {
        let out = place.succeed(&format!("eval {arguments} --json --device cpu"));
        serde_json::from_str::<Value>(&out).unwrap()["accuracy"].as_f64().unwrap()
    };
    assert_eq!(accuracy("a --data phone"), accuracy("a --data upright"));
    assert!(accuracy("a") >= 0.9);
    assert!(accuracy("a --data phone --exif ignore") <= 0.1, "lying on their side, stripes are the other class");
    for flags in ["", "--exif ignore"] {
        place.succeed(&format!("data augment --data upright -o upright.png --augment none --force {flags}"));
        place.succeed(&format!("data augment --data phone -o phone.png --augment none --force {flags}"));
        assert_eq!(place.read("upright.png") == place.read("phone.png"), flags.is_empty());
    }

    let mut pairs = [String::new(), String::new()];
    for number in 0..3 {
        for (class, vertical) in [("horizontal", false), ("vertical", true)] {
            let picture = stripes(vertical, 500 + number);
            for (pair, (kind, file)) in pairs
                .iter_mut()
                .zip([("upright", jpeg(&picture, None)), ("phone", jpeg(&rotate270(&picture), Some(TURNED)))])
            {
                let name = format!("{class}_{number}_{kind}.jpg");
                write(&place.path(&name), &file);
                *pair += &format!(" {name}");
            }
        }
    }
    let [upright, phone] = pairs.each_ref().map(|names| best(&place, &format!("a {names}")));
    for (n, (a, b)) in upright.iter().zip(&phone).enumerate() {
        assert_eq!(a.0, ["horizontal", "vertical"][n % 2]);
        assert!(a.0 == b.0 && (a.1 - b.1).abs() < 0.05, "{a:?} and {b:?}");
    }
    let ignored = best(&place, &format!("a {} --exif ignore", pairs[1]));
    assert!(ignored.iter().zip(&upright).all(|(a, b)| a.0 != b.0), "{ignored:?}");

    // A run that ignores the tag says so in its checkpoint, and its pictures are taken as they are stored.
    place.succeed(&format!("{train} --data phone --exif ignore --epochs 1 --out c"));
    assert!(weights("c") != weights("a"));
    let name = "vertical_0_phone.jpg";
    assert_eq!(best(&place, &format!("c {name}")), best(&place, &format!("c {name} --exif ignore")));
    assert_ne!(best(&place, &format!("c {name}")), best(&place, &format!("c {name} --exif apply")));
    place.fail("train --resume c --epochs 2 --exif apply", 2, &["--exif", "contradicts the run"]);
    let changed = String::from_utf8(place.read("c/config.toml")).unwrap();
    assert!(changed.contains("exif = \"ignore\""), "{changed}");

    // serve says the size that a viewer shows.
    let mut command = place.command("serve a --port 0 --device cpu");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split_whitespace().nth(1).unwrap().strip_prefix("http://").unwrap();
    let post = |file: &[u8]| {
        let head = format!(
            "POST /predict HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            file.len()
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[head.as_bytes(), file].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse::<u16>().unwrap(), serde_json::from_str::<Value>(body).unwrap())
    };
    let file = place.read(name);
    let (status, answer) = post(&file);
    assert_eq!((status, &answer["width"], &answer["height"]), (200, &48.into(), &36.into()), "{answer}");
    assert_eq!(answer["predictions"][0]["class"], "vertical");
    let (status, answer) = post(&file[..file.len() / 2]);
    assert!(status == 422 && answer.to_string().contains("cut short"), "{answer}");
    let (status, answer) = post(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    assert!(status == 422 && answer.to_string().contains("Most Compatible"), "{answer}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_cut_picture_is_refused_by_every_command() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    let files: [(&str, Vec<u8>); 4] = [
        ("baseline.jpg", jpeg(&stripes(true, 1), None)),
        ("progressive.jpg", {
            let mut file = Vec::new();
            let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
            encoder.set_progressive(true);
            encoder.encode(stripes(true, 1).as_raw(), 48, 36, jpeg_encoder::ColorType::Rgb).unwrap();
            file
        }),
        ("restart.jpg", {
            let mut file = Vec::new();
            let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
            encoder.set_restart_interval(2);
            encoder.encode(stripes(true, 1).as_raw(), 48, 36, jpeg_encoder::ColorType::Rgb).unwrap();
            file
        }),
        ("png.png", turned_png(&stripes(false, 2))),
    ];
    let mut names = String::new();
    for (name, file) in &files {
        write(&place.path(name), file);
        place.succeed(&format!("predict run {name} --device cpu"));
        for tenth in 1..10 {
            let cut = format!("{tenth}_{name}");
            write(&place.path(&cut), &file[..file.len() * tenth / 10]);
            names += &format!(" {cut}");
        }
    }
    let done = place.run(&format!("predict run {names} --json --device cpu"));
    assert_eq!(done.code, 1, "{done:?}");
    let answers = objects(&done.out);
    assert_eq!(answers.len(), 36);
    for answer in answers {
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(error.contains(answer["image"].as_str().unwrap()) && error.contains("cut short"), "{error}");
    }

    folders(&place, "photos", 4, |picture| jpeg(picture, None), "jpg");
    let verified = place.succeed("data verify --data photos");
    assert!(verified.contains("24 of 24 images decode"), "{verified}");
    let broken = "photos/train/vertical/02.jpg";
    let whole = place.read(broken);
    for tenth in [1, 5, 9] {
        std::fs::write(place.path(broken), &whole[..whole.len() * tenth / 10]).unwrap();
        let verified = place.run("data verify --data photos");
        assert!(verified.code == 1 && verified.out.contains("23 of 24 images decode"), "{verified:?}");
        assert!(verified.out.contains(broken), "{verified:?}");
        let train = "train --data photos --epochs 1 --batch-size 4 --out other --device cpu";
        place.fail(train, 1, &[broken, "cut short"]);
    }
}

#[test]
fn other_formats_are_trained_on_and_predicted() {
    let place = Place::new();
    use image::ImageFormat::{Bmp, Gif, Tiff, WebP};
    let formats = [("webp", WebP), ("BMP", Bmp), ("tif", Tiff), ("tiff", Tiff), ("gif", Gif)];
    for (split, count) in [("train", 5), ("val", 2)] {
        for (class, vertical) in [("horizontal", false), ("vertical", true)] {
            for (number, (extension, format)) in formats.iter().take(count).enumerate() {
                let path = place.path(&format!("photos/{split}/{class}/{number}.{extension}"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let picture = image::DynamicImage::from(stripes(vertical, number as u32));
                let picture = if *format == Gif { picture.into_rgba8().into() } else { picture };
                picture.save_with_format(path, *format).unwrap();
            }
        }
    }
    let verified = place.succeed("data verify --data photos");
    assert!(verified.contains("kinds      4 BMP, 2 GIF, 4 TIFF, 4 WebP"), "{verified}");
    let shown = place.succeed("data show --data photos");
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["vertical", "5", "2"])), "{shown}");
    place.succeed("train --data photos --epochs 1 --batch-size 5 --out run --device cpu");
    let found = objects(&place.succeed("predict run photos --json --device cpu"));
    assert_eq!(found.len(), 14);
    assert!(found.iter().all(|object| object["predictions"].is_array()), "{found:?}");
}

#[test]
fn downloaded_data_sets_are_shown_verified_and_trained_on() {
    let place = Place::new();
    let idx = |sides: &[u32], bytes: Vec<u8>| {
        let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_be_bytes()).collect();
        [&[0, 0, 8, sides.len() as u8 / 4], &sides[..], &bytes].concat()
    };
    for (split, count) in [("train", 12), ("t10k", 4)] {
        let images = (0..count * 784).map(|i| (i * 11) as u8).collect();
        write(&place.path(&format!("digits/MNIST/raw/{split}-images-idx3-ubyte")), &idx(&[count, 28, 28], images));
        let labels = (0..count as u8).map(|label| label % 10).collect();
        write(&place.path(&format!("digits/MNIST/raw/{split}-labels-idx1-ubyte")), &idx(&[count], labels));
    }
    let mut list = "id,label\n".to_owned();
    for number in 0..12 {
        let vertical = number % 2 == 1;
        let file = turned_png(&stripes(vertical, number));
        write(&place.path(&format!("kaggle/train/{number}.png")), &file);
        list += &format!("{number},{}\n", if vertical { "vertical" } else { "horizontal" });
    }
    write(&place.path("kaggle/trainLabels.csv"), list.as_bytes());

    let train = "train --epochs 1 --batch-size 4 --device cpu";
    let shown = place.succeed("data show --data digits");
    assert!(shown.contains("mnist") && shown.contains("12 images 28×28"), "{shown}");
    assert!(place.succeed("data verify --data digits").contains("16 of 16 images decode"));
    place.succeed(&format!("{train} --data digits --out a"));
    assert_eq!(place.metrics("a")[0]["dataset"], "mnist");
    place.succeed("eval a --device cpu");
    place.fail("train --resume a --epochs 2 --data kaggle", 1, &["hint: "]);

    assert!(place.succeed("data verify --data kaggle").contains("12 of 12 images decode"));
    place.fail(&format!("{train} --data kaggle --out b"), 1, &["training pictures only", "--val 20%"]);
    place.succeed(&format!("{train} --data kaggle --out b --val 25%"));
    place.succeed("train --resume b --epochs 2 --device cpu");
    assert_eq!(place.epochs("b"), [1, 2]);
    std::fs::write(place.path("kaggle/train/3.png"), "x").unwrap();
    let verified = place.run("data verify --data kaggle");
    assert!(verified.code == 1 && verified.out.contains("11 of 12 images decode"), "{verified:?}");
}

#[cfg(unix)]
#[test]
fn pictures_come_from_pipes_too() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    let file = jpeg(&stripes(true, 1), None);
    write(&place.path("a.jpg"), &file);
    let expected = place.succeed("predict run a.jpg --device cpu");
    let from = |argument: &str, bytes: &[u8]| {
        let mut command = place.command(&format!("predict run {argument} --device cpu"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        command::done(child.wait_with_output().unwrap())
    };
    for argument in ["-", "/dev/stdin", "/proc/self/fd/0"] {
        let done = from(argument, &file);
        assert_eq!((done.code, done.out.as_str()), (0, expected.as_str()), "{argument}: {done:?}");
        let done = from(argument, &file[..file.len() / 2]);
        assert!(done.code == 1 && done.error.contains("cut short"), "{argument}: {done:?}");
    }
    // A device without an end is not begun.
    place.fail("predict run /dev/zero --device cpu", 1, &["/dev/zero", "it is a device, not a file"]);
}

#[test]
fn files_and_names_in_place_of_a_data_folder_are_named() {
    let place = Place::new();
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    write(&place.path("cifar-10-python.tar.gz"), &gzip);
    write(&place.path("photos.zip"), b"PK\x03\x04\x14\0\0\0\0\0");
    write(&place.path("photos.7z"), b"7z\xbc\xaf\x27\x1c\0\x04");
    write(&place.path("train.parquet"), b"PAR1\x15\x04");
    write(&place.path("train_32x32.mat"), b"MATLAB 5.0 MAT-file, Platform: GLNXA64");
    write(&place.path("cat.jpg"), &jpeg(&stripes(true, 1), None));
    for command in ["data show --data", "data verify --data", "train --out x --data"] {
        for (data, words) in [
            ("cifar-10-python.tar.gz", ["gzip archive", "tar xf"]),
            ("photos.zip", ["zip archive", "unzip"]),
            ("photos.7z", ["7z archive", "7z x"]),
            ("train.parquet", ["Parquet", "datasets"]),
            ("train_32x32.mat", ["MATLAB", "scipy"]),
            ("cat.jpg", ["JPEG", "alexnet predict"]),
            ("CIFAR10", ["no data set `CIFAR10`", "did you mean cifar10?"]),
            ("cifar-10", ["no data set `cifar-10`", "did you mean cifar10?"]),
            ("mnist", ["not downloaded", "MNIST's idx files"]),
            ("imagenet", ["not downloaded", "train/CLASS"]),
            ("photo", ["no data set `photo`", "auto, cifar10, sample"]),
            ("no/such/folder", ["no/such/folder", "hint: "]),
        ] {
            place.fail(&format!("{command} {data}"), 1, &words);
        }
    }
}
