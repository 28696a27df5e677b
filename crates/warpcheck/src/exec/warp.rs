//! The interpreter loop: a warp runs until all its lanes have exited or wait at a barrier, or its slice is over.
//!
//! Lanes at the same instruction form a group; the group at the lowest address runs until it diverges
//! or reaches another group and merges with it. Compilers lay out code so that this reconverges where hardware
//! does. A group that spins while others could run yields after a while, so that lanes may wait for each other.

use super::{Event, ExecContext, ends::Ends};
use crate::{
    check::{order, sync},
    finding::FindingKind,
    program::{Kind, Program},
};

/// Lanes at one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
}

/// Why lanes wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// At a `.sync` instruction for the lanes of this mask.
    Members(u32),
    /// At a barrier of the block; the instruction is run when it opens.
    Barrier,
}

/// Lanes that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    pub(crate) wait: Wait,
}

/// How a warp's slice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// All lanes have exited.
    Done,
    /// All live lanes wait at barriers.
    Barrier,
    /// The slice is over; the warp can run on.
    Yield,
    /// No lane can run on, and not all of them wait at barriers.
    Stuck,
    /// The launch is over.
    Stop,
}

/// A warp between its slices.
#[derive(Debug, Clone)]
pub(crate) struct Warp {
    /// Lanes that exist and have not exited.
    pub(crate) live: u32,
    pub(crate) exited: u32,
    pub(crate) groups: Vec<Group>,
    pub(crate) parked: Vec<Parked>,
    pub(crate) spent: u64,
    /// The place that it looked at last by an atomic or strong load.
    pub(crate) looked_at: u64,
    /// Lanes were stopped by a fault: their absence is not reported.
    pub(crate) killed: bool,
    pub(crate) copies: Vec<super::memory::PendingCopy>,
    pub(crate) committed: [u32; 32],
    /// Saved frames of recursive calls, by lane.
    pub(crate) stacks: Vec<Vec<u64>>,
    /// A group that runs next although others are at lower addresses.
    favoured: Option<Group>,
    /// How lanes came to their end, and the barrier that each last met others at.
    pub(crate) ends: Ends,
}

/// Backward branches of a group before waiting groups run.
const PATIENCE: u32 = 4096;

impl Warp {
    pub(crate) fn new(live: u32, entry: u32) -> Warp {
        Warp {
            live,
            exited: 0,
            groups: vec![Group { pc: entry, mask: live }],
            parked: Vec::new(),
            spent: 0,
            looked_at: 0,
            killed: false,
            copies: Vec::new(),
            committed: [0; 32],
            stacks: Vec::new(),
            favoured: None,
            ends: Ends::default(),
        }
    }

    /// Whether a group is set to run next.
    pub(crate) fn favours(&self) -> bool {
        self.favoured.is_some()
    }

    /// Takes the group at the lowest address, with all others there.
    fn lowest(&mut self) -> Option<Group> {
        let pc = self.groups.iter().map(|g| g.pc).min()?;
        let mut mask = 0;
        self.groups.retain(|g| {
            if g.pc == pc {
                mask |= g.mask;
            }
            g.pc != pc
        });
        Some(Group { pc, mask })
    }

    fn next_pc(&self) -> u32 {
        self.groups.iter().map(|g| g.pc).min().unwrap_or(u32::MAX)
    }

    /// Runs for at most `slice` instructions.
    ///
    /// # Safety
    /// The pointers of `cx` must be those of this warp's registers, predicates and memories.
    pub(crate) unsafe fn run(&mut self, cx: &mut ExecContext<'_>, slice: u64) -> Status {
        let start = cx.clock;
        let status = loop {
            let favoured = self.favoured.take();
            let next = if favoured.is_some() { u32::MAX } else { 0 };
            let Some(group) = favoured.or_else(|| self.lowest()) else {
                break self.idle();
            };
            // SAFETY: as the caller promises.
            if let Some(status) = unsafe { self.run_group(cx, group, next, start + slice) } {
                break status;
            }
        };
        self.spent += cx.clock - start;
        status
    }

    /// The status of a warp without a runnable group.
    fn idle(&mut self) -> Status {
        if self.live == 0 {
            return Status::Done;
        }
        if self.parked.iter().all(|p| p.wait == Wait::Barrier) {
            return Status::Barrier;
        }
        // Lanes that a group waits for may have exited meanwhile.
        if self.release_members() {
            return Status::Yield;
        }
        Status::Stuck
    }

    /// Wakes groups whose awaited lanes have all arrived or exited. Returns whether there were any.
    fn release_members(&mut self) -> bool {
        let mut woke = false;
        let mut k = 0;
        while k < self.parked.len() {
            let p = self.parked[k];
            if let Wait::Members(members) = p.wait {
                let same = |o: &Parked| o.pc == p.pc && o.wait == p.wait;
                let here = self.parked.iter().filter(|o| same(o)).fold(0, |m, o| m | o.mask);
                if members & self.live & !here == 0 {
                    self.groups.push(Group { pc: p.pc, mask: here });
                    self.parked.retain(|o| !same(o));
                    woke = true;
                    k = 0;
                    continue;
                }
            }
            k += 1;
        }
        woke
    }

    /// The exited lanes among these that went past the instruction at `pc` and ran what follows it, instead of leaving before it.
    pub(crate) fn passed(&self, program: &Program, pc: u32, lanes: u32) -> u32 {
        self.ends.passed(program, pc, lanes & self.exited)
    }

    fn exit(&mut self, cx: &mut ExecContext<'_>, mask: u32) {
        self.live &= !mask;
        self.exited |= mask;
        cx.live = self.live;
        if self.parked.iter().any(|p| p.wait != Wait::Barrier) {
            self.release_members();
        }
    }

    /// Runs one group until it ends, parks, or another has to run. `None` asks for the next group.
    ///
    /// # Safety
    /// `cx` is the context of this warp, with the registers of its lowered program.
    unsafe fn run_group(&mut self, cx: &mut ExecContext<'_>, group: Group, next: u32, end: u64) -> Option<Status> {
        let program = cx.program;
        let code = program.code.as_slice();
        let Group { mut pc, mut mask } = group;
        // A favoured group does not stop at the others.
        let mut next = if next == u32::MAX { next } else { self.next_pc() };
        let mut patience = PATIENCE;
        cx.groups = self.groups.len() as u32 + 1;
        let mut from = pc;
        macro_rules! charge {
            () => {
                cx.clock += u64::from(pc.wrapping_sub(from)) + 1;
            };
        }
        loop {
            if pc >= next {
                if code[pc as usize].kind == Kind::Exit {
                    self.ends.ran(mask, from, pc);
                }
                cx.clock += u64::from(pc.wrapping_sub(from));
                self.groups.push(Group { pc, mask });
                return None;
            }
            // SAFETY: lowering ends every function with an exit, and targets are checked.
            let i = unsafe { code.get_unchecked(pc as usize) };
            let lanes = {
                let p = cx.pred(i.guard >> 1);
                mask & (p ^ 0u32.wrapping_sub(u32::from(i.guard & 1)))
            };
            if cx.instrumented {
                cx.checker.instruction(pc, lanes);
            }
            match i.kind {
                Kind::Plain => {
                    if lanes != 0 {
                        // SAFETY: handlers trust lowering.
                        unsafe { (i.handler)(cx, i, lanes) };
                    }
                    pc += 1;
                    continue;
                }
                Kind::Event => {
                    if lanes != 0 {
                        cx.pc = pc;
                        // SAFETY: as above.
                        unsafe { (i.handler)(cx, i, lanes) };
                        if cx.event != Event::None {
                            charge!();
                            let event = std::mem::replace(&mut cx.event, Event::None);
                            match event {
                                Event::Stop => return Some(Status::Stop),
                                Event::Kill => {
                                    self.killed = true;
                                    self.exit(cx, lanes);
                                    mask &= !lanes;
                                    if mask == 0 {
                                        return None;
                                    }
                                }
                                _ => {
                                    self.groups.push(Group { pc: pc + 1, mask });
                                    return Some(Status::Yield);
                                }
                            }
                            from = pc + 1;
                        }
                    }
                    pc += 1;
                    continue;
                }
                Kind::Branch => {
                    charge!();
                    let (target, at) = (i.e, pc);
                    if i.a != 0 {
                        self.ends.branch(i.a, at, lanes, mask);
                    }
                    if lanes == mask {
                        pc = target;
                    } else if lanes == 0 {
                        pc += 1;
                    } else {
                        let (low, high) = if target <= pc {
                            (Group { pc: target, mask: lanes }, Group { pc: pc + 1, mask: mask & !lanes })
                        } else {
                            (Group { pc: pc + 1, mask: mask & !lanes }, Group { pc: target, mask: lanes })
                        };
                        self.groups.push(high);
                        next = next.min(high.pc);
                        cx.groups = self.groups.len() as u32 + 1;
                        (pc, mask) = (low.pc, low.mask);
                    }
                    if target <= at {
                        // A backward branch: here a warp can be preempted.
                        if cx.clock >= end {
                            self.groups.push(Group { pc, mask });
                            return Some(Status::Yield);
                        }
                        if !self.groups.is_empty() {
                            patience -= 1;
                            if patience == 0 {
                                // Other groups have waited long enough: run the one that has waited longest.
                                self.favoured = Some(self.groups.remove(0));
                                self.groups.push(Group { pc, mask });
                                return None;
                            }
                        }
                    }
                    from = pc;
                    continue;
                }
                Kind::BranchIndex | Kind::CallIndirect | Kind::Return | Kind::Call => {
                    charge!();
                    cx.pc = pc;
                    if lanes != mask {
                        self.groups.push(Group { pc: pc + 1, mask: mask & !lanes });
                    }
                    if lanes != 0 {
                        // SAFETY: as above.
                        unsafe { self.transfer(cx, i, pc, lanes) };
                        if cx.event == Event::Stop {
                            return Some(Status::Stop);
                        }
                    }
                    if cx.clock >= end {
                        return Some(Status::Yield);
                    }
                    return None;
                }
                Kind::Exit => {
                    charge!();
                    if lanes != 0 {
                        self.ends.ran(lanes, from, pc);
                        self.exit(cx, lanes);
                        mask &= !lanes;
                        if mask == 0 {
                            return None;
                        }
                        next = self.next_pc();
                    }
                    pc += 1;
                    from = pc;
                    continue;
                }
                Kind::Sync | Kind::SyncWarp => {
                    if lanes == 0 {
                        pc += 1;
                        continue;
                    }
                    cx.pc = pc;
                    if lanes != mask {
                        // Lanes whose guard is false go on; the others stay here.
                        charge!();
                        self.groups.push(Group { pc: pc + 1, mask: mask & !lanes });
                        mask = lanes;
                        next = self.next_pc();
                        from = pc;
                    }
                    if self.wait_for_members(cx, i, lanes) {
                        charge!();
                        return None;
                    }
                    // Lanes with different masks are different groups, although they are at the same instruction.
                    let mut rest = lanes;
                    while rest != 0 {
                        let same = self.same_members(cx, i, rest);
                        rest &= !same;
                        if i.kind == Kind::SyncWarp {
                            sync::warp(cx, same);
                        } else {
                            if cx.instrumented {
                                order::collective(cx, same);
                            }
                            // SAFETY: as above.
                            unsafe { (i.handler)(cx, i, same) };
                        }
                    }
                    pc += 1;
                    continue;
                }
                Kind::Barrier => {
                    charge!();
                    cx.pc = pc;
                    if lanes == 0 {
                        pc += 1;
                        from = pc;
                        continue;
                    }
                    if lanes != mask {
                        self.groups.push(Group { pc: pc + 1, mask: mask & !lanes });
                    }
                    match self.parked.iter_mut().find(|p| p.pc == pc && p.wait == Wait::Barrier) {
                        Some(p) => p.mask |= lanes,
                        None => self.parked.push(Parked { pc, mask: lanes, wait: Wait::Barrier }),
                    }
                    return None;
                }
                Kind::Trap => {
                    charge!();
                    if lanes == 0 {
                        pc += 1;
                        from = pc;
                        continue;
                    }
                    cx.pc = pc;
                    sync::trap(cx, lanes);
                    if cx.event == Event::Stop {
                        cx.event = Event::None;
                        return Some(Status::Stop);
                    }
                    self.killed = true;
                    self.exit(cx, lanes);
                    mask &= !lanes;
                    if mask == 0 {
                        return None;
                    }
                    pc += 1;
                    from = pc;
                    continue;
                }
            }
        }
    }

    /// The lanes whose member mask is that of the first.
    fn same_members(&self, cx: &ExecContext<'_>, i: &crate::program::Inst, lanes: u32) -> u32 {
        // SAFETY: operand `c` of such an instruction is the slot of its mask.
        let masks = unsafe { cx.slot::<[u32; 32]>(i.c).read() };
        let first = masks[lanes.trailing_zeros() as usize];
        super::lanes::lanes(lanes).filter(|&l| masks[l] == first).fold(0, |m, l| m | 1 << l)
    }

    /// Parks the lanes of a `.sync` instruction whose mask names lanes that have not arrived. `false` if all have.
    fn wait_for_members(&mut self, cx: &mut ExecContext<'_>, i: &crate::program::Inst, lanes: u32) -> bool {
        // SAFETY: operand `c` of such an instruction is the slot of its mask.
        let masks = unsafe { cx.slot::<[u32; 32]>(i.c).read() };
        let mut wanted = 0;
        let mut rest = lanes;
        while rest != 0 {
            let lane = rest.trailing_zeros();
            rest &= rest - 1;
            let mask = masks[lane as usize];
            if mask >> lane & 1 == 0 {
                let text = format!("lane {lane} is not in its own member mask {mask:#010x}");
                sync::report(cx, FindingKind::SyncMask, 1 << lane, text);
            }
            // The last warp of a block may be partial: a mask of all 32 lanes names lanes that do not exist, which is allowed.
            let ended = mask & self.exited;
            let differs = super::lanes::lanes(lanes & mask).any(|l| masks[l] != mask);
            let told = if cx.launch.options.strict { ended } else { self.passed(cx.launch.program, cx.pc, ended) };
            if told != 0 && !self.killed {
                let text = format!("the member mask {mask:#010x} names lanes {ended:#010x}, which have exited");
                sync::report(cx, FindingKind::SyncMask, 1 << lane, text);
            } else if differs {
                let text = format!("lanes of the member mask {mask:#010x} give another one");
                sync::report(cx, FindingKind::SyncMask, 1 << lane, text);
            }
            wanted |= mask;
        }
        if wanted & self.live & !lanes == 0 {
            return false;
        }
        let mut rest = lanes;
        while rest != 0 {
            let mask = masks[rest.trailing_zeros() as usize];
            let same = (0..32).filter(|&l| rest >> l & 1 != 0 && masks[l] == mask).fold(0, |m, l| m | 1 << l);
            rest &= !same;
            self.parked.push(Parked { pc: cx.pc, mask: same, wait: Wait::Members(mask) });
        }
        self.release_members();
        // All of one mask that were here run again at once, and then find nobody missing.
        true
    }
}
