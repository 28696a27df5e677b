//! What happens to a run's folder while it trains and between its resumptions: replaced folders, files of the user's, damaged
//! records and checkpoints, pictures that change.
#![cfg(unix)]

mod command;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Stdio};

use command::{Place, SHORT, done, tensors};

/// Starts a command and waits until it trains.
fn start(place: &Place, arguments: &str) -> Child {
    let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.as_mut().unwrap());
    while !line.starts_with("run ") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "ended before it trained");
    }
    child
}

/// Replaces text within a file.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no `{from}` in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

const TINY: &str =
    "train --data sample --limit-train 64 --limit-test 20 --batch-size 16 --arch modern --device cpu --threads 1";

#[test]
fn a_run_whose_folder_is_gone_does_not_write_into_another() {
    let place = Place::new();
    place.succeed(&format!("{TINY} --seed 2 --epochs 1 --out whole"));
    for moved in [false, true] {
        let long = start(&place, &format!("{TINY} --seed 1 --epochs 500 --out run"));
        fs::rename(place.path("run"), place.path("elsewhere")).unwrap();
        if !moved {
            fs::remove_dir_all(place.path("elsewhere")).unwrap();
        }
        place.succeed(&format!("{TINY} --seed 2 --epochs 1 --out run"));
        let long = done(long.wait_with_output().unwrap());
        assert_eq!(long.code, 1, "{long:?}");
        let said = "error: run was removed or replaced while the run trained\nhint: ";
        assert!(long.error.contains(said), "{long:?}");
        for name in ["last.safetensors", "best.safetensors"] {
            let [there, expected] = ["run", "whole"].map(|run| tensors(&place.path(run).join(name)));
            assert!(there == expected, "{name} is of the other run");
        }
        assert_eq!(place.epochs("run"), [1]);
        assert!(place.names("run").iter().all(|name| !name.contains("tmp")), "{:?}", place.names("run"));
        fs::remove_dir_all(place.path("run")).unwrap();
    }
    // What was moved is a run like any other.
    let epochs = place.epochs("elsewhere").len() + 1;
    place.succeed(&format!("train --resume elsewhere --epochs {epochs}"));
}

#[test]
fn records_that_are_replaced_stop_the_run_with_its_state_saved() {
    let place = Place::new();
    let long = start(&place, &format!("{TINY} --epochs 500 --out run"));
    fs::copy(place.path("run/metrics.jsonl"), place.path("copy")).unwrap();
    fs::rename(place.path("copy"), place.path("run/metrics.jsonl")).unwrap();
    let long = done(long.wait_with_output().unwrap());
    let words = ["run/metrics.jsonl was removed or replaced", "hint: the state is saved", "alexnet train --resume run"];
    assert!(long.code == 1 && words.iter().all(|word| long.error.contains(word)), "{long:?}");
    let epochs = place.epochs("run").len() + 1;
    place.succeed(&format!("train --resume run --epochs {epochs}"));
}

#[test]
fn files_of_the_users_stay() {
    let place = Place::new();
    let mine = ["thesis.tmp-backup.docx", "last.safetensors.tmp-backup", ".tmp-", "x.tmp-1-abcdef"];
    let write = || mine.iter().for_each(|name| fs::write(place.path("run").join(name), "mine").unwrap());
    let whole = || mine.iter().all(|name| place.read(&format!("run/{name}")) == b"mine");
    fs::create_dir(place.path("run")).unwrap();
    write();
    place.succeed(&format!("{TINY} --epochs 1 --out run"));
    assert!(whole());
    fs::write(place.path("run/best.safetensors.tmp-1-a1B2c3"), "half").unwrap();
    place.succeed("train --resume run --epochs 2");
    assert!(whole() && !place.path("run/best.safetensors.tmp-1-a1B2c3").exists());
    // A start that cannot write its first checkpoint takes back its own files only.
    fs::remove_dir_all(place.path("run")).unwrap();
    fs::create_dir(place.path("run")).unwrap();
    write();
    let binary = env!("CARGO_BIN_EXE_alexnet");
    let script = format!("ulimit -f 1000; exec {binary} {SHORT} --epochs 1 --out run");
    let mut shell = std::process::Command::new("/bin/sh");
    let failed = done(shell.args(["-c", &script]).current_dir(place.path("")).output().unwrap());
    // Without a `trap`: the limit's signal is an error too.
    let words =
        ["cannot write run/last.safetensors", "hint: free some disk space: a checkpoint of this network takes 1"];
    assert!(failed.code == 1 && words.iter().all(|word| failed.error.contains(word)), "{failed:?}");
    assert!(whole() && place.names("run").len() == mine.len(), "{:?}", place.names("run"));
    for name in ["steps.jsonl", "files.txt", "metrics.csv", "broken.txt"] {
        fs::write(place.path("run").join(name), "mine").unwrap();
        place.fail(&format!("{TINY} --out run"), 2, &[name, "a new run would overwrite it", "hint: "]);
        fs::remove_file(place.path("run").join(name)).unwrap();
    }
}

#[test]
fn temporary_files_of_a_killed_export_are_swept() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    let temporary = || place.names(".").into_iter().filter(|name| name.contains(".tmp-")).collect::<Vec<_>>();
    // Ctrl-C at any time leaves nothing.
    let mut codes = Vec::new();
    for milliseconds in (0..400).step_by(25) {
        let child = place.command("export run -o x.onnx --force").stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let id = child.id().to_string();
        let _ = std::process::Command::new("/bin/kill").args(["-INT", &id]).status();
        codes.push(child.wait().unwrap().code());
        assert_eq!(temporary(), [""; 0], "{codes:?}");
    }
    // SIGKILL leaves a file, which the next export removes; that of a process that lives stays.
    for name in ["x.onnx.tmp-7-aB3dEf", "x.onnx.tmp-7-living", "y.onnx.tmp-7-aB3dEf"] {
        fs::write(place.path(name), "half").unwrap();
    }
    let living = fs::File::open(place.path("x.onnx.tmp-7-living")).unwrap();
    living.lock().unwrap();
    place.succeed("export run -o x.onnx --force");
    assert_eq!(temporary(), ["x.onnx.tmp-7-living", "y.onnx.tmp-7-aB3dEf"]);
    place.succeed("import run -o y.onnx");
    assert_eq!(temporary(), ["x.onnx.tmp-7-living"]);
}

#[test]
fn damaged_records_are_named_with_their_line() {
    let place = Place::new();
    place.succeed(&format!("{TINY} --epochs 3 --log-every 1 --out run"));
    for (file, from, to) in [
        ("metrics.jsonl", "\"epoch\":1", "\"epoch\":x"),
        ("steps.jsonl", "\"step\":1", "\"step\":x"),
        ("metrics.jsonl", "{\"epoch\":1", "\n{\"epoch\":1"),
    ] {
        let path = place.path("run").join(file);
        let whole = fs::read_to_string(&path).unwrap();
        edit(&path, from, to);
        let damaged = fs::read(&path).unwrap();
        let words = [&format!("run/{file} is damaged: line 1 is "), "hint: correct the line", "sed -i 1d run/"];
        place.fail("train --resume run --epochs 4", 1, &words);
        place.fail("report run --no-test --force", 1, &words);
        assert!(fs::read(&path).unwrap() == damaged, "it stays as it is");
        fs::write(&path, &whole).unwrap();
    }
    place.succeed("train --resume run --epochs 4");
    assert_eq!(place.epochs("run"), [1, 2, 3, 4]);
}

#[test]
fn runs_are_compared_by_their_last_epoch() {
    let place = Place::new();
    let runs = format!("{TINY} --epochs 2 --runs 2 --out R");
    place.succeed(&runs);
    let path = place.path("R/seed-0/metrics.jsonl");
    fs::write(place.path("R/summary.json.tmp-7-aB3dEf"), "half").unwrap();
    place.succeed(&runs);
    assert_eq!(place.names("R"), ["seed-0", "seed-1", "summary.json"]);
    let summary = place.read("R/summary.json");
    let whole = fs::read_to_string(&path).unwrap();
    edit(&path, "\"lr\"", "\"l_r");
    place.fail(&runs, 1, &["R/seed-0/metrics.jsonl is damaged: line 1 is no record", "hint: "]);
    fs::write(&path, whole.lines().next().unwrap().to_owned() + "\n").unwrap();
    place.fail(&runs, 1, &["R/seed-0/metrics.jsonl ends with epoch 1, but the run has 2", "hint: remove"]);
    assert!(place.read("R/summary.json") == summary);
}

/// Changes a checkpoint's metadata, with a right checksum and without the one of what inference needs.
fn forge(path: &Path, from: &str, to: &str) {
    use sha2::{Digest, Sha256};

    let mut bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    assert!(header.contains(from), "no `{from}` in {header}");
    let mut forged = header.replacen(from, to, 1);
    let inference = forged.find("\"inference_checksum\":\"").unwrap();
    forged.replace_range(inference..inference + 22 + 64 + 2, "");
    let forged = format!("{:1$}", forged.trim_end(), forged.trim_end().len().next_multiple_of(8));
    let at = 8 + forged.find("\"checksum\":\"").unwrap() + 12;
    let mut whole = (forged.len() as u64).to_le_bytes().to_vec();
    whole.extend(forged.bytes().chain(bytes.split_off(end)));
    whole[at..at + 64].copy_from_slice(&[b'0'; 64]);
    let hash: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    whole[at..at + 64].copy_from_slice(hash.as_bytes());
    fs::write(path, whole).unwrap();
}

#[test]
fn progress_that_contradicts_itself_is_refused() {
    let place = Place::new();
    place.succeed(&format!("{TINY} --epochs 2 --out run"));
    let good = place.read("run/last.safetensors");
    for (from, to, word) in [
        ("\\\"step_in_epoch\\\":0", "\\\"step_in_epoch\\\":1000000", "step_in_epoch is 1000000, expected at most 8"),
        ("\\\"step_in_epoch\\\":0", "\\\"step_in_epoch\\\":6", "step_in_epoch is 6, expected at most 4, the steps"),
        ("\\\"correct\\\":0", "\\\"correct\\\":9223372036854775808", "correct is 9223372036854775808"),
        ("\\\"epoch\\\":2", "\\\"epoch\\\":7", "epoch is 7, expected at most 2"),
        ("\\\"loss_sum\\\":0.0", "\\\"loss_sum\\\":-1.0", "loss_sum is -1"),
        ("\\\"loss_sum\\\":0.0", "\\\"loss_sum\\\":null", "its `progress` cannot be read"),
    ] {
        forge(&place.path("run/last.safetensors"), from, to);
        place.fail("train --resume run --epochs 3", 1, &["run/last.safetensors", word]);
        fs::write(place.path("run/last.safetensors"), &good).unwrap();
    }
    place.succeed("train --resume run --epochs 3");
}

#[test]
fn a_damaged_checkpoint_is_replaced_by_the_best_one_where_that_is_whole() {
    let place = Place::new();
    place.succeed(&format!("{TINY} --epochs 1 --out run"));
    let whole = place.read("run/best.safetensors");
    fs::remove_file(place.path("run/last.safetensors")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &flipped, b""] {
        fs::write(place.path("run/last.safetensors"), damaged).unwrap();
        let command = "cp run/best.safetensors run/last.safetensors";
        place.fail("train --resume run --epochs 2", 1, &["run/last.safetensors", command]);
    }
    fs::copy(place.path("run/best.safetensors"), place.path("run/last.safetensors")).unwrap();
    place.succeed("train --resume run --epochs 2");
    // It may be the same file as the last one.
    fs::remove_file(place.path("run/best.safetensors")).unwrap();
    fs::write(place.path("run/best.safetensors"), &flipped).unwrap();
    place.fail("eval run --limit-test 10", 1, &["damaged", "hint: run/last.safetensors is whole: give that"]);
    fs::write(place.path("run/last.safetensors"), &flipped).unwrap();
    place.fail("train --resume run --epochs 3", 1, &["damaged", "hint: use another copy"]);
}

#[test]
fn a_missing_best_checkpoint_and_useless_names_of_classes_are_told() {
    let place = Place::new();
    place.succeed(&format!("{TINY} --epochs 1 --out run"));
    // The two are one file.
    let whole = place.read("run/best.safetensors");
    forge(&place.path("run/last.safetensors"), "airplane", "airplane\\\",\\\"zeppelin");
    let unusable = "it names 11 classes, but has 10 outputs";
    place.fail("import run/last.safetensors -o other.safetensors", 1, &["run/last.safetensors", unusable]);
    fs::remove_file(place.path("run/best.safetensors")).unwrap();
    fs::write(place.path("run/last.safetensors"), whole).unwrap();
    for command in ["eval run --limit-test 10 --device cpu", "export run -o x.safetensors"] {
        let done = place.run(command);
        let said = "run has no best.safetensors: this is run/last.safetensors";
        assert!(done.code == 0 && done.error.contains(said), "{done:?}");
    }
}

fn picture(path: &Path, level: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(12, 9, image::Rgb([level, level, 90])).save(path).unwrap();
}

const FOLDER: &str = "train --arch modern --batch-size 4 --device cpu --threads 1 --data d";

fn pictures(place: &Place, classes: [&[u8]; 2]) {
    for (class, light) in classes.into_iter().zip([20, 200]) {
        for (split, count) in [("train", 4), ("val", 2)] {
            let folder = place.path("d").join(split).join(std::ffi::OsStr::from_bytes(class));
            (0..count).for_each(|number| picture(&folder.join(format!("{number}.bmp")), light + number));
        }
    }
}

#[test]
fn pictures_that_changed_are_named_on_resume() {
    let place = Place::new();
    pictures(&place, [b"ant", b"bee"]);
    place.succeed(&format!("{FOLDER} --epochs 1 --out run"));
    // As many bytes as before.
    let (file, before) = (place.path("d/train/bee/3.bmp"), place.read("d/train/bee/3.bmp"));
    picture(&file, 90);
    assert_eq!(fs::metadata(&file).unwrap().len(), before.len() as u64);
    let said = ["is other data: 1 file changed (train/bee/3.bmp)", "hint: ", "--accept-data-changes"];
    place.fail("train --resume run --epochs 2", 1, &said);
    fs::write(&file, &before).unwrap();
    place.succeed("train --resume run --epochs 2");
    picture(&file, 90);
    place.succeed("train --resume run --epochs 3 --accept-data-changes");
    place.succeed("train --resume run --epochs 4");
    // Lists of older versions have neither sizes nor checksums.
    let list = fs::read_to_string(place.path("run/files.txt")).unwrap();
    let old: String = list.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join("\t") + "\n").collect();
    fs::write(place.path("run/files.txt"), old).unwrap();
    fs::write(&file, &before).unwrap();
    place.succeed("train --resume run --epochs 5");
}

#[test]
fn a_broken_picture_may_be_replaced_before_the_run_goes_on() {
    let place = Place::new();
    pictures(&place, [b"ant", b"bee"]);
    let file = place.path("d/train/bee/3.bmp");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..60]).unwrap();
    // Original pictures are decoded batch by batch.
    let flags = "--augment resized-crop --epochs 1 --out run";
    let broken = place.run(&format!("{FOLDER} {flags}"));
    assert!(broken.code == 1 && broken.error.contains("error: cannot decode d/train/bee/3.bmp"), "{broken:?}");
    fs::write(&file, &good).unwrap();
    place.succeed("train --resume run");
    assert_eq!(place.epochs("run"), [1]);
}

#[test]
fn names_that_are_not_utf8_stay_apart() {
    let place = Place::new();
    pictures(&place, [b"caf\xe9", b"caf\xe8"]);
    let out = place.succeed(&format!("{FOLDER} --epochs 1 --out run"));
    assert!(out.contains("2 classes"), "{out}");
    let json: serde_json::Value = serde_json::from_str(&place.succeed("eval run --device cpu --json")).unwrap();
    assert_eq!(json["classes"], serde_json::json!(["caf\\xe8", "caf\\xe9"]));
    place.succeed("train --resume run --epochs 2");

    let odd = |name: &[u8]| std::ffi::OsStr::from_bytes(name).to_owned();
    let run = done(place.command(&format!("{TINY} --epochs 0 --out")).arg(odd(b"r\xff")).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    fs::rename(place.path("").join(odd(b"r\xff")), place.path("plain")).unwrap();
    for flag in ["--init", "--data"] {
        let refused = done(place.command(&format!("train {flag}")).arg(odd(b"r\xff")).output().unwrap());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.error.starts_with("error: `r\\xff` is not UTF-8\nhint: "), "{refused:?}");
    }
}

#[test]
fn pipes_and_devices_never_hang() {
    let place = Place::new();
    pictures(&place, [b"ant", b"bee"]);
    let mkfifo = |name: &str| {
        assert!(std::process::Command::new("/usr/bin/mkfifo").arg(place.path(name)).status().unwrap().success());
    };
    ["d/train/ant/pipe.png", "pipe.png"].into_iter().for_each(mkfifo);
    let _socket = std::os::unix::net::UnixListener::bind(place.path("d/train/bee/socket.png")).unwrap();
    let trained = place.run(&format!("{FOLDER} --epochs 1 --out run"));
    assert!(trained.code == 0 && trained.error.contains("2 special (pipe, socket or device)"), "{trained:?}");
    for (file, word) in [
        ("pipe.png", "cannot read pipe.png: it is a pipe, not a file"),
        ("/dev/zero", "cannot read /dev/zero: it is a device, not a file"),
        ("d/train/bee/socket.png", "it is a socket, not a file"),
    ] {
        let predicted = place.run(&format!("predict run --device cpu {file} d/val/ant/0.bmp"));
        assert!(predicted.code == 1 && predicted.error.contains(word), "{predicted:?}");
        assert!(predicted.out.contains("d/val/ant/0.bmp"), "{predicted:?}");
    }
    let binary = env!("CARGO_BIN_EXE_alexnet");
    let script = format!("exec {binary} predict run --device cpu --csv <(cat d/val/ant/0.bmp)");
    let mut shell = std::process::Command::new("/bin/bash");
    let piped = done(shell.args(["-c", &script]).current_dir(place.path("")).output().unwrap());
    assert!(piped.code == 0 && piped.out.contains("ant"), "{piped:?}");
}

#[test]
fn edited_settings_are_not_used_in_silence() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1 --out run"));
    let config = place.path("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let edited = text.replace("\nlr = 0.01\n", "\nlr = 0.02\n");
    assert_ne!(edited, text);
    fs::write(&config, edited).unwrap();
    let said = |arguments: &str| {
        let done = place.run(arguments);
        assert_eq!(done.code, 0, "{done:?}");
        done.error
    };
    let error = said("train --resume run --epochs 2");
    assert!(error.contains("run/config.toml has other values of lr; "), "{error}");
    assert_eq!(fs::read_to_string(&config).unwrap(), text.replace("\nepochs = 1\n", "\nepochs = 2\n"));
    let error = said("train --resume run --epochs 3");
    assert!(!error.contains("config.toml"), "{error}");
}
