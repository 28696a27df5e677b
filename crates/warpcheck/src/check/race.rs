//! The race check: two unordered accesses by different threads, at least one of them a write.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{
    Details, add_finding, again,
    memory::verb,
    shadow::{Clocks, Entry, PLACES, TAGGED_CLOCKS},
};
use crate::{
    exec::{ExecContext, memory::Resolved, thread_at},
    finding::{Access, Check, FindingKind, Location, Other, StateSpace},
    program::Class,
};

/// The data of a conflict.
struct Conflict {
    other: Entry,
    /// The other side's block, when it is another one.
    block: Option<u64>,
    read: bool,
    /// The other side is some reader in another block.
    elsewhere: bool,
}

impl Conflict {
    fn new(other: Entry, block: Option<u64>, read: bool) -> Conflict {
        Conflict { other, block, read, elsewhere: false }
    }
}

/// Bits of a block's number in a tag.
const BLOCKS: u32 = 15;

/// Number of launches that entries can distinguish; then other shadow memory is used.
pub(super) const LAUNCHES: u64 = 15;

/// The age of a launch: entries distinguish the launches of one age.
pub(crate) fn age(launch: u64) -> u64 {
    launch / LAUNCHES
}

/// The part of an entry's clock field that names launch and block.
pub(super) fn tag(cx: &ExecContext<'_>) -> u64 {
    (launch_tag(cx.launch.launch) << BLOCKS | block_tag(cx)) * u64::from(TAGGED_CLOCKS)
}

/// The number of a launch within its age, from 1.
pub(super) fn launch_tag(launch: u64) -> u64 {
    launch % LAUNCHES + 1
}

/// The launch and the block of an entry of global memory.
pub(super) fn origin(e: Entry) -> (u64, u64) {
    let tag = e.clock() / u64::from(TAGGED_CLOCKS);
    (tag >> BLOCKS, tag & ((1 << BLOCKS) - 1))
}

/// The bits of the block's number that are kept.
pub(super) fn block_tag(cx: &ExecContext<'_>) -> u64 {
    cx.number & ((1 << BLOCKS) - 1)
}

/// The words that an access touches, with the bytes of each.
pub(super) fn words(at: u64, bytes: u32) -> impl Iterator<Item = (usize, u32)> {
    let (first, last) = (at / 4, (at + u64::from(bytes) - 1) / 4);
    (first..=last).map(move |w| {
        let low = at.saturating_sub(w * 4) as u32;
        let high = (at + u64::from(bytes) - w * 4).min(4) as u32;
        (w as usize, ((1 << high) - 1) & !((1 << low) - 1))
    })
}

/// Checks an access and records it.
pub(crate) fn access(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, kind: Access, strong: bool, silent: u32) {
    let place = cx.launch.program.code[cx.pc as usize].e;
    let warp = cx.warp;
    // In shared memory `volatile` orders nothing: it is taken for more only where a thread waits for another.
    let glance = strong && cx.program.mem.get(place as usize).is_some_and(|op| op.glance);
    if !strong && cx.checker.block.published.is_pending(warp) {
        super::order::advance(cx);
    }
    if kind == Access::Write {
        cx.checker.block.published.written(warp, r.ok);
    }
    let clock = u64::from(cx.checker.block.clocks.now(warp));
    let floor = u64::from(cx.checker.block.clocks.floor(warp));
    let mut found: Vec<(usize, u64, Conflict)> = Vec::new();
    for lane in r.lanes() {
        let thread = warp * 32 + lane as u32;
        let quiet = silent >> lane & 1 != 0;
        match r.space[lane] {
            StateSpace::Shared => {
                for (w, mask) in words(r.address[lane], bytes) {
                    let me = Entry::new(clock, thread, place, strong && !glance, mask);
                    if let Some(c) = shared_word(cx, w, me, kind, floor, quiet) {
                        found.push((lane, w as u64 * 4, c));
                    }
                }
            }
            StateSpace::Global => {
                // SAFETY: allocations are held by the launch.
                let Some(a) = (unsafe { r.allocation[lane].as_ref() }) else { continue };
                let Some(shadow) = a.shadow(age(cx.launch.launch)) else { continue };
                let base = tag(cx);
                let now = base + clock % u64::from(TAGGED_CLOCKS);
                for (w, mask) in words(r.address[lane] - a.base, bytes) {
                    let me = Entry::new(now, thread, place, strong, mask);
                    let (writer, reader) = (&shadow[2 * w], &shadow[2 * w + 1]);
                    // Blocks on other host threads check the same words: each writes its entry before it reads
                    // the other's, so that at least one of two conflicting accesses sees the other.
                    let (old, seen);
                    if kind == Access::Read {
                        seen = Entry(reader.load(Relaxed));
                        let merged = if here(seen, base) {
                            merge(&cx.checker.block.clocks, seen, me, untag(cx, seen), floor)
                        } else {
                            me
                        };
                        let merged = if elsewhere(seen, base) { merged.with_elsewhere() } else { merged };
                        reader.store(merged.0, SeqCst);
                        old = Entry(writer.load(SeqCst));
                    } else {
                        // For other blocks it does not matter which thread of this one wrote.
                        let next = |old: u64| {
                            let with = if Entry(old).clock() == now { me.with_bytes_of(Entry(old)) } else { me };
                            Some(with.0)
                        };
                        old = Entry(writer.fetch_update(SeqCst, SeqCst, next).unwrap_or_else(|old| old));
                        seen = Entry(reader.load(SeqCst));
                    }
                    let mut conflict = None;
                    if old.0 != 0 && !(quiet && kind == Access::Write) {
                        conflict = global_conflict(cx, old, me, base, false);
                    }
                    if kind != Access::Read && conflict.is_none() && seen.0 != 0 {
                        conflict = global_conflict(cx, seen, me, base, true);
                    }
                    if let Some(c) = conflict {
                        found.push((lane, a.base + w as u64 * 4, c));
                    }
                }
            }
            _ => {}
        }
    }
    for (lane, at, c) in found {
        if kind != Access::Write || c.read || c.block.is_some() || !same_store(cx, r, lane, c.other) {
            tell(cx, r, lane, at, bytes, kind, c);
        }
    }
}

/// Whether the other side is a lane of this very store that stores the same value to the same place.
fn same_store(cx: &ExecContext<'_>, r: &Resolved, lane: usize, other: Entry) -> bool {
    let inst = &cx.program.code[cx.pc as usize];
    let its = other.thread() as usize % 32;
    if inst.class != Class::Store || other.place() != inst.e.min(PLACES - 1) || other.thread() / 32 != cx.warp {
        return false;
    }
    let place = |lane: usize| (r.ok >> lane & 1, r.space[lane], r.address[lane]);
    let op = &cx.program.mem[inst.e as usize];
    let keep = if op.bytes == 8 { !0 } else { (1u64 << (8 * op.bytes)) - 1 };
    // SAFETY: slots of the lowered program.
    place(lane) == place(its)
        && op.regs.iter().flatten().all(|&reg| unsafe { (cx.get(reg, lane) ^ cx.get(reg, its)) & keep == 0 })
}

/// Whether an entry of global memory is of this launch and block.
fn here(e: Entry, base: u64) -> bool {
    let span = u64::from(TAGGED_CLOCKS);
    e.0 != 0 && e.clock() / span == base / span
}

/// Whether the readers of a word, `seen` the last, include one of this launch in another block.
#[inline(always)]
pub(super) fn elsewhere(seen: Entry, base: u64) -> bool {
    let span = u64::from(TAGGED_CLOCKS);
    let (its, mine) = (seen.clock() / span, base / span);
    if its == mine { seen.elsewhere() } else { its >> BLOCKS == mine >> BLOCKS && seen.whole_and_weak() }
}

/// The clock of an entry of this block: its upper bits are those of the warp's own clock, or one less.
fn untag(cx: &ExecContext<'_>, e: Entry) -> u64 {
    let current = cx.checker.block.clocks.now(e.thread() / 32);
    u64::from(current.wrapping_sub(current.wrapping_sub(e.clock() as u32) % TAGGED_CLOCKS))
}

/// The reader that is kept when another reads: the last, marked when others read too and nothing orders them.
#[inline(always)]
pub(super) fn merge(clocks: &Clocks, seen: Entry, me: Entry, clock: u64, floor: u64) -> Entry {
    if seen.0 == 0 || clock < floor {
        return me;
    }
    let mut out = me;
    if seen.thread() == me.thread() {
        out = out.with_own_bytes_of(seen);
    } else if seen.bytes() & me.bytes() != 0 && !clocks.ordered(me.thread(), seen.thread(), clock as u32) {
        out = if seen.thread() / 32 == me.thread() / 32 { out.with_several() } else { out.with_foreign() };
    }
    if seen.several() && !clocks.ordered(me.thread(), seen.thread() ^ 1, clock as u32) {
        out = out.with_several();
    }
    if seen.foreign() {
        out = out.with_foreign();
    }
    if !seen.strong() { out.weak() } else { out }
}

/// Whether an access of this block, `clock` its clock, is in conflict with what the thread of `me` does now.
#[inline(always)]
fn conflicts(clocks: &Clocks, old: Entry, me: Entry, clock: u64, floor: u64, read: bool) -> bool {
    if old.bytes() & me.bytes() == 0 || clock < floor || old.strong() && me.strong() {
        return false;
    }
    let lurking = read && old.foreign() && clocks.lockstep();
    if old.thread() == me.thread() {
        let lane = read && old.several() && !clocks.ordered(me.thread(), me.thread() ^ 1, clock as u32);
        return lane || lurking;
    }
    lurking || !clocks.ordered(me.thread(), old.thread(), clock as u32)
}

#[inline(always)]
fn shared_word(
    cx: &mut ExecContext<'_>,
    w: usize,
    me: Entry,
    kind: Access,
    floor: u64,
    quiet: bool,
) -> Option<Conflict> {
    let block = &mut cx.checker.block;
    let [writer, reader] = block.shadow.get(w).copied()?;
    let clocks = &block.clocks;
    let against = |old: Entry, read: bool| {
        if old.pending() {
            return old.bytes() & me.bytes() != 0;
        }
        old.0 != 0 && conflicts(clocks, old, me, old.clock(), floor, read)
    };
    let mut conflict = None;
    if !(quiet && kind == Access::Write) && against(writer, false) {
        conflict = Some(Conflict::new(writer, None, false));
    }
    if kind == Access::Read {
        block.shadow[w][1] = merge(clocks, reader, me, reader.clock(), floor);
    } else {
        if conflict.is_none() && against(reader, true) {
            conflict = Some(Conflict::new(reader, None, true));
        }
        block.shadow[w][0] = me;
    }
    conflict
}

/// Whether an entry of global memory conflicts with what the running thread does now.
fn global_conflict(cx: &ExecContext<'_>, old: Entry, me: Entry, base: u64, read: bool) -> Option<Conflict> {
    let span = u64::from(TAGGED_CLOCKS);
    let (old_tag, my_tag) = (old.clock() / span, base / span);
    if old_tag >> BLOCKS != my_tag >> BLOCKS {
        return None; // Another launch: the stream orders it, or the caller answers for it.
    }
    if old_tag == my_tag {
        let clocks = &cx.checker.block.clocks;
        let floor = u64::from(clocks.floor(cx.warp));
        if conflicts(clocks, old, me, untag(cx, old), floor, read) {
            return Some(Conflict::new(old, None, read));
        }
        // Whose read it was is forgotten: only a block that has waited for no other is surely not behind it.
        let lost = read && old.elsewhere() && cx.checker.block.published.is_alone();
        return lost.then_some(Conflict { elsewhere: true, ..Conflict::new(old, None, true) });
    }
    if old.all_bytes() & me.bytes() == 0 || old.strong() && me.strong() {
        return None;
    }
    let block = old_tag & ((1 << BLOCKS) - 1);
    if super::order::known(cx, me.thread(), block, old.thread(), (old.clock() % span) as u32) {
        return None;
    }
    Some(Conflict::new(old, Some(block), read))
}

/// A place in the source, for a message.
pub(super) fn place(location: Option<&Location>) -> String {
    match location {
        Some(l) if l.line > 0 => format!("{}:{}", l.file, l.line),
        Some(l) => format!("PTX line {}", l.ptx_line),
        None => "an unknown place".to_owned(),
    }
}

#[cold]
fn tell(cx: &mut ExecContext<'_>, r: &Resolved, lane: usize, at: u64, bytes: u32, kind: Access, c: Conflict) {
    let program = cx.launch.program;
    let pc = program.mem_pc.get(c.other.place() as usize).copied().unwrap_or(u32::MAX);
    if again(cx, FindingKind::Race, if c.elsewhere { u32::MAX } else { pc }) {
        return;
    }
    let grid = cx.launch.grid;
    let block = match c.block {
        None => cx.block,
        // Blocks beyond 2¹⁵ are known by their number's lower bits alone.
        Some(n) => thread_at(grid, n as u32),
    };
    let thread = thread_at(cx.launch.block, c.other.thread());
    let class = program.code.get(pc as usize).map(|i| i.class);
    let access = match class {
        Some(Class::Atomic) => Access::Atomic,
        _ if c.read => Access::Read,
        _ => Access::Write,
    };
    let other = Other {
        kernel: None,
        location: program.location(pc),
        instruction: program.text(pc).to_owned(),
        block,
        thread,
        access,
    };
    let line = place(other.location.as_ref());
    let space = r.space[lane];
    let name = if space == StateSpace::Shared { "shared" } else { "global" };
    let by = match c.elsewhere {
        true => "a read by another block".to_owned(),
        false => {
            let pending = if c.other.pending() { ", a `cp.async` that was not waited for" } else { "" };
            let [[bx, by, bz], [tx, ty, tz]] = [block, thread];
            let what = verb(access);
            format!("the {what} at {line}{pending} by block ({bx},{by},{bz}), thread ({tx},{ty},{tz})")
        }
    };
    let text = format!("race: {name} {} of {bytes} bytes at {at:#x} against {by}", verb(kind));
    let mut report = Details::new(Check::Race, FindingKind::Race, lane as u32, text);
    report.access = kind;
    report.space = space;
    report.address = r.address[lane];
    report.bytes = bytes;
    report.allocation = cx.launch.space.lookup(at).filter(|_| space == StateSpace::Global);
    report.other = (!c.elsewhere).then_some((pc, other));
    add_finding(cx, report);
}
