//! What `alexnet export` writes, opened by those it is for: onnx's checker, onnxruntime, `torch.export.load`,
//! `torch.jit.load`, a plain PyTorch module, the safetensors package. What `alexnet` sees of pictures is compared with
//! torchvision, and the instructions of compiled kernels with a table.
//!
//! Run it with `cargo test --release --package alexnet-train --test python --test browser --test arm64 -- --ignored`. It
//! makes a Python environment in the user's cache folder by pip, once (5 GB: PyTorch on PyPI comes with CUDA's libraries);
//! `ALEXNET_PYTHON` may name an interpreter that has the packages already.

mod command;
mod environment;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use alexnet_core::random::Philox;
use alexnet_core::{Cpu, Network};
use alexnet_kernels::nvrtc::{self, Code, Nvrtc, Target};
use alexnet_kernels::{Precision, UNITS, cache};
use alexnet_train::data::augment::resized_crop::resize_box;
use alexnet_train::data::{CropScale, Dataset, Loader, LoaderOptions, Options, decode};
use alexnet_train::run::checkpoint;
use command::Place;

/// What is installed, each at the version that the proof was written with.
const PACKAGES: [&str; 6] = [
    "torch==2.15.0",
    "torchvision==0.29.2",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "safetensors==0.8.0",
    "numpy==2.4.6",
];
const IMAGES: usize = 64;

fn write(path: PathBuf, values: &[f32]) {
    fs::write(path, bytemuck::cast_slice(values)).unwrap();
}

/// Our own logits of 64 of the embedded test images, and the images, for Python.
fn logits(place: &Place, checkpoint_path: &Path) {
    let checkpoint = checkpoint::open(checkpoint_path).unwrap();
    let metadata = checkpoint.metadata();
    let side = metadata.model.image_size;
    let mut network = Network::new(
        Arc::new(Cpu::new(0).unwrap()),
        metadata.model.architecture(metadata.classes.len()).unwrap(),
        IMAGES,
        false,
    )
    .unwrap();
    checkpoint.restore(&mut network).unwrap();
    let preprocess = metadata.preprocess;
    let split = Dataset::open("sample", &Options::default()).unwrap().test.limit(IMAGES);
    let (mut pixels, mut scratch) = (Vec::new(), Vec::new());
    (0..IMAGES).for_each(|index| pixels.extend(split.image(index, preprocess.fit(side), &mut scratch).unwrap()));
    fs::write(place.path("pixels.u8"), pixels).unwrap();
    let options = LoaderOptions { batch_size: IMAGES, image_size: side, preprocess, ..LoaderOptions::default() };
    let batch = Loader::new(&split, options).unwrap().next().unwrap().unwrap();
    network.predict(batch.images()).unwrap();
    let mut logits = vec![0.0; IMAGES * 10];
    network.read_logits(&mut logits).unwrap();
    write(place.path("images.f32"), batch.images());
    write(place.path("logits.f32"), &logits);
}

/// Runs a script of `tests/python` on the folder and prints what it says. Lines of the form `alexnet ARGUMENTS` are
/// commands that must succeed; the script reads what they print as a line of JSON. So it can make, compare and delete a
/// large file before it asks for the next.
fn python(place: &Place, script: &str, arguments: &[&str]) {
    let python = environment::python(&PACKAGES, "5 GB").unwrap_or_else(|error| panic!("{error}"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let mut command = Command::new(&python);
    command.arg(script).arg(arguments[0]).arg(place.path("")).args(&arguments[1..]);
    let errors = fs::File::create(place.path("errors.txt")).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let mut answers = child.stdin.take().unwrap();
    println!("{arguments:?}:");
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("alexnet ") {
            Some(command) => writeln!(answers, "{}", serde_json::json!(place.succeed(command))).unwrap(),
            None => println!("{line}"),
        }
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{arguments:?}: {}", fs::read_to_string(place.path("errors.txt")).unwrap());
}

/// Writes the pixels of every picture in a folder, and `FOLDER.jsonl` with their size.
fn decoded(place: &Place, folder: &str) {
    let mut lines = String::new();
    for name in place.names(folder) {
        let file = format!("{folder}/{name}");
        let (pixels, width, height) = decode::decode_original(&place.path(&file), decode::Exif::Apply).unwrap();
        fs::write(place.path(&format!("{name}.rgb")), pixels).unwrap();
        let line =
            serde_json::json!({ "file": file, "pixels": format!("{name}.rgb"), "width": width, "height": height });
        lines += &format!("{line}\n");
    }
    fs::write(place.path(&format!("{folder}.jsonl")), lines).unwrap();
}

fn proof(variant: &str, groups: &str, side: &str) {
    let place = Place::new();
    let plain = variant;
    let residual = if plain.ends_with("-residual") { "--residual" } else { "" };
    let variant = variant.trim_end_matches("-residual").trim_end_matches("-batch-norm");
    let call = |action: &str| python(&place, "proof.py", &[action, plain, groups, side]);
    call("make");
    // The shapes tell the variant; only `paper-k11` at its own side must be told from others with as many features.
    let out = place.succeed(&format!("import source.pth -o checkpoint.safetensors --classes cifar10 {residual}"));
    assert!(out.contains(&format!("{variant}, images {side}x{side}, 10 classes")), "{out}");
    logits(&place, &place.path("checkpoint.safetensors"));
    call("check");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn imported_weights_see_what_torchvisions_preset_shows_them() {
    let place = Place::new();
    python(&place, "preset.py", &["make"]);
    let out = place.succeed("import alexnet.pth -o alexnet.safetensors");
    assert!(out.contains("torchvision, images 224x224, 1000 classes"), "{out}");
    assert!(out.contains("mean 0.485 0.456 0.406 and std 0.229 0.224 0.225, Resize 256, CenterCrop 224"), "{out}");
    let lines = place.succeed("predict alexnet.safetensors photos --json --top 1000 --device cpu");
    fs::write(place.path("predict.jsonl"), lines).unwrap();
    decoded(&place, "photos");
    python(&place, "preset.py", &["check"]);
}

/// Weights as training scripts save them, imported bit for bit; and ImageNet's names.
#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn weights_of_training_scripts() {
    let place = Place::new();
    python(&place, "weights.py", &["check"]);
    let names = fs::read_to_string(place.path("imagenet.txt")).unwrap();
    assert_eq!(names.lines().collect::<Vec<_>>(), alexnet_train::import::classes::imagenet());
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn pictures_have_the_order_and_labels_of_image_folder() {
    let place = Place::new();
    // Names whose order depends on whether folders or whole paths are compared, and on bytes.
    let names = [
        "b/1.png",
        "b/10.png",
        "b/9.png",
        "b/z/1.png",
        "b/z-/1.png",
        "b/z/y/0.PNG",
        "b/Z.jpg",
        "B/é/2.png",
        "B/e.jpeg",
        "ä/1.png",
    ];
    for name in names {
        for split in ["train", "val"] {
            let path = place.path(&format!("pictures/{split}/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "not opened").unwrap();
        }
    }
    let folder = place.path("pictures");
    let dataset = Dataset::list_folder(&folder, &Options::default()).unwrap();
    let path = |index| dataset.train.file(index).unwrap().strip_prefix(place.path("")).unwrap().to_owned();
    let images: Vec<(PathBuf, u32)> =
        (0..dataset.train.len()).map(|index| (path(index), dataset.train.labels()[index])).collect();
    let ours = serde_json::json!({ "classes": dataset.classes, "images": images });
    fs::write(place.path("ours.json"), ours.to_string()).unwrap();
    python(&place, "folders.py", &["check"]);
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn pictures_are_read_as_pillow_and_torchvision_do() {
    let place = Place::new();
    python(&place, "pictures.py", &["make"]);
    decoded(&place, "pictures");
    python(&place, "pictures.py", &["check"]);
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn cifar() {
    proof("cifar", "1", "32");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn paper_k11() {
    proof("paper-k11", "1", "96");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn torchvision() {
    proof("torchvision", "1", "224");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn original() {
    proof("original", "1", "227");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn original_in_two_groups() {
    proof("original", "2", "227");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn cifar_with_batch_norm() {
    proof("cifar-batch-norm", "1", "32");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn modern() {
    proof("modern", "1", "32");
}

#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn modern_with_shortcuts() {
    proof("modern-residual", "1", "32");
}

/// Pixels of given boxes, and the distribution of 10,000 sampled ones.
#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn resized_crops_are_those_of_torchvision() {
    let (place, philox) = (Place::new(), Philox::new(1));
    let (width, height) = (173, 131);
    // A gradient with noise: a filter that is off by a fraction of a pixel shows.
    let byte = |i: usize| (i / 3 % width + i / 3 / width * 3 / 4 + philox.word(0, 0, i as u64) as usize % 64) as u8;
    let picture: Vec<u8> = (0..width * height * 3).map(byte).collect();
    let (mut bytes, mut crops) = (Vec::new(), Vec::new());
    for (i, size) in (0..60).zip([8, 32, 64, 224].into_iter().cycle()) {
        let from = CropScale::default().sample(&philox, 0, i, [width, height]);
        let mut out = vec![0; size * size * 3];
        resize_box(&picture, width, &from, size, &mut Vec::new(), &mut out).unwrap();
        bytes.extend(out);
        crops.push([from.left, from.top, from.width, from.height, size]);
    }
    let sample = |extent: [usize; 2], least, most| {
        let of = |i| CropScale { least, most }.sample(&philox, 1, i, extent);
        let boxes = (0..10_000).map(of).map(|b| [b.left, b.top, b.width, b.height]);
        serde_json::json!({ "extent": extent, "scale": [least, most], "boxes": boxes.collect::<Vec<_>>() })
    };
    // Photos on their side and upright, and one so long that most attempts fail and the centre is taken.
    let samples = [sample([400, 300], 0.08, 1.0), sample([300, 400], 0.35, 1.0), sample([500, 100], 0.1, 0.5)];
    let cases = serde_json::json!({ "extent": [width, height], "crops": crops, "samples": samples });
    for (name, bytes) in [("picture.u8", picture), ("crops.u8", bytes), ("crops.json", cases.to_string().into_bytes())]
    {
        fs::write(place.path(name), bytes).unwrap();
    }
    python(&place, "resized_crop.py", &["check"]);
}

/// One short round of `benches/against-pytorch`, which also compares the logits of all who have the same weights.
#[test]
#[ignore = "needs a Python environment of 5 GB, which it makes by pip"]
fn the_comparison_with_pytorch_measures() {
    let place = Place::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/against-pytorch");
    let mut command = Command::new("python3");
    command.arg(script).args("infer-8 --rounds 1 --seconds 0.01 --threads 2 --out speed.jsonl --alexnet".split(' '));
    command.arg(place.command("").get_program()).current_dir(place.path(""));
    command.env("ALEXNET_PYTHON", environment::python(&PACKAGES, "5 GB").unwrap_or_else(|error| panic!("{error}")));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(place.path("speed.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0]["machine"]["processor"].is_string(), "{text}");
    assert!(lines[1]["ratio"]["median"].as_f64().unwrap() > 0.0, "{text}");
    for name in ["ours", "plain", "onnxruntime"] {
        assert!(lines[1]["images_per_second"][name]["median"].as_f64().unwrap() > 0.0, "{name}: {text}");
    }
}

/// The main loops of the products have no more instructions than `benches/sass/loops.txt` says.
#[test]
#[ignore = "needs a disassembler of 10 MB, which it installs by pip"]
fn main_loops_are_as_short_as_the_table_says() {
    let nvrtc = Nvrtc::find().unwrap_or_else(|_| {
        nvrtc::fetch().unwrap_or_else(|error| panic!("{error}"));
        Nvrtc::find().unwrap_or_else(|error| panic!("{error}"))
    });
    let place = Place::new();
    for unit in UNITS.iter().filter(|unit| ["conv", "gemm"].contains(&unit.name)) {
        for (sm, (name, precision)) in [80, 90].into_iter().flat_map(|sm| {
            [("fp16", Precision::Fp16), ("fp32", Precision::Fp32), ("tf32", Precision::Tf32)].map(|of| (sm, of))
        }) {
            let target = Target { code: Code::Cubin, sm };
            let options = Nvrtc::options(target, &alexnet_kernels::defines(precision));
            let image = cache::compile(nvrtc, unit, target, &options).unwrap_or_else(|error| panic!("{error}"));
            fs::write(place.path(&format!("{}-{target}-{name}.cubin", unit.name)), image).unwrap();
        }
    }
    let python =
        environment::python(&["nvidia-cuda-nvdisasm==13.5.37"], "10 MB").unwrap_or_else(|error| panic!("{error}"));
    let sass = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/sass");
    let mut command = Command::new(python);
    command.arg(sass.join("count.py")).arg(place.path(""));
    // Another compiler makes other loops.
    if nvrtc.version() == (12, 9) {
        command.arg(sass.join("loops.txt"));
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
