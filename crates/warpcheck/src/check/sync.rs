//! Barriers, deadlocks, endless loops, traps.

use super::{Details, add_finding};
use crate::{
    exec::{
        Event, ExecContext,
        block::undisturbed,
        warp::{Parked, Wait, Warp},
    },
    finding::{Check, FindingKind},
    launch::Fault,
};

/// Adds a finding of the sync check, if it is on.
#[cold]
pub(crate) fn report(cx: &mut ExecContext<'_>, kind: FindingKind, mask: u32, text: String) {
    if cx.launch.options.sync {
        add_finding(cx, Details::new(Check::Sync, kind, mask.trailing_zeros() & 31, text));
    }
}

/// `bar.warp.sync`: orders the lanes of the mask.
pub(crate) fn warp(cx: &mut ExecContext<'_>, mask: u32) {
    if cx.launch.options.race {
        let warp = cx.warp;
        let all = mask & cx.live == cx.live;
        cx.checker.block.clocks.warp_sync(warp, mask, all);
    }
}

/// Threads have arrived at a barrier without waiting.
pub(crate) fn arrive(cx: &mut ExecContext<'_>, id: usize) {
    if cx.launch.options.race {
        let warp = cx.warp;
        let known = cx.checker.block.clocks.publish(warp);
        for (a, k) in cx.checker.block.arrive[id].iter_mut().zip(&known) {
            *a = (*a).max(*k);
        }
    }
}

/// A barrier opens: checks the threads that waited.
pub(crate) fn barrier(
    cx: &mut ExecContext<'_>,
    warps: &[Warp],
    waiting: &[(usize, Parked)],
    id: usize,
    counts: &[Option<u32>],
) {
    if cx.launch.options.race {
        let joined = std::mem::take(&mut cx.checker.block.arrive[id]);
        let mut members: Vec<usize> = waiting.iter().map(|(w, _)| *w).collect();
        members.dedup();
        cx.checker.block.clocks.barrier(&members, &joined);
        if members.len() == warps.len() {
            cx.checker.block.published.met();
        }
    }
    if !cx.launch.options.sync || !undisturbed(warps) {
        return;
    }
    let program = cx.launch.program;
    let op = |pc: u32| &program.bars[program.code[pc as usize].e as usize];
    // Lanes of one warp at different instructions.
    for pair in waiting.windows(2) {
        let ((w, p), (v, q)) = (pair[0], pair[1]);
        if w == v && p.pc != q.pc && (op(p.pc).aligned || op(q.pc).aligned) {
            at(cx, w, p.pc);
            let text = format!(
                "lanes {:#010x} of a warp wait at this barrier and lanes {:#010x} at another ({})",
                p.mask,
                q.mask,
                place(cx, q.pc)
            );
            return report(cx, FindingKind::BarrierDivergence, p.mask, text);
        }
    }
    let (w, p) = waiting[0];
    if counts.iter().all(Option::is_none) {
        let exited: u32 = warps.iter().map(|w| w.exited.count_ones()).sum();
        let past: u32 = warps.iter().map(|w| w.passed(program, p.pc, !0).count_ones()).sum();
        let how = match past {
            0 => format!("{exited} of which have exited"),
            _ => format!("{past} of which went past it and have exited"),
        };
        // Threads may leave before a barrier: the others do not wait for them.
        if past > 0 || exited > 0 && cx.launch.options.strict {
            at(cx, w, p.pc);
            report(cx, FindingKind::BarrierAfterExit, p.mask, format!("a barrier for all threads of the block, {how}"));
        }
        return;
    }
    if odd_count(cx, waiting.iter().copied().zip(counts.iter().copied())) {
        return;
    }
    // With a count: the same for all.
    if let Some(&(v, q)) = waiting.iter().zip(counts).find(|(_, c)| **c != counts[0]).map(|(x, _)| x) {
        at(cx, v, q.pc);
        let text = format!("threads give barrier {id} a count that differs from that at {}", place(cx, p.pc));
        report(cx, FindingKind::BarrierMismatch, q.mask, text);
    }
}

/// Reports a barrier with a count that is no multiple of a warp.
fn odd_count(cx: &mut ExecContext<'_>, waiting: impl IntoIterator<Item = ((usize, Parked), Option<u32>)>) -> bool {
    let odd = |(p, count): ((usize, Parked), Option<u32>)| count.filter(|n| n % 32 != 0).map(|n| (p, n));
    let Some(((w, p), n)) = waiting.into_iter().find_map(odd) else { return false };
    at(cx, w, p.pc);
    let text = format!("a barrier for {n} threads: the count has to be a multiple of 32, whole warps");
    report(cx, FindingKind::BarrierMismatch, p.mask, text);
    true
}

/// Findings that follow are at this instruction of this warp.
fn at(cx: &mut ExecContext<'_>, warp: usize, pc: u32) {
    cx.warp = warp as u32;
    cx.pc = pc;
}

fn place(cx: &ExecContext<'_>, pc: u32) -> String {
    match cx.launch.program.location(pc) {
        Some(l) if l.line > 0 => format!("{}:{}", l.file, l.line),
        Some(l) => format!("PTX line {}", l.ptx_line),
        None => "an unknown place".to_owned(),
    }
}

/// `trap`.
#[cold]
pub(crate) fn trap(cx: &mut ExecContext<'_>, mask: u32) {
    cx.fail(Fault::LaunchFailed);
    if cx.launch.options.mem || cx.launch.options.sync {
        let text = "trap".to_owned();
        add_finding(cx, Details::new(Check::Sync, FindingKind::Trap, mask.trailing_zeros() & 31, text));
    } else {
        cx.event = Event::Stop;
    }
}

/// A failed assertion.
#[cold]
pub(crate) fn assertion(cx: &mut ExecContext<'_>, lane: u32, message: &str) {
    cx.fail(Fault::Assert);
    cx.event = Event::Stop;
    if cx.launch.options.mem || cx.launch.options.sync {
        cx.event = Event::Kill;
        let text = format!("assertion `{message}` failed");
        add_finding(cx, Details::new(Check::Sync, FindingKind::Assert, lane, text));
    }
}

/// A warp has run more than the budget allows; or all wait, and nothing happens.
#[cold]
pub(crate) fn budget(cx: &mut ExecContext<'_>, warp: &Warp, idle: bool) {
    cx.fail(Fault::LaunchTimeout);
    let options = cx.launch.options;
    // Where it runs, or the barrier that it has come to once more.
    let running = warp.groups.first().map(|g| (g.pc, g.mask));
    if let Some((pc, mask)) = running.or_else(|| warp.parked.first().map(|p| (p.pc, p.mask))) {
        cx.pc = pc;
        let text = if idle {
            "all threads that run wait for a lock, a flag or a barrier in memory, and nothing else happens: does it never come?"
                .to_owned()
        } else {
            format!(
                "a warp has run {} instructions and goes on: an endless loop? The budget is {} instructions per warp and {} s; \
                 WARPCHECK_BUDGET sets another",
                warp.spent, options.budget, options.seconds
            )
        };
        report(cx, FindingKind::Budget, mask, text);
    }
}

/// The lanes of a warp are in a deadlock.
#[cold]
pub(crate) fn stuck(cx: &mut ExecContext<'_>, warp: &Warp) {
    if let Some(p) = warp.parked.iter().find(|p| p.wait != Wait::Barrier) {
        cx.pc = p.pc;
        let Wait::Members(members) = p.wait else { return };
        let text =
            format!("lanes {:#010x} wait for lanes {:#010x}, which never come", p.mask, members & warp.live & !p.mask);
        report(cx, FindingKind::Deadlock, p.mask, text);
    }
}

/// All warps wait and no barrier is complete. Each warp with its barrier's number and count.
#[cold]
pub(crate) fn deadlock(cx: &mut ExecContext<'_>, waiting: &[(usize, Parked, usize, Option<u32>)]) {
    let Some(&(w, p, id, count)) = waiting.first() else { return };
    if odd_count(cx, waiting.iter().map(|&(w, p, _, count)| ((w, p), count))) {
        return;
    }
    at(cx, w, p.pc);
    if let Some((_, q, ..)) = waiting.iter().find(|(v, q, ..)| *v == w && q.pc != p.pc) {
        let text = format!("lanes of a warp wait here and at {}, for ever", place(cx, q.pc));
        return report(cx, FindingKind::BarrierDivergence, p.mask, text);
    }
    if let Some((_, q, ..)) = waiting.iter().find(|(_, _, i, c)| (*i, *c) != (id, count)) {
        let text =
            format!("threads wait here and at {}, for ever: the barriers or their counts differ", place(cx, q.pc));
        return report(cx, FindingKind::BarrierMismatch, p.mask, text);
    }
    let threads: u32 = waiting.iter().map(|(_, p, ..)| p.mask.count_ones()).sum();
    let text = match count {
        Some(n) => format!("{threads} threads wait at a barrier for {n}"),
        None => format!("{threads} threads wait at a barrier that is never complete"),
    };
    report(cx, FindingKind::Deadlock, p.mask, text);
}
