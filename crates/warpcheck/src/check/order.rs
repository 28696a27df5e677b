//! Order between blocks: a fence and then an atomic releases what a thread knows; an atomic at the same address
//! acquires it.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use super::shadow::TAGGED_CLOCKS;
use crate::{
    exec::{ExecContext, memory::Resolved},
    finding::StateSpace,
};

/// The knowledge that one release published.
#[derive(Debug, Clone)]
struct Release {
    thread: u32,
    known: [u32; 32],
    /// What the thread had acquired: addresses and how much of their logs.
    acquired: Vec<(u64, usize)>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<(u64, Release)>,
    by_block: HashMap<u64, Vec<usize>>,
}

/// The releases of a launch, by address.
#[derive(Debug, Default)]
pub(crate) struct Order {
    logs: Mutex<HashMap<u64, Log>>,
}

/// The knowledge that a thread has acquired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acquired {
    address: u64,
    length: usize,
    thread: u32,
    clock: u32,
}

/// Acquisitions kept per block.
const REMEMBERED: usize = 256;
/// How far releases are followed from block to block.
const DEEPEST: u32 = 8;

impl Order {
    pub(crate) fn new() -> Order {
        Order::default()
    }
}

/// A fence: the threads' next atomics release what they have done so far. Scope 0 is the block.
pub(crate) fn fence(cx: &mut ExecContext<'_>, scope: u32, mask: u32) {
    if cx.launch.races.is_none() || scope == 0 {
        return;
    }
    let warp = cx.warp;
    let known = cx.checker.block.clocks.knowledge(warp);
    let fences = &mut cx.checker.block.fences;
    if fences.len() <= warp as usize {
        fences.resize(warp as usize + 1, (0, [0; 32]));
    }
    let f = &mut fences[warp as usize];
    f.0 |= mask;
    f.1 = known;
}

/// Acquires: other threads' releases at these addresses happen before what follows.
pub(crate) fn acquire(cx: &mut ExecContext<'_>, r: &Resolved) {
    let Some(order) = &cx.launch.races else { return };
    let logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    let warp = cx.warp;
    let clock = cx.checker.block.clocks.now(warp);
    for lane in r.lanes() {
        if r.space[lane] != StateSpace::Global {
            continue;
        }
        let Some(log) = logs.get(&r.address[lane]) else { continue };
        let thread = warp * 32 + lane as u32;
        let new = Acquired { address: r.address[lane], length: log.entries.len(), thread, clock };
        let list = &mut cx.checker.block.acquired;
        // Since its last barrier a warp is one: what others know of it by then is kept as it is.
        match list.iter_mut().find(|a| a.address == new.address && a.thread / 32 == warp && a.clock == clock) {
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

/// Releases: what came before is ordered before other threads' acquires at these addresses, after a fence or with `.release`.
pub(crate) fn release(cx: &mut ExecContext<'_>, r: &Resolved, always: bool) {
    let Some(order) = &cx.launch.races else { return };
    let warp = cx.warp;
    let (mut mask, mut known) = cx.checker.block.fences.get(warp as usize).copied().unwrap_or((0, [0; 32]));
    if always {
        mask = !0;
        known = cx.checker.block.clocks.knowledge(warp);
    }
    if mask & r.ok == 0 {
        return;
    }
    let mut logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    for lane in r.lanes() {
        if r.space[lane] != StateSpace::Global || mask >> lane & 1 == 0 {
            continue;
        }
        let thread = warp * 32 + lane as u32;
        let acquired = longest(visible(cx, thread));
        let log = logs.entry(r.address[lane]).or_default();
        let block = super::race::block_tag(cx);
        log.by_block.entry(block).or_default().push(log.entries.len());
        log.entries.push((block, Release { thread, known, acquired }));
    }
}

/// The acquisitions that come before what a thread of this block does now.
fn visible<'c>(cx: &'c ExecContext<'_>, thread: u32) -> impl Iterator<Item = &'c Acquired> + 'c {
    let block = &cx.checker.block;
    // As in `known`, the thread that acquired vouches for its warp.
    let own = move |a: &Acquired| a.thread / 32 == thread / 32;
    block.acquired.iter().filter(move |a| own(a) || block.clocks.ordered(thread, a.thread, a.clock))
}

/// Whether an access of another block happens before the current access of this warp.
pub(crate) fn known(cx: &ExecContext<'_>, block: u64, thread: u32, clock: u32) -> bool {
    let Some(order) = &cx.launch.races else { return true };
    let logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    let warp = cx.warp;
    let clocks = &cx.checker.block.clocks;
    let mine = cx.checker.block.acquired.iter().filter(|a| {
        // Lanes of one warp are told apart only by a barrier; the thread that acquired vouches for its warp.
        a.thread / 32 == warp || clocks.ordered(warp * 32, a.thread, a.clock)
    });
    reaches(&logs, longest(mine), block, thread, clock)
}

/// Of each address the longest log that was acquired: it has all that the others have.
fn longest<'a>(acquired: impl Iterator<Item = &'a Acquired>) -> Vec<(u64, usize)> {
    let mut logs: Vec<(u64, usize)> = Vec::new();
    for a in acquired {
        match logs.iter_mut().find(|(address, _)| *address == a.address) {
            Some((_, length)) => *length = a.length.max(*length),
            None => logs.push((a.address, a.length)),
        }
    }
    logs
}

/// Whether one of the logs, each up to a length, has a release that comes after the access, or leads to one.
fn reaches(logs: &HashMap<u64, Log>, from: Vec<(u64, usize)>, block: u64, thread: u32, clock: u32) -> bool {
    let covers = |r: &Release| {
        let known = r.known[(thread / 32) as usize & 31];
        // The clock is known by its lower bits.
        let behind = known.wrapping_sub(clock) % TAGGED_CLOCKS;
        r.thread == thread || behind != 0 && behind < TAGGED_CLOCKS / 2
    };
    let mut seen = HashSet::new();
    let mut next = from;
    for _ in 0..=DEEPEST {
        for (address, length) in std::mem::take(&mut next) {
            let Some(log) = logs.get(&address).filter(|_| seen.insert((address, length))) else { continue };
            let direct = log.by_block.get(&block).into_iter().flatten().take_while(|&&k| k < length);
            if direct.into_iter().any(|&k| covers(&log.entries[k].1)) {
                return true;
            }
            // Transitively, through a third block; the latest releases know the most.
            for (_, release) in log.entries[..length.min(log.entries.len())].iter().rev().take(4) {
                next.extend(release.acquired.iter().filter(|&&(a, n)| a != address || n < length));
            }
        }
    }
    false
}

/// Arrivals at a barrier in shared memory: what the warp has done becomes known to those who wait for it.
pub(crate) fn arrived(cx: &mut ExecContext<'_>, r: &Resolved) {
    if cx.launch.races.is_none() {
        return;
    }
    let warp = cx.warp;
    let known = cx.checker.block.clocks.publish(warp);
    for lane in r.lanes() {
        if r.space[lane] == StateSpace::Shared {
            let joined = cx.checker.block.arrivals.entry(r.address[lane]).or_insert([0; 32]);
            for (j, k) in joined.iter_mut().zip(&known) {
                *j = (*j).max(*k);
            }
        }
    }
}

/// A wait for a barrier in shared memory has succeeded.
pub(crate) fn waited(cx: &mut ExecContext<'_>, r: &Resolved) {
    if cx.launch.races.is_none() {
        return;
    }
    let warp = cx.warp;
    for lane in r.lanes() {
        if r.space[lane] == StateSpace::Shared
            && let Some(known) = cx.checker.block.arrivals.get(&r.address[lane]).copied()
        {
            cx.checker.block.clocks.join(warp, &known);
        }
    }
}
