//! Order between blocks: a fence and then an atomic releases what a thread knows; an atomic at the same address
//! acquires it.

use std::{collections::HashMap, sync::Mutex};

use super::shadow::TAGGED_CLOCKS;
use crate::{
    exec::{Cx, memory::Resolved},
    finding::StateSpace,
};

/// What one release made known.
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

/// What a thread has acquired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acquired {
    address: u64,
    length: usize,
    thread: u32,
    clock: u32,
}

/// Acquisitions that a block remembers.
const REMEMBERED: usize = 256;
/// How far releases are followed from block to block.
const DEEPEST: u32 = 8;

impl Order {
    pub(crate) fn new() -> Order {
        Order::default()
    }
}

/// A fence: what the threads have done so far may be released by what follows. Scope 0 is the block's alone.
pub(crate) fn fence(cx: &mut Cx<'_>, scope: u32, mask: u32) {
    if cx.launch.races.is_none() || scope == 0 {
        return;
    }
    let warp = cx.warp;
    let known = cx.watch.block.clocks.knowledge(warp);
    let fences = &mut cx.watch.block.fences;
    if fences.len() <= warp as usize {
        fences.resize(warp as usize + 1, (0, [0; 32]));
    }
    let f = &mut fences[warp as usize];
    f.0 |= mask;
    f.1 = known;
}

/// Others' releases at these addresses happen before what follows.
pub(crate) fn acquire(cx: &mut Cx<'_>, r: &Resolved) {
    let Some(order) = &cx.launch.races else { return };
    let logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    let warp = cx.warp;
    let clock = cx.watch.block.clocks.now(warp);
    for lane in r.lanes() {
        if r.space[lane] != StateSpace::Global {
            continue;
        }
        let Some(log) = logs.get(&r.address[lane]) else { continue };
        let thread = warp * 32 + lane as u32;
        let new = Acquired { address: r.address[lane], length: log.entries.len(), thread, clock };
        let list = &mut cx.watch.block.acquired;
        let full = list.len() >= REMEMBERED;
        match list.iter_mut().find(|a| a.address == new.address && a.thread == thread) {
            Some(a) => *a = new,
            None if full => {}
            None => list.push(new),
        }
    }
}

/// What came before is ordered before others' acquires at these addresses, if a fence or `.release` says so.
pub(crate) fn release(cx: &mut Cx<'_>, r: &Resolved, always: bool) {
    let Some(order) = &cx.launch.races else { return };
    let warp = cx.warp;
    let (mut mask, mut known) = cx.watch.block.fences.get(warp as usize).copied().unwrap_or((0, [0; 32]));
    if always {
        mask = !0;
        known = cx.watch.block.clocks.knowledge(warp);
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
        let acquired = visible(cx, thread).map(|a| (a.address, a.length)).collect();
        let log = logs.entry(r.address[lane]).or_default();
        log.by_block.entry(cx.number & 0xffff).or_default().push(log.entries.len());
        log.entries.push((cx.number & 0xffff, Release { thread, known, acquired }));
    }
}

/// The acquisitions that come before what a thread of this block does now.
fn visible<'c>(cx: &'c Cx<'_>, thread: u32) -> impl Iterator<Item = &'c Acquired> + 'c {
    let block = &cx.watch.block;
    block.acquired.iter().filter(move |a| a.thread == thread || block.clocks.ordered(thread, a.thread, a.clock))
}

/// Whether an access of another block comes before what the running warp does now.
pub(crate) fn known(cx: &Cx<'_>, block: u64, thread: u32, clock: u32) -> bool {
    let Some(order) = &cx.launch.races else { return true };
    let logs = order.logs.lock().unwrap_or_else(|e| e.into_inner());
    let warp = cx.warp;
    let clocks = &cx.watch.block.clocks;
    let mine = cx.watch.block.acquired.iter().filter(|a| {
        // Lanes of one warp are told apart only by a barrier; the thread that acquired vouches for its warp.
        a.thread / 32 == warp || clocks.ordered(warp * 32, a.thread, a.clock)
    });
    mine.into_iter().any(|a| reaches(&logs, a.address, a.length, block, thread, clock, DEEPEST))
}

fn reaches(
    logs: &HashMap<u64, Log>,
    address: u64,
    length: usize,
    block: u64,
    thread: u32,
    clock: u32,
    depth: u32,
) -> bool {
    let Some(log) = logs.get(&address) else { return false };
    let covers = |r: &Release| {
        let known = r.known[(thread / 32) as usize & 31];
        // The clock is known by its lower bits.
        let behind = known.wrapping_sub(clock) % TAGGED_CLOCKS;
        r.thread == thread || behind != 0 && behind < TAGGED_CLOCKS / 2
    };
    let direct = log
        .by_block
        .get(&block)
        .is_some_and(|list| list.iter().take_while(|&&k| k < length).any(|&k| covers(&log.entries[k].1)));
    if direct || depth == 0 {
        return direct;
    }
    // Through a third block. The latest releases tell the most.
    log.entries[..length.min(log.entries.len())].iter().rev().take(4).any(|(_, r)| {
        r.acquired
            .iter()
            .any(|&(a, n)| (a != address || n < length) && reaches(logs, a, n, block, thread, clock, depth - 1))
    })
}

/// Arrivals at a barrier in shared memory: what the warp has done becomes known to those who wait for it.
pub(crate) fn arrived(cx: &mut Cx<'_>, r: &Resolved) {
    if cx.launch.races.is_none() {
        return;
    }
    let warp = cx.warp;
    let known = cx.watch.block.clocks.publish(warp);
    for lane in r.lanes() {
        if r.space[lane] == StateSpace::Shared {
            let joined = cx.watch.block.arrivals.entry(r.address[lane]).or_insert([0; 32]);
            for (j, k) in joined.iter_mut().zip(&known) {
                *j = (*j).max(*k);
            }
        }
    }
}

/// A wait for a barrier in shared memory has succeeded.
pub(crate) fn waited(cx: &mut Cx<'_>, r: &Resolved) {
    if cx.launch.races.is_none() {
        return;
    }
    let warp = cx.warp;
    for lane in r.lanes() {
        if r.space[lane] == StateSpace::Shared
            && let Some(known) = cx.watch.block.arrivals.get(&r.address[lane]).copied()
        {
            cx.watch.block.clocks.join(warp, &known);
        }
    }
}
