//! What people type from habit: the message says what to type here. The tables of flags and values are tested in
//! `cli/habit.rs`; these need files.

mod command;

use std::fs;
use std::time::Instant;

use command::{Place, SHORT};

#[test]
fn run_folders_where_a_file_is_expected_and_the_reverse() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1 --out runs/s1"));
    let settings =
        "hint: it is a run folder: its settings are runs/s1/config.toml, its weights runs/s1/best.safetensors";
    place.fail("train --config runs/s1", 1, &["cannot read runs/s1", settings]);
    for file in ["last.safetensors", "config.toml"] {
        let hint = "hint: give the folder of the run: runs/s1";
        place.fail(&format!("train --resume runs/s1/{file}"), 1, &["it is a file", hint]);
        place.fail(&format!("report runs/s1/{file}"), 1, &["it is a file", hint]);
    }
    place.fail("eval runs", 1, &["runs is not a run folder", "hint: it holds runs: give one of them, such as runs/s1"]);
    place.fail("report runs", 1, &["runs is not a run folder", "such as runs/s1"]);
    fs::create_dir(place.path("photos")).unwrap();
    image::RgbImage::new(9, 9).save(place.path("photos/1.png")).unwrap();
    place.fail("predict photos runs/s1", 1, &["photos is not a run folder", "hint: it holds pictures: give the run"]);
    fs::create_dir(place.path("empty")).unwrap();
    place.fail("eval empty", 1, &["empty is not a run folder", "start it again with `alexnet train`"]);
    place.fail("train runs/s1", 2, &["unexpected argument 'runs/s1'", "tip: to continue this run: --resume runs/s1"]);
}

#[test]
fn outputs_into_a_folder_that_is_not_there() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    for command in [
        "export run -o nodir/x.onnx",
        "report run -o nodir/x.html",
        "import run/last.safetensors -o nodir/x.safetensors",
    ] {
        let file = command.split(" -o ").nth(1).unwrap();
        let message = format!(
            "error: cannot write {file}: there is no folder nodir\nhint: create the folder with `mkdir -p nodir`"
        );
        place.fail(command, 1, &[&message]);
    }
    assert_eq!(place.names("."), ["run"]);
}

#[test]
fn settings_that_would_be_ignored_or_are_far_off() {
    let place = Place::new();
    for (arguments, words) in [
        (
            "train --schedule cosine --step-size 3",
            ["--step-size is given, but --schedule is cosine, which has no steps", "hint: leave --step-size out"],
        ),
        (
            "train --schedule one-cycle --gamma 0.5",
            ["--gamma is given, but --schedule is one-cycle", "hint: leave --gamma"],
        ),
        (
            "train --mixup 0.2 --label-smoothing 2",
            ["--label-smoothing is 2, expected a number from 0", "hint: 0.1 is usual"],
        ),
        ("train --dropout 50", ["--dropout is 50", "hint: 0.5 is usual"]),
    ] {
        place.fail(arguments, 2, &words);
    }
    place.fail(
        &format!("{SHORT} --freeze layer1"),
        2,
        &[
            "--freeze layer1: no layer",
            "hint: choose features, classifier, or some of features.0, features.3, features.6,",
        ],
    );
    assert!(place.names(".").is_empty());
}

#[test]
fn more_threads_than_cores_are_capped() {
    let place = Place::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    place.succeed(&format!("{SHORT} --epochs 1 --threads 1 --out one"));
    let start = Instant::now();
    let done = place.run(&format!("{SHORT} --epochs 1 --threads 1000 --out many"));
    assert_eq!(done.code, 0, "{done:?}");
    let word = format!("--threads 1000: this machine has {cores} cores, using {cores}\n");
    assert_eq!(done.error.matches(&word).count(), 1, "{done:?}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert!(
        command::tensors(&place.path("one/last.safetensors")) == command::tensors(&place.path("many/last.safetensors"))
    );
    for other in ["eval many --limit-test 10", "bench --batch-size 2 --seconds 0", "data speed --resize 32"] {
        let done = place.run(&format!(
            "{other} --threads 1000 {}",
            if other.starts_with("data") { "--data sample" } else { "--device cpu" }
        ));
        assert!(done.code == 0 && done.error.contains(&word), "{other}: {done:?}");
    }
}
