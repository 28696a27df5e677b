//! Order by atomics and barriers in memory: a fence and then an atomic, or an atomic with `.release`, releases what a thread
//! knows; an atomic or another strong read at the same address acquires it.
//!
//! Threads of one block learn at once what others have released ([`super::known`]); what blocks release is kept in a log, which
//! is looked at when an access of another block is in the way.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use super::{known::Known, shadow::TAGGED_CLOCKS};
use crate::{
    exec::{ExecContext, lanes::lanes, memory::Resolved},
    finding::StateSpace,
    program::{MemOp, Scope},
};

/// The knowledge that a block has published at an address up to one of its releases.
#[derive(Debug, Clone, PartialEq)]
struct Release {
    known: Known,
    /// What the thread had acquired: addresses and how much of their logs.
    acquired: Vec<(u64, usize)>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Release>,
    /// The entries of each block. Each has what the one before it has.
    by_block: HashMap<u64, Vec<usize>>,
}

/// The releases of a launch, by address.
#[derive(Debug, Default)]
pub(crate) struct Order {
    logs: Mutex<HashMap<u64, Log>>,
}

/// What a thread has acquired of other blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acquired {
    address: u64,
    length: usize,
    thread: u32,
    clock: u32,
}

/// A place in memory: in the block's shared memory or in global memory.
type Flag = (bool, u64);

/// What the fences, releases and acquisitions of a block's threads have done.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Per warp its latest fences, for the block and for the device.
    fences: [Vec<Fence>; 2],
    /// What was released within the block.
    flags: HashMap<Flag, Known>,
    /// What has arrived at barriers in memory in the phase that goes on.
    arriving: HashMap<Flag, Known>,
    acquired: Vec<Acquired>,
    /// Acquisitions that come before the last barrier of all threads.
    by_all: HashMap<u64, usize>,
    /// Warps whose next ordinary access comes after a fence or a release, and so has a later clock.
    pending: u32,
}

/// The latest fences of a warp.
#[derive(Debug, Clone, Copy, Default)]
struct Fence {
    /// Per lane the clock below which its accesses come before its fence; 0 without one.
    below: [u32; 32],
    /// What the warp knew then.
    others: [u32; 32],
    /// Lanes that have written since, so that what they release is less than all they have done.
    wrote: u32,
    /// The lanes that have met at a `.sync` instruction since.
    met: u32,
}

/// Acquisitions kept per block.
const REMEMBERED: usize = 256;
/// How far releases are followed from block to block.
const DEEPEST: u32 = 8;
/// An access of this many clocks after a release looks like an old one, since clocks are known by their lower bits.
const LATER: u32 = 64;

impl Order {
    pub(crate) fn new() -> Order {
        Order::default()
    }
}

impl Published {
    pub(crate) fn start(&mut self) {
        self.fences.iter_mut().for_each(Vec::clear);
        self.flags.clear();
        self.arriving.clear();
        self.acquired.clear();
        self.by_all.clear();
        self.pending = 0;
    }

    /// Whether a warp's clock has to move on before its next access is recorded.
    #[inline(always)]
    pub(crate) fn is_pending(&self, warp: u32) -> bool {
        self.pending >> warp & 1 != 0
    }

    /// Whether nothing of other blocks has been acquired.
    pub(crate) fn is_alone(&self) -> bool {
        self.acquired.is_empty() && self.by_all.is_empty()
    }

    /// Lanes of a warp write.
    #[inline(always)]
    pub(crate) fn written(&mut self, warp: u32, mask: u32) {
        for fences in &mut self.fences {
            if let Some(fence) = fences.get_mut(warp as usize) {
                fence.wrote |= mask;
            }
        }
    }

    /// A barrier of all threads: they know what any of them has acquired.
    pub(crate) fn met(&mut self) {
        for a in self.acquired.drain(..) {
            let length = self.by_all.entry(a.address).or_default();
            *length = a.length.max(*length);
        }
    }
}

/// A fence: the threads' next atomics release what they have done so far. Scope 0 is the block.
pub(crate) fn fence(cx: &mut ExecContext<'_>, scope: u32, mask: u32) {
    if cx.launch.races.is_none() {
        return;
    }
    let (warp, warps) = (cx.warp, cx.launch.threads.div_ceil(32) as usize);
    let block = &mut cx.checker.block;
    let (below, others) = (block.clocks.now(warp) + 1, block.clocks.others(warp));
    let reach = if scope == 0 { 1 } else { 2 };
    for fences in &mut block.published.fences[..reach] {
        fences.resize(warps, Fence::default());
        let fence = &mut fences[warp as usize];
        lanes(mask).for_each(|lane| fence.below[lane] = below);
        fence.others = others;
        fence.wrote &= !mask;
        fence.met = 0;
    }
    block.published.pending |= 1 << warp;
}

/// The first access of a warp after a fence or release that is not part of a wait: its clock moves on.
#[cold]
pub(crate) fn advance(cx: &mut ExecContext<'_>) {
    let block = &mut cx.checker.block;
    block.published.pending &= !(1 << cx.warp);
    block.clocks.publish(cx.warp);
}

/// A `.sync` instruction among these lanes: they know of each other what each did before its last fence.
pub(crate) fn collective(cx: &mut ExecContext<'_>, mask: u32) {
    let (warp, live) = (cx.warp, cx.live);
    let block = &mut cx.checker.block;
    let Some(fence) = block.published.fences[0].get_mut(warp as usize) else { return };
    if fence.met & mask == mask {
        return;
    }
    fence.met |= mask;
    let mut known = Known::default();
    lanes(mask).for_each(|lane| known.add(warp, lane, fence.below[lane]));
    block.clocks.learn(warp, mask, live, &known);
}

/// Lanes with the same flag.
fn groups(r: &Resolved) -> Vec<(Flag, u32)> {
    let mut groups: Vec<(Flag, u32)> = Vec::new();
    for lane in r.lanes() {
        let flag = match r.space[lane] {
            StateSpace::Shared => (true, r.address[lane]),
            StateSpace::Global => (false, r.address[lane]),
            _ => continue,
        };
        match groups.iter_mut().find(|(other, _)| *other == flag) {
            Some((_, mask)) => *mask |= 1 << lane,
            None => groups.push((flag, 1 << lane)),
        }
    }
    groups
}

/// What lanes of the running warp release: all that comes before if `always`, otherwise what a fence has covered.
fn released(cx: &ExecContext<'_>, mask: u32, always: bool, device: bool) -> Known {
    let (warp, live) = (cx.warp, cx.live);
    let block = &cx.checker.block;
    let clocks = &block.clocks;
    let below = clocks.now(warp) + 1;
    let mut known = Known::default();
    if always {
        known = clocks.of(warp, mask);
        known.add_all(warp, mask, live, below);
        return known;
    }
    let fences = &block.published.fences[usize::from(device)];
    let Some(own) = fences.get(warp as usize) else { return known };
    let fenced = lanes(mask).filter(|&lane| own.below[lane] > 0).fold(0, |m, lane| m | 1 << lane);
    if fenced != 0 {
        known = clocks.of(warp, fenced);
        known.warps = own.others;
        let whole = fenced & !own.wrote;
        known.add_all(warp, whole, live, below);
        lanes(fenced & own.wrote).for_each(|lane| known.add(warp, lane, own.below[lane]));
    }
    // Others have a fence before a barrier, and this thread an atomic after it: strictly the fence should be this thread's,
    // between barrier and atomic, but the pattern is everywhere and does what it should on all devices.
    let others = clocks.others(warp);
    for (v, fence) in (0..).zip(fences).filter(|(_, fence)| fence.below != [0; 32]) {
        let limit = others[v as usize];
        let all = fence.below.iter().copied().min().unwrap_or(0).min(limit);
        known.warps[v as usize] = known.warps[v as usize].max(all);
        for (lane, &below) in fence.below.iter().enumerate() {
            known.add(v, lane, below.min(limit));
        }
    }
    known
}

/// Releases by a store or an atomic.
pub(crate) fn release(cx: &mut ExecContext<'_>, r: &Resolved, op: &MemOp) {
    let Some(order) = &cx.launch.races else { return };
    if !op.release && cx.checker.block.published.fences[0].is_empty() {
        return;
    }
    let device = op.scope != Scope::Block;
    for ((shared, address), mask) in groups(r) {
        let known = released(cx, mask, op.release, false);
        if known.is_empty() {
            continue;
        }
        cx.checker.block.published.flags.entry((shared, address)).or_default().join(&known);
        let known = released(cx, mask, op.release, true);
        if shared || !device || known.is_empty() {
            continue;
        }
        let thread = cx.warp * 32 + mask.trailing_zeros();
        let acquired = longest(cx, thread);
        let mut logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
        let log = logs.entry(address).or_default();
        let mine = log.by_block.entry(super::race::block_tag(cx)).or_default();
        let last = mine.last().map(|&last| &log.entries[last]);
        let mut all = last.map_or_else(Known::default, |last| last.known.clone());
        all.join(&known);
        let new = Release { known: all, acquired };
        // A thread that polls by an atomic releases the same again and again.
        if last != Some(&new) {
            mine.push(log.entries.len());
            log.entries.push(new);
        }
    }
    cx.checker.block.published.pending |= 1 << cx.warp;
}

/// Acquires: what other threads have released at these addresses happens before what follows.
pub(crate) fn acquire(cx: &mut ExecContext<'_>, r: &Resolved) {
    let Some(order) = &cx.launch.races else { return };
    let (warp, live) = (cx.warp, cx.live);
    let clock = cx.checker.block.clocks.now(warp);
    let block = &mut cx.checker.block;
    let groups = groups(r);
    if !block.published.flags.is_empty() {
        for (flag, mask) in &groups {
            if let Some(known) = block.published.flags.get(flag) {
                block.clocks.learn(warp, *mask, live, known);
            }
        }
    }
    let logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    if logs.is_empty() {
        return;
    }
    let list = &mut block.published.acquired;
    for ((shared, address), mask) in groups {
        let Some(log) = logs.get(&address).filter(|_| !shared) else { continue };
        for lane in lanes(mask) {
            let thread = warp * 32 + lane as u32;
            let new = Acquired { address, length: log.entries.len(), thread, clock };
            match list.iter_mut().find(|a| a.address == address && a.thread == thread && a.clock == clock) {
                Some(a) => *a = new,
                None => {
                    if list.len() >= REMEMBERED {
                        list.remove(0);
                    }
                    list.push(new);
                }
            }
        }
    }
}

/// Whether an access of another block happens before the current access of a thread.
pub(crate) fn known(cx: &ExecContext<'_>, me: u32, block: u64, thread: u32, clock: u32) -> bool {
    let Some(order) = &cx.launch.races else { return true };
    let logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    if logs.is_empty() {
        return false;
    }
    reaches(&logs, longest(cx, me), block, thread, clock)
}

/// Of each address how much of its log comes before what a thread of this block does now.
fn longest(cx: &ExecContext<'_>, thread: u32) -> Vec<(u64, usize)> {
    let block = &cx.checker.block;
    let own = |a: &&Acquired| a.thread == thread || block.clocks.ordered(thread, a.thread, a.clock);
    let by_all = block.published.by_all.iter().map(|(address, length)| (*address, *length));
    let mut logs: Vec<(u64, usize)> = by_all.collect();
    for a in block.published.acquired.iter().filter(own) {
        match logs.iter_mut().find(|(address, _)| *address == a.address) {
            Some((_, length)) => *length = a.length.max(*length),
            None => logs.push((a.address, a.length)),
        }
    }
    logs
}

/// Whether what these logs say, and those which they lead to, covers an access of a block.
fn reaches(logs: &HashMap<u64, Log>, from: Vec<(u64, usize)>, block: u64, thread: u32, clock: u32) -> bool {
    let covers = |release: &Release| {
        // The clock is known by its lower bits.
        release.known.any(thread, |below| {
            let ahead = below.wrapping_sub(clock) % TAGGED_CLOCKS;
            below > 0 && ahead != 0 && ahead <= TAGGED_CLOCKS - LATER
        })
    };
    let mut seen = HashSet::new();
    let mut next = from;
    for _ in 0..=DEEPEST {
        for (address, length) in std::mem::take(&mut next) {
            let Some(log) = logs.get(&address).filter(|_| seen.insert((address, length))) else { continue };
            if let Some(its) = log.by_block.get(&block)
                && let Some(&last) = its[..its.partition_point(|&k| k < length)].last()
                && covers(&log.entries[last])
            {
                return true;
            }
            // Transitively, through a third block; the latest releases know the most.
            for release in log.entries[..length.min(log.entries.len())].iter().rev().take(4) {
                next.extend(release.acquired.iter().filter(|&&(a, n)| a != address || n < length));
            }
        }
    }
    false
}

/// Arrivals at a barrier in shared memory: what the lanes have done becomes known to those who wait for the phase.
pub(crate) fn arrived(cx: &mut ExecContext<'_>, r: &Resolved, complete: bool) {
    if cx.launch.races.is_none() {
        return;
    }
    for (flag, mask) in groups(r) {
        let known = released(cx, mask, true, false);
        let published = &mut cx.checker.block.published;
        published.arriving.entry(flag).or_default().join(&known);
        if complete {
            let arrived = published.arriving.remove(&flag).unwrap_or_default();
            published.flags.entry(flag).or_default().join(&arrived);
        }
    }
    cx.checker.block.clocks.publish(cx.warp);
}

/// A wait for a barrier in shared memory has succeeded.
pub(crate) fn waited(cx: &mut ExecContext<'_>, r: &Resolved) {
    acquire(cx, r);
}
