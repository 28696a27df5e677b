//! What is written when, on a device that is as slow as a test wants it.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use alexnet_core::architecture::Operation;
use alexnet_core::device::exchange::HostPeers;
use alexnet_core::device::{Exchange, Memory, Operators, Queue};
use alexnet_core::{Architecture, LayerKind, LayerSpec, Reference, Sgd};

use super::*;
use crate::data::Preprocess;
use crate::run::checkpoint::TrainedOn;
use crate::run::folder::Outputs;
use crate::run::model::Model;

/// The reference. The thread that saves reads from it while nobody holds the gate.
#[derive(Default)]
struct Slow {
    reference: Reference<f32>,
    gate: Mutex<()>,
}

type Result<T> = std::result::Result<T, alexnet_core::Error>;

impl Arrays for Slow {
    type Buffer = Vec<f32>;
    type Bytes = Vec<u8>;
    type Labels = Vec<u32>;
}

impl Memory for Slow {
    type Element = f32;
    type Totals = [f64; 2];
    type Uploads = Vec<u8>;

    fn name(&self) -> String {
        "slow".into()
    }
    fn zeros(&self, len: usize) -> Result<Vec<f32>> {
        self.reference.zeros(len)
    }
    fn bytes(&self, len: usize) -> Result<Vec<u8>> {
        self.reference.bytes(len)
    }
    fn labels(&self, len: usize) -> Result<Vec<u32>> {
        self.reference.labels(len)
    }
    fn write_at(&self, from: &[f32], to: &mut Vec<f32>, start: usize) -> Result<()> {
        self.reference.write_at(from, to, start)
    }
    fn read_at(&self, from: &Vec<f32>, start: usize, to: &mut [f32]) -> Result<()> {
        let saves = std::thread::current().name() == Some("checkpoints");
        let _open = saves.then(|| self.gate.lock().unwrap());
        self.reference.read_at(from, start, to)
    }
    fn snapshot(&self, from: &Vec<f32>, earlier: Option<Vec<f32>>) -> Result<Vec<f32>> {
        self.reference.snapshot(from, earlier)
    }
    fn write_labels(&self, from: &[u32], to: &mut Vec<u32>) -> Result<()> {
        self.reference.write_labels(from, to)
    }
    fn totals(&self) -> Result<[f64; 2]> {
        self.reference.totals()
    }
    fn write_totals(&self, from: [f64; 2], to: &mut [f64; 2]) -> Result<()> {
        self.reference.write_totals(from, to)
    }
    fn read_totals(&self, from: &[f64; 2]) -> Result<[f64; 2]> {
        self.reference.read_totals(from)
    }
    fn prepare(&self, operations: &[Operation], training: bool) -> Result<u64> {
        self.reference.prepare(operations, training)
    }
}

impl Queue for Slow {
    type Graph = Infallible;
}

impl Exchange for Slow {
    type Peers = HostPeers<Vec<f32>>;

    fn stored_len(&self, buffer: &Vec<f32>) -> usize {
        buffer.len()
    }
}

impl Operators for Slow {
    fn add_totals(&self, _: usize, _: &Vec<f32>, _: &Vec<f32>, _: &mut [f64; 2]) -> Result<()> {
        Err(self.lacks("operators"))
    }
    fn sgd<'a>(&self, _: &Sgd, _: &mut dyn Iterator<Item = &'a mut Parameter<Vec<f32>>>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        Err(self.lacks("operators"))
    }
    fn ema(&self, _: f64, _: &mut [Parameter<Vec<f32>>]) -> Result<()> {
        Err(self.lacks("operators"))
    }
}

/// A run whose weights all have one value.
struct Run {
    network: Network<Slow>,
    outputs: Outputs,
    step: u64,
}

impl Run {
    /// Takes a step, after which the weights have this value.
    fn step(&mut self, weight: f32) {
        self.step += 1;
        self.network.device_and_parameters().1.iter_mut().for_each(|parameter| parameter.value.fill(weight));
    }

    fn state(&self) -> State {
        let metadata = Metadata {
            model: Model::default(),
            data: TrainedOn { name: "sample".into(), fingerprint: "0".into() },
            classes: vec!["a".into(), "b".into()],
            config: String::new(),
            seed: 0,
            progress: Progress { step: self.step, ..Progress::default() },
            preprocess: Preprocess::CIFAR10,
        };
        State { metadata, learning_rate: 0.5 }
    }

    fn records(&self) -> Records {
        Records::of(&self.outputs.steps, &self.outputs.metrics)
    }

    /// The bytes of the checkpoint of the present state.
    fn checkpoint(&self) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        checkpoint::save(&path, &self.network, &self.state().metadata).unwrap();
        fs::read(path).unwrap()
    }

    fn save(&self, saver: &mut Saver<'_, Slow>, best: bool, due: bool) -> super::Result<bool> {
        saver.save(&self.network, self.state(), self.records(), best, due)
    }

    fn save_now(&self, saver: &mut Saver<'_, Slow>) -> super::Result<()> {
        saver.save_now(&self.network, self.state(), Some(self.records()), false)
    }
}

const EPOCH: CheckpointEvery = CheckpointEvery::Epochs(1);

/// A new folder, and where it is.
fn folder() -> (RunFolder, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    (RunFolder::create(Some(&place.path().join("run")), "x").unwrap(), place)
}

/// Runs `work` on a run in this folder, with its saver, and ends it with what `work` returns.
fn run(
    folder: &RunFolder,
    copies: bool,
    work: impl FnOnce(&mut Run, &mut Saver<'_, Slow>) -> super::Result<()>,
) -> super::Result<()> {
    let kinds = [LayerKind::Flatten, LayerKind::Linear { outputs: 2 }];
    let layers = kinds.into_iter().map(|kind| LayerSpec { name: format!("{kind:?}"), kind }).collect();
    let architecture = Architecture { name: "small".into(), image_size: 2, channels: 1, classes: 2, layers };
    let network = Network::new(Arc::new(Slow::default()), architecture, 1, true).unwrap();
    let mut run = Run { network, outputs: folder.outputs(0, 0).unwrap(), step: 0 };
    std::thread::scope(|scope| {
        let device = run.network.shared_device();
        let mut saver = Saver::start(scope, folder, device, EPOCH, copies, &Progress::default());
        let outcome = work(&mut run, &mut saver);
        saver.end(outcome)
    })
}

fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// The last checkpoint and the best one.
fn files(folder: &RunFolder) -> [Option<Vec<u8>>; 2] {
    [folder.last(), folder.best()].map(|path| read(&path))
}

#[test]
fn training_goes_on_while_a_checkpoint_is_written() {
    let (folder, _place) = folder();
    run(&folder, true, |run, saver| {
        let device = run.network.shared_device();
        let closed = device.gate.lock().unwrap();
        run.step(1.0);
        let first = run.checkpoint();
        assert!(!run.save(saver, false, true)?);
        // The thread waits at the gate; later steps do not change what it writes.
        for weight in [2.0, 3.0] {
            run.step(weight);
            saver.poll()?;
        }
        let second = run.checkpoint();
        assert_eq!(read(&folder.last()), None);
        drop(closed);
        // The next one waits until the first is there.
        run.save(saver, true, true)?;
        assert_eq!(read(&folder.last()).filter(|bytes| *bytes != second), Some(first));
        saver.wait()?;
        assert_eq!(files(&folder), [Some(second.clone()), Some(second)]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_best_is_written_with_the_next_checkpoint() {
    let (folder, _place) = folder();
    run(&folder, true, |run, saver| {
        run.step(1.0);
        run.save(saver, true, false)?;
        run.step(2.0);
        let best = run.checkpoint();
        run.save(saver, true, false)?;
        run.step(3.0);
        run.save(saver, false, false)?;
        saver.wait()?;
        assert_eq!(files(&folder), [None, None]);
        run.step(4.0);
        let last = run.checkpoint();
        run.save(saver, false, true)?;
        saver.wait()?;
        assert_eq!(files(&folder), [Some(last), Some(best)]);
        // At a stop, too; and one that is also the last state is one file.
        run.step(5.0);
        let best = run.checkpoint();
        run.save(saver, true, false)?;
        run.save_now(saver)?;
        assert_eq!(files(&folder), [Some(best.clone()), Some(best.clone())]);
        run.step(6.0);
        let last = run.checkpoint();
        run.save_now(saver)?;
        assert_eq!(files(&folder), [Some(last), Some(best)]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_error_of_the_thread_ends_the_run_with_the_best_saved() {
    let (folder, _place) = folder();
    let (mut last, mut best) = (None, None);
    let diverged = run(&folder, true, |run, saver| {
        run.step(1.0);
        last = Some(run.checkpoint());
        run.save(saver, false, true)?;
        run.step(f32::NAN);
        run.save(saver, false, true)?;
        run.step(2.0);
        best = Some(run.checkpoint());
        run.save(saver, true, false).map(drop)
    });
    let Err(Error::Diverged { what: "a weight", step: 2, epoch: 1, learning_rate: 0.5, .. }) = diverged else {
        panic!("{diverged:?}");
    };
    assert_eq!(files(&folder), [last, None]);
    // An error of the step, which comes later than what is being written; and one of the next step.
    let failed = run(&folder, true, |run, saver| {
        run.step(3.0);
        best = Some(run.checkpoint());
        run.save(saver, true, false)?;
        Err(Error::Closed)
    });
    assert!(matches!(failed, Err(Error::Closed)), "{failed:?}");
    assert_eq!(files(&folder)[1], best);
    let diverged = run(&folder, true, |run, saver| {
        run.step(f32::INFINITY);
        run.save(saver, false, true)?;
        loop {
            saver.poll()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(matches!(diverged, Err(Error::Diverged { what: "a weight", .. })), "{diverged:?}");
}

#[test]
fn without_memory_for_the_copy_training_waits() {
    let (folder, _place) = folder();
    run(&folder, false, |run, saver| {
        for (told, weight) in [(true, 1.0), (false, 2.0)] {
            run.step(weight);
            let state = run.checkpoint();
            assert_eq!(run.save(saver, true, false)?, told);
            assert_eq!(files(&folder), [Some(state.clone()), Some(state)]);
        }
        Ok(())
    })
    .unwrap();
}
