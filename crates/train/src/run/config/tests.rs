//! Limits of the settings, and their way through TOML.

use super::*;

fn refused(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    config.validate(&flag).unwrap_err().to_string()
}

#[test]
fn defaults_are_valid_and_survive_toml() {
    let config = Config::default();
    config.validate(&flag).unwrap();
    assert_eq!(Config::parse("", Path::new("x")).unwrap(), config);
    let changed = Config {
        limit_train: Some(7),
        init: Some("a \"b\".safetensors".into()),
        augment: Augment { crop: true, flip: false, cutout: true, ..Augment::NONE },
        cutout: Some(5),
        crop_padding: Some(3),
        jitter: 0.4,
        cutmix: 1.0,
        rand_augment: Some("2,9".parse().unwrap()),
        lr: 0.1 + 0.2,
        lr_features: Some(0.1 / 3.0),
        balance: Balance::Sampler,
        patience: 7,
        schedule: Schedule::Cosine,
        arch: Arch::PaperK11,
        batch_norm: true,
        residual: true,
        seed: i64::MAX as u64,
        ..config
    };
    assert_eq!(Config::parse(&changed.to_toml().unwrap(), Path::new("x")).unwrap(), changed);
}

#[test]
fn unknown_keys_are_named() {
    let error = Config::parse("lr = 0.1\nlearning-rate = 1\n", Path::new("my.toml")).unwrap_err().to_string();
    assert!(error.contains("my.toml") && error.contains("learning-rate"), "{error}");
}

#[test]
fn every_limit_names_flag_value_and_what_is_allowed() {
    assert_eq!(refused(|c| c.batch_size = 0), "--batch-size is 0, expected at least 1");
    assert_eq!(refused(|c| c.lr = f64::NAN), "--lr is NaN, expected a finite number, 0 or more");
    assert_eq!(refused(|c| c.lr = -0.5), "--lr is -0.5, expected a finite number, 0 or more");
    assert_eq!(refused(|c| c.momentum = 1.0), "--momentum is 1, expected a number from 0 to below 1");
    assert_eq!(refused(|c| c.threads = 5000), "--threads is 5000, expected at most 1024");
    type Change = fn(&mut Config);
    let changes: &[(&str, Change)] = &[
        ("accumulate", |c| c.accumulate = 0),
        ("accumulate", |c| c.accumulate = usize::MAX),
        ("step-size", |c| c.step_size = 0),
        ("groups", |c| c.groups = 0),
        ("groups", |c| c.groups = 2),
        ("resize", |c| c.resize = Some(0)),
        ("resize", |c| c.resize = Some(100_000)),
        ("limit-train", |c| c.limit_train = Some(0)),
        ("val", |c| c.val = Some(crate::data::HoldOut::Count(0))),
        ("limit-test", |c| c.limit_test = Some(0)),
        ("crop-padding", |c| c.crop_padding = Some(0)),
        ("crop-padding", |c| c.crop_padding = Some(33)),
        ("crop-padding", |c| (c.crop_padding, c.augment) = (Some(2), Augment::NONE)),
        ("augment", |c| c.augment = "crop,resized-crop".parse().unwrap()),
        ("crop-scale", |c| c.crop_scale = Some("0.5,1".parse().unwrap())),
        ("balance", |c| (c.balance, c.no_shuffle) = (Balance::Sampler, true)),
        ("lr-features", |c| c.lr_features = Some(-1.0)),
        ("lr-features", |c| c.lr_features = Some(f64::NAN)),
        ("lr-features", |c| (c.lr_features, c.lr) = (Some(0.1), 0.0)),
        ("cutout", |c| c.cutout = Some(8)),
        ("cutout", |c| c.cutout = Some(40)),
        ("mixup", |c| c.mixup = -1.0),
        ("mixup", |c| c.mixup = 1e-9),
        ("cutmix", |c| c.cutmix = f64::INFINITY),
        ("jitter", |c| c.jitter = 1.5),
        ("jitter", |c| c.jitter = f64::NAN),
        ("weight-decay", |c| c.weight_decay = f64::INFINITY),
        ("gamma", |c| c.gamma = -1.0),
        ("warmup", |c| c.warmup = f64::NAN),
        ("warmup", |c| c.warmup = 101.0),
        ("test-every", |c| c.test_every = 0),
        ("momentum", |c| c.momentum = f64::NAN),
        ("dropout", |c| c.dropout = 1.0),
        ("ema", |c| c.ema = -0.5),
        ("label-smoothing", |c| c.label_smoothing = -0.1),
        ("seed", |c| c.seed = u64::MAX),
        ("nesterov", |c| (c.nesterov, c.momentum) = (true, 0.0)),
        ("batch-size", |c| (c.batch_size, c.batch_norm) = (1, true)),
        ("batch-size", |c| (c.batch_size, c.arch) = (1, Arch::Modern)),
        ("shards", |c| c.shards = 3),
        ("shards", |c| (c.shards, c.batch_size) = (16, 8)),
        ("shards", |c| (c.shards, c.batch_size, c.batch_norm) = (8, 15, true)),
        ("sync-bn", |c| c.sync_bn = true),
        ("sync-bn", |c| (c.sync_bn, c.batch_norm, c.accumulate) = (true, true, 2)),
        ("replace-classifier", |c| c.replace_classifier = true),
        ("epochs", |c| c.epochs = usize::MAX),
        ("precision", |c| (c.precision, c.device) = (Precision::Fp16, DeviceKind::Cpu)),
    ];
    for &(key, change) in changes {
        let message = refused(change);
        assert!(message.starts_with(&flag(key)), "{key}: {message}");
    }
}

#[test]
fn a_resumed_run_keeps_what_its_steps_depend_on() {
    let run = Config::default();
    let may = Config {
        epochs: 5,
        threads: 3,
        checkpoint_every: CheckpointEvery::Epochs(7),
        test_every: 4,
        patience: 2,
        data: "sample".into(),
        ..run.clone()
    };
    may.may_resume(&run).unwrap();
    let error = Config { lr: 0.5, ..run.clone() }.may_resume(&run).unwrap_err().to_string();
    assert_eq!(error, "--lr 0.5 contradicts the run, which was started with lr = 0.01");
    let error = Config { limit_train: Some(5), ..run.clone() }.may_resume(&run).unwrap_err().to_string();
    assert_eq!(error, "--limit-train 5 contradicts the run, which was started with limit-train = none");
}

#[test]
fn a_run_from_before_there_were_shifts_is_tested_as_it_was() {
    for (written, tta) in [("true", Tta::Mirror), ("false", Tta::None), ("\"shifts\"", Tta::Shifts)] {
        assert_eq!(Config::tta_of_run(&format!("lr = 0.01\ntta = {written}\nschedule = \"step\"\n")), tta);
    }
    assert_eq!(Config::tta_of_run("no settings of a run"), Tta::None);
    assert_eq!(Config::tta_of_run("a-later-key = 1\ntta = \"mirror\"\n"), Tta::Mirror);
    // Its config.toml starts other runs, too.
    assert_eq!(Config::parse("tta = true", Path::new("")).unwrap().tta, Tta::Mirror);
    let error = Config::parse("tta = \"mirrors\"", Path::new("")).unwrap_err().to_string();
    assert!(error.contains("`mirrors` is not none, mirror, shifts or diagonal"), "{error}");
}

#[test]
fn a_run_from_before_decay_all_goes_on_as_it_was() {
    let read = |text: &str| Config::of_run(text, Path::new("x")).unwrap();
    assert!(read("lr = 0.01\n").decay_all);
    for decay_all in [false, true] {
        let config = Config { decay_all, ..Config::default() };
        assert_eq!(read(&config.to_toml().unwrap()), config);
    }
}

#[test]
fn a_run_from_before_exif_goes_on_with_the_same_pixels() {
    let read = |text: &str| Config::of_run(text, Path::new("x")).unwrap().exif;
    assert_eq!((read("lr = 0.01\n"), read("exif = \"apply\"\n")), (Exif::Ignore, Exif::Apply));
    assert_eq!(read(&Config::default().to_toml().unwrap()), Exif::Apply);
    // Its network, and imported weights, see new pictures upright.
    for (text, exif) in
        [("lr = 0.01\n", Exif::Apply), ("", Exif::Apply), ("exif = \"ignore\"\na-later-key = 1", Exif::Ignore)]
    {
        assert_eq!(Config::exif_of_run(text), exif, "{text}");
    }
}

#[test]
fn a_run_from_before_checkpoint_every_goes_on_as_often() {
    let read = |text: &str| Config::of_run(text, Path::new("x")).unwrap().checkpoint_every.to_string();
    assert_eq!([read("lr = 0.01\nsave-every = 300.0\nlog-every = 20\n"), read("save-every = 0\n")], ["5m", "1"]);
    let error = Config::parse("save-every = \"x\"", Path::new("my.toml")).unwrap_err().to_string();
    assert!(error.contains("unknown field `save-every`"), "{error}");
}

#[test]
fn a_run_keeps_its_shards_and_one_of_a_single_shard_says_nothing_of_them() {
    let run = |shards| Config { shards, ..Config::default() };
    assert!(!run(1).to_toml().unwrap().contains("shards"));
    for shards in [1, 2, 8] {
        let written = Config::of_run(&run(shards).to_toml().unwrap(), Path::new("x")).unwrap();
        assert_eq!(written.shards, shards);
        // Also where the command line says the same.
        written.with(&run(shards)).unwrap().may_resume(&written).unwrap();
    }
    let error = run(4).may_resume(&run(2)).unwrap_err().to_string();
    assert_eq!(error, "--shards 4 contradicts the run, which was started with shards = 2");
    let error = run(4).may_resume(&run(1)).unwrap_err().to_string();
    assert_eq!(error, "--shards 4 contradicts the run, which was started with shards = 1");
    // Steps of 40 images: ten per shard, in micro-batches of at most five.
    let shards = Config { shards: 4, batch_size: 20, accumulate: 2, ..Config::default() }.shards_of_steps().unwrap();
    assert_eq!((shards.count(), shards.max_batch(), shards.step_images(), shards.slots()), (4, 5, 40, 8));
    assert_eq!(run(0).shards_of_steps().unwrap().count(), 1);
    // A part of one image is enough where it is not normalised by itself.
    let synchronised = Config { batch_size: 8, batch_norm: true, sync_bn: true, ..run(8) };
    synchronised.validate(&flag).unwrap();
    assert!(synchronised.shards_of_steps().unwrap().together());
}

#[test]
fn transforms_take_their_sizes_from_the_image() {
    let config = Config { augment: "crop,cutout".parse().unwrap(), ..Config::default() };
    let transforms = TransformConfig { padding: 4, cutout: 16, ..TransformConfig::NONE };
    assert_eq!(config.transforms(), transforms);
    let config = Config { crop_padding: Some(6), cutout: Some(8), jitter: 0.25, ..config };
    let transforms = TransformConfig { padding: 6, cutout: 8, jitter: 0.25, ..transforms };
    assert_eq!(config.transforms(), transforms);
    let config = Config { resize: Some(96), ..Config::default() };
    assert_eq!(config.transforms(), TransformConfig { padding: 12, flip: true, ..TransformConfig::NONE });
}

#[test]
fn epochs_become_steps() {
    let config = Config { batch_size: 32, accumulate: 4, warmup: 0.5, epochs: 3, ..Config::default() };
    assert_eq!(config.epoch_steps(1000), 8);
    let rate = config.learning_rate(1000);
    assert_eq!((rate.warmup_steps, rate.epoch_steps, rate.total_steps), (4, 8, 24));
}
