//! Fork and join: runs the tasks 0..n of an operator on all threads, without allocating.
//!
//! The next free thread takes the next task. Results do not depend on which: a task's index fixes what it computes, and in
//! which order. A worker that wakes late finds the job closed and delays nobody. Workers spin before they sleep, because the
//! operators of a step follow each other within microseconds.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often a waiting thread polls before it sleeps (some tens of microseconds).
const SPINS: usize = 2000;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

#[derive(Clone, Copy)]
struct Job {
    task: *const Task<'static>,
    tasks: usize,
}
// SAFETY: the task is `Sync`, and `Pool::run` keeps it alive until no worker uses it.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    panic: Option<Box<dyn Any + Send>>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Incremented for every job and at the end.
    posted: AtomicUsize,
    /// Index of the next task.
    next: AtomicUsize,
    /// Workers inside the job.
    active: AtomicUsize,
    /// Workers that have started.
    started: AtomicUsize,
    wake: Condvar,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that run one job at a time; a second caller waits.
pub struct Pool {
    shared: Arc<Shared>,
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// The calling thread and `threads` − 1 more.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let mut pool = Self { shared: Arc::default(), turn: Mutex::new(()), workers: Vec::new() };
        for index in 1..threads {
            let shared = pool.shared.clone();
            let name = format!("alexnet-{index}");
            pool.workers.push(std::thread::Builder::new().name(name).spawn(move || work(&shared, index))?);
        }
        // A thread allocates while it starts; a step must not.
        let mut state = pool.shared.lock();
        while pool.shared.started.load(Ordering::Acquire) < pool.workers.len() {
            state = pool.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Ok(pool)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i, thread)` once for every i in 0..`tasks`, `thread` below [`Pool::threads`]; returns when all
    /// are done. A task must not call `run` itself.
    pub fn run(&self, tasks: usize, task: impl Fn(usize, usize) + Sync) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.workers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(|i| task(i, 0));
        }
        let shared = &*self.shared;
        let task: *const Task<'_> = &task;
        // SAFETY: only the lifetime is erased; the job is closed and its workers awaited before this returns.
        let task: *const Task<'static> = unsafe { std::mem::transmute(task) };
        let job = Job { task, tasks };
        {
            let mut state = shared.lock();
            shared.next.store(0, Ordering::Relaxed);
            state.job = Some(job);
            shared.posted.fetch_add(1, Ordering::Release);
        }
        shared.wake.notify_all();
        let panic = run_tasks(shared, job, 0);
        let mut state = shared.lock();
        state.job = None; // No worker joins from here on.
        drop(state);
        for _ in 0..SPINS {
            if shared.active.load(Ordering::Acquire) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        state = shared.lock();
        while shared.active.load(Ordering::Acquire) > 0 {
            state = shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(panic) = state.panic.take().or(panic) {
            drop(state);
            resume_unwind(panic);
        }
    }

    /// Calls `item(i)` once for every i in 0..`items`, `per_task` of them one after the other in a task: for items so short that a
    /// task of each would cost more. Otherwise as [`Pool::run`].
    pub fn run_items(&self, items: usize, per_task: usize, item: impl Fn(usize) + Sync) {
        self.run(items.div_ceil(per_task), |task, _| {
            (task * per_task..items.min((task + 1) * per_task)).for_each(&item);
        });
    }
}

/// Takes tasks until none is left; returns what a task panicked with.
fn run_tasks(shared: &Shared, job: Job, thread: usize) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `Pool::run` does not return while a thread is in here.
        let task = unsafe { &*job.task };
        loop {
            let i = shared.next.fetch_add(1, Ordering::Relaxed);
            if i >= job.tasks {
                return;
            }
            task(i, thread);
        }
    }))
    .err()
}

fn work(shared: &Shared, thread: usize) {
    {
        let _state = shared.lock();
        shared.started.fetch_add(1, Ordering::AcqRel);
        shared.done.notify_all();
    }
    let mut seen = 0;
    loop {
        for _ in 0..SPINS {
            if shared.posted.load(Ordering::Acquire) != seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = shared.lock();
        while shared.posted.load(Ordering::Acquire) == seen {
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        seen = shared.posted.load(Ordering::Acquire);
        if state.stop {
            return;
        }
        let Some(job) = state.job else { continue };
        shared.active.fetch_add(1, Ordering::AcqRel);
        drop(state);
        let panic = run_tasks(shared, job, thread);
        let mut state = shared.lock();
        if panic.is_some() {
            state.panic = panic;
        }
        if shared.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.done.notify_all();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.posted.fetch_add(1, Ordering::Release);
        drop(state);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so joining does not fail.
            let _ = worker.join();
        }
    }
}

/// A pointer that tasks share; each task writes elements of its own.
#[derive(Clone, Copy)]
pub struct SyncPtr<T>(pub *mut T);

// SAFETY: as for the slice it was made of; whoever dereferences it guarantees that the tasks' elements are disjoint.
unsafe impl<T: Send> Send for SyncPtr<T> {}
// SAFETY: see above.
unsafe impl<T: Send> Sync for SyncPtr<T> {}

impl<T> SyncPtr<T> {
    /// The elements `start..start + len`.
    ///
    /// # Safety
    /// They are in the slice this was made of, and nobody else uses them meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut<'a>(&self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: passed on to the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
    /// A pointer to element `start`.
    ///
    /// # Safety
    /// It is in the slice this was made of.
    pub unsafe fn at(&self, start: usize) -> *mut T {
        // SAFETY: passed on to the caller.
        unsafe { self.0.add(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_from_several_callers() {
        let pool = Pool::new(3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for tasks in 0..200 {
                        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                        pool.run(tasks, |i, thread| {
                            assert!(thread < 3);
                            counts[i].fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn every_item_runs_once() {
        let pool = Pool::new(2).unwrap();
        for (items, per_task) in [(0, 3), (1, 3), (7, 3), (9, 3), (5, 1)] {
            let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            pool.run_items(items, per_task, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{items} {per_task}");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, |i, _| assert_ne!(i, 5))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(4, |i, _| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 6);
    }
}
