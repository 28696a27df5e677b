//! Every error of `train` and `eval`: the message names the thing and the next step, the exit code is 2 for wrong usage and
//! 1 for everything else, and no partial file is left.

mod command;

use std::fs;
use std::path::Path;

use command::{Place, SHORT};

#[test]
fn wrong_settings() {
    let place = Place::new();
    for (arguments, words) in [
        ("train --batch-size 0", "error: --batch-size is 0, expected at least 1"),
        ("train --lr NaN", "error: --lr is NaN, expected a finite number, 0 or more"),
        ("train --lr -0.1", "error: --lr is -0.1, expected a finite number, 0 or more"),
        ("train --weight-decay inf", "error: --weight-decay is inf"),
        ("train --momentum -1", "error: --momentum is -1, expected a number from 0 to below 1"),
        ("train --dropout 1", "error: --dropout is 1, expected a number from 0 to below 1"),
        ("train --ema 1", "error: --ema is 1, expected a number from 0 to below 1"),
        (
            "train --seed 18446744073709551615",
            "error: --seed is 18446744073709551615, expected at most 9223372036854775807",
        ),
        ("train --accumulate 0", "error: --accumulate is 0"),
        ("train --limit-train 0", "error: --limit-train is 0"),
        ("train --nesterov --momentum 0", "hint: give --momentum 0.9"),
        ("train --groups 2", "error: --groups is 2, but only `original` has groups"),
        ("train --epochs 2 --warmup 3", "error: --warmup is 3 epochs, longer than the run of 2"),
        ("train --batch-size x", "invalid value 'x' for '--batch-size <N>'"),
        (
            "train --precision fp16 --device cpu",
            "error: --precision is fp16, but the CPU computes in fp32 and bf16 only\nhint: give --precision fp32 or bf16, ",
        ),
        ("train --precision fp8", "invalid value 'fp8' for '--precision <PRECISION>'"),
        ("train --device tpu", "invalid value 'tpu' for '--device <DEVICE>'"),
        ("train --arch vgg", "invalid value 'vgg' for '--arch <ARCH>'"),
        ("train --schedule linear", "invalid value 'linear' for '--schedule <SCHEDULE>'"),
        ("train --rand-augment 2,40", "RandAugment is `2,40`, expected N,M with N from 1 to 14 and M from 0 to 30"),
        ("train --cutout 8", "--cutout is given, but --augment has no cutout"),
        (
            "train --augment crop,zoom",
            "augmentation is `crop,zoom`, expected none, or some of crop,resized-crop,flip,cutout",
        ),
        ("train --resume a --out b", "cannot be used with"),
        ("train --learning-rate 1", "unexpected argument '--learning-rate'"),
        ("eval run --batch-size 0", "error: --batch-size is 0, expected at least 1"),
        ("eval", "<RUN_OR_CHECKPOINT>"),
    ] {
        place.fail(arguments, 2, &[words]);
    }
    assert!(place.names(".").is_empty(), "{:?}", place.names("."));
}

#[test]
fn wrong_configuration_files() {
    let place = Place::new();
    for (text, words) in [
        ("learning-rate = 1\n", "learning-rate"),
        ("lr = \"fast\"\n", "lr"),
        ("lr = \n", "my.toml"),
        ("lr = -1.0\n", "lr in my.toml is -1, expected a finite number, 0 or more"),
        ("schedule = \"linear\"\n", "linear"),
    ] {
        fs::write(place.path("my.toml"), text).unwrap();
        place.fail("train --config my.toml", 2, &["my.toml", words]);
    }
    place.fail("train --config none.toml", 1, &["cannot read none.toml", "hint: check the path"]);
    place.fail("train --config .", 1, &["cannot read .", "hint: give a file, not a folder"]);
    assert_eq!(place.names("."), ["my.toml"]);
}

#[test]
fn what_does_not_fit() {
    let place = Place::new();
    place.fail(
        "train --data sample --arch paper-k11 --resize 32",
        1,
        &["features.12", "32x32", "hint: use --resize 63"],
    );
    place.fail(
        "train --data sample --batch-size 100000000",
        1,
        &["a batch of 100000000 images needs ", " is free", "hint: use --batch-size ", " or less"],
    );
    place.fail(
        "train --data sample --val 1000",
        2,
        &["error: --val is 1000, expected fewer than the 1000 training images"],
    );
    place.fail(
        "train --data CIFAR10",
        1,
        &["no data set `CIFAR10`", "did you mean cifar10?", "hint: ", "auto, cifar10, sample"],
    );
    fs::write(place.path("file"), "").unwrap();
    place.fail(&format!("{SHORT} --epochs 1 --out file/run"), 1, &["cannot create file/run", "hint: "]);
    place.fail(&format!("{SHORT} --init none.safetensors"), 1, &["none.safetensors", "hint: check the path"]);
    place.fail(&format!("{SHORT} --init file"), 1, &["file is not a checkpoint: it is an empty file", "hint: "]);
    place.fail("train --resume nowhere", 1, &["error: no such folder: nowhere", "hint: "]);
    fs::create_dir(place.path("empty")).unwrap();
    place.fail("train --resume empty", 1, &["empty is not a run folder: it has no last.safetensors"]);
    place.fail("train --resume file", 1, &["file is not a run folder: it is a file", "hint: give the folder"]);
    place.fail("eval empty", 1, &["empty is not a run folder: it has no checkpoint"]);
    place.fail("eval nowhere", 1, &["cannot read nowhere", "hint: check the path"]);
    assert_eq!(place.names("."), ["empty", "file"]);
}

fn image(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(9, 5, image::Rgb([1, 2, 3])).save(path).unwrap();
}

#[test]
fn checkpoints_that_are_damaged_or_belong_elsewhere() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    let good = place.read("run/last.safetensors");
    let bad = place.path("bad.safetensors");

    fs::write(&bad, &good[..good.len() - 1]).unwrap();
    place.fail(
        "eval bad.safetensors",
        1,
        &["bad.safetensors is not a complete safetensors file", "hint: give a run folder", "use another copy"],
    );
    let mut flipped = good.clone();
    flipped[50_000_000] ^= 4;
    fs::write(&bad, &flipped).unwrap();
    place.fail("eval bad.safetensors", 1, &["bad.safetensors is damaged", "checksum", "hint: use another copy"]);
    let mut long = good;
    long[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    fs::write(&bad, &long).unwrap();
    place.fail("eval bad.safetensors", 1, &["bad.safetensors is not a complete safetensors file"]);
    // A run with such a checkpoint is not resumed, and stays as it is.
    fs::create_dir(place.path("broken")).unwrap();
    fs::rename(&bad, place.path("broken/last.safetensors")).unwrap();
    place.fail("train --resume broken", 1, &["broken/last.safetensors is not a complete safetensors file"]);
    assert_eq!(place.names("broken"), ["last.safetensors"]);

    // Weights without metadata, and weights of another variant.
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let foreign = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    fs::write(place.path("foreign.safetensors"), foreign).unwrap();
    place.fail(
        "eval foreign.safetensors",
        1,
        &["foreign.safetensors does not hold a known AlexNet", "no tensor features.0.weight", "`a`", "hint: "],
    );
    place.fail(
        &format!("{SHORT} --arch paper-k11 --init run/last.safetensors --out other"),
        2,
        &[
            "--arch paper-k11 does not fit run/last.safetensors, which is --arch cifar",
            "tensor `features.0.weight` has shape [64, 3, 3, 3], the network needs [64, 3, 11, 11]",
            "hint: leave --arch out",
        ],
    );
    assert!(!place.path("other").exists());

    // Other data than it was trained on.
    for split in ["train", "val"] {
        for class in ["cat", "newt"] {
            image(&place.path(&format!("pets/{split}/{class}/1.png")));
        }
    }
    place.fail("eval run --data pets", 1, &["pets has 1 class that the network was not trained on: newt", "hint: "]);
    place.fail("train --resume run --epochs 1 --data pets", 1, &["the run was trained on sample, but pets", "hint: "]);
    assert!(!place.path("run/best.safetensors").exists() && place.read("run/metrics.jsonl").is_empty());
}

#[test]
fn a_loss_that_is_no_number() {
    let place = Place::new();
    place.fail(
        &format!("{SHORT} --limit-train 64 --epochs 3 --lr 1e20 --out run"),
        1,
        &[" became ", " at step ", "epoch 1", "hint: start again with a smaller learning rate", "run/last.safetensors"],
    );
    assert_eq!(place.epochs("run"), [0u64; 0]);
    place.succeed("eval run --limit-test 10");
}

/// A limit on the file size stands in for a full disk: writes beyond it fail.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let place = Place::new();
    let limited = |arguments: &str| {
        let binary = env!("CARGO_BIN_EXE_alexnet");
        let script = format!("trap '' XFSZ; ulimit -f 1000; exec {binary} {arguments}");
        let mut shell = std::process::Command::new("/bin/sh");
        command::done(shell.args(["-c", &script]).current_dir(place.path("")).output().unwrap())
    };
    // A new run that cannot write its first checkpoint leaves nothing.
    let done = limited(&format!("{SHORT} --epochs 1 --out run"));
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.error.contains("error: cannot write run/last") && done.error.contains("hint: free some disk space"),
        "{done:?}"
    );
    assert!(!place.path("run").exists());
    // A resumed run keeps its last good checkpoint.
    place.succeed(&format!("{SHORT} --epochs 1 --out run"));
    let before = place.read("run/last.safetensors");
    let done = limited("train --resume run --epochs 2");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.error.contains("hint: free some disk space"), "{done:?}");
    assert!(place.read("run/last.safetensors") == before);
    assert!(place.names("run").iter().all(|name| !name.contains("tmp")), "{:?}", place.names("run"));
    // The epoch whose checkpoint was not written is repeated, and is in the metrics once.
    place.succeed("train --resume run --epochs 2");
    assert_eq!(place.epochs("run"), [1, 2]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    image(&place.path("photo.png"));
    place.succeed("export run -o a.safetensors");
    for arguments in [
        "eval run --limit-test 10 --json",
        "predict run photo.png",
        "predict run photo.png --csv",
        "predict run photo.png --json",
        "data show --data sample",
        "data show --data sample --json",
        "data verify --data sample",
        "data speed --data sample",
        "data augment --data sample -o a.png --force",
        "export run -o a.onnx --force",
        "import a.safetensors -o b.safetensors --force",
        "report run -o a.html --data sample --limit-test 10 --force",
        "bench --device cpu --batch-size 2 --arch modern --seconds 0.1 --json",
        "doctor --device cpu",
        "gradcheck --device cpu --layer relu",
        "completions bash",
        "man pages --force",
        "--help",
        "train --help",
        "--version",
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = command::done(place.command(arguments).stdout(full).output().unwrap());
        assert_eq!(done.code, 1, "{arguments}");
        assert!(done.error.contains("error: cannot write the result"), "{done:?}");
    }
}

#[test]
fn a_reader_that_is_gone_ends_the_command_at_once() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    fs::create_dir(place.path("pictures")).unwrap();
    (0..2000).for_each(|at| image(&place.path(&format!("pictures/{at}.png"))));
    let run = |reader_stays: bool| {
        let start = std::time::Instant::now();
        let mut command = place.command("predict run pictures --json --batch-size 8 --device cpu");
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        if !reader_stays {
            drop(child.stdout.take());
        }
        let done = command::done(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.error.as_str()), (0, ""));
        start.elapsed()
    };
    let (whole, cut) = (run(true), run(false));
    assert!(cut < whole / 3, "{cut:?} of {whole:?}");
}
