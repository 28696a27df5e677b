//! Weights and checkpoints that people have at hand: what is taken, and how everything else is named.

mod command;

use std::fs;
use std::io::Write;

use command::{Place, SHORT, set_tensors, tensors};

/// A little training data in two classes.
fn pictures(place: &Place) {
    for split in ["train", "val"] {
        for (class, value) in [("dark", 20u8), ("light", 220)] {
            let folder = place.path(&format!("pictures/{split}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for number in 0..4u8 {
                let picture = image::RgbImage::from_pixel(40, 36, image::Rgb([value + number; 3]));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn the_network_is_the_files() {
    let place = Place::new();
    pictures(&place);
    place.succeed(&format!("{SHORT} --arch modern --epochs 0 --out run"));
    place.succeed("export run -o weights.pth");
    let tune = "train --data pictures --init weights.pth --replace-classifier --freeze features --epochs 1 \
                --batch-size 4 --device cpu --augment none";
    let out = place.succeed(&format!("{tune} --out tuned"));
    assert!(out.contains("network  modern, images 32x32"), "{out}");
    // What was taken is a setting of the run, so that it goes on and can be repeated.
    let config = String::from_utf8(place.read("tuned/config.toml")).unwrap();
    assert!(config.contains("arch = \"modern\"") && config.contains("resize = 32"), "{config}");
    place.succeed("train --resume tuned --epochs 2");
    place.succeed(&format!("{SHORT} --config tuned/config.toml --data pictures --epochs 0 --out again"));
    // A checkpoint of `import`, and the run itself.
    place.succeed("import weights.pth -o start.safetensors --classes cifar10");
    for file in ["start.safetensors", "run", "run/last.safetensors"] {
        let out = place.succeed(&format!("{SHORT} --epochs 0 --init {file} --out from-it"));
        assert!(out.contains("network  modern"), "{file}: {out}");
        fs::remove_dir_all(place.path("from-it")).unwrap();
    }
    // A recipe's network gives way; a flag must be the file's.
    let out = place.succeed(&format!("{SHORT} --recipe strong --epochs 0 --warmup 0 --init weights.pth --out strong"));
    assert!(out.contains("network  modern"), "{out}");
    place.succeed(&format!("{SHORT} --arch modern --resize 32 --init weights.pth --epochs 0 --out same"));
    for (flags, words) in [
        (
            "--arch torchvision",
            ["--arch torchvision does not fit weights.pth, which is --arch modern", "--arch modern"],
        ),
        ("--resize 64", ["--resize 64 does not fit weights.pth, which is --resize 32", "leave --resize out"]),
        ("--residual=false --arch cifar", ["--arch cifar does not fit", "tensor `features."]),
    ] {
        place.fail(&format!("{SHORT} {flags} --init weights.pth --out x"), 2, &words);
    }
    place.succeed(&format!("{SHORT} --batch-norm --epochs 0 --out norms"));
    let mistake =
        ["--batch-norm=false does not fit norms/last.safetensors", "which is --batch-norm=true: tensor `features."];
    place.fail(&format!("{SHORT} --batch-norm=false --init norms/last.safetensors --out x"), 2, &mistake);
    assert!(!place.path("x").exists());
    fs::create_dir(place.path("empty")).unwrap();
    place.fail(&format!("{SHORT} --init empty"), 1, &["empty is not a run folder: it has no checkpoint"]);
    place.fail("import empty -o x.safetensors", 1, &["empty is not a run folder"]);
}

#[test]
fn weights_are_used_as_they_are() {
    let place = Place::new();
    pictures(&place);
    place.succeed(&format!("{SHORT} --arch modern --epochs 0 --out run"));
    for file in ["a.pth", "a.safetensors"] {
        place.succeed(&format!("export run -o {file}"));
        let predict = |model: &str| place.succeed(&format!("predict {model} pictures/val --device cpu --json"));
        let (own, direct) = (predict("run"), predict(file));
        let probabilities = |out: &str| -> Vec<serde_json::Value> {
            let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            lines.map(|line| line["predictions"][0]["probability"].clone()).collect()
        };
        assert_eq!(probabilities(&own), probabilities(&direct), "{file}");
        let said = place.run(&format!("export {file} -o {file}.onnx"));
        assert!(said.error.contains(&format!("{file}: weights only, taken as modern")), "{said:?}");
    }
    assert!(place.read("a.pth.onnx").len() > 1000);
    place.succeed("import run -o from-run.safetensors");
    assert_eq!(place.succeed("eval run --data sample --limit-test 20 --device cpu --json"), {
        place.succeed("eval from-run.safetensors --data sample --limit-test 20 --device cpu --json")
    });
    assert!(!tensors(&place.path("from-run.safetensors")).is_empty());
}

#[test]
fn a_negative_variance_is_refused() {
    let place = Place::new();
    pictures(&place);
    place.succeed(&format!("{SHORT} --arch modern --epochs 0 --out run"));
    place.succeed("export run -o a.safetensors");
    let refused = |words: &[&str]| {
        place.fail("import a.safetensors -o x.safetensors", 1, words);
        place.fail(&format!("{SHORT} --init a.safetensors --out x"), 1, words);
        place.fail("predict a.safetensors pictures/val --device cpu", 1, words);
        assert!(!place.path("x.safetensors").exists());
    };
    // Zero is the variance of a channel that is always off.
    set_tensors(&place.path("a.safetensors"), "features.1.running_var", 2, 0.0);
    place.succeed("import a.safetensors -o zero.safetensors");
    set_tensors(&place.path("a.safetensors"), "features.1.running_var", 1, -0.5);
    refused(&["tensor features.1.running_var of a.safetensors has the value -0.5", "variance", "hint: "]);
    set_tensors(&place.path("a.safetensors"), "features.1.running_var", 1, f32::NAN);
    refused(&["tensor features.1.running_var of a.safetensors has the value NaN", "hint: "]);
}

/// A safetensors file of one-element tensors of these shapes, all zeros.
fn zeros(names: &[(&str, &[usize])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape) in names {
        let end = at + 4 * shape.iter().product::<usize>();
        header.insert((*name).into(), serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; at]].concat()
}

#[test]
fn every_wrong_file_is_named() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(9, 5).write_to(&mut picture, image::ImageFormat::Jpeg).unwrap();
    write("photo.jpg", picture.get_ref());
    write("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
    write("page.pth", b"<!DOCTYPE html>\n<html><title>Sign in</title></html>");
    write("model.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0");
    write("weights.npy", b"\x93NUMPY\x01\0v\0{'descr': '<f4'}");
    write("model.onnx", b"\x08\x08\x12\x07pytorch\x1a\x051.0.0");
    write("old.pth.tar", &tar("sys_info"));
    write("plain.tar", &tar("README"));
    write("weights.pth.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    write("config.toml", b"lr = 0.1\n");
    write("config.json", b"{\"arch\": \"alexnet\"}");
    write("empty.pth", b"");
    let mut zip = zip::ZipWriter::new(fs::File::create(place.path("photos.zip")).unwrap());
    zip.start_file("photos/1.jpg", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"x").unwrap();
    zip.finish().unwrap();
    let whole = zeros(&[("features.0.weight", &[64, 3, 3, 3]), ("features.0.bias", &[64])]);
    write("short.safetensors", &whole[..whole.len() - 40]);
    write("header.safetensors", &whole[..40]);
    for (name, what, next) in [
        ("photo.jpg", "it is a JPEG picture", "the run comes first"),
        ("lfs.safetensors", "a Git LFS pointer", "git lfs pull"),
        ("page.pth", "an HTML page", "web page"),
        ("model.h5", "an HDF5 file", "state dict"),
        ("weights.npy", "a NumPy array", "torch.save"),
        ("model.onnx", "an ONNX model", "is not read back"),
        ("old.pth.tar", "the tar format before 0.1.10", "write it again"),
        ("plain.tar", "a tar archive", "unpack it"),
        ("weights.pth.gz", "a gzip archive", "unpack it"),
        ("config.toml", "a text file", "best.safetensors"),
        ("config.json", "a JSON file", "best.safetensors"),
        ("empty.pth", "an empty file", "again"),
        ("photos.zip", "no data.pkl", "torch.save"),
        ("short.safetensors", "it was cut short", "another copy"),
        ("header.safetensors", "within its header", "another copy"),
    ] {
        for command in [
            &format!("predict {name} photo.jpg"),
            &format!("eval {name} --data sample"),
            &format!("export {name} -o x.onnx"),
            &format!("serve {name}"),
            &format!("import {name} -o x.safetensors"),
            &format!("{SHORT} --init {name} --out x"),
        ] {
            place.fail(command, 1, &[name, what, "hint: ", next]);
        }
    }
    assert!(!place.path("x").exists() && !place.path("x.onnx").exists() && !place.path("x.safetensors").exists());
}

fn tar(first: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_cksum();
    builder.append_data(&mut header, first, &b"x"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_at_once() {
    let place = Place::new();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    for (name, what) in [("/dev/zero", "a device"), ("/dev/tty", "a device"), ("socket", "a socket")] {
        for command in [
            format!("predict {name} x.png"),
            format!("eval {name} --data sample"),
            format!("export {name} -o x.onnx"),
            format!("serve {name}"),
            format!("import {name} -o x.safetensors"),
            format!("{SHORT} --init {name}"),
            format!("train --config {name}"),
        ] {
            if fs::metadata(place.path(name)).is_ok() {
                place.fail(&command, 1, &[name, &format!("it is {what}, not a file"), "hint: save it to a file"]);
            }
        }
    }
    // A pipe that nobody writes to: opening it would wait for ever.
    let made = std::process::Command::new("mkfifo").arg(place.path("pipe")).status();
    if made.is_ok_and(|status| status.success()) {
        place.fail("eval pipe --data sample", 1, &["it is a pipe"]);
        place.fail("import pipe -o x.safetensors", 1, &["it is a pipe"]);
    }
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --arch modern --epochs 0 --out run"));
    place.succeed("export run -o a.safetensors");
    let bytes = place.read("a.safetensors");
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let mut header = header.as_object().unwrap().clone();
        header.remove("__metadata__");
        change(&mut header);
        let header = serde_json::Value::Object(header).to_string();
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat();
        fs::write(place.path("b.safetensors"), file).unwrap();
    };
    // Renamed, so that the bytes stay covered.
    with(&|header| {
        let bias = header.remove("features.4.bias").unwrap();
        header.insert("features.4.beta".into(), bias);
    });
    let words = ["does not hold a known AlexNet", "modern", "tensor `features.4.bias` is missing", "hint: "];
    place.fail("import b.safetensors -o x.safetensors", 1, &words);
    place.fail(&format!("{SHORT} --init b.safetensors"), 1, &words);
    place.fail("eval b.safetensors --data sample", 1, &words);
    // One that no network has is said, and in nobody's way.
    let more = zeros(&[("fc.weight", &[2, 2])]);
    let (extra, header_end) = (&more[more.len() - 16..], bytes.len() - 8 - length);
    with(&|header| {
        let offsets = [header_end, header_end + 16];
        header.insert(
            "fc.weight".into(),
            serde_json::json!({ "dtype": "F32", "shape": [2, 2], "data_offsets": offsets }),
        );
    });
    let mut file = fs::OpenOptions::new().append(true).open(place.path("b.safetensors")).unwrap();
    file.write_all(extra).unwrap();
    let done = place.run("import b.safetensors -o x.safetensors");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.error.contains("b.safetensors: 1 tensor left unused: `fc.weight`"), "{done:?}");
    assert!(tensors(&place.path("x.safetensors")) == bytes[8 + length..]);
    // Other names altogether.
    fs::write(place.path("c.safetensors"), zeros(&[("conv1.weight", &[4, 3, 3, 3])])).unwrap();
    let words = ["no tensor features.0.weight", "`conv1.weight`", "torchvision's names"];
    place.fail("import c.safetensors -o y.safetensors", 1, &words);
}
