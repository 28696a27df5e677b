//! Running a program: warps of a block in turn, blocks over the host's cores.

pub(crate) mod access;
pub(crate) mod atomic;
pub(crate) mod block;
pub(crate) mod call;
pub(crate) mod collective;
pub(crate) mod copy;
pub(crate) mod ends;
pub(crate) mod float;
pub(crate) mod grid;
pub(crate) mod integer;
pub(crate) mod lanes;
pub(crate) mod memory;
pub(crate) mod print;
pub(crate) mod schedule;
pub(crate) mod special;
pub(crate) mod tensor;
pub(crate) mod vector;
pub(crate) mod warp;

use std::sync::Arc;

use crate::{
    check::Checker,
    launch::{Fault, Kernel, LaunchOptions},
    memory::{Allocation, Table},
    program::Program,
};

/// Generic addresses of shared memory start here: no host address does.
pub(crate) const SHARED_WINDOW: u64 = 0x0100_0000_0000_0000;
/// Generic addresses of a thread's local memory.
pub(crate) const LOCAL_WINDOW: u64 = 0x0200_0000_0000_0000;
/// Generic addresses of kernel parameters.
pub(crate) const PARAM_WINDOW: u64 = 0x0300_0000_0000_0000;
/// Each window is this long.
pub(crate) const WINDOW: u64 = 0x0100_0000_0000_0000;
/// Addresses of functions, for indirect calls.
pub(crate) const CODE_WINDOW: u64 = 0x0400_0000_0000_0000;

/// A handler's request to the interpreter loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    None,
    /// The warp waits for another one: yield.
    Yield,
    /// The launch is over.
    Stop,
    /// The lanes that ran have ended (`trap`, a failed assertion).
    Kill,
}

/// The allocation that an instruction last accessed.
#[derive(Debug, Clone)]
pub(crate) struct AllocCache {
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) host: *mut u8,
    pub(crate) writable: bool,
    pub(crate) allocation: Option<Arc<Allocation>>,
}

impl AllocCache {
    pub(crate) const NONE: AllocCache =
        AllocCache { base: 0, size: 0, host: std::ptr::null_mut(), writable: false, allocation: None };
}

/// Instructions of warps that all wait, after which what they wait for will not come.
const MOST_IDLE: u64 = 1 << 23;

/// The state that all blocks of a launch share (not GPU shared memory).
pub(crate) struct LaunchState<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) program: &'a Program,
    pub(crate) options: &'a LaunchOptions,
    pub(crate) space: &'a crate::memory::Space,
    pub(crate) table: Arc<Table>,
    pub(crate) params: &'a [u8],
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) threads: u32,
    pub(crate) dynamic_shared: u32,
    pub(crate) shared_bytes: u32,
    pub(crate) sms: u32,
    pub(crate) device: u32,
    pub(crate) l2_bytes: u32,
    pub(crate) launch: u64,
    pub(crate) scheduler: schedule::Scheduler,
    pub(crate) races: Option<crate::check::order::Order>,
    /// The launches that may run meanwhile, if there are any.
    pub(crate) overlap: Option<crate::check::overlap::Overlap>,
    /// Held while a store is checked and performed, with the race check: whether it changes anything depends on
    /// the old contents, which a block on another host thread must not change in between.
    pub(crate) stores: std::sync::Mutex<()>,
    pub(crate) started: std::time::Instant,
    /// Instructions of warps that have done nothing but look at one place since anything else happened.
    pub(crate) idle: std::sync::atomic::AtomicU64,
}

impl LaunchState<'_> {
    /// Counts the instructions of a slice that only waited; whether the whole launch has done nothing else for too long.
    pub(crate) fn wait(&self, waits: bool, instructions: u64) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        if !waits {
            self.idle.store(0, Relaxed);
            return false;
        }
        self.idle.fetch_add(instructions, Relaxed) > MOST_IDLE.min(self.options.budget)
    }

    /// Whether the launch has taken so long that it may be aborted.
    pub(crate) fn is_late(&self) -> bool {
        self.started.elapsed().as_secs() >= self.options.seconds
    }
}

/// The state of a host thread that runs blocks, as handlers see it. Pointers are those of the current block and warp.
pub(crate) struct ExecContext<'a> {
    pub(crate) regs: *mut u32,
    pub(crate) preds: *mut u32,
    /// Lanes that exist and have not exited.
    pub(crate) live: u32,
    pub(crate) program: &'a Program,
    pub(crate) launch: &'a LaunchState<'a>,
    pub(crate) shared: *mut u8,
    pub(crate) shared_bytes: u32,
    /// The warp's local memory, lane after lane.
    pub(crate) local: *mut u8,
    pub(crate) local_bytes: u32,
    pub(crate) cache: Vec<AllocCache>,
    pub(crate) pc: u32,
    pub(crate) warp: u32,
    pub(crate) block: [u32; 3],
    /// The block's number in the grid.
    pub(crate) number: u64,
    /// The block's position in the order of turns.
    pub(crate) sequence: u64,
    pub(crate) event: Event,
    pub(crate) fault: Option<Fault>,
    /// Whether memory accesses take the path with checks and counters.
    pub(crate) instrumented: bool,
    pub(crate) checker: Box<Checker>,
    /// Atomics and strong accesses to global memory in this slice.
    pub(crate) strong: u32,
    /// Of this slice of a warp: looks at the place that it looked at last, and whether it did anything else to memory.
    pub(crate) looks: u32,
    pub(crate) moved: bool,
    pub(crate) looked_at: u64,
    pub(crate) clock: u64,
    pub(crate) printed: String,
    pub(crate) copies: Vec<crate::exec::memory::PendingCopy>,
    /// Groups of `cp.async` that each lane has committed.
    pub(crate) committed: [u32; 32],
    pub(crate) groups: u32,
    pub(crate) stacks: Vec<Vec<u64>>,
}

impl ExecContext<'_> {
    /// The thread of a lane of the running warp, as `threadIdx`.
    pub(crate) fn thread(&self, lane: u32) -> [u32; 3] {
        thread_at(self.launch.block, self.warp * 32 + lane)
    }

    /// The warp reads what another thread may write, and not for the first time if the place is the last one.
    pub(crate) fn look(&mut self, address: u64) {
        self.looks += 1;
        self.moved |= self.looked_at != address;
        self.looked_at = address;
    }

    /// Records a fault; the one of highest priority stays, so that the result does not depend on timing.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if self.fault.is_none_or(|known| grid::rank(fault) < grid::rank(known)) {
            self.fault = Some(fault);
        }
    }
}

/// `threadIdx` of a thread's number.
pub(crate) fn thread_at(block: [u32; 3], number: u32) -> [u32; 3] {
    let [x, y, _] = block.map(|b| b.max(1));
    [number % x, number / x % y, number / x / y]
}
