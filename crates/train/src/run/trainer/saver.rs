//! Saving beside training: the state is copied between two steps, and a thread writes the copy while the next steps run.
//!
//! One checkpoint is written at a time; who has the next one waits. A new best state stays in the copy until a checkpoint is
//! due, so that epochs which take less time than a checkpoint do not wait for each. A process killed before that trains those
//! epochs again from the checkpoint before them, and finds the best again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Builder, Scope};
use std::time::Instant;

use alexnet_core::arguments::Arrays;
use alexnet_core::device::Parameter;
use alexnet_core::{Device, Network};

use crate::run::checkpoint::{self, Metadata, Progress, Tensors};
use crate::run::config::CheckpointEvery;
use crate::run::error::{Error, Result};
use crate::run::folder::{RunFolder, SavedAs};
use crate::run::metrics::Records;

/// What a checkpoint says of a state, and errors about it.
pub(super) struct State {
    pub metadata: Metadata,
    /// Learning rate of its last update.
    pub learning_rate: f64,
}

impl State {
    /// What tells it from the other states of the run.
    fn key(&self) -> (usize, u64) {
        key(&self.metadata.progress)
    }

    /// Writes it, of these tensors.
    pub fn write<D: Device<Element = f32>>(
        &self,
        folder: &RunFolder,
        tensors: &Tensors<'_, D>,
        saved: SavedAs,
    ) -> Result<()> {
        folder.save(tensors, &self.metadata, saved).map_err(|error| match error {
            Error::Checkpoint(checkpoint::Error::NotFinite { value, .. }) => {
                self.diverged("a weight", value.into(), folder)
            }
            Error::Checkpoint(checkpoint::Error::Io(file)) if file.is_full_disk() => {
                Error::DiskFull { file, checkpoint: checkpoint::size(tensors.parameters) }
            }
            error => error,
        })
    }

    /// That `what` is infinite or NaN in this state.
    pub fn diverged(&self, what: &'static str, value: f64, folder: &RunFolder) -> Error {
        let Progress { step, epoch, .. } = self.metadata.progress;
        Error::Diverged { what, value, step, epoch: epoch + 1, learning_rate: self.learning_rate, kept: folder.last() }
    }
}

/// The key of no state.
const NOTHING: (usize, u64) = (usize::MAX, u64::MAX);

fn key(progress: &Progress) -> (usize, u64) {
    (progress.epoch, progress.step)
}

/// A copy of the network's parameters.
type Snapshot<D> = Vec<Parameter<<D as Arrays>::Buffer>>;

/// What the thread is to write: the records first, so that a checkpoint never continues after lines that are lost.
struct Job<D: Device> {
    records: Option<Records>,
    checkpoint: Option<(State, Snapshot<D>, SavedAs)>,
}

impl<D: Device<Element = f32>> Job<D> {
    fn run(&self, folder: &RunFolder, device: &D) -> Result<()> {
        self.records.as_ref().map_or(Ok(()), |records| flush(records, folder))?;
        self.checkpoint
            .as_ref()
            .map_or(Ok(()), |(state, copy, saved)| state.write(folder, &Tensors { device, parameters: copy }, *saved))
    }
}

fn flush(records: &Records, folder: &RunFolder) -> Result<()> {
    folder.still_ours()?;
    records.flush().or_else(|error| folder.still_ours().and(Err(error)))
}

/// A job that is done, with its result.
type Done<D> = (Job<D>, Result<()>);

/// Saves a run.
pub(super) struct Saver<'a, D: Device> {
    folder: &'a RunFolder,
    device: Arc<D>,
    every: CheckpointEvery,
    /// To the thread; none where none can be started.
    jobs: Option<Sender<Job<D>>>,
    done: Receiver<Done<D>>,
    busy: bool,
    /// The memory for the copy, but while the thread reads it; empty until it is needed, none where there is no room.
    copy: Option<Snapshot<D>>,
    /// Of the best state, while only the copy holds it.
    best: Option<State>,
    /// The state in the checkpoint to resume from, and when it was taken.
    saved: (usize, u64),
    since: Instant,
    /// Whether training has waited for a checkpoint, for lack of memory.
    waits: bool,
}

impl<'a, D: Device<Element = f32>> Saver<'a, D> {
    /// Starts the thread. `copies` says whether there is memory for the copy, and `progress` is that of the checkpoint in the
    /// folder.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        folder: &'a RunFolder,
        device: Arc<D>,
        every: CheckpointEvery,
        copies: bool,
        progress: &Progress,
    ) -> Self
    where
        'a: 'scope,
        D: 'scope,
    {
        let (jobs, received) = channel::<Job<D>>();
        let (results, done) = channel();
        let own = device.clone();
        let work = move || {
            for job in received {
                let result = job.run(folder, &own);
                if results.send((job, result)).is_err() {
                    break;
                }
            }
        };
        let jobs = Builder::new().name("checkpoints".into()).spawn_scoped(scope, work).is_ok().then_some(jobs);
        let (copy, saved, since) = (copies.then(Vec::new), key(progress), Instant::now());
        Self { folder, device, every, jobs, done, busy: false, copy, best: None, saved, since, waits: false }
    }

    /// Whether a checkpoint is due after a step: by the clock of the rank that writes.
    pub fn due(&self) -> bool {
        self.folder.writes() && matches!(self.every, CheckpointEvery::Time(time) if self.since.elapsed() >= time)
    }

    /// Whether one is due after `epoch`.
    pub fn due_after(&self, epoch: usize) -> bool {
        match self.every {
            CheckpointEvery::Epochs(epochs) => epoch.is_multiple_of(epochs),
            CheckpointEvery::Time(_) => self.due(),
        }
    }

    /// The result of the last write, if that is done.
    ///
    /// # Errors
    /// That of the write.
    pub fn poll(&mut self) -> Result<()> {
        match self.done.try_recv() {
            Ok(done) => self.take(done),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(()),
        }
    }

    /// Waits for the last write.
    ///
    /// # Errors
    /// That of the write.
    fn wait(&mut self) -> Result<()> {
        match self.busy.then(|| self.done.recv()) {
            Some(Ok(done)) => self.take(done),
            // The thread has panicked, which the scope passes on.
            _ => Ok(()),
        }
    }

    fn take(&mut self, (job, result): Done<D>) -> Result<()> {
        self.busy = false;
        if result.is_err() {
            self.saved = NOTHING;
        }
        if let Some((_, copy, _)) = job.checkpoint {
            self.copy = Some(copy);
        }
        result
    }

    /// Gives the thread a job, when it has done the last one.
    fn send(&mut self, job: Job<D>) -> Result<()> {
        self.wait()?;
        let Some(jobs) = &self.jobs else {
            let result = job.run(self.folder, &self.device);
            return self.take((job, result));
        };
        self.busy = jobs.send(job).is_ok();
        Ok(())
    }

    /// Copies the state, when the last copy is written. False where there is no memory for it. The first copy allocates it.
    ///
    /// # Errors
    /// That of the last write.
    pub fn copy(&mut self, network: &Network<D>) -> Result<bool> {
        if !self.folder.writes() {
            return Ok(true);
        }
        self.wait()?;
        // An error is that there is no memory after all; any other one of the device comes again.
        self.copy = self.copy.take().and_then(|earlier| network.snapshot(earlier).ok());
        Ok(self.copy.is_some())
    }

    /// Puts the records on the disk, and saves the network's state if it is the `best` or `due`. True the first time that
    /// training had to wait for that, for lack of memory.
    ///
    /// # Errors
    /// A file cannot be written, also one of before; a weight is infinite or NaN; the device's.
    pub fn save(
        &mut self,
        network: &Network<D>,
        state: State,
        records: Records,
        best: bool,
        due: bool,
    ) -> Result<bool> {
        if due && !best {
            self.save_best()?;
        }
        if (due || best) && !self.copy(network)? {
            self.save_now(network, state, Some(records), best)?;
            return Ok(!std::mem::replace(&mut self.waits, true));
        }
        let checkpoint = match (due, best) {
            (true, _) => {
                (self.saved, self.since, self.best) = (state.key(), Instant::now(), None);
                let saved = if best { SavedAs::Both } else { SavedAs::Last };
                self.copy.take().map(|copy| (state, copy, saved))
            }
            (false, true) => {
                self.best = Some(state);
                None
            }
            (false, false) => None,
        };
        self.send(Job { records: Some(records), checkpoint })?;
        Ok(false)
    }

    /// Lets the thread write the best state, if only the copy holds it.
    fn save_best(&mut self) -> Result<()> {
        self.wait()?;
        match (self.best.take(), self.copy.take()) {
            (Some(state), Some(copy)) => {
                self.send(Job { records: None, checkpoint: Some((state, copy, SavedAs::Best)) })
            }
            (_, copy) => {
                self.copy = copy;
                Ok(())
            }
        }
    }

    /// Saves the network's state, and the best one, before it returns.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_now(&mut self, network: &Network<D>, state: State, records: Option<Records>, best: bool) -> Result<()> {
        self.wait()?;
        let best = best || self.best.as_ref().is_some_and(|best| best.key() == state.key());
        if best {
            self.best = None;
        }
        records.map_or(Ok(()), |records| flush(&records, self.folder))?;
        self.save_best()?;
        self.wait()?;
        if best || self.saved != state.key() {
            state.write(self.folder, &network.into(), if best { SavedAs::Both } else { SavedAs::Last })?;
            (self.saved, self.since) = (state.key(), Instant::now());
        }
        Ok(())
    }

    /// Ends a run with this outcome: what is being written is finished, and after an error the best state is saved.
    ///
    /// # Errors
    /// That of a write, which came first; that of the outcome.
    pub fn end<T>(mut self, outcome: Result<T>) -> Result<T> {
        let written = self.wait();
        let outcome = written.and(outcome);
        if outcome.is_err() {
            // The first error is the one to report.
            let _ = self.save_best().and_then(|()| self.wait());
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
