//! The training loop on the ranks of a job, which are threads here: the bits of one process at any number of ranks, also where a
//! run is stopped at one number and resumed at another.

mod small;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alexnet_core::Cpu;
use alexnet_ranks::{Ranks, local};
use alexnet_train::data::{DataError, Dataset};
use alexnet_train::data::{HoldOut, Options};
use alexnet_train::run::config::CheckpointEvery;
use alexnet_train::run::trainer::Step;
use alexnet_train::run::{Config, Error, Outcome, Stop};

use small::{State, Watch, config, dataset, records, steps};

/// Starts or resumes a run on `size` ranks, each with a folder of its own in `path`; what each comes to. Rank `watched` is asked to
/// stop after `at` steps.
fn go(path: &Path, config: &Config, dataset: &Dataset, size: usize, at: usize) -> Vec<Result<(Outcome, State), Error>> {
    std::thread::scope(|scope| {
        let rank = |ranks: alexnet_ranks::Local| {
            scope.spawn(move || {
                let rank = ranks.rank();
                let (stop, mut done) = (Stop::default(), 0);
                let step = Box::new(|_: Step| {
                    done += 1;
                    // One rank is asked; all stop.
                    if done == at && rank == size - 1 {
                        stop.request();
                    }
                });
                let mut watch = Watch { step: Some(step), ..Watch::default() };
                let cpu = Arc::new(Cpu::new(1 + rank % 2).unwrap());
                let folder = path.join(rank.to_string());
                small::go_among(cpu, Arc::new(ranks), &folder, config, dataset, &stop, &mut watch)
            })
        };
        let threads: Vec<_> = local(size).into_iter().map(rank).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The state in which all ranks end, which all have finished.
fn finished(results: Vec<Result<(Outcome, State), Error>>) -> State {
    let states: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert!(states.iter().all(|(outcome, _)| *outcome == Outcome::Finished));
    assert!(states.windows(2).all(|pair| pair[0].1 == pair[1].1), "the ranks have different weights");
    states.into_iter().next().unwrap().1
}

/// The bytes of a run's checkpoint, of which the times are set to zero by the tests' settings.
fn checkpoint(path: &Path, rank: usize, name: &str) -> State {
    use alexnet_train::run::checkpoint;
    let file = path.join(rank.to_string()).join(name);
    let checkpoint = checkpoint::open(&file).unwrap();
    let config = Config::of_run(&checkpoint.metadata().config, &file).unwrap();
    let architecture = small::architecture_of(&config);
    let mut network = alexnet_core::Network::new(Arc::new(Cpu::new(1).unwrap()), architecture, 1, true).unwrap();
    if config.ema > 0.0 {
        network.keep_average().unwrap();
    }
    checkpoint.restore(&mut network).unwrap();
    small::state(&network)
}

/// Four shards, an uneven last step, and all that depends on places, batches or ranks.
fn everything() -> Config {
    Config {
        shards: 4,
        batch_size: 18,
        accumulate: 2,
        augment: "crop,flip,cutout".parse().unwrap(),
        jitter: 0.4,
        mixup: 0.4,
        cutmix: 1.0,
        batch_norm: true,
        ema: 0.9,
        val: Some(HoldOut::Count(30)),
        ..config()
    }
}

/// The same with batch norms over the whole step.
fn synchronised() -> Config {
    Config { accumulate: 1, sync_bn: true, ..everything() }
}

#[test]
fn any_number_of_ranks_trains_and_evaluates_to_the_bits_of_one_process() {
    for config in [everything(), synchronised(), Config { shards: 4, ..config() }] {
        let dataset = dataset(&config);
        let run = |size| {
            let folder = tempfile::tempdir().unwrap();
            let state = finished(go(folder.path(), &config, &dataset, size, usize::MAX));
            for rank in 0..size {
                let own = folder.path().join(rank.to_string());
                assert_eq!(records(&own), records(&folder.path().join("0")), "rank {rank} of {size}");
                assert!(checkpoint(folder.path(), rank, "last.safetensors") == state);
            }
            let first = folder.path().join("0");
            (state, records(&first), steps(&first), checkpoint(folder.path(), 0, "best.safetensors"))
        };
        let expected = run(1);
        for size in [2, 4] {
            assert!(run(size) == expected, "{size} ranks: other weights, records or checkpoints");
        }
    }
}

#[test]
fn stopped_at_one_number_of_ranks_and_resumed_at_another() {
    resumed_at_another_number_of_ranks(everything());
    resumed_at_another_number_of_ranks(synchronised());
}

fn resumed_at_another_number_of_ranks(config: Config) {
    let config = Config { checkpoint_every: CheckpointEvery::Time(Duration::from_secs(3600)), ..config };
    let dataset = dataset(&config);
    let folder = tempfile::tempdir().unwrap();
    let expected = finished(go(folder.path(), &config, &dataset, 1, usize::MAX));
    let expected_records = records(&folder.path().join("0"));
    let total = expected_records.last().unwrap().step as usize;
    for (at, sizes) in [(1, [4, 1]), (2, [1, 4]), (3, [2, 4]), (total - 1, [4, 2]), (total, [2, 1])] {
        let folder = tempfile::tempdir().unwrap();
        for result in go(folder.path(), &config, &dataset, sizes[0], at) {
            assert_eq!(result.unwrap().0, Outcome::Interrupted);
        }
        // As ranks that share a folder would: all resume from that of rank 0.
        for rank in 1..sizes[1] {
            let own = folder.path().join(rank.to_string());
            let _ = std::fs::remove_dir_all(&own);
            copy(&folder.path().join("0"), &own);
        }
        let found = finished(go(folder.path(), &config, &dataset, sizes[1], usize::MAX));
        assert!(found == expected, "stopped after step {at}, {sizes:?} ranks: other weights");
        assert_eq!(records(&folder.path().join("0")), expected_records, "stopped after step {at}, {sizes:?} ranks");
    }
}

fn save(path: &Path, pixels: &[u8]) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), 32, 32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A picture that one rank alone decodes is broken: all stop before that step, with their state saved, and the run goes on once the
/// picture is whole.
#[test]
fn a_picture_that_one_rank_cannot_read_stops_all_before_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    for (split, count) in [("train", 3), ("test", 1)] {
        for class in 0..10 {
            let own = pictures.join(split).join(class.to_string());
            std::fs::create_dir_all(&own).unwrap();
            for i in 0..count {
                let pixels: Vec<u8> = (0..32 * 32 * 3).map(|p| (p * (class + 3) + i * 50) as u8).collect();
                save(&own.join(format!("{i}.png")), &pixels);
            }
        }
    }
    let config = Config { shards: 4, batch_size: 8, accumulate: 1, epochs: 2, ..config() };
    let open = || Dataset::open_folder(&pictures, &Options { memory: 0, ..Options::default() }).unwrap();
    let whole = tempfile::tempdir().unwrap();
    let expected = finished(go(whole.path(), &config, &open(), 2, usize::MAX));
    let (broken, bytes) = (pictures.join("train/4/1.png"), std::fs::read(pictures.join("train/4/1.png")).unwrap());
    let dataset = open();
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let runs = folder.path().join("runs");
    let errors: Vec<_> = go(&runs, &config, &dataset, 2, usize::MAX).into_iter().map(Result::unwrap_err).collect();
    let decodes = |error: &Error| matches!(error, Error::Loading(DataError::Decode { .. }));
    let other = |error: &Error| matches!(error, Error::OtherRank);
    assert!(errors.iter().any(decodes) && errors.iter().all(|error| decodes(error) || other(error)), "{errors:?}");
    std::fs::write(&broken, &bytes).unwrap();
    assert!(finished(go(&runs, &config, &open(), 2, usize::MAX)) == expected, "other weights after the break");
}
