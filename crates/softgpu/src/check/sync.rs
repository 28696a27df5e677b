//! Barriers, deadlocks, endless loops, traps.

use super::{Report, file};
use crate::{
    engine::Fault,
    exec::{
        Cx, Event,
        block::undisturbed,
        warp::{Parked, Wait, Warp},
    },
    finding::{Check, FindingKind},
};

/// Files a finding of this check, if it is on.
#[cold]
pub(crate) fn report(cx: &mut Cx<'_>, kind: FindingKind, mask: u32, text: String) {
    if cx.launch.options.sync {
        file(cx, Report::new(Check::Sync, kind, mask.trailing_zeros() & 31, text));
    }
}

/// `bar.warp.sync`: the lanes of the mask are in order from here on.
pub(crate) fn warp(cx: &mut Cx<'_>, mask: u32) {
    let _ = (cx, mask);
}

/// Threads have arrived at a barrier without waiting.
pub(crate) fn arrive(cx: &mut Cx<'_>, id: usize) {
    let _ = (cx, id);
}

/// A barrier opens: who waited, and should they have?
pub(crate) fn barrier(cx: &mut Cx<'_>, warps: &[Warp], waiting: &[(usize, Parked)], id: usize, expected: Option<u32>) {
    let _ = (warps, waiting, id, expected, cx);
}

/// `trap`.
#[cold]
pub(crate) fn trap(cx: &mut Cx<'_>, mask: u32) {
    cx.fault.get_or_insert(Fault::LaunchFailed);
    if cx.launch.options.mem || cx.launch.options.sync {
        let text = "trap".to_owned();
        file(cx, Report::new(Check::Sync, FindingKind::Trap, mask.trailing_zeros() & 31, text));
    } else {
        cx.event = Event::Stop;
    }
}

/// A failed assertion.
#[cold]
pub(crate) fn assertion(cx: &mut Cx<'_>, lane: u32, message: &str) {
    cx.fault = Some(Fault::Assert);
    cx.event = Event::Stop;
    if cx.launch.options.mem || cx.launch.options.sync {
        cx.event = Event::Kill;
        let text = format!("assertion `{message}` failed");
        file(cx, Report::new(Check::Sync, FindingKind::Assert, lane, text));
    }
}

/// A warp has run more than the budget allows.
#[cold]
pub(crate) fn budget(cx: &mut Cx<'_>, warp: &Warp) {
    cx.fault.get_or_insert(Fault::LaunchTimeout);
    let group = warp.groups.first().copied();
    if let Some(g) = group {
        cx.pc = g.pc;
        let text = format!("a warp has run {} instructions and goes on: an endless loop?", warp.spent);
        report(cx, FindingKind::Budget, g.mask, text);
    }
}

/// A warp's lanes wait for each other for ever.
#[cold]
pub(crate) fn stuck(cx: &mut Cx<'_>, warp: &Warp) {
    if let Some(p) = warp.parked.iter().find(|p| p.wait != Wait::Barrier) {
        cx.pc = p.pc;
        let Wait::Members(members) = p.wait else { return };
        let text =
            format!("lanes {:#010x} wait for lanes {:#010x}, which never come", p.mask, members & warp.live & !p.mask);
        report(cx, FindingKind::Deadlock, p.mask, text);
    }
}

/// All warps wait, and no barrier is complete.
#[cold]
pub(crate) fn deadlock(cx: &mut Cx<'_>, warps: &[Warp]) {
    let _ = undisturbed(warps);
    for w in warps {
        if let Some(p) = w.parked.first() {
            cx.pc = p.pc;
            cx.warp = w.number;
            report(cx, FindingKind::Deadlock, p.mask, "a barrier that never completes".to_owned());
            return;
        }
    }
}
