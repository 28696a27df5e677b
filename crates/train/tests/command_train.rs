//! `alexnet train` and `alexnet eval` from the command line: what they print, write and read.

mod command;

use command::{Place, SHORT, tensors};
use serde_json::Value;

#[test]
fn a_run_from_start_to_evaluation() {
    let place = Place::new();
    let out = place.succeed(&format!("{SHORT} --epochs 1"));
    for part in [
        "data     sample: 32 training and 20 test images, 10 classes",
        "device   cpu",
        "features.0    conv 3×3 stride 2 pad 1  64×16×16       1,792        442,368",
        "23,272,266",
        "memory   needs ",
        " free (weights 89 MiB",
        "run      runs/cifar-1: 1 epoch of 2 steps, seed 0",
        "\nEpoch 1: Loss=",
        "Test Acc=",
        "evaluate it with: alexnet eval runs/cifar-1",
    ] {
        assert!(out.contains(part), "no `{part}` in: {out}");
    }
    let names = place.names("runs/cifar-1");
    let events = names.iter().filter(|name| name.starts_with("events.out.tfevents.")).count();
    assert_eq!((events, names.len()), (1, 7), "{names:?}");
    let record = &place.metrics("runs/cifar-1")[0];
    assert_eq!((record["epoch"].as_u64(), record["step"].as_u64()), (Some(1), Some(2)));
    assert_eq!(record["dataset"], "sample");
    assert!((0.0..=1.0).contains(&record["train_acc"].as_f64().unwrap()));

    // config.toml, passed back, gives the same run; threads make no difference.
    place.succeed("train --config runs/cifar-1/config.toml");
    let last = place.path("runs/cifar-1/last.safetensors");
    assert!(place.read("runs/cifar-2/last.safetensors") == std::fs::read(&last).unwrap());
    assert_eq!(place.read("runs/cifar-2/config.toml"), place.read("runs/cifar-1/config.toml"));
    place.succeed("train --config runs/cifar-1/config.toml --threads 3 --out three");
    assert!(tensors(&place.path("three/last.safetensors")) == tensors(&last));

    // Any safetensors library reads it.
    let bytes = std::fs::read(&last).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("features.0.weight").unwrap().shape(), [64, 3, 3, 3]);
    assert_eq!(file.tensor("momentum.classifier.6.bias").unwrap().shape(), [10]);

    // eval says what the metrics say, at any batch size and thread count.
    let json = |arguments: &str| -> Value {
        serde_json::from_str(&place.succeed(&format!("eval runs/cifar-1 --limit-test 20 --json {arguments}"))).unwrap()
    };
    let first = json("");
    assert_eq!(first["accuracy"], record["test_acc"]);
    assert!((first["loss"].as_f64().unwrap() - record["test_loss"].as_f64().unwrap()).abs() < 1e-6);
    let figures = [("balanced_accuracy", "test_balanced_acc"), ("macro_f1", "test_macro_f1")];
    assert!(figures.iter().all(|(ours, recorded)| first[ours].is_f64() && first[ours] == record[recorded]), "{first}");
    assert!(first["top5_accuracy"].as_f64() >= first["accuracy"].as_f64(), "{first}");
    assert_eq!(first["images"], 20);
    assert_eq!((first["per_class"].as_array().unwrap().len(), first["classes"][9].as_str()), (10, Some("truck")));
    let rows: Vec<Vec<u64>> = serde_json::from_value(first["confusion"].clone()).unwrap();
    assert!(rows.len() == 10 && rows.iter().all(|row| row.len() == 10), "{rows:?}");
    assert_eq!(rows.iter().flatten().sum::<u64>(), 20);
    assert_eq!(json("--batch-size 7 --threads 1")["confusion"], first["confusion"]);
    let text = place.succeed("eval runs/cifar-1/last.safetensors");
    for part in [
        "cifar, after 1 epoch and 2 steps",
        "250 test images of sample: Loss=",
        "Macro F1=0.",
        "\nairplane",
        "Confusion (rows true",
    ] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }

    // A run is not overwritten; a complete one can be resumed with more epochs, but not with another learning rate.
    let before = place.read("runs/cifar-1/metrics.jsonl");
    assert!(place.succeed(&format!("{SHORT} --epochs 1 --out runs/cifar-1")).contains("complete after 1 epoch"));
    assert!(place.succeed("train --resume runs/cifar-1").contains("complete after 1 epoch"));
    place.fail(
        "train --resume runs/cifar-1 --epochs 2 --lr 0.5",
        2,
        &["--lr 0.5 contradicts the run, which was started with lr = 0.01", "hint: leave --lr out"],
    );
    assert_eq!(place.read("runs/cifar-1/metrics.jsonl"), before);
    place.succeed("train --resume runs/cifar-1 --epochs 2");
    assert_eq!(place.epochs("runs/cifar-1"), [1, 2]);
    let config = String::from_utf8(place.read("runs/cifar-1/config.toml")).unwrap();
    assert!(config.contains("\nepochs = 2\n"), "{config}");
    // The same as two epochs in one go.
    place.succeed(&format!("{SHORT} --epochs 2 --out two"));
    assert!(tensors(&place.path("two/last.safetensors")) == tensors(&place.path("runs/cifar-1/last.safetensors")));
}

#[test]
fn average_and_mirror_go_from_the_run_into_eval_and_predict() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 1 --ema 0.9 --tta --out run"));
    let record = &place.metrics("run")[0];
    let eval = |arguments: &str| -> Value {
        serde_json::from_str(&place.succeed(&format!("eval run --limit-test 20 --json {arguments}"))).unwrap()
    };
    let (own, plain) = (eval(""), eval("--tta=none"));
    assert_eq!((&own["accuracy"], &own["tta"], &plain["tta"]), (&record["test_acc"], &"mirror".into(), &"none".into()));
    let loss = |value: &Value, key: &str| value[key].as_f64().unwrap();
    assert!((loss(&own, "loss") - loss(record, "test_loss")).abs() < 1e-6);
    assert!((loss(&plain, "loss") - loss(&own, "loss")).abs() > 1e-6);
    assert!(place.succeed("eval run --limit-test 20").contains("20 test images of sample and their mirrors: Loss="));
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([(8 * x) as u8, (8 * y) as u8, 0]))
        .save(place.path("slope.png"))
        .unwrap();
    let [own, asked, plain] =
        ["", "--tta", "--tta=none"].map(|tta| place.succeed(&format!("predict run slope.png --json {tta}")));
    assert!(own == asked && own != plain, "{own} {plain}");
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let place = Place::new();
    std::fs::write(
        place.path("my.toml"),
        "data = \"sample\"\nlimit-train = 8\nlr = 0.5\nbatch-size = 4\nepochs = 0\nnesterov = true\naugment = \"flip\"\n",
    )
    .unwrap();
    let out = place.succeed("train --config my.toml --lr 0.25 --nesterov=false --out run");
    // Another variant uses its own image size, not that of the file.
    let out_of_other = place.succeed("train --config run/config.toml --arch paper-k11 --resize 63 --out other");
    assert!(out_of_other.contains("network  paper-k11, images 63x63"), "{out_of_other}");
    let back = place.succeed("train --config other/config.toml --arch cifar --out back");
    assert!(back.contains("network  cifar, images 32x32"), "{back}");
    assert!(out.contains("run      run: 0 epochs of 2 steps"), "{out}");
    let config = String::from_utf8(place.read("run/config.toml")).unwrap();
    for line in
        ["lr = 0.25", "batch-size = 4", "nesterov = false", "augment = \"flip\"", "momentum = 0.9", "resize = 32"]
    {
        assert!(config.lines().any(|found| found == line), "no `{line}` in: {config}");
    }
}

#[test]
fn epochs_0_writes_the_initial_checkpoint_and_init_reads_weights_by_name() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out zero --seed 5"));
    assert_eq!(place.read("zero/metrics.jsonl"), b"");
    place.succeed(&format!("{SHORT} --epochs 0 --out from --init zero/last.safetensors"));
    assert!(tensors(&place.path("from/last.safetensors")) == tensors(&place.path("zero/last.safetensors")));
    place.succeed(&format!("{SHORT} --epochs 0 --out other --seed 6"));
    assert!(tensors(&place.path("other/last.safetensors")) != tensors(&place.path("zero/last.safetensors")));
    // Without an epoch there is no best checkpoint, and eval takes the last.
    assert!(
        place.succeed("eval zero --limit-test 10").contains("zero/last.safetensors: cifar, after 0 epochs and 0 steps")
    );
}

#[test]
fn without_a_network_auto_warns_and_trains_on_the_sample() {
    let place = Place::new();
    let done = place.run("train --limit-train 16 --limit-test 10 --batch-size 16 --epochs 1 --out run");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.error.contains("WARNING"), "{}", done.error);
    assert_eq!(place.metrics("run")[0]["dataset"], "sample");
}
