//! The training loop on a small network and the embedded images: stopped, killed and resumed at every step, at several
//! thread counts, it ends with the same bits as an uninterrupted run.

mod small;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alexnet_core::Network;
use alexnet_core::device::Memory;
use alexnet_core::device::cpu::Cpu;
use alexnet_core::random::Philox;
use alexnet_train::cli::hint::of_run;
use alexnet_train::data::{Balance, Dataset, HoldOut, Loader, LoaderOptions, Options, Split};
use alexnet_train::import;
use alexnet_train::run::checkpoint;
use alexnet_train::run::config::{CheckpointEvery, Precision};
use alexnet_train::run::evaluate::{Evaluation, Protocol, evaluate};
use alexnet_train::run::metrics::Record;
use alexnet_train::run::schedule::Schedule;
use alexnet_train::run::trainer::Step;
use alexnet_train::run::{Config, Error, Outcome, Stop, Tta};
use tempfile::TempDir;

use small::{State, Watch, architecture, architecture_of, config, records, state, steps};

/// Saves after every step.
const EVERY_STEP: CheckpointEvery = CheckpointEvery::Time(Duration::from_nanos(1));
/// Longer than any run here.
const HOUR: CheckpointEvery = CheckpointEvery::Time(Duration::from_secs(3600));

fn floats(state: &State) -> Vec<f64> {
    state.iter().flat_map(|(weights, _)| weights).map(|&bits| f64::from(f32::from_bits(bits))).collect()
}

/// Starts or resumes the run in `path` on this many threads.
fn go(path: &Path, config: &Config, threads: usize, stop: &Stop, watch: &mut Watch) -> Result<(Outcome, State), Error> {
    let config = Config { threads, ..config.clone() };
    let mut cpu = Cpu::new(threads).unwrap();
    if config.precision == Precision::Bf16 {
        cpu.set_precision(alexnet_core::Precision::Bf16).unwrap();
    }
    small::go(Arc::new(cpu), path, &config, stop, watch)
}

/// The run without interruption.
fn uninterrupted(config: &Config) -> (TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, state) = go(&folder.path().join("run"), config, 1, &Stop::default(), &mut Watch::default()).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    (folder, state)
}

/// The weights and momentum in a file, bit for bit.
fn saved(path: &Path) -> State {
    let checkpoint = checkpoint::open(path).unwrap();
    let config = Config::parse(&checkpoint.metadata().config, path).unwrap();
    let mut network = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture_of(&config), 1, true).unwrap();
    if config.ema > 0.0 {
        network.keep_average().unwrap();
    }
    checkpoint.restore(&mut network).unwrap();
    state(&network)
}

/// All that is random.
fn everything() -> Config {
    let (augment, rand_augment) = ("crop,flip,cutout".parse().unwrap(), Some("2,9".parse().unwrap()));
    Config { augment, crop_padding: Some(6), jitter: 0.4, rand_augment, mixup: 0.4, cutmix: 1.0, ..config() }
}

/// The result of one view per image.
fn evaluate_plainly(network: &mut Network<Cpu>, split: &Split) -> Evaluation {
    let protocol = Protocol { threads: 1, ..Protocol::default() };
    evaluate(network, split, None, protocol, &Stop::default(), &mut |_| ()).unwrap().unwrap()
}

#[test]
fn stopped_at_any_step_and_resumed_at_any_thread_count() {
    stopped_and_resumed(&everything());
}

#[test]
fn stopped_and_resumed_with_a_batch_norm_whose_statistics_go_on() {
    stopped_and_resumed(&Config { batch_norm: true, ..config() });
}

#[test]
fn stopped_and_resumed_with_an_average() {
    for batch_norm in [false, true] {
        stopped_and_resumed(&Config { ema: 0.9, batch_norm, ..config() });
    }
}

#[test]
fn stopped_and_resumed_in_bf16_whose_bits_are_other_ones() {
    let bf16 = Config { precision: Precision::Bf16, ..everything() };
    assert!(uninterrupted(&bf16).1 != uninterrupted(&everything()).1);
    stopped_and_resumed(&bf16);
}

fn stopped_and_resumed(config: &Config) {
    let (reference, expected) = uninterrupted(config);
    let expected_records = records(&reference.path().join("run"));
    assert_eq!(expected_records.iter().map(|r| (r.epoch, r.step)).collect::<Vec<_>>(), [(1, 4), (2, 8)]);
    // Stopped after every step, the last ones of both epochs too, and once more after the next step.
    for at in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        for (leg, threads) in [1, 3, 2].into_iter().enumerate() {
            let stop = Stop::default();
            let mut steps = 0;
            let last_of_leg = [at, 1, usize::MAX][leg];
            let step = Box::new(|_: Step| {
                steps += 1;
                if steps == last_of_leg {
                    stop.request();
                }
            });
            let mut watch = Watch { step: Some(step), ..Watch::default() };
            let (outcome, state) = go(&run, config, threads, &stop, &mut watch).unwrap();
            let complete = leg == 2 || (leg == 1 && at == 8);
            assert_eq!(outcome == Outcome::Finished, complete, "at {at}, leg {leg}");
            if complete {
                assert!(state == expected, "stopped after step {at}: other weights");
                break;
            }
        }
        assert_eq!(records(&run), expected_records, "stopped after step {at}");
        // Steps 3 and 6, whose losses are differences, also where the run stopped right before or at one.
        assert_eq!(steps(&run), steps(&reference.path().join("run")), "stopped after step {at}");
        assert_eq!(steps(&run).iter().map(|(step, ..)| *step).collect::<Vec<_>>(), [3, 6]);
        assert!(saved(&run.join("last.safetensors")) == expected);
        assert!(saved(&run.join("best.safetensors")) == saved(&reference.path().join("run/best.safetensors")));
    }
}

#[test]
fn patience_ends_a_run_also_one_that_was_stopped_and_resumed() {
    // With a learning rate of 0 no epoch is better than the first. With images held out the test set is used at the end.
    for val in [None, Some(HoldOut::Count(30))] {
        let config = Config { lr: 0.0, epochs: 9, patience: 3, val, ..config() };
        let (reference, _) = uninterrupted(&config);
        let expected = records(&reference.path().join("run"));
        let tested = |records: &[Record]| records.iter().map(|r| r.test_acc.is_some()).collect::<Vec<_>>();
        assert_eq!(tested(&expected), if val.is_none() { [true; 4] } else { [false, false, false, true] });
        for at in 1..=expected.last().unwrap().step {
            let folder = tempfile::tempdir().unwrap();
            let run = folder.path().join("run");
            let (stop, mut steps) = (Stop::default(), 0);
            let step = Box::new(|_: Step| {
                steps += 1;
                if steps == at {
                    stop.request();
                }
            });
            let mut watch = Watch { step: Some(step), ..Watch::default() };
            assert_eq!(go(&run, &config, 1, &stop, &mut watch).unwrap().0, Outcome::Interrupted);
            let mut watch = Watch::default();
            assert_eq!(go(&run, &config, 1, &Stop::default(), &mut watch).unwrap().0, Outcome::Finished);
            assert_eq!(records(&run), expected, "stopped after step {at}");
            assert!(watch.notes[0].starts_with("accuracy has not risen in 3 evaluations"), "{:?}", watch.notes);
            // It has ended; a larger patience goes on.
            go(&run, &config, 1, &Stop::default(), &mut Watch::default()).unwrap();
            assert_eq!(records(&run).len(), 4);
            go(&run, &Config { patience: 5, ..config.clone() }, 1, &Stop::default(), &mut Watch::default()).unwrap();
            assert_eq!(records(&run).len(), 6);
        }
    }
}

#[test]
fn features_have_a_rate_of_their_own() {
    let state = |lr_features| uninterrupted(&Config { lr_features, ..config() }).1;
    let (plain, initial) = (state(None), uninterrupted(&Config { epochs: 0, ..config() }).1);
    assert!(state(Some(0.05)) == plain, "the same rate gives the same bits");
    let frozen = state(Some(0.0));
    let weights = |state: &State| state.iter().map(|(weights, _)| weights.clone()).collect::<Vec<_>>();
    let (frozen, slow, initial) = (weights(&frozen), weights(&state(Some(0.005))), weights(&initial));
    assert!(frozen[..2] == initial[..2] && frozen[2..] != initial[2..], "features stay, the classifier learns");
    assert!(slow[0] != initial[0] && slow[0] != weights(&plain)[0]);
    stopped_and_resumed(&Config { lr_features: Some(0.01), ..config() });
}

#[test]
fn a_balanced_run_of_resized_crops_is_stopped_and_resumed() {
    let augment = "resized-crop,flip,cutout".parse().unwrap();
    stopped_and_resumed(&Config { augment, balance: Balance::Sampler, crop_padding: None, ..everything() });
}

#[test]
fn classes_are_weighed_by_their_images() {
    stopped_and_resumed(&Config { balance: Balance::Weights, ..everything() });
    // All of the 1,000 images are 100 of each class: the weights are 1, and only roundings differ. 90 spread over them are not.
    let difference = |images| {
        let run = |balance| {
            uninterrupted(&Config { balance, limit_train: Some(images), epochs: 1, warmup: 0.0, ..config() }).1
        };
        let (plain, weighed) = (floats(&run(Balance::None)), floats(&run(Balance::Weights)));
        plain.into_iter().zip(weighed).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let (equal, unequal) = (difference(1000), difference(90));
    assert!(equal < 1e-3 && unequal > 5e-3, "{equal} {unequal}");
}

#[test]
fn stopped_during_the_test() {
    let (reference, expected) = uninterrupted(&config());
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let stop = Stop::default();
    let mut watch = Watch { test: Some(Box::new(|_| stop.request())), ..Watch::default() };
    assert_eq!(go(&run, &config(), 2, &stop, &mut watch).unwrap().0, Outcome::Interrupted);
    assert_eq!(records(&run), []);
    let (_, state) = go(&run, &config(), 1, &Stop::default(), &mut Watch::default()).unwrap();
    assert!(state == expected);
    assert_eq!(records(&run), records(&reference.path().join("run")));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // One that is being written may be gone.
        if !entry.file_name().to_string_lossy().contains(".tmp-") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn stopped_long_before_a_checkpoint_is_due() {
    stopped_and_resumed(&Config { checkpoint_every: HOUR, ..config() });
}

#[test]
fn killed_at_any_step_and_resumed() {
    for checkpoint_every in [EVERY_STEP, CheckpointEvery::Epochs(1), CheckpointEvery::Epochs(2), HOUR] {
        killed_and_resumed(&Config { checkpoint_every, log_every: 1, epochs: 3, ..config() });
    }
}

/// A kill leaves the folder as it is at that moment: copies made during the run stand in for kills.
fn killed_and_resumed(config: &Config) {
    let (reference, expected) = uninterrupted(config);
    let best = saved(&reference.path().join("run/best.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut copies: Vec<PathBuf> = Vec::new();
    let step = Box::new(|step: Step| {
        let to = folder.path().join(format!("killed-{}-{}", step.epoch, step.done));
        copy(&run, &to);
        copies.push(to);
    });
    go(&run, config, 1, &Stop::default(), &mut Watch { step: Some(step), ..Watch::default() }).unwrap();
    assert_eq!(copies.len(), 12);
    let (finished, all_steps) = (records(&run), steps(&run));
    assert_eq!(all_steps.len(), 12);
    let table = fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    for (i, killed) in copies.iter().enumerate() {
        // Saved after every step: at most the current step is lost, and the one that was being written.
        let step = checkpoint::open(&killed.join("last.safetensors")).unwrap().metadata().progress.step as usize;
        assert!(step <= i && (config.checkpoint_every != EVERY_STEP || step + 1 >= i), "{step} after {i} steps");
        // Killed after metrics were written and before the checkpoint was, in the middle of a line, in the middle of
        // a checkpoint.
        let mut metrics = fs::read(run.join("metrics.jsonl")).unwrap();
        metrics.extend(b"{\"epoch\":4,\"st");
        fs::write(killed.join("metrics.jsonl"), metrics).unwrap();
        let mut logged = fs::read(run.join("steps.jsonl")).unwrap();
        logged.extend(b"{\"step\":13,");
        fs::write(killed.join("steps.jsonl"), logged).unwrap();
        fs::write(killed.join("last.safetensors.tmp-1-a1b2c3"), b"half").unwrap();
        let (_, state) = go(killed, config, 2, &Stop::default(), &mut Watch::default()).unwrap();
        assert!(state == expected, "killed at step {}", i + 1);
        assert!(saved(&killed.join("best.safetensors")) == best, "killed at step {}: another best", i + 1);
        assert_eq!(records(killed), finished, "killed at step {}", i + 1);
        assert_eq!(steps(killed), all_steps, "killed at step {}", i + 1);
        let resumed = fs::read_to_string(killed.join("metrics.csv")).unwrap();
        let epochs =
            |table: &str| table.lines().map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(epochs(&resumed), epochs(&table));
        assert!(!killed.join("last.safetensors.tmp-1-a1b2c3").exists());
    }
}

/// Micro-batches against one batch: the same masks and the same mean. What remains is rounding: the sums of a
/// gradient, of at most images × windows = 32·64 products each, may differ by that many roundings.
#[test]
fn accumulated_micro_batches_are_one_large_batch() {
    let whole = Config { batch_size: 32, accumulate: 1, epochs: 1, ..config() };
    let start = {
        let mut network = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture(), 1, true).unwrap();
        network.initialise(Philox::new(whole.seed)).unwrap();
        floats(&state(&network))
    };
    let (_folder, expected) = uninterrupted(&whole);
    let expected = floats(&expected);
    let norm = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let moved = norm(&expected, &start);
    assert!(moved > 0.1, "the run moved the weights by {moved} only");
    for (batch_size, accumulate) in [(16, 2), (8, 4), (4, 8), (1, 32)] {
        let (_folder, found) = uninterrupted(&Config { batch_size, accumulate, ..whole.clone() });
        let difference = norm(&floats(&found), &expected);
        // Over the four steps of the run.
        let bound = 4.0 * (32.0 * 64.0) * 2f64.powi(-24) * moved;
        assert!(difference <= bound, "{batch_size} × {accumulate}: {difference} of {moved}, bound {bound}");
    }
    // The bound is tight enough to see one image left out.
    let (_folder, other) = uninterrupted(&Config { limit_train: Some(99), ..whole });
    assert!(norm(&floats(&other), &expected) > 4.0 * (32.0 * 64.0) * 2f64.powi(-24) * moved);
}

#[test]
fn every_setting_of_the_step_arrives() {
    let base = Config { epochs: 1, ..config() };
    let (_folder, expected) = uninterrupted(&base);
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 19] = [
        ("shards", |c| c.shards = 2),
        ("lr", |c| c.lr = 0.02),
        ("momentum", |c| c.momentum = 0.5),
        ("nesterov", |c| c.nesterov = false),
        ("weight-decay", |c| c.weight_decay = 0.1),
        ("decay-all", |c| c.decay_all = true),
        ("label-smoothing", |c| c.label_smoothing = 0.0),
        ("schedule", |c| c.schedule = Schedule::Constant),
        ("warmup", |c| c.warmup = 0.0),
        ("augment", |c| c.augment = "flip".parse().unwrap()),
        ("cutout", |c| c.augment = "crop,flip,cutout".parse().unwrap()),
        ("crop-padding", |c| c.crop_padding = Some(6)),
        ("jitter", |c| c.jitter = 0.4),
        ("rand-augment", |c| c.rand_augment = Some("2,9".parse().unwrap())),
        ("mixup", |c| c.mixup = 0.4),
        ("cutmix", |c| c.cutmix = 1.0),
        ("no-shuffle", |c| c.no_shuffle = true),
        ("seed", |c| c.seed = 4),
        ("batch-size", |c| c.batch_size = 4),
    ];
    for (key, change) in changes {
        let mut config = base.clone();
        change(&mut config);
        assert!(uninterrupted(&config).1 != expected, "{key} changes nothing");
    }
}

/// One step per epoch, so that every average is in a checkpoint.
#[test]
fn the_average_begins_with_the_weights_and_is_what_is_evaluated() {
    for batch_norm in [false, true] {
        averaged_and_evaluated(batch_norm);
    }
}

fn averaged_and_evaluated(batch_norm: bool) {
    // A rate that does not depend on the number of epochs.
    let schedule = Schedule::Constant;
    let (ema, batch_size, accumulate, warmup) = (0.9, 100, 1, 0.0);
    let config = |epochs| Config { epochs, ema, batch_size, accumulate, warmup, schedule, batch_norm, ..config() };
    let initial = {
        let architecture = architecture_of(&config(0));
        let mut network = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture, 1, true).unwrap();
        network.initialise(Philox::new(config(0).seed)).unwrap();
        floats(&state(&network))
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut before = initial;
    // min(0.9, (1 + t) / (10 + t)) for the first two updates.
    for (epochs, decay) in [(1, 0.1), (2, 2.0 / 11.0)] {
        let config = config(epochs);
        let (_, state) = go(&run, &config, 2, &Stop::default(), &mut Watch::default()).unwrap();
        let weights = floats(&state);
        // Running statistics of a norm have no average.
        let averages: Vec<f64> = state
            .iter()
            .flat_map(|(own, kept)| if kept.is_empty() { own } else { &kept[kept.len() / 2..] })
            .map(|&bits| f32::from_bits(bits).into())
            .collect();
        assert_eq!(averages.len(), weights.len());
        assert_eq!(state.iter().any(|(_, kept)| kept.is_empty()), batch_norm);
        let averaged = state.iter().flat_map(|(own, kept)| std::iter::repeat_n(!kept.is_empty(), own.len()));
        for (((&average, &weight), &before), averaged) in averages.iter().zip(&weights).zip(&before).zip(averaged) {
            let decay = if averaged { decay } else { 0.0 };
            let expected = decay * before + (1.0 - decay) * weight;
            let bound = 2f64.powi(-24) * (4.0 * (weight - before).abs() + 2.0 * expected.abs());
            assert!((average - expected).abs() <= bound, "{average} instead of {expected} after {epochs}");
        }
        before = averages;

        // The test's result is that of a network for inference, of the best checkpoint, and of --init.
        let test = |fill: &dyn Fn(&mut Network<Cpu>)| {
            let mut network =
                Network::new(Arc::new(Cpu::new(1).unwrap()), architecture_of(&config), 100, false).unwrap();
            fill(&mut network);
            let split = small::dataset(&config).test;
            let result = evaluate_plainly(&mut network, &split);
            (result.loss, result.accuracy())
        };
        let last = run.join("last.safetensors");
        let record = records(&run).pop().unwrap();
        let recorded = (record.test_loss.unwrap(), record.test_acc.unwrap());
        assert_eq!(test(&|network| checkpoint::open(&last).unwrap().restore(network).unwrap()), recorded);
        assert_eq!(test(&|network| import::open(&last, None).unwrap().initialise(network, false).unwrap()), recorded);
        let own = test(&|network| {
            let (device, parameters) = network.device_and_parameters();
            for (parameter, (weights, _)) in parameters.iter_mut().zip(&state) {
                let weights: Vec<f32> = weights.iter().map(|&bits| f32::from_bits(bits)).collect();
                device.write(&weights, &mut parameter.value).unwrap();
            }
        });
        assert_ne!(own, recorded);
        let checkpoint = checkpoint::open(&last).unwrap();
        let specs = architecture_of(&config).parameters().unwrap();
        let bias = specs.iter().find(|spec| spec.name == "classifier.1.bias").unwrap();
        let bias = checkpoint.parameters(std::slice::from_ref(bias)).unwrap().concat();
        let tail = &before[before.len() - 10..];
        assert!(bias.len() == 10 && bias.iter().zip(tail).all(|(&value, &expected)| f64::from(value) == expected));
    }
}

#[test]
fn test_time_augmentation_is_the_mean_of_the_logits_of_the_views() {
    mean_of_views(Tta::Mirror, &[(0, 0.5)]);
    mean_of_views(Tta::Shifts, &[(0, 0.25), (1, 0.125), (-1, 0.125)]);
    mean_of_views(Tta::Diagonal, &[(0, 0.1), (1, 0.1), (-1, 0.1), (2, 0.1), (-2, 0.1)]);
}

/// That the mean is that over shifts of these pixels and weights, each with its mirror.
fn mean_of_views(tta: Tta, shifts: &[(i32, f64)]) {
    let config = Config { epochs: 1, tta, ..config() };
    let (folder, _) = uninterrupted(&config);
    let run = folder.path().join("run");
    let record = records(&run).pop().unwrap();
    let split = small::dataset(&config).test;
    let pixels = split.pixels().unwrap();
    // Pixel (x, y) of a view is the image's (31 − x, y) in a mirror, moved, and reflected at the border.
    let view = |shift: i32, mirrored: bool| {
        let reflected = |at: i32| (31 - (31 - at.abs()).abs()) as usize;
        let places = (0..32).flat_map(|y| (0..32).map(move |x| (y, if mirrored { 31 - x } else { x })));
        let places: Vec<usize> = places.map(|(y, x)| reflected(y - shift) * 32 + reflected(x - shift)).collect();
        let images = pixels.chunks_exact(32 * 32 * 3).map(|image| image.as_chunks::<3>().0);
        let moved: Vec<u8> = images.flat_map(|image| places.iter().flat_map(|&place| image[place])).collect();
        Split::in_memory(moved, 32, split.labels().to_vec())
    };
    let views =
        shifts.iter().flat_map(|&(shift, weight)| [false, true].map(|mirrored| (view(shift, mirrored), weight)));
    let mut network = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture(), 40, false).unwrap();
    checkpoint::open(&run.join("last.safetensors")).unwrap().restore(&mut network).unwrap();
    let mut mean = vec![0.0f64; 40 * 10];
    for (split, weight) in views {
        let options = LoaderOptions { batch_size: 40, image_size: 32, ..LoaderOptions::default() };
        let batch = Loader::new(&split, options).unwrap().next().unwrap().unwrap();
        network.predict(batch.images()).unwrap();
        let mut logits = vec![0.0f32; 40 * 10];
        network.read_logits(&mut logits).unwrap();
        mean.iter_mut().zip(logits).for_each(|(mean, logit)| *mean += f64::from(logit) * weight);
    }
    let mut loss = 0.0;
    for (logits, &label) in mean.chunks_exact(10).zip(split.labels()) {
        loss -= (logits[label as usize].exp() / logits.iter().map(|x| x.exp()).sum::<f64>()).ln() / 40.0;
    }
    // The sums are rounded to f32, after each view and in the loss.
    let largest = mean.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let found = record.test_loss.unwrap();
    let roundings = 2.0 * shifts.len() as f64;
    assert!((found - loss).abs() <= roundings * 2f64.powi(-24) * largest.max(1.0), "{found} {loss}");
    let plain = evaluate_plainly(&mut network, &split);
    assert!((plain.loss - loss).abs() > 1e-4, "the views change nothing");
}

#[test]
fn epochs_are_judged_by_what_is_held_out_and_the_test_comes_last() {
    let config = Config { val: Some(HoldOut::Count(100)), epochs: 3, ..config() };
    let (folder, _) = uninterrupted(&config);
    let run = folder.path().join("run");
    let records = records(&run);
    assert_eq!(records.iter().map(|r| r.test_acc.is_some()).collect::<Vec<_>>(), [false, false, true]);
    let dataset = small::dataset(&config);
    let test = |file: &str, split: &Split| {
        let mut network = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture(), 100, false).unwrap();
        checkpoint::open(&run.join(file)).unwrap().restore(&mut network).unwrap();
        evaluate(
            &mut network,
            split,
            None,
            Protocol { threads: 1, ..Protocol::default() },
            &Stop::default(),
            &mut |_| (),
        )
        .unwrap()
        .unwrap()
    };
    let val = dataset.val.unwrap();
    assert_eq!((val.len(), dataset.train.len()), (100, 100));
    let accuracies: Vec<f64> = records.iter().map(|r| r.val_acc.unwrap()).collect();
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    let found = test("best.safetensors", &val);
    assert_eq!(found.accuracy(), best);
    let last = test("last.safetensors", &dataset.test);
    assert!((last.loss - records[2].test_loss.unwrap()).abs() < 1e-6);
    let progress = checkpoint::open(&run.join("last.safetensors")).unwrap().metadata().progress.clone();
    assert_eq!(progress.best_accuracy, Some(best));
}

#[test]
fn the_learning_rate_of_the_record_is_the_last_steps() {
    let config = Config { schedule: Schedule::Step, step_size: 1, gamma: 0.5, warmup: 0.0, ..config() };
    let (folder, _) = uninterrupted(&config);
    assert_eq!(records(&folder.path().join("run")).iter().map(|r| r.lr).collect::<Vec<_>>(), [0.05, 0.025]);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let config =
        Config { lr: 1e30, warmup: 0.0, schedule: Schedule::Constant, checkpoint_every: EVERY_STEP, ..config() };
    let error = go(&run, &config, 2, &Stop::default(), &mut Watch::default()).unwrap_err();
    let Error::Diverged { step, epoch: 1, .. } = &error else { panic!("{error}") };
    assert!((1..=3).contains(step));
    assert!(error.to_string().contains(&format!("at step {step}")), "{error}");
    assert!(of_run(&error).unwrap().contains("--lr 1e29"), "{:?}", of_run(&error));
    for (weights, momentum) in saved(&run.join("last.safetensors")) {
        assert!(weights.iter().chain(&momentum).all(|&bits| f32::from_bits(bits).is_finite()));
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    let (folder, _) = uninterrupted(&Config { epochs: 1, ..config() });
    let run = folder.path().join("run");
    let before = fs::read(run.join("last.safetensors")).unwrap();
    // A folder in the place of best.safetensors: neither can be replaced. A test accuracy that is best of all is
    // certain, since none was seen.
    fs::remove_file(run.join("best.safetensors")).unwrap();
    fs::create_dir(run.join("best.safetensors")).unwrap();
    let longer = Config { epochs: 30, lr: 0.1, ..config() };
    let error = go(&run, &longer, 1, &Stop::default(), &mut Watch::default());
    let Err(Error::Checkpoint(error)) = error else { panic!("30 epochs without a better one") };
    assert!(error.to_string().contains("best.safetensors"), "{error}");
    let after = checkpoint::open(&run.join("last.safetensors")).unwrap().metadata().progress.epoch;
    assert!(after >= 1 && (after > 1 || fs::read(run.join("last.safetensors")).unwrap() == before));
    fs::remove_dir(run.join("best.safetensors")).unwrap();
    let done = after + 1;
    go(&run, &Config { epochs: done, ..longer }, 2, &Stop::default(), &mut Watch::default()).unwrap();
    assert_eq!(records(&run).iter().map(|r| r.epoch).collect::<Vec<_>>(), (1..=done).collect::<Vec<_>>());
}

#[test]
fn the_test_counts_every_image_once() {
    let dataset = Dataset::open("sample", &Options::default()).unwrap();
    let mut found = Vec::new();
    for (batch, threads) in [(250, 1), (64, 2), (7, 3)] {
        let mut network = Network::new(Arc::new(Cpu::new(threads).unwrap()), architecture(), batch, false).unwrap();
        network.initialise(Philox::new(1)).unwrap();
        let mut seen = Vec::new();
        let evaluation = evaluate(
            &mut network,
            &dataset.test,
            None,
            Protocol { threads, ..Protocol::default() },
            &Stop::default(),
            &mut |batch| seen.push(batch.done()),
        )
        .unwrap()
        .unwrap();
        assert_eq!(seen.last(), Some(&250));
        assert_eq!(evaluation.images, 250);
        assert!(evaluation.confusion.iter().all(|row| row.iter().sum::<u64>() == 25));
        found.push(evaluation.confusion);
    }
    assert!(found.iter().all(|one| *one == found[0]));
}

#[test]
fn only_the_epochs_named_and_the_last_are_tested() {
    let (folder, whole) = uninterrupted(&Config { test_every: 2, epochs: 5, ..config() });
    let tested: Vec<_> = records(&folder.path().join("run")).iter().map(|record| record.test_acc.is_some()).collect();
    assert_eq!(tested, [false, true, false, true, true]);
    // Evaluation does not change the steps.
    assert_eq!(uninterrupted(&Config { epochs: 5, ..config() }).1, whole);
}

/// Shards against one batch: the images, crops and masks are those of their place in the step, wherever they are computed. What
/// remains is rounding, as with micro-batches.
#[test]
fn shards_are_one_large_batch() {
    let whole = Config {
        batch_size: 32,
        accumulate: 1,
        epochs: 1,
        augment: "crop,flip,cutout".parse().unwrap(),
        jitter: 0.3,
        ..config()
    };
    assert_close(&whole, |shards| Config { shards, ..whole.clone() });
    let double = Config { batch_size: 16, accumulate: 2, ..whole.clone() };
    assert_close(&whole, |shards| Config { shards, ..double.clone() });
    // Batch norms too, if they look at the whole step.
    let normalised = Config { batch_norm: true, ..whole };
    assert_close(&normalised, |shards| Config { shards, sync_bn: true, ..normalised.clone() });
}

/// Batch norm, MixUp and CutMix work on a micro-batch: where the micro-batches are the same, so is what they do.
#[test]
fn micro_batches_of_shards_are_mixed_by_their_place() {
    // Three steps of 32 images, in micro-batches of eight: no rest, which other divisions would divide otherwise.
    let four =
        Config { batch_size: 8, accumulate: 4, limit_train: Some(96), batch_norm: true, epochs: 1, ..everything() };
    assert_close(&four, |shards| Config { batch_size: 8 * shards, accumulate: 4 / shards, shards, ..four.clone() });
}

/// Runs in 2 and 4 shards end within the roundings of the sums of `one`, see above.
fn assert_close(one: &Config, divided: impl Fn(usize) -> Config) {
    let start = {
        let mut network = Network::new(Arc::new(Cpu::new(1).unwrap()), architecture_of(one), 1, true).unwrap();
        network.initialise(Philox::new(one.seed)).unwrap();
        floats(&state(&network))
    };
    let (_folder, expected) = uninterrupted(one);
    let expected = floats(&expected);
    let norm = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let moved = norm(&expected, &start);
    let bound = 4.0 * (32.0 * 64.0) * 2f64.powi(-24) * moved;
    for shards in [2, 4] {
        let (_folder, found) = uninterrupted(&divided(shards));
        let difference = norm(&floats(&found), &expected);
        assert!(difference <= bound, "{shards} shards: {difference} of {moved}, bound {bound}");
        assert!(difference > 0.0, "{shards} shards add in another order");
    }
    let (_folder, other) = uninterrupted(&Config { limit_train: one.limit_train.map(|n| n - 1), ..one.clone() });
    assert!(norm(&floats(&other), &expected) > bound, "the bound does not see one image left out");
}

#[test]
fn stopped_and_resumed_in_shards() {
    stopped_and_resumed(&Config { shards: 4, batch_size: 18, accumulate: 1, limit_train: Some(60), ..everything() });
    stopped_and_resumed(&Config { shards: 2, batch_norm: true, ema: 0.9, ..config() });
}
