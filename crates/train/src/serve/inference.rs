//! The thread that has the network. Pictures of all requests that wait share its forward passes: at batch 1 a pass reads
//! every weight for one picture. It waits for nobody, so that a single request is not delayed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;
use tokio::sync::oneshot;

use super::answer::{Decoded, Parameters};

/// The answers to a request's pictures, and whether the network's outputs for one were not finite.
pub(super) type Answers = (Vec<Value>, bool);

/// What a request asks of the network.
pub(super) struct Job {
    /// With their names.
    pub pictures: Vec<(Option<String>, Result<Decoded, String>)>,
    pub parameters: Parameters,
    /// Set when nobody waits for the answer any more.
    pub abandoned: Arc<AtomicBool>,
    /// Dropped without an answer if it is abandoned or the thread panics; the error is the device's.
    pub answer: oneshot::Sender<Result<Answers, String>>,
    /// What is released when the job is done, before its answer is sent: who has an answer may ask again.
    pub held: Box<dyn Send>,
}

impl Job {
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// Jobs for the thread.
pub(super) struct Queue(Sender<Job>);

impl Queue {
    /// Starts the thread, which calls `work` with the jobs that wait: one, and more while they have fewer than `batch`
    /// pictures. It ends with the queue.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn new(batch: usize, work: impl FnMut(Vec<Job>) + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new().name("inference".into()).spawn(move || run(&receiver, batch, work))?;
        Ok(Self(sender))
    }

    /// Queues a job.
    pub fn send(&self, job: Job) {
        // The thread ends after the queue only.
        let _ = self.0.send(job);
    }
}

fn run(jobs: &Receiver<Job>, batch: usize, mut work: impl FnMut(Vec<Job>)) {
    while let Ok(first) = jobs.recv() {
        let (mut count, mut together) = (0, Vec::new());
        let mut next = Some(first);
        while let Some(job) = next {
            if !job.is_abandoned() {
                count += job.pictures.len();
                together.push(job);
            }
            next = if count < batch { jobs.try_recv().ok() } else { None };
        }
        if !together.is_empty() {
            // A panic in a forward pass leaves the network's weights unchanged.
            let _ = catch_unwind(AssertUnwindSafe(|| work(together)));
        }
    }
}
