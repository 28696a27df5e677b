//! Broken pictures: a run that meets one is saved where it is and goes on once it is replaced; with `--skip-broken` it
//! trains as if the next picture of the class were in its place, whether pictures are decoded at once or batch by batch.

mod small;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alexnet_core::device::cpu::Cpu;
use alexnet_train::data::{BrokenPictures, DataError, Dataset, Options, order};
use alexnet_train::run::checkpoint::{self, Progress};
use alexnet_train::run::{Config, Error, Outcome, Stop};

use small::{State, Watch, records};

const PER_CLASS: usize = 4;
const SIZE: usize = 32;

/// Ten classes of four training pictures and one validation picture.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sample = Dataset::open("sample", &Options::default()).unwrap();
    let mut counts = [0; 10];
    for index in 0..sample.train.len() {
        let class = sample.train.labels()[index] as usize;
        if counts[class] > PER_CLASS {
            continue;
        }
        let split = if counts[class] < PER_CLASS { "train" } else { "val" };
        let path = folder.path().join(format!("{split}/{class}/{}.png", counts[class]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels = sample.train.image(index, SIZE, &mut Vec::new()).unwrap().to_vec();
        image::RgbImage::from_raw(SIZE as u32, SIZE as u32, pixels).unwrap().save(path).unwrap();
        counts[class] += 1;
    }
    assert_eq!(counts, [PER_CLASS + 1; 10]);
    folder
}

fn list(folder: &Path) -> Dataset {
    Dataset::list(folder.to_str().unwrap(), &Options::default()).unwrap()
}

/// Five steps per epoch, each of two micro-batches of four.
fn config(batch_norm: bool) -> Config {
    let (limit_train, limit_test) = (None, None);
    Config { batch_size: 4, accumulate: 2, batch_norm, limit_train, limit_test, ..small::config() }
}

fn go(run: &Path, config: &Config, dataset: &Dataset, threads: usize) -> Result<(Outcome, State), Error> {
    let config = Config { threads, ..config.clone() };
    let device = Arc::new(Cpu::new(threads).unwrap());
    small::go_on(device, run, &config, dataset, &Stop::default(), &mut Watch::default())
}

fn progress(run: &Path) -> Progress {
    checkpoint::open(&run.join("last.safetensors")).unwrap().metadata().progress.clone()
}

/// Breaks a picture; returns what mends it.
fn broken(path: PathBuf) -> impl FnOnce() {
    let good = fs::read(&path).unwrap();
    fs::write(&path, "<html>").unwrap();
    move || fs::write(path, good).unwrap()
}

#[test]
fn a_run_is_saved_at_the_step_of_a_broken_picture_and_goes_on_when_it_is_replaced() {
    for batch_norm in [false, true] {
        let folder = pictures();
        let config = config(batch_norm);
        let whole = folder.path().join("whole");
        let (_, expected) = go(&whole, &config, &list(folder.path()), 1).unwrap();
        let order = order::shuffled(10 * PER_CLASS, config.seed, 0);
        // In the first batch, in a second micro-batch, in a first one, in the last one.
        for position in [0, 13, 17, 39] {
            let (class, number) = (order[position] as usize / PER_CLASS, order[position] as usize % PER_CLASS);
            let path = folder.path().join(format!("train/{class}/{number}.png"));
            let mend = broken(path.clone());
            let run = folder.path().join(format!("run-{position}"));
            let error = go(&run, &config, &list(folder.path()), 2).unwrap_err();
            let Error::Loading(DataError::Decode { path: named, .. }) = &error else { panic!("{error}") };
            assert_eq!(*named, path);
            assert_eq!(progress(&run).step as usize, position / 8, "at {position}");
            mend();
            let (outcome, state) = go(&run, &config, &list(folder.path()), 1).unwrap();
            assert_eq!(outcome, Outcome::Finished);
            assert!(state == expected, "at {position}, batch norm {batch_norm}: other weights");
            assert_eq!(records(&run), records(&whole), "at {position}");
        }
    }
}

#[test]
fn a_broken_picture_among_those_of_the_evaluation_loses_no_epoch() {
    let folder = pictures();
    let config = config(false);
    let whole = folder.path().join("whole");
    let (_, expected) = go(&whole, &config, &list(folder.path()), 1).unwrap();
    let mend = broken(folder.path().join("val/7/4.png"));
    let run = folder.path().join("run");
    let error = go(&run, &config, &list(folder.path()), 1).unwrap_err().to_string();
    assert!(error.contains("val/7/4.png"), "{error}");
    let Progress { epoch, step, step_in_epoch, .. } = progress(&run);
    assert_eq!((epoch, step, step_in_epoch), (0, 5, 5));
    mend();
    assert!(go(&run, &config, &list(folder.path()), 1).unwrap().1 == expected);
    assert_eq!(records(&run), records(&whole));
}

#[test]
fn a_picture_left_out_is_replaced_by_the_next_of_its_class() {
    let folder = pictures();
    let config = config(false);
    let at = |name: &str| folder.path().join("train").join(name);
    // By definition: the next of the class, and the first one after the last.
    let mend: Vec<_> = [("3/1.png", "3/2.png"), ("5/3.png", "5/0.png")]
        .map(|(broken, next)| {
            let good = fs::read(at(broken)).unwrap();
            fs::copy(at(next), at(broken)).unwrap();
            (at(broken), good)
        })
        .into();
    let (_, expected) = go(&folder.path().join("whole"), &config, &list(folder.path()), 1).unwrap();
    for (path, good) in &mend {
        // A picture that is cut, and one that is gone but for its name.
        fs::write(path, &good[..good.len() / 3]).unwrap();
    }
    fs::write(folder.path().join("val/2/4.png"), "").unwrap();
    for (threads, at_once) in [(1, false), (3, false), (2, true)] {
        let broken = BrokenPictures::default();
        let mut dataset = list(folder.path());
        dataset.train = dataset.train.skipping(&broken);
        dataset.val = Some(dataset.val.unwrap().without_broken(SIZE, &broken).unwrap());
        assert_eq!((dataset.train.len(), dataset.val.as_ref().unwrap().len()), (40, 9));
        if at_once {
            dataset.load(SIZE, false).unwrap();
        }
        let run = folder.path().join(format!("run-{threads}"));
        // In two legs: the list does not grow.
        for leg in 1..=2 {
            let stop = Stop::default();
            let mut steps = 0;
            let mut watch = Watch::default();
            if leg == 1 {
                watch.step = Some(Box::new(|_| {
                    steps += 1;
                    if steps == 3 {
                        stop.request();
                    }
                }));
            }
            let config = Config { threads, ..config.clone() };
            let device = Arc::new(Cpu::new(threads).unwrap());
            let (outcome, state) = small::go_on(device, &run, &config, &dataset, &stop, &mut watch).unwrap();
            assert_eq!(outcome == Outcome::Finished, leg == 2);
            assert!(leg == 1 || state == expected, "{threads} threads, at once {at_once}: other weights");
        }
        let text = fs::read_to_string(run.join("broken.txt")).unwrap();
        let names: Vec<&str> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(names.len(), 3, "{text}");
        for (name, expected) in names.iter().zip(["train/3/1.png", "train/5/3.png", "val/2/4.png"]) {
            assert!(name.ends_with(expected), "{text}");
        }
    }
}

#[test]
fn a_class_of_broken_pictures_is_an_error() {
    let folder = pictures();
    for number in 0..PER_CLASS {
        fs::write(folder.path().join(format!("train/4/{number}.png")), "x").unwrap();
    }
    let dataset = list(folder.path());
    let train = dataset.train.skipping(&BrokenPictures::default());
    let error = train.into_memory(SIZE).unwrap_err().to_string();
    assert!(error.starts_with("every picture in ") && error.ends_with("train/4 is broken"), "{error}");
}
