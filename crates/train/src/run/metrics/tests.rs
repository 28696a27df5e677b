//! Records that are kept, torn, damaged and replaced, and the table.

use super::*;

fn record(epoch: usize) -> Record {
    Record {
        epoch,
        step: 391 * epoch as u64,
        lr: 0.01,
        train_loss: 2.0082,
        train_acc: 0.233,
        test_loss: Some(1.7),
        test_acc: Some(0.383),
        test_balanced_acc: Some(0.383),
        test_macro_f1: Some(0.37),
        val_loss: None,
        val_acc: None,
        val_balanced_acc: None,
        val_macro_f1: None,
        images_per_s: 512.0,
        seconds: 100.0,
        dataset: "cifar10".into(),
        scaling: None,
    }
}

#[test]
fn the_loss_of_an_older_runs_best_is_in_its_records() {
    let of = |epoch, accuracy, loss| Record { test_acc: Some(accuracy), test_loss: Some(loss), ..record(epoch) };
    let records = [of(1, 0.5, 1.5), of(2, 0.75, 1.25), of(3, 0.75, 1.0)];
    // Before ties went to the lower loss, the first one was kept.
    assert_eq!(loss_of_best(&records, Some(0.75)), Some(1.25));
    assert_eq!([loss_of_best(&records, Some(0.8)), loss_of_best(&[], None)], [None; 2]);
}

fn epochs(path: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().epoch).collect()
}

#[test]
fn what_came_after_the_checkpoint_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut metrics = Metrics::open(&path, 0).unwrap();
    (1..=3).for_each(|epoch| metrics.append(&record(epoch)).unwrap());
    assert_eq!(epochs(&path), [1, 2, 3]);
    let mut metrics = Metrics::open(&path, 2).unwrap();
    assert_eq!(epochs(&path), [1, 2]);
    metrics.append(&record(3)).unwrap();
    assert_eq!(epochs(&path), [1, 2, 3]);
}

/// Puts the records on the disk, with the table.
fn flush(metrics: &Metrics) {
    let steps = Steps::open(&metrics.lines.path.with_file_name("steps.jsonl"), 0).unwrap();
    Records::of(&steps, metrics).flush().unwrap();
}

fn csv_epochs(path: &Path) -> Vec<String> {
    let mut reader = csv::Reader::from_path(path.with_extension("csv")).unwrap();
    reader.records().map(|row| row.unwrap()[0].to_owned()).collect()
}

#[test]
fn the_table_has_the_same_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut metrics = Metrics::open(&path, 0).unwrap();
    assert_eq!(std::fs::read(path.with_extension("csv")).unwrap(), b"");
    let plain = |epoch| Record { test_balanced_acc: None, test_macro_f1: None, ..record(epoch) };
    let named = Record { dataset: "pets, \"all\"".into(), ..plain(1) };
    metrics.append(&named).unwrap();
    // A column that only some epochs have.
    metrics.append(&Record { test_loss: None, test_acc: None, val_acc: Some(0.5), ..plain(2) }).unwrap();
    metrics.append(&plain(3)).unwrap();
    flush(&metrics);
    let text = std::fs::read_to_string(path.with_extension("csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "epoch,step,lr,train_loss,train_acc,val_acc,test_loss,test_acc,images_per_s,seconds,dataset",
            "1,391,0.01,2.0082,0.233,,1.7,0.383,512.0,100.0,\"pets, \"\"all\"\"\"",
            "2,782,0.01,2.0082,0.233,0.5,,,512.0,100.0,cifar10",
        ]
    );
    assert_eq!(csv_epochs(&path), ["1", "2", "3"]);
    // Resumed after the second epoch, and of a run that has no table yet.
    std::fs::remove_file(path.with_extension("csv")).unwrap();
    let mut metrics = Metrics::open(&path, 2).unwrap();
    assert_eq!(csv_epochs(&path), ["1", "2"]);
    metrics.append(&record(3)).unwrap();
    flush(&metrics);
    assert_eq!(csv_epochs(&path), ["1", "2", "3"]);
    // Every key has its place.
    let all = Record {
        val_loss: Some(1.0),
        val_acc: Some(1.0),
        val_balanced_acc: Some(1.0),
        val_macro_f1: Some(1.0),
        scaling: Some(Scaling { loss_scale: 1.0, good_steps: 0, skipped_steps: 0 }),
        ..record(1)
    };
    assert_eq!(table(&[all]).lines().next().unwrap(), COLUMNS.join(","));
}

#[test]
fn steps_after_the_checkpoint_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steps.jsonl");
    let mut steps = Steps::open(&path, 0).unwrap();
    let step = |step| StepRecord { step, epoch: 1, lr: 0.01, loss: 2.5 };
    [20, 40, 60].iter().for_each(|&number| steps.append(&step(number)).unwrap());
    let mut steps = Steps::open(&path, 45).unwrap();
    assert_eq!(read_steps(&path).unwrap(), [step(20), step(40)]);
    steps.append(&step(60)).unwrap();
    assert_eq!(read_steps(&path).unwrap(), [20, 40, 60].map(step));
}

#[test]
fn a_torn_line_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut metrics = Metrics::open(&path, 0).unwrap();
    metrics.append(&record(1)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for torn in [&whole[..whole.len() - 1], &whole[..20], b"\0\0\0\0\n", b"\0\0\0\0"] {
        std::fs::write(&path, [&whole, torn].concat()).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        drop(Metrics::open(&path, 5).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn any_other_damage_stops_and_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut metrics = Metrics::open(&path, 0).unwrap();
    (1..=3).for_each(|epoch| metrics.append(&record(epoch)).unwrap());
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for (text, line, reason) in [
        (whole.replacen("\"epoch\":1", "\"epoch\":x", 1), 1, "is no record from column"),
        (whole.replacen("\"epoch\":3", "\"epoch\":x", 1), 3, "is no record from column"),
        (whole.replacen('\n', "\n\n", 1), 2, "is blank"),
        (format!("{whole} \r\n"), 4, "is blank"),
        (format!("{}\0\0\n{}", lines[0], lines[1]), 2, "is followed by line 3"),
        (format!("{}{}{}", lines[0], lines[2], lines[1]), 2, "is followed by line 3"),
        ("precious\nuser data\n".into(), 1, "is no record from column"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = Metrics::open(&path, 2).map(drop).unwrap_err();
        assert!(matches!(&error, Error::Line { line: found, .. } if *found == line), "{text}: {error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[cfg(unix)]
#[test]
fn what_it_is_linked_to_stays() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["metrics.jsonl", "other.jsonl"].map(|name| folder.path().join(name));
    let mut metrics = Metrics::open(&other, 0).unwrap();
    (1..=3).for_each(|epoch| metrics.append(&record(epoch)).unwrap());
    let link: [fn(&Path, &Path) -> std::io::Result<()>; 2] =
        [|to, path| std::os::unix::fs::symlink(to, path), |to, path| std::fs::hard_link(to, path)];
    for link in link {
        link(&other, &path).unwrap();
        Metrics::open(&path, 1).unwrap().append(&record(2)).unwrap();
        assert_eq!((epochs(&path), epochs(&other)), (vec![1, 2], vec![1, 2, 3]));
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::write(&other, "precious").unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    drop(Metrics::open(&path, 1).unwrap());
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
}

#[cfg(unix)]
#[test]
fn a_file_that_was_replaced_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steps.jsonl");
    let mut steps = Steps::open(&path, 0).unwrap();
    steps.append(&StepRecord { step: 1, epoch: 1, lr: 0.01, loss: 2.5 }).unwrap();
    steps.0.sync().unwrap();
    std::fs::copy(&path, folder.path().join("edited")).unwrap();
    std::fs::rename(folder.path().join("edited"), &path).unwrap();
    assert!(matches!(steps.0.sync(), Err(Error::Replaced { .. })));
}

#[test]
fn scaling_survives() {
    let scaled =
        Record { scaling: Some(Scaling { loss_scale: 32768.0, good_steps: 7, skipped_steps: 1 }), ..record(1) };
    let text = serde_json::to_string(&scaled).unwrap();
    assert!(text.contains("\"loss_scale\":32768.0,\"good_steps\":7,\"skipped_steps\":1"), "{text}");
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), scaled);
    let plain = serde_json::to_string(&record(1)).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&plain).unwrap(), record(1));
}

#[test]
fn val_selects_where_it_is_there() {
    assert_eq!(record(1).selection_metric(), ("test", 1.7, 0.383));
    let held_out = Record { val_loss: Some(1.5), val_acc: Some(0.4), ..record(1) };
    assert_eq!(held_out.selection_metric(), ("val", 1.5, 0.4));
    let before_the_last =
        Record { test_loss: None, test_acc: None, test_balanced_acc: None, test_macro_f1: None, ..held_out };
    assert_eq!(before_the_last.selection_metric(), ("val", 1.5, 0.4));
    let text = serde_json::to_string(&before_the_last).unwrap();
    assert!(!text.contains("test"), "{text}");
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), before_the_last);
}

#[test]
fn the_keys() {
    let value: serde_json::Value = serde_json::to_value(record(1)).unwrap();
    let mut keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    keys.sort();
    let mut expected = [
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_acc",
        "test_loss",
        "test_acc",
        "test_balanced_acc",
        "test_macro_f1",
        "images_per_s",
        "seconds",
        "dataset",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
}
