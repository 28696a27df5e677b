//! `alexnet train --recipe` and `--runs`: settings by name, and the same run with several seeds.

mod command;

use command::{Place, SHORT, tensors};

#[test]
fn flags_win_over_a_recipe_and_a_recipe_over_the_defaults() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --recipe strong --epochs 0 --warmup 0 --lr 0.25 --out run"));
    let config = String::from_utf8(place.read("run/config.toml")).unwrap();
    for line in ["lr = 0.25", "epochs = 0", "nesterov = true", "schedule = \"cosine\"", "tta = true", "momentum = 0.9"]
    {
        assert!(config.lines().any(|found| found == line), "no `{line}` in: {config}");
    }
    let help = place.succeed("train --help");
    for recipe in ["tutorial:", "strong:", "fast:"] {
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
    // A run of a seed is what it is alone.
    place.succeed(&format!("{SHORT} --epochs 1 --seed 6 --out alone"));
    assert!(tensors(&place.path("many/seed-6/last.safetensors")) == tensors(&place.path("alone/last.safetensors")));

    // More seeds and, for one run, more epochs: what is there is kept, or gone on with.
    let before = place.read("many/seed-5/metrics.jsonl");
    let out = place.succeed(&format!("{SHORT} --epochs 1 --seed 5 --runs 3 --out many"));
    assert!(out.contains("seed 7, run 3 of 3") && !out.contains("seed 6, run"), "{out}");
    assert_eq!(place.read("many/seed-5/metrics.jsonl"), before);
    assert_eq!(summary()["test_acc"]["n"], 3);
    place.succeed(&format!("{SHORT} --epochs 2 --seed 6 --runs 1 --out many"));
    assert_eq!(place.epochs("many/seed-6"), [1, 2]);
    assert_eq!(summary()["test_acc"]["standard_deviation"], serde_json::Value::Null);

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
