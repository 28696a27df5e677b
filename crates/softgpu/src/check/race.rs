//! Races: two accesses by different threads, one of them a write, that nothing orders.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    Report, file,
    shadow::{Entry, TAGGED_CLOCKS},
};
use crate::{
    exec::{Cx, memory::Resolved, thread_at},
    finding::{Access, Check, FindingKind, Other, StateSpace},
};

/// What is told of a conflict.
struct Conflict {
    other: Entry,
    /// The other side's block, when it is another one.
    block: Option<u64>,
    read: bool,
}

/// Bits of a block's number in a tag.
const BLOCKS: u32 = 18;

/// Launches that entries tell apart; after as many the shadows are forgotten.
pub(crate) const LAUNCHES: u64 = 15;

/// The part of an entry's clock field that names launch and block.
pub(super) fn tag(cx: &Cx<'_>) -> u64 {
    let launch = cx.launch.launch % LAUNCHES + 1;
    (launch << BLOCKS | cx.number & ((1 << BLOCKS) - 1)) * u64::from(TAGGED_CLOCKS)
}

/// The words that an access touches, with the bytes of each.
fn words(at: u64, bytes: u32) -> impl Iterator<Item = (usize, u32)> {
    let (first, last) = (at / 4, (at + u64::from(bytes) - 1) / 4);
    (first..=last).map(move |w| {
        let low = at.saturating_sub(w * 4) as u32;
        let high = (at + u64::from(bytes) - w * 4).min(4) as u32;
        (w as usize, ((1 << high) - 1) & !((1 << low) - 1))
    })
}

/// Looks at an access of several lanes, and remembers it.
pub(crate) fn access(cx: &mut Cx<'_>, r: &Resolved, bytes: u32, kind: Access, strong: bool, silent: u32) {
    let place = cx.launch.program.code[cx.pc as usize].e;
    let warp = cx.warp;
    let clock = u64::from(cx.watch.block.clocks.now(warp));
    let floor = u64::from(cx.watch.block.clocks.floor(warp));
    let mut found: Vec<(usize, u64, Conflict)> = Vec::new();
    for lane in r.lanes() {
        let thread = warp * 32 + lane as u32;
        let quiet = silent >> lane & 1 != 0;
        match r.space[lane] {
            StateSpace::Shared => {
                for (w, mask) in words(r.address[lane], bytes) {
                    let me = Entry::new(clock, thread, place, strong, mask);
                    if let Some(c) = shared_word(cx, w, me, kind, floor, quiet) {
                        found.push((lane, w as u64 * 4, c));
                    }
                }
            }
            StateSpace::Global => {
                // SAFETY: allocations are held by the launch.
                let Some(a) = (unsafe { r.allocation[lane].as_ref() }) else { continue };
                let Some(shadow) = a.shadow() else { continue };
                let base = tag(cx);
                let now = base + clock % u64::from(TAGGED_CLOCKS);
                for (w, mask) in words(r.address[lane] - a.base, bytes) {
                    let me = Entry::new(now, thread, place, strong, mask);
                    let (writer, reader) = (&shadow[2 * w], &shadow[2 * w + 1]);
                    let mut conflict = None;
                    let old = Entry(writer.load(Relaxed));
                    if old.0 != 0 && !(quiet && kind == Access::Write) {
                        conflict = global_conflict(cx, old, me, base, false);
                    }
                    if kind == Access::Read {
                        let seen = Entry(reader.load(Relaxed));
                        reader.store(merge(seen, me, |e| e.clock() == now).0, Relaxed);
                    } else {
                        let seen = Entry(reader.load(Relaxed));
                        if conflict.is_none() && seen.0 != 0 {
                            conflict = global_conflict(cx, seen, me, base, true);
                        }
                        writer.store(me.0, Relaxed);
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
        tell(cx, r, lane, at, bytes, kind, c);
    }
}

/// The reader that is kept when another reads: the last, marked when there were several at once.
#[inline(always)]
pub(super) fn merge(seen: Entry, me: Entry, same_time: impl Fn(Entry) -> bool) -> Entry {
    if seen.0 == 0 || !same_time(seen) {
        return me;
    }
    let mut out = me;
    if seen.thread() != me.thread() && seen.bytes() & me.bytes() != 0 || seen.several() {
        out = out.with_several();
    }
    if seen.thread() == me.thread() {
        out = Entry(out.0 | u64::from(seen.bytes()));
    }
    if !seen.strong() { out.weak() } else { out }
}

#[inline(always)]
fn shared_word(cx: &mut Cx<'_>, w: usize, me: Entry, kind: Access, floor: u64, quiet: bool) -> Option<Conflict> {
    let warp = cx.warp;
    let block = &mut cx.watch.block;
    let [writer, reader] = block.shadow.get(w).copied()?;
    let clocks = &block.clocks;
    let conflicts = |old: Entry, read: bool| -> bool {
        if old.pending() {
            return old.bytes() & me.bytes() != 0;
        }
        if old.clock() < floor || old.bytes() & me.bytes() == 0 {
            return false;
        }
        if old.strong() && me.strong() || old.thread() == me.thread() && !(read && old.several()) {
            return false;
        }
        !clocks.ordered(warp, old.thread() / 32, old.clock() as u32)
    };
    let mut conflict = None;
    if writer.0 != 0 && !(quiet && kind == Access::Write) && conflicts(writer, false) {
        conflict = Some(Conflict { other: writer, block: None, read: false });
    }
    if kind == Access::Read {
        block.shadow[w][1] = merge(reader, me, |e| e.clock() == me.clock());
    } else {
        if conflict.is_none() && reader.0 != 0 && conflicts(reader, true) {
            conflict = Some(Conflict { other: reader, block: None, read: true });
        }
        block.shadow[w][0] = me;
    }
    conflict
}

/// Whether an entry of global memory conflicts with what the running thread does now.
fn global_conflict(cx: &Cx<'_>, old: Entry, me: Entry, base: u64, read: bool) -> Option<Conflict> {
    let span = u64::from(TAGGED_CLOCKS);
    if old.bytes() & me.bytes() == 0 || old.strong() && me.strong() {
        return None;
    }
    let (old_tag, my_tag) = (old.clock() / span, base / span);
    if old_tag >> BLOCKS != my_tag >> BLOCKS {
        return None; // Another launch: the stream orders it, or the caller answers for it.
    }
    let clocks = &cx.watch.block.clocks;
    if old_tag == my_tag {
        if old.thread() == me.thread() && !(read && old.several()) {
            return None;
        }
        let v = old.thread() / 32;
        // The clock's upper bits are those of the warp's own, or one less.
        let current = clocks.now(v);
        let clock = current.wrapping_sub(current.wrapping_sub(old.clock() as u32) % TAGGED_CLOCKS);
        return (!clocks.ordered(cx.warp, v, clock)).then_some(Conflict { other: old, block: None, read });
    }
    let block = old_tag & ((1 << BLOCKS) - 1);
    if super::order::known(cx, block, old.thread(), (old.clock() % span) as u32) {
        return None;
    }
    Some(Conflict { other: old, block: Some(block), read })
}

#[cold]
fn tell(cx: &mut Cx<'_>, r: &Resolved, lane: usize, at: u64, bytes: u32, kind: Access, c: Conflict) {
    let program = cx.launch.program;
    let pc = program.mem_pc.get(c.other.place() as usize).copied().unwrap_or(u32::MAX);
    let grid = cx.launch.grid;
    let block = match c.block {
        None => cx.block,
        // Blocks beyond 2¹⁸ are known by their number's lower bits alone.
        Some(n) => thread_at(grid, n as u32),
    };
    let thread = thread_at(cx.launch.block, c.other.thread());
    let class = program.code.get(pc as usize).map(|i| i.class);
    let access = match class {
        Some(crate::ptx::program::Class::Atomic) => Access::Atomic,
        _ if c.read => Access::Read,
        _ => Access::Write,
    };
    let other =
        Other { location: program.location(pc), instruction: program.text(pc).to_owned(), block, thread, access };
    let word = |a: Access| match a {
        Access::Write => "write",
        Access::Atomic => "atomic",
        _ => "read",
    };
    let line = match &other.location {
        Some(l) if l.line > 0 => format!("{}:{}", l.file, l.line),
        Some(l) => format!("PTX line {}", l.ptx_line),
        None => "an unknown place".to_owned(),
    };
    let pending = if c.other.pending() { ", a `cp.async` that was not waited for" } else { "" };
    let space = r.space[lane];
    let name = if space == StateSpace::Shared { "shared" } else { "global" };
    let text = format!(
        "race: {name} {} of {bytes} bytes at {at:#x} against the {} at {line}{pending} by block ({},{},{}), thread ({},{},{})",
        word(kind),
        word(access),
        block[0],
        block[1],
        block[2],
        thread[0],
        thread[1],
        thread[2],
    );
    let mut report = Report::new(Check::Race, FindingKind::Race, lane as u32, text);
    report.access = kind;
    report.space = space;
    report.address = r.address[lane];
    report.bytes = bytes;
    report.allocation = cx.launch.space.lookup(at).filter(|_| space == StateSpace::Global);
    report.other = Some((pc, other));
    file(cx, report);
}
