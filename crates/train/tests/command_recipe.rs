//! `alexnet train --recipe` and `--runs`: named settings, and one run with several seeds.

mod command;

use command::{Place, SHORT, tensors};

#[test]
fn flags_win_over_a_recipe_and_a_recipe_over_the_defaults() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --recipe strong --epochs 0 --warmup 0 --lr 0.25 --out run"));
    let config = String::from_utf8(place.read("run/config.toml")).unwrap();
    for line in
        ["lr = 0.25", "epochs = 0", "nesterov = true", "schedule = \"cosine\"", "tta = \"shifts\"", "momentum = 0.9"]
    {
        assert!(config.lines().any(|found| found == line), "no `{line}` in: {config}");
    }
    // --augment without cutout also drops the recipe's size of it; one on the command line is an error.
    place.succeed(&format!("{SHORT} --recipe strong --epochs 0 --warmup 0 --augment crop,flip --out plain"));
    assert!(!String::from_utf8(place.read("plain/config.toml")).unwrap().contains("cutout ="));
    let mistake = ["--cutout is given, but --augment has no cutout"];
    place.fail("train --recipe strong --augment crop,flip --cutout 8", 2, &mistake);
    let help = place.succeed("train --help");
    for recipe in ["tutorial:", "strong:", "strong-bn:", "modern:", "fast:"] {
        assert!(help.contains(recipe), "no {recipe} in the help");
    }
    place.fail("train --recipe best", 2, &["invalid value 'best' for '--recipe <NAME>'", "tutorial, strong"]);
    place.fail("train --recipe strong --config my.toml", 2, &["cannot be used with"]);
    place.fail("train --recipe strong --resume run", 2, &["cannot be used with"]);
    place.fail("train --recipe strong --epochs 3", 2, &["--warmup is 5 epochs, longer than the run of 3"]);
}

#[test]
fn seeds_are_repeated_and_what_is_done_is_not_done_again() {
    let place = Place::new();
    let out = place.succeed(&format!("{SHORT} --epochs 1 --seed 5 --runs 2 --out many"));
    assert_eq!(place.names("many"), ["seed-5", "seed-6", "summary.json"]);
    let accuracy = |seed: u64, epoch: usize| place.metrics(&format!("many/seed-{seed}"))[epoch]["test_acc"].as_f64();
    let (a, b) = (accuracy(5, 0).unwrap(), accuracy(6, 0).unwrap());
    let summary = || serde_json::from_slice::<serde_json::Value>(&place.read("many/summary.json")).unwrap();
    let test = summary()["test_acc"].clone();
    assert_eq!((test["n"].as_u64(), test["mean"].as_f64()), (Some(2), Some((a + b) / 2.0)));
    assert!((test["standard_deviation"].as_f64().unwrap() - (a - b).abs() / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(summary()["runs"][1]["last_epoch"], place.metrics("many/seed-6")[0]);
    assert!(out.contains(&format!("seed 6: test accuracy {:.2}% after 1 epoch", b * 100.0)), "{out}");
    assert!(out.contains(", standard deviation ") && out.contains("%, n = 2"), "{out}");
    // The run of a seed is the same as alone.
    place.succeed(&format!("{SHORT} --epochs 1 --seed 6 --out alone"));
    assert!(tensors(&place.path("many/seed-6/last.safetensors")) == tensors(&place.path("alone/last.safetensors")));

    // More seeds: existing runs are kept.
    let before = place.read("many/seed-5/metrics.jsonl");
    let out = place.succeed(&format!("{SHORT} --epochs 1 --seed 5 --runs 3 --out many"));
    assert!(out.contains("seed 7, run 3 of 3") && !out.contains("seed 6, run"), "{out}");
    assert_eq!(place.read("many/seed-5/metrics.jsonl"), before);
    assert_eq!(summary()["test_acc"]["n"], 3);
    place.succeed(&format!("{SHORT} --epochs 1 --seed 6 --runs 1 --out many"));
    assert_eq!(summary()["test_acc"]["standard_deviation"], serde_json::Value::Null);
    // Runs of different lengths have no mean.
    place.fail(
        &format!("{SHORT} --epochs 2 --seed 5 --runs 4 --out many"),
        2,
        &["many/seed-5 is a run of --epochs 1, not 2", "hint: give the other runs' --epochs"],
    );
    assert_eq!(place.read("many/seed-5/metrics.jsonl"), before);

    place.fail(
        &format!("{SHORT} --epochs 1 --seed 5 --runs 2 --lr 0.5 --out many"),
        2,
        &["--lr 0.5 contradicts the run, which was started with lr = 0.01"],
    );
    place.fail("train --runs 0", 2, &["invalid value '0' for '--runs <N>'"]);
    place.fail("train --runs 2 --epochs 0", 2, &["--epochs is 0", "hint: give --epochs 1"]);
    place.fail("train --runs 2 --seed 9223372036854775807", 2, &["--seed of the last run is 9223372036854775808"]);
    place.fail("train --runs 2 --resume many/seed-5", 2, &["cannot be used with"]);
}

#[test]
fn ablations_make_a_table_of_what_settings_are_worth() {
    let place = Place::new();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/ablations");
    std::fs::write(place.path("list.txt"), "# a comment\n\nslow: --lr 0.001\nwild: --lr 1e30\nother: --lr 0.1\n")
        .unwrap();
    let run = |arguments: &str| {
        let flags =
            "--data sample --limit-train 32 --limit-test 20 --batch-size 16 --warmup 0 --device cpu --test-every 2";
        let binary = place.command("").get_program().to_owned();
        let mut command = std::process::Command::new("python3");
        command.arg(&script).arg("--alexnet").arg(binary).current_dir(place.path("."));
        command.args(format!("--recipe fast --epochs 2 --val 50 --list list.txt {arguments} -- {flags}").split(' '));
        command::done(command.output().expect("python3 is needed, by warpcheck's tests too"))
    };
    let first = run("--out out --only slow wild --runs 2");
    // A NaN loss fails its run, and the table says so.
    assert_eq!(first.code, 1, "{first:?}");
    assert!(first.error.contains("became"), "{first:?}");
    let table = String::from_utf8(place.read("out/table.md")).unwrap();
    assert!(first.out.ends_with(&table), "{first:?}");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(rows.iter().map(|row| row[1]).collect::<Vec<_>>(), ["", "---", "fast", "slow", "wild (failed)"]);
    assert_eq!(rows[4][2..8], ["-", "-", "-", "-", "-", "0"]);
    let mean = |name: &str| {
        let accuracy =
            |seed| place.metrics(&format!("out/{name}/seed-{seed}")).last().unwrap()["val_acc"].as_f64().unwrap();
        100.0 * (accuracy(0) + accuracy(1)) / 2.0
    };
    let (fast, slow) = (mean("fast"), mean("slow"));
    assert!(rows[3][2].starts_with(&format!("{slow:.2} ± ")) && rows[3][7] == "2", "{table}");
    assert_eq!((rows[2][3], rows[3][3]), ("+0.00", format!("{:+.2}", slow - fast).as_str()));

    // Finished runs stay: only the new line is trained.
    let again = run("--out out --only slow other --runs 2");
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(again.out.matches("run 1 of 2").count(), 1, "{again:?}");
    let unknown = run("--only nothing");
    assert!(
        unknown.code == 2 && unknown.error.contains("list.txt has no nothing, only slow, wild, other"),
        "{unknown:?}"
    );
}
