//! The checks: each observes the memory accesses of warps and may add findings.

pub(crate) mod fast;
pub(crate) mod known;
pub(crate) mod memory;
pub(crate) mod numbers;
pub(crate) mod order;
pub(crate) mod overlap;
pub(crate) mod race;
pub(crate) mod shadow;
pub(crate) mod sync;

use std::collections::HashMap;

use crate::{
    count::Counting,
    exec::{ExecContext, LaunchState, memory::Resolved, thread_at},
    finding::{Access, Check, Finding, FindingKind, Other, StateSpace},
    launch::Outcome,
    memory::AllocationInfo,
};

/// Equal findings are one.
pub(crate) type Key = (FindingKind, u32, u32);

/// The findings, output and counters of one host thread's blocks.
#[derive(Default)]
pub(crate) struct Checker {
    findings: HashMap<Key, (u64, Finding)>,
    pub(crate) block: BlockChecker,
    pub(crate) printed: Vec<(u64, String)>,
    pub(crate) counting: Option<Box<Counting>>,
}

/// What the checks keep per block.
#[derive(Default)]
pub(crate) struct BlockChecker {
    /// Per byte of shared and of local memory: 1 if it was written.
    written: Vec<u8>,
    /// Number of shared-memory bytes never written.
    pub(crate) unwritten: usize,
    pub(crate) local_written: Vec<u8>,
    /// The last writer and reader of each word of shared memory.
    pub(crate) shadow: Vec<[shadow::Entry; 2]>,
    pub(crate) clocks: shadow::Clocks,
    pub(crate) published: order::Published,
    /// The knowledge of the warps that have arrived by `barrier.arrive`.
    pub(crate) arrive: [[u32; 32]; 16],
    pub(crate) dependence: overlap::Dependence,
}

impl BlockChecker {
    pub(crate) fn start(&mut self, launch: &LaunchState<'_>) {
        let options = launch.options;
        let warps = launch.threads.div_ceil(32) as usize;
        if options.init {
            self.written.clear();
            self.written.resize(launch.shared_bytes as usize, 0);
            self.unwritten = self.written.len() - launch.program.reserved_shared() as usize;
            self.written[self.unwritten..].fill(1);
            self.local_written.clear();
            self.local_written.resize(warps * 32 * launch.program.local_bytes as usize, 0);
        }
        if options.race {
            self.shadow.clear();
            self.shadow.resize(launch.shared_bytes.div_ceil(4) as usize, [shadow::Entry(0); 2]);
            self.clocks.start(warps);
            self.published.start();
            self.arrive = [[0; 32]; 16];
            self.dependence.start(warps);
        }
    }
}

impl Checker {
    pub(crate) fn new(launch: &LaunchState<'_>) -> Checker {
        Checker {
            counting: launch.options.count.then(|| Box::new(Counting::new(launch.program.code.len()))),
            ..Checker::default()
        }
    }

    /// Called before each instruction.
    #[inline(always)]
    pub(crate) fn instruction(&mut self, pc: u32, lanes: u32) {
        if let Some(c) = &mut self.counting {
            c.instruction(pc, lanes);
        }
    }

    pub(crate) fn block_done(&mut self, launch: &LaunchState<'_>) {
        if let Some(c) = &mut self.counting {
            c.block(launch.threads.div_ceil(32));
        }
    }

    pub(crate) fn add(&mut self, key: Key, block: u64, finding: Finding) {
        match self.findings.entry(key) {
            std::collections::hash_map::Entry::Vacant(v) => {
                v.insert((block, finding));
            }
            std::collections::hash_map::Entry::Occupied(mut o) => {
                let (at, first) = o.get_mut();
                // How many blocks run out of budget depends on how many run at once.
                let count = if finding.kind == FindingKind::Budget { 1 } else { first.count + finding.count };
                // The finding of the lowest block stays, so that the result does not depend on timing.
                if block < *at {
                    (*at, *first) = (block, finding);
                }
                first.count = count;
            }
        }
    }

    /// Counts a finding that is known already, and at a block that is not later than this one. Whether it is.
    fn count_again(&mut self, key: Key, block: u64) -> bool {
        match self.findings.get_mut(&key) {
            Some((at, first)) if *at <= block => {
                first.count += u64::from(first.kind != FindingKind::Budget);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn merge(&mut self, other: Checker) {
        for (key, (block, finding)) in other.findings {
            self.add(key, block, finding);
        }
        self.printed.extend(other.printed);
        match (&mut self.counting, other.counting) {
            (Some(mine), Some(theirs)) => mine.merge(*theirs),
            (None, theirs) => self.counting = theirs,
            _ => {}
        }
    }

    pub(crate) fn finish(mut self: Box<Self>, launch: &LaunchState<'_>) -> Outcome {
        self.printed.sort_by_key(|(block, _)| *block);
        let mut findings: Vec<_> = self.findings.into_iter().collect();
        findings.sort_by_key(|((kind, pc, other), (block, _))| (*block, *pc, *kind, *other));
        Outcome {
            error: None,
            findings: findings.into_iter().map(|(_, (_, f))| f).collect(),
            counters: self
                .counting
                .map(|c| launch.space.with_l2(launch.device, |l2| c.finish(launch.program, l2, launch.l2_bytes))),
            printed: self.printed.into_iter().map(|(_, t)| t).collect(),
            grid: None,
        }
    }
}

/// The parts of a finding that the check provides.
pub(crate) struct Details {
    pub(crate) check: Check,
    pub(crate) kind: FindingKind,
    pub(crate) lane: u32,
    pub(crate) access: Access,
    pub(crate) space: StateSpace,
    pub(crate) address: u64,
    pub(crate) bytes: u32,
    pub(crate) allocation: Option<AllocationInfo>,
    pub(crate) other: Option<(u32, Other)>,
    pub(crate) message: String,
}

impl Details {
    pub(crate) fn new(check: Check, kind: FindingKind, lane: u32, message: String) -> Details {
        Details {
            check,
            kind,
            lane,
            access: Access::None,
            space: StateSpace::Generic,
            address: 0,
            bytes: 0,
            allocation: None,
            other: None,
            message,
        }
    }
}

/// The key of a finding at an instruction: a race is the same whichever side came second.
fn key(kind: FindingKind, pc: u32, other: u32) -> Key {
    if other != u32::MAX && other < pc { (kind, other, pc) } else { (kind, pc, other) }
}

/// Whether the current instruction has had this finding, which then is counted, before anything is written about it.
pub(crate) fn again(cx: &mut ExecContext<'_>, kind: FindingKind, other: u32) -> bool {
    let (key, number) = (key(kind, cx.pc, other), cx.number);
    cx.checker.count_again(key, number)
}

/// Adds a finding at the current instruction.
#[cold]
pub(crate) fn add_finding(cx: &mut ExecContext<'_>, r: Details) {
    let launch = cx.launch;
    let pc = cx.pc;
    let thread = thread_at(launch.block, cx.warp * 32 + r.lane);
    let location = launch.program.location(pc);
    let at = match &location {
        Some(l) if l.line > 0 => format!("{}:{}", l.file, l.line),
        Some(l) => format!("PTX line {}", l.ptx_line),
        None => String::new(),
    };
    let [bx, by, bz] = cx.block;
    let [tx, ty, tz] = thread;
    let message =
        format!("{} in {} at {at}, block ({bx},{by},{bz}), thread ({tx},{ty},{tz})", r.message, launch.kernel.name);
    let other_pc = r.other.as_ref().map_or(u32::MAX, |(pc, _)| *pc);
    let finding = Finding {
        check: r.check,
        kind: r.kind,
        kernel: launch.kernel.name.clone(),
        instruction: launch.program.text(pc).to_owned(),
        location,
        block: cx.block,
        thread,
        access: r.access,
        space: r.space,
        address: r.address,
        bytes: r.bytes,
        allocation: r.allocation,
        other: r.other.map(|(_, o)| o),
        count: 1,
        message,
    };
    let number = cx.number;
    cx.checker.add(key(r.kind, pc, other_pc), number, finding);
}

/// Checks a resolved access: initialised bytes and races.
pub(crate) fn access(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, access: Access, strong: bool) {
    observe(cx, r, bytes, access, strong, 0);
}

/// A store, some of whose lanes change nothing.
pub(crate) fn store_access(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, strong: bool, silent: u32) {
    observe(cx, r, bytes, Access::Write, strong, silent);
}

fn observe(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, access: Access, strong: bool, silent: u32) {
    let options = cx.launch.options;
    if let Some(c) = &mut cx.checker.counting {
        c.access(cx.program, r, bytes, access);
    }
    if options.init {
        written(cx, r, bytes, access);
    }
    if options.race {
        overlap::access(cx, r, bytes, access, strong);
        race::access(cx, r, bytes, access, strong, silent);
    }
}

/// The init check: reports reads of bytes never written, and marks written bytes.
fn written(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, access: Access) {
    // Bytes of a load that go to registers which nothing reads.
    let op = cx.program.mem.get(cx.program.code[cx.pc as usize].e as usize);
    let unread = op.filter(|_| access == Access::Read).map_or(0, |op| op.unread);
    for lane in r.lanes() {
        let at = r.address[lane];
        let missing = match r.space[lane] {
            StateSpace::Shared => {
                let block = &mut cx.checker.block;
                if block.unwritten == 0 {
                    continue;
                }
                let marks = &mut block.written[at as usize..][..bytes as usize];
                if access != Access::Read {
                    block.unwritten -= zeros(marks);
                }
                mark(marks, access, unread)
            }
            StateSpace::Local => {
                let start = (cx.warp as usize * 32 + lane) * cx.local_bytes as usize + at as usize;
                mark(&mut cx.checker.block.local_written[start..][..bytes as usize], access, unread)
            }
            StateSpace::Global => {
                // SAFETY: allocations are held by the launch.
                let Some(a) = (unsafe { r.allocation[lane].as_ref() }) else { continue };
                let start = at - a.base;
                let missing = match access {
                    Access::Write => None,
                    _ if unread == 0 => a.unwritten(start, bytes.into()).map(|o| o - start),
                    _ => (0..u64::from(bytes)).find(|k| unread >> k & 1 == 0 && a.unwritten(start + k, 1).is_some()),
                };
                if access != Access::Read {
                    a.mark(at - a.base, bytes.into());
                }
                missing
            }
            _ => None,
        };
        if let Some(offset) = missing {
            uninitialised(cx, r, lane, offset, bytes, access);
        }
    }
}

/// Number of bytes never written.
fn zeros(marks: &[u8]) -> usize {
    marks.iter().filter(|mark| **mark == 0).count()
}

/// The first byte that was never written and is used; all of them are marked when this writes.
fn mark(marks: &mut [u8], access: Access, unread: u32) -> Option<u64> {
    let unwritten = |(k, mark): (usize, &u8)| (*mark == 0 && unread >> k & 1 == 0).then_some(k as u64);
    let missing = if access == Access::Write { None } else { marks.iter().enumerate().find_map(unwritten) };
    if access != Access::Read {
        marks.fill(1);
    }
    missing
}

#[cold]
fn uninitialised(cx: &mut ExecContext<'_>, r: &Resolved, lane: usize, offset: u64, bytes: u32, access: Access) {
    if again(cx, FindingKind::Uninitialised, u32::MAX) {
        return;
    }
    let space = r.space[lane];
    let name = match space {
        StateSpace::Shared => "shared",
        StateSpace::Local => "local",
        _ => "global",
    };
    let at = r.address[lane] + offset;
    let allocation = (space == StateSpace::Global).then(|| cx.launch.space.lookup(at)).flatten();
    let place = match &allocation {
        Some(a) if !a.label.is_empty() => {
            format!(", offset {} of {} bytes `{}`", at - a.base, a.size, a.label)
        }
        Some(a) => format!(", offset {} of {} bytes at {:#x}", at - a.base, a.size, a.base),
        None => String::new(),
    };
    let text = format!("{name} read of {bytes} bytes: the byte at {at:#x}{place} was never written");
    let mut report = Details::new(Check::Init, FindingKind::Uninitialised, lane as u32, text);
    report.access = access;
    report.space = space;
    report.address = r.address[lane];
    report.bytes = bytes;
    report.allocation = allocation;
    add_finding(cx, report);
}

/// Initialises a memory barrier: a write that does not race with strong accesses.
pub(crate) fn barrier_init(cx: &mut ExecContext<'_>, r: &Resolved) {
    let options = cx.launch.options;
    if options.init {
        written(cx, r, 8, Access::Write);
    }
    if options.race {
        race::access(cx, r, 8, Access::Atomic, true, 0);
    }
}

/// Rows of `ldmatrix` and `stmatrix`.
pub(crate) fn matrix_access(cx: &mut ExecContext<'_>, r: &Resolved, access: Access) {
    if let Some(c) = &mut cx.checker.counting {
        c.matrix(r, access);
    }
    let options = cx.launch.options;
    if options.init {
        written(cx, r, 16, access);
    }
    if options.race {
        race::access(cx, r, 16, access, false, 0);
    }
}

/// `cp.async` has been issued for these destinations.
pub(crate) fn copy_started(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32) {
    if let Some(c) = &mut cx.checker.counting {
        c.access(cx.program, r, bytes, Access::Write);
    }
    if cx.launch.options.race {
        race::access(cx, r, bytes, Access::Write, false, 0);
        for lane in r.lanes().filter(|&l| r.space[l] == StateSpace::Shared) {
            let (first, last) = (r.address[lane] / 4, (r.address[lane] + u64::from(bytes)).div_ceil(4));
            for w in first..last {
                if let Some([writer, _]) = cx.checker.block.shadow.get_mut(w as usize) {
                    *writer = writer.with_pending();
                }
            }
        }
    }
}

/// A copy was waited for: counts as a write of its thread, now.
pub(crate) fn copy_done(cx: &mut ExecContext<'_>, p: &crate::exec::memory::PendingCopy) {
    let block = &mut cx.checker.block;
    if cx.launch.options.init
        && let Some(marks) = block.written.get_mut(p.to as usize..(p.to + p.bytes) as usize)
    {
        block.unwritten -= zeros(marks);
        marks.fill(1);
    }
    if cx.launch.options.race {
        let warp = cx.warp;
        let block = &mut cx.checker.block;
        let clock = u64::from(block.clocks.now(warp));
        let place = cx.launch.program.code[p.pc as usize].e;
        for w in p.to / 4..(p.to + p.bytes).div_ceil(4) {
            if let Some([writer, _]) = block.shadow.get_mut(w as usize) {
                *writer = shadow::Entry::new(clock, warp * 32 + p.lane, place, false, 15);
            }
        }
    }
}
