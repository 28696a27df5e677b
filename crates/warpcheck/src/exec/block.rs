//! A block: its warps, their registers and memories, and its barriers.

use super::{
    ExecContext,
    schedule::mix,
    warp::{Group, Status, Wait, Warp},
};
use crate::{
    check::sync,
    launch::Fault,
    program::{BarOp, Kind, RESERVED_SHARED, Reduce, Special},
};

/// Instructions of a warp before the next warp of its block runs.
const SLICE: u64 = 1 << 16;
/// Atomics and strong accesses of a block before another block runs.
const STRONG_SLICE: u32 = 1 << 14;

/// 64-byte units, so that slots are aligned.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct CacheLine(#[allow(dead_code)] [u32; 16]);

/// Memory that handlers access by pointers.
pub(crate) struct Arena(Vec<CacheLine>);

impl Arena {
    fn new(bytes: usize) -> Arena {
        Arena(vec![CacheLine([0; 16]); bytes.div_ceil(64).max(1)])
    }

    fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// How a block's slice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Suspended,
    Stop,
}

/// A block between its slices.
pub(crate) struct Block {
    number: u64,
    warps: Vec<Warp>,
    /// Registers of all warps.
    registers: Arena,
    predicates: Vec<u32>,
    shared: Arena,
    local: Arena,
    /// Threads that have arrived at each barrier without waiting.
    arrived: [u32; 16],
    round: u64,
    checker: crate::check::BlockChecker,
    printed: String,
}

impl Block {
    /// Makes room for a block of this launch; [`Block::start`] fills it.
    pub(crate) fn new(cx: &ExecContext<'_>) -> Block {
        let launch = cx.launch;
        let program = launch.program;
        let warps = launch.threads.div_ceil(32) as usize;
        Block {
            number: 0,
            warps: Vec::with_capacity(warps),
            registers: Arena::new(warps * program.slots as usize * 128),
            predicates: vec![0; warps * program.preds as usize],
            shared: Arena::new(launch.shared_bytes as usize + 16),
            local: Arena::new(warps * 32 * program.local_bytes as usize),
            arrived: [0; 16],
            round: 0,
            checker: crate::check::BlockChecker::default(),
            printed: String::new(),
        }
    }

    /// Resets to the first instruction of the block with this number.
    pub(crate) fn start(&mut self, cx: &mut ExecContext<'_>, number: u64) {
        let launch = cx.launch;
        let program = launch.program;
        self.number = number;
        self.arrived = [0; 16];
        self.round = 0;
        self.printed.clear();
        self.warps.clear();
        self.checker.start(launch);
        self.predicates.fill(0);
        let reserved = program.reserved_shared() as usize;
        // SAFETY: the end of the block's shared memory, for which `new` has made room.
        unsafe { self.shared.start().add(launch.shared_bytes as usize - reserved).write_bytes(0, reserved) };
        let warps = launch.threads.div_ceil(32);
        for w in 0..warps {
            let lanes = (launch.threads - w * 32).min(32);
            let live = if lanes == 32 { !0 } else { (1 << lanes) - 1 };
            self.warps.push(Warp::new(live, program.entry));
        }
        // Without checks the contents of shared memory are unspecified; it is this launch's own memory, so that
        // nothing of another process shows.
        for w in 0..warps as usize {
            self.enter(cx, w);
            self.predicates[w * program.preds as usize] = !0;
            fill_registers(cx);
        }
    }

    /// Points `cx` at one of the warps.
    fn enter(&mut self, cx: &mut ExecContext<'_>, w: usize) {
        let program = cx.launch.program;
        let grid = cx.launch.grid;
        // SAFETY: each warp's part lies inside the arenas that `new` made for this launch.
        unsafe {
            cx.regs = self.registers.start().cast::<u32>().add(w * program.slots as usize * 32);
            cx.preds = self.predicates.as_mut_ptr().add(w * program.preds as usize);
            cx.local = self.local.start().add(w * 32 * program.local_bytes as usize);
        }
        cx.shared = self.shared.start();
        cx.local_bytes = program.local_bytes;
        cx.live = self.warps[w].live;
        cx.warp = w as u32;
        cx.number = self.number;
        let (x, y) = (u64::from(grid[0]), u64::from(grid[1]));
        cx.block = [(self.number % x) as u32, (self.number / x % y) as u32, (self.number / x / y) as u32];
    }

    /// Runs until the block is done, or has to let others run.
    pub(crate) fn run(&mut self, cx: &mut ExecContext<'_>) -> End {
        std::mem::swap(&mut self.checker, &mut cx.checker.block);
        std::mem::swap(&mut self.printed, &mut cx.printed);
        let end = self.rounds(cx);
        if end == End::Done {
            crate::check::overlap::done(cx);
        }
        std::mem::swap(&mut self.printed, &mut cx.printed);
        std::mem::swap(&mut self.checker, &mut cx.checker.block);
        if end != End::Suspended && !self.printed.is_empty() {
            cx.checker.printed.push((self.number, std::mem::take(&mut self.printed)));
        }
        end
    }

    fn rounds(&mut self, cx: &mut ExecContext<'_>) -> End {
        cx.strong = 0;
        let count = self.warps.len();
        loop {
            let mut runnable = false;
            self.round += 1;
            for k in 0..count {
                let w = self.pick(cx, k, count);
                if self.warps[w].groups.is_empty() && !self.warps[w].favours() {
                    continue;
                }
                self.enter(cx, w);
                std::mem::swap(&mut self.warps[w].copies, &mut cx.copies);
                std::mem::swap(&mut self.warps[w].committed, &mut cx.committed);
                std::mem::swap(&mut self.warps[w].stacks, &mut cx.stacks);
                (cx.looks, cx.moved, cx.looked_at) = (0, false, self.warps[w].looked_at);
                let before = self.warps[w].spent;
                // SAFETY: `enter` has just pointed `cx` at this warp.
                let status = unsafe { self.warps[w].run(cx, SLICE) };
                self.warps[w].looked_at = cx.looked_at;
                std::mem::swap(&mut self.warps[w].copies, &mut cx.copies);
                std::mem::swap(&mut self.warps[w].committed, &mut cx.committed);
                std::mem::swap(&mut self.warps[w].stacks, &mut cx.stacks);
                match status {
                    Status::Stop => return End::Stop,
                    // An endless loop may contain a barrier: check the budget here too.
                    Status::Yield | Status::Barrier => {
                        runnable |= status == Status::Yield;
                        let waits = status == Status::Yield && cx.looks > 0 && !cx.moved;
                        let idle = cx.launch.wait(waits, self.warps[w].spent - before);
                        if (idle || self.warps[w].spent > cx.launch.options.budget) && cx.launch.is_late() {
                            sync::budget(cx, &self.warps[w], idle);
                            // No other block starts: it would take as long.
                            cx.launch.scheduler.close();
                            return self.give_up(cx);
                        }
                    }
                    Status::Stuck => {
                        sync::stuck(cx, &self.warps[w]);
                        cx.fail(Fault::LaunchTimeout);
                        return self.give_up(cx);
                    }
                    Status::Done => {
                        cx.launch.wait(false, 0);
                    }
                }
                // Named barriers open as soon as their count is reached: other warps may wait for these.
            }
            let opened = self.open_barriers(cx);
            if !runnable && !opened {
                if self.warps.iter().all(|w| w.live == 0) {
                    return End::Done;
                }
                let waiting = self.waiting(cx);
                sync::deadlock(cx, &waiting);
                cx.fail(Fault::LaunchTimeout);
                return self.give_up(cx);
            }
            if cx.launch.scheduler.stopped() {
                return End::Stop;
            }
            if cx.strong > STRONG_SLICE {
                return End::Suspended;
            }
        }
    }

    /// The launch has failed: with checks the other blocks still run, so that findings do not depend on timing.
    fn give_up(&mut self, cx: &mut ExecContext<'_>) -> End {
        let options = cx.launch.options;
        if options.mem || options.sync { End::Done } else { End::Stop }
    }

    /// The `k`-th warp of this round.
    fn pick(&self, cx: &ExecContext<'_>, k: usize, count: usize) -> usize {
        match cx.launch.options.schedule {
            None => k,
            Some(seed) => {
                // An affine permutation that differs from round to round.
                let r = mix(seed ^ mix(self.number) ^ self.round);
                let (offset, flip) = (r as usize % count, r >> 63 != 0);
                let k = (k + offset) % count;
                if flip { count - 1 - k } else { k }
            }
        }
    }

    /// Releases the warps at complete barriers. Returns whether there were any.
    fn open_barriers(&mut self, cx: &mut ExecContext<'_>) -> bool {
        let mut opened = false;
        // Arrivals that do not wait.
        for w in 0..self.warps.len() {
            self.enter(cx, w);
            let mut k = 0;
            while k < self.warps[w].parked.len() {
                let p = self.warps[w].parked[k];
                let i = cx.program.code[p.pc as usize];
                let arrive = i.kind == Kind::Barrier && cx.program.bars[i.e as usize].arrive;
                if p.wait == Wait::Barrier && arrive {
                    let id = barrier_id(cx, &cx.program.bars[i.e as usize], p.mask);
                    self.arrived[id] += p.mask.count_ones();
                    self.warps[w].parked.remove(k);
                    self.warps[w].groups.push(Group { pc: p.pc + 1, mask: p.mask });
                    sync::arrive(cx, id);
                    opened = true;
                } else {
                    k += 1;
                }
            }
        }
        for id in 0..16 {
            opened |= self.open(cx, id);
        }
        opened
    }

    /// Waiting threads at a barrier, its number, and its count.
    fn waiting(&mut self, cx: &mut ExecContext<'_>) -> Vec<(usize, super::warp::Parked, usize, Option<u32>)> {
        let mut out = Vec::new();
        for w in 0..self.warps.len() {
            if self.warps[w].parked.is_empty() {
                continue;
            }
            self.enter(cx, w);
            for p in self.warps[w].parked.iter().filter(|p| p.wait == Wait::Barrier) {
                let i = cx.program.code[p.pc as usize];
                let op = &cx.program.bars[i.e as usize];
                let count = op.count.map(|slot| {
                    // SAFETY: a slot of the lowered program, read in an active lane.
                    unsafe { *cx.slot::<u32>(slot).add(p.mask.trailing_zeros() as usize) }
                });
                out.push((w, *p, barrier_id(cx, op, p.mask), count));
            }
        }
        out
    }

    fn open(&mut self, cx: &mut ExecContext<'_>, id: usize) -> bool {
        if self.warps.iter().all(|w| w.parked.is_empty()) {
            return false;
        }
        let (mut waiting, mut counts) = (Vec::new(), Vec::new());
        let mut threads = 0;
        for (w, p, at, count) in self.waiting(cx) {
            if at == id {
                threads += p.mask.count_ones();
                waiting.push((w, p));
                counts.push(count);
            }
        }
        if waiting.is_empty() {
            return false;
        }
        let live: u32 = self.warps.iter().map(|w| w.live.count_ones()).sum();
        let wanted = counts.iter().flatten().copied().max().unwrap_or(live);
        if threads + self.arrived[id] < wanted {
            return false;
        }
        self.arrived[id] = 0;
        sync::barrier(cx, &self.warps, &waiting, id, &counts);
        self.reduce(cx, &waiting);
        for (w, p) in waiting {
            let warp = &mut self.warps[w];
            warp.parked.retain(|o| *o != p);
            warp.ends.met(p.mask, p.pc);
            warp.groups.push(Group { pc: p.pc + 1, mask: p.mask });
        }
        true
    }

    /// `barrier.red`: combines the predicates of all threads that waited.
    fn reduce(&mut self, cx: &mut ExecContext<'_>, waiting: &[(usize, super::warp::Parked)]) {
        let program = cx.program;
        let op_of = |pc: u32| program.bars[program.code[pc as usize].e as usize].reduce;
        if !waiting.iter().any(|(_, p)| op_of(p.pc).is_some()) {
            return;
        }
        let (mut all, mut any, mut count) = (true, false, 0);
        for &(w, p) in waiting {
            self.enter(cx, w);
            if let Some(r) = op_of(p.pc) {
                let lanes = (cx.pred(r.source.0) ^ 0u32.wrapping_sub(u32::from(r.source.1))) & p.mask;
                all &= lanes == p.mask;
                any |= lanes != 0;
                count += lanes.count_ones();
            }
        }
        for &(w, p) in waiting {
            self.enter(cx, w);
            match op_of(p.pc) {
                Some(r) if r.op == Reduce::Popc => {
                    for lane in (0..32).filter(|l| p.mask >> l & 1 != 0) {
                        // SAFETY: a slot of the lowered program.
                        unsafe { *cx.slot::<u32>(r.d).add(lane) = count };
                    }
                }
                Some(r) => {
                    let value = if r.op == Reduce::And { all } else { any };
                    cx.set_pred(r.d, p.mask, if value { !0 } else { 0 });
                }
                None => {}
            }
        }
    }
}

fn barrier_id(cx: &ExecContext<'_>, op: &BarOp, mask: u32) -> usize {
    // SAFETY: a slot of the lowered program, read in an active lane.
    let id = unsafe { *cx.slot::<u32>(op.id).add(mask.trailing_zeros() as usize) };
    (id & 15) as usize
}

/// Puts constants and fixed special registers into a warp's file.
fn fill_registers(cx: &mut ExecContext<'_>) {
    let program = cx.program;
    // SAFETY: slots of the lowered program lie inside the file.
    unsafe {
        cx.regs.write_bytes(0, program.slots as usize * 32);
        for c in &program.constants {
            if c.wide {
                cx.slot::<[u64; 32]>(c.slot).write([c.value; 32]);
            } else {
                cx.slot::<[u32; 32]>(c.slot).write([c.value as u32; 32]);
            }
        }
        for &(special, slot) in &program.specials {
            let values: [u32; 32] = std::array::from_fn(|lane| value(cx, special, lane as u32));
            cx.slot::<[u32; 32]>(slot).write(values);
        }
        if let Some(stack) = program.stack {
            // The stack pointer of recursive functions is the slot after the constants.
            let slot = program.stack_slot;
            cx.slot::<[u32; 32]>(slot).write([stack; 32]);
        }
    }
}

fn value(cx: &ExecContext<'_>, special: Special, lane: u32) -> u32 {
    let launch = cx.launch;
    match special {
        Special::Tid(k) => cx.thread(lane)[usize::from(k)],
        Special::Ntid(k) => launch.block[usize::from(k)],
        Special::Ctaid(k) => cx.block[usize::from(k)],
        Special::Nctaid(k) => launch.grid[usize::from(k)],
        Special::Laneid => lane,
        Special::Warpid => cx.warp,
        Special::Nwarpid => launch.threads.div_ceil(32),
        Special::Smid => (cx.number % u64::from(launch.sms.max(1))) as u32,
        Special::Nsmid => launch.sms,
        Special::Gridid => launch.launch as u32,
        Special::LaneEq => 1 << lane,
        Special::LaneLt => (1 << lane) - 1,
        Special::LaneLe => (2u64 << lane).wrapping_sub(1) as u32,
        Special::LaneGt => !((2u64 << lane).wrapping_sub(1) as u32),
        Special::LaneGe => !((1 << lane) - 1),
        Special::DynamicShared => launch.dynamic_shared,
        Special::TotalShared => launch.shared_bytes,
        Special::ReservedShared(offset) => launch.shared_bytes - RESERVED_SHARED + u32::from(offset),
        Special::Zero => 0,
        Special::One => 1,
    }
}

/// Findings that make sense only if no lane was stopped by a fault.
pub(crate) fn undisturbed(warps: &[Warp]) -> bool {
    !warps.iter().any(|w| w.killed)
}
