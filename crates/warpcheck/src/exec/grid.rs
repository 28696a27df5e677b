//! A launch: distributes blocks over host threads and merges their results.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    AllocCache, Event, ExecContext, LaunchState,
    block::{Block, End},
    schedule::{Scheduler, What},
};
use crate::{
    check::{
        Checker,
        numbers::Number,
        order::Order,
        overlap::{Grid, Overlap},
        race,
    },
    launch::{Fault, Launch, LaunchOptions, Outcome},
    memory::Space,
};

/// Whether some launch had predecessors that might still run: what they touched is then needed.
static OVERLAPPING: AtomicBool = AtomicBool::new(false);

/// Runs a launch, a programmatic dependent of those in `after`, to its end.
pub(crate) fn run(space: &Space, launch: &Launch<'_>, options: &LaunchOptions, after: &[Arc<Grid>]) -> Outcome {
    let kernel = launch.kernel;
    let program = &*kernel.program;
    let threads = launch.block.iter().map(|&b| u64::from(b)).product::<u64>();
    let blocks = launch.grid.iter().try_fold(1u64, |p, &g| p.checked_mul(u64::from(g)));
    let shared_bytes = program.shared_bytes(u64::from(program.static_shared) + u64::from(launch.dynamic_shared));
    let (Some(blocks), 1..=1024, ..=0x10_0000) = (blocks, threads, shared_bytes) else {
        return Outcome { error: Some(Fault::OutOfResources), ..Outcome::default() };
    };
    if blocks == 0 {
        return Outcome::default();
    }
    let mut params = launch.params.to_vec();
    params.resize(kernel.param_bytes, 0);
    let workers = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n,
    };
    let workers = workers.min(usize::try_from(blocks).unwrap_or(usize::MAX)).max(1);
    // As many blocks are resident as on a device of this size, so that blocks that wait for each other make progress.
    let resident = (launch.profile.sms as usize * 16).max(workers);
    let taken = Number::take();
    let number = taken.0;
    let state = LaunchState {
        kernel,
        program,
        options,
        space,
        table: space.table(),
        params: &params,
        grid: launch.grid,
        block: launch.block,
        threads: threads as u32,
        dynamic_shared: launch.dynamic_shared,
        shared_bytes: shared_bytes as u32,
        sms: launch.profile.sms,
        device: launch.device,
        l2_bytes: launch.profile.l2_bytes,
        launch: number,
        scheduler: Scheduler::new(blocks, resident, options.schedule, program.ordered),
        races: options.race.then(Order::new),
        overlap: options.race.then(|| Overlap::after(number, after)).flatten(),
        stores: Default::default(),
        started: std::time::Instant::now(),
        idle: Default::default(),
    };
    if options.race {
        if state.overlap.is_some() {
            OVERLAPPING.store(true, Ordering::Relaxed);
        }
        state.table.forget(race::age(number), OVERLAPPING.load(Ordering::Relaxed));
    }
    let mut reports = if workers == 1 {
        vec![run_worker(&state)]
    } else {
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(|| run_worker(&state))).collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|_| WorkerResult::broken())).collect()
        })
    };
    let mut first = reports.swap_remove(0);
    for r in reports {
        first.merge(r);
    }
    first.outcome(&state)
}

/// The findings and fault of one host thread.
struct WorkerResult {
    checker: Box<Checker>,
    fault: Option<Fault>,
}

impl WorkerResult {
    fn broken() -> WorkerResult {
        WorkerResult { checker: Box::default(), fault: Some(Fault::LaunchFailed) }
    }

    fn merge(&mut self, other: WorkerResult) {
        self.fault = match (self.fault, other.fault) {
            (Some(a), Some(b)) => Some(if rank(a) <= rank(b) { a } else { b }),
            (a, b) => a.or(b),
        };
        self.checker.merge(*other.checker);
    }

    fn outcome(self, launch: &LaunchState<'_>) -> Outcome {
        let mut outcome = self.checker.finish(launch);
        outcome.error = self.fault;
        outcome.grid = launch.options.race.then(|| Grid::new(launch));
        outcome
    }
}

/// Priority of faults: the launch returns the lowest, so that the result does not depend on timing.
pub(super) fn rank(fault: Fault) -> u32 {
    match fault {
        Fault::Assert => 0,
        Fault::IllegalAddress => 1,
        Fault::MisalignedAddress => 2,
        Fault::InvalidAddressSpace => 3,
        Fault::InvalidPc => 4,
        Fault::HardwareStackError => 5,
        Fault::IllegalInstruction => 6,
        Fault::LaunchFailed => 7,
        Fault::LaunchTimeout => 8,
        Fault::OutOfResources => 9,
    }
}

/// Ends the launch if the thread that holds it panics.
struct EndWith<'a>(&'a Scheduler);

impl Drop for EndWith<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// Runs blocks until there are none.
fn run_worker(launch: &LaunchState<'_>) -> WorkerResult {
    let options = launch.options;
    let mut cx = ExecContext {
        regs: std::ptr::null_mut(),
        preds: std::ptr::null_mut(),
        live: 0,
        program: launch.program,
        launch,
        shared: std::ptr::null_mut(),
        shared_bytes: launch.shared_bytes,
        local: std::ptr::null_mut(),
        local_bytes: 0,
        cache: vec![AllocCache::NONE; launch.program.mem.len()],
        pc: 0,
        warp: 0,
        block: [0; 3],
        number: 0,
        sequence: 0,
        event: Event::None,
        fault: None,
        instrumented: options.init || options.race || options.count,
        checker: Box::new(Checker::new(launch)),
        strong: 0,
        looks: 0,
        moved: false,
        looked_at: 0,
        clock: 0,
        printed: String::new(),
        copies: Vec::new(),
        committed: [0; 32],
        groups: 0,
        stacks: Vec::new(),
    };
    // If this thread panics, the others stop waiting for it.
    let _end = EndWith(&launch.scheduler);
    // The next block reuses the memory of a finished one.
    let mut spare: Option<Box<Block>> = None;
    while let Some(task) = launch.scheduler.take() {
        cx.sequence = task.sequence;
        let mut block = match task.what {
            What::Resume(block) => block,
            What::Start(number) => {
                let mut block = spare.take().unwrap_or_else(|| Box::new(Block::new(&cx)));
                block.start(&mut cx, number);
                block
            }
        };
        match block.run(&mut cx) {
            End::Done => {
                cx.checker.block_done(launch);
                launch.scheduler.give_back(task.sequence, None);
                spare = Some(block);
            }
            End::Suspended => launch.scheduler.give_back(task.sequence, Some(block)),
            End::Stop => {
                launch.scheduler.stop();
                launch.scheduler.give_back(task.sequence, None);
            }
        }
    }
    WorkerResult { checker: cx.checker, fault: cx.fault }
}
