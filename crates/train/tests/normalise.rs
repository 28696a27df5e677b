//! `--normalise`: resizing and normalisation are part of the model, from training to export.

mod command;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use alexnet_train::data::{Dataset, Loader, LoaderOptions, Options, Preprocess};
use command::{Place, tensors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A quick run on the pictures of [`pictures`].
const TRAIN: &str = "train --data data --arch modern --batch-size 4 --epochs 1 --device cpu";

/// Byte of a picture at a place: gradients that differ by class and picture.
fn byte(x: usize, y: usize, c: usize, number: usize) -> u8 {
    ((x * 5 + y * (number % 7 + 1) + c * 40 + number * 13) % 200) as u8
}

/// `data/{train,val}/{a,b}`: pictures of this size.
fn pictures(place: &Place, [width, height]: [u32; 2]) {
    for (split, count) in [("train", 6), ("val", 4)] {
        for (label, class) in ["a", "b"].into_iter().enumerate() {
            let folder = place.path(&format!("data/{split}/{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let of = |x: u32, y: u32, c| byte(x as usize, y as usize, c, number * 2 + label);
                let picture =
                    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| of(x, y, c))));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

/// The metadata of a safetensors file.
fn metadata(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice::<Value>(&bytes[8..8 + length]).unwrap()["__metadata__"].clone()
}

fn preprocess(path: &Path) -> Value {
    serde_json::from_str(metadata(path)["preprocess"].as_str().unwrap()).unwrap()
}

/// Probability of each class, by index, of each line of `predict --json`.
fn probabilities(out: &str) -> Vec<Vec<f64>> {
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let mut all = vec![0.0; 2];
        for entry in line["predictions"].as_array().unwrap() {
            all[entry["index"].as_u64().unwrap() as usize] = entry["probability"].as_f64().unwrap();
        }
        all
    };
    out.lines().map(of).collect()
}

/// The answer of `serve` to a picture.
fn served(place: &Place, model: &str, picture: &Path) -> Value {
    let mut command = place.command(&format!("serve {model} --port 0 --device cpu"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().to_owned();
    let body = std::fs::read(picture).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn what_it_was_trained_with_is_used_wherever_it_goes() {
    let place = Place::new();
    pictures(&place, [57, 40]);
    let out = place.succeed(&format!("{TRAIN} --normalise imagenet --out run"));
    let line =
        "RGB in 0..1, (x - mean)/std with mean 0.485 0.456 0.406 and std 0.229 0.224 0.225, Resize 36, CenterCrop 32";
    assert!(out.contains(&format!("input    {line}\n")), "{out}");
    let recorded = json!({
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": 36, "crop": 32,
        "interpolation": "bilinear", "antialias": true, "channels": "RGB", "range": [0, 1],
    });
    assert_eq!(preprocess(&place.path("run/best.safetensors")), recorded);

    // eval, which decodes at once, and predict, picture by picture.
    let predict = |model: &str| place.succeed(&format!("predict {model} data/val --json --device cpu"));
    let shares = probabilities(&predict("run"));
    let evaluation: Value = serde_json::from_str(&place.succeed("eval run --json --device cpu")).unwrap();
    let loss = shares.iter().enumerate().map(|(i, shares)| -shares[i / 4].ln()).sum::<f64>() / 8.0;
    assert!((evaluation["loss"].as_f64().unwrap() - loss).abs() < 1e-6, "{evaluation} {loss}");
    let answer = served(&place, "run", &place.path("data/val/b/1.png"));
    for entry in answer["predictions"].as_array().unwrap() {
        let index = entry["index"].as_u64().unwrap() as usize;
        assert_eq!(entry["probability"].as_f64().unwrap(), shares[5][index]);
    }

    // Out and in again.
    for file in ["a.onnx", "a.pt", "a.pth", "a.safetensors"] {
        let out = place.succeed(&format!("export run -o {file}"));
        assert!(out.ends_with(&format!("input: {line}\n")), "{out}");
    }
    assert_eq!(preprocess(&place.path("a.safetensors")), recorded);
    for (file, text) in [("a.onnx", &b"channel_order"[..]), ("a.pt", b"extra/preprocess.json")] {
        assert!(place.read(file).windows(text.len()).any(|window| window == text), "{file}");
    }
    let out = place.succeed("import a.safetensors -o b.safetensors");
    assert!(out.ends_with(&format!("input: {line}\n")), "{out}");
    place.succeed("import a.pth -o c.safetensors");
    assert_eq!(preprocess(&place.path("c.safetensors")), recorded);
    place.succeed("import a.pth -o d.safetensors --normalise cifar10");
    assert_eq!(predict("b.safetensors"), predict("run"));
    assert_eq!(predict("c.safetensors"), predict("run"));
    assert_ne!(predict("d.safetensors"), predict("run"));
    place.fail("import a.pth -o e.safetensors --normalise auto", 2, &["needs training images", "hint: give cifar10"]);

    // Trained further, it sees the same unless it is told otherwise.
    place.succeed(&format!("{TRAIN} --init a.safetensors --out more"));
    assert_eq!(preprocess(&place.path("more/last.safetensors")), recorded);
    place.succeed(&format!("{TRAIN} --init a.safetensors --normalise 0.5,0.25 --out numbers"));
    let numbers = preprocess(&place.path("numbers/last.safetensors"));
    assert_eq!(
        (&numbers["mean"], &numbers["std"], &numbers["resize"]),
        (&json!([0.5, 0.5, 0.5]), &json!([0.25, 0.25, 0.25]), &json!(36))
    );
    let error = "--resume more --epochs 2 --normalise cifar10";
    place.fail(&format!("train {error}"), 2, &["--normalise", "contradicts the run"]);
    for words in ["imagenets", "0.5", "0.5,0", "0.5,nan", "1,2,3,4"] {
        place.fail(&format!("{TRAIN} --normalise {words}"), 2, &["--normalise", "cifar10, imagenet, auto"]);
    }
}

#[test]
fn the_training_pictures_own_numbers_are_measured_once() {
    let place = Place::new();
    pictures(&place, [32, 32]);
    for (out, threads) in [("one", 1), ("two", 2)] {
        place.succeed(&format!("{TRAIN} --normalise auto --epochs 2 --threads {threads} --out {out}"));
    }
    assert!(tensors(&place.path("one/last.safetensors")) == tensors(&place.path("two/last.safetensors")));
    let recorded = preprocess(&place.path("one/last.safetensors"));
    for c in 0..3 {
        let pixels = (0..12).flat_map(|number| (0..32 * 32).map(move |i| byte(i % 32, i / 32, c, number)));
        let values: Vec<f64> = pixels.map(|byte| f64::from(byte) / 255.0).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        // Rounded to f32 once.
        assert!((recorded["mean"][c].as_f64().unwrap() - mean).abs() < 1e-7, "{recorded} {mean}");
        assert!((recorded["std"][c].as_f64().unwrap() - deviation).abs() < 1e-7, "{recorded} {deviation}");
    }

    // Stopped and gone on with, it keeps its numbers and ends with the same bits.
    place.succeed(&format!("{TRAIN} --normalise auto --out half"));
    assert!(place.succeed("train --resume half --epochs 2").contains("input    RGB"));
    assert!(tensors(&place.path("half/last.safetensors")) == tensors(&place.path("one/last.safetensors")));
    assert_eq!(preprocess(&place.path("half/last.safetensors")), recorded);
}

/// Removes a key of a checkpoint's metadata, with a checksum that is right.
fn without(path: &Path, key: &str, to: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let strings = header["__metadata__"].as_object_mut().unwrap();
    assert!(strings.remove(key).is_some() && strings.remove("inference_checksum").is_some());
    let zeros = "0".repeat(64);
    strings.insert("checksum".into(), json!(zeros));
    let mut text = header.to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[8 + length..]].concat();
    let sum: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let place = file.windows(64).position(|window| window == zeros.as_bytes()).unwrap();
    file[place..place + 64].copy_from_slice(sum.as_bytes());
    std::fs::write(to, file).unwrap();
}

#[test]
fn checkpoints_from_before_it_was_recorded_are_cifar10s() {
    let place = Place::new();
    pictures(&place, [40, 40]);
    place.succeed(&format!("{TRAIN} --out run"));
    assert_eq!(preprocess(&place.path("run/last.safetensors"))["resize"], 32);
    without(&place.path("run/last.safetensors"), "preprocess", &place.path("old.safetensors"));
    let predict = |model: &str| place.succeed(&format!("predict {model} data/val --json --device cpu"));
    assert_eq!(predict("old.safetensors"), predict("run/last.safetensors"));
    // Weights of this program's older exports, too, even for a network that is torchvision's.
    place.succeed(&format!("{TRAIN} --init old.safetensors --out more"));
    assert_eq!(preprocess(&place.path("more/last.safetensors")), preprocess(&place.path("run/last.safetensors")));
    std::fs::copy(place.path("old.safetensors"), place.path("run/last.safetensors")).unwrap();
    std::fs::remove_file(place.path("run/best.safetensors")).unwrap();
    place.succeed("train --resume run --epochs 2");
    place.succeed(&format!("{TRAIN} --epochs 2 --out whole"));
    assert!(tensors(&place.path("run/last.safetensors")) == tensors(&place.path("whole/last.safetensors")));
}

/// Pictures that are kept in memory are those that a loader decodes when it needs them.
#[test]
fn a_folder_gives_the_same_batches_from_memory_and_from_files() {
    let place = Place::new();
    pictures(&place, [57, 40]);
    let preprocess = Preprocess::imagenet(32);
    let [memory, files] = [u64::MAX, 0].map(|memory| {
        let options = Options { image_size: 32, resize: preprocess.resize, memory, ..Options::default() };
        Dataset::open(place.path("data").to_str().unwrap(), &options).unwrap().train
    });
    assert!(memory.is_ready(preprocess.fit(32)) && memory.limit(3).is_ready(preprocess.fit(32)));
    assert!(!files.is_ready(preprocess.fit(32)));
    let batches = |split, preprocess| {
        let options = LoaderOptions { batch_size: 5, preprocess, ..LoaderOptions::default() };
        let loader = Loader::new(split, options).unwrap();
        loader.flat_map(|batch| batch.unwrap().images().to_vec()).map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(batches(&memory, preprocess), batches(&files, preprocess));
    assert_ne!(batches(&files, preprocess), batches(&files, Preprocess { resize: None, ..preprocess }));
    assert_eq!(preprocess.measured(&memory, 32).unwrap(), preprocess.measured(&files, 32).unwrap());
}
