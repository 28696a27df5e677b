//! The checks: each sees what a warp does to memory and may object.

pub(crate) mod memory;
pub(crate) mod order;
pub(crate) mod sync;

use std::collections::HashMap;

use crate::{
    engine::Outcome,
    exec::{Cx, Shared, memory::Resolved, thread_at},
    finding::{Access, Check, Finding, FindingKind, Other, StateSpace},
    memory::AllocationInfo,
    ptx::program::Class,
};

/// Equal findings are one.
pub(crate) type Key = (FindingKind, u32, u32);

/// What one host thread's blocks gave cause for.
#[derive(Default)]
pub(crate) struct Watch {
    findings: HashMap<Key, (u64, Finding)>,
    pub(crate) block: BlockWatch,
    pub(crate) printed: Vec<(u64, String)>,
}

/// What is watched within one block.
#[derive(Default)]
pub(crate) struct BlockWatch {}

impl BlockWatch {
    pub(crate) fn new(_: &Shared<'_>) -> BlockWatch {
        BlockWatch {}
    }

    pub(crate) fn start(&mut self, _: &Shared<'_>, _: u64) {}
}

impl Watch {
    pub(crate) fn new(_: &Shared<'_>) -> Watch {
        Watch::default()
    }

    #[inline(always)]
    pub(crate) fn instruction(&mut self, _: u32, _: u32, _: Class) {}

    pub(crate) fn block_done(&mut self, _: &Shared<'_>, _: u64) {}

    pub(crate) fn add(&mut self, key: Key, block: u64, finding: Finding) {
        match self.findings.entry(key) {
            std::collections::hash_map::Entry::Vacant(v) => {
                v.insert((block, finding));
            }
            std::collections::hash_map::Entry::Occupied(mut o) => {
                let (at, first) = o.get_mut();
                let count = first.count + finding.count;
                // The block with the lowest number tells it, whichever host thread ran first.
                if block < *at {
                    (*at, *first) = (block, finding);
                }
                first.count = count;
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Watch) {
        for (key, (block, finding)) in other.findings {
            self.add(key, block, finding);
        }
        self.printed.extend(other.printed);
    }

    pub(crate) fn finish(mut self: Box<Self>, _: &Shared<'_>) -> Outcome {
        self.printed.sort_by_key(|(block, _)| *block);
        let mut findings: Vec<_> = self.findings.into_iter().collect();
        findings.sort_by_key(|((kind, pc, other), (block, _))| (*block, *pc, *kind, *other));
        Outcome {
            error: None,
            findings: findings.into_iter().map(|(_, (_, f))| f).collect(),
            counters: None,
            printed: self.printed.into_iter().map(|(_, t)| t).collect(),
        }
    }
}

/// The parts of a finding that differ.
pub(crate) struct Report {
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

impl Report {
    pub(crate) fn new(check: Check, kind: FindingKind, lane: u32, message: String) -> Report {
        Report {
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

/// Files a finding at the running instruction.
#[cold]
pub(crate) fn file(cx: &mut Cx<'_>, r: Report) {
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
        format!("{} in {} at {at}, block ({bx},{by},{bz}), thread ({tx},{ty},{tz})", r.message, launch.kernel);
    let other_pc = r.other.as_ref().map_or(u32::MAX, |(pc, _)| *pc);
    let finding = Finding {
        check: r.check,
        kind: r.kind,
        kernel: launch.kernel.to_owned(),
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
    cx.watch.add((r.kind, pc, other_pc), number, finding);
}

/// An access whose lanes all have memory: were the bytes written, and is it ordered?
pub(crate) fn access(cx: &mut Cx<'_>, r: &Resolved, bytes: u32, access: Access, strong: bool) {
    let _ = (cx, r, bytes, access, strong);
}

/// A store, some of whose lanes change nothing.
pub(crate) fn store_access(cx: &mut Cx<'_>, r: &Resolved, bytes: u32, strong: bool, silent: u32) {
    let _ = (cx, r, bytes, strong, silent);
}

/// Rows of `ldmatrix` and `stmatrix`.
pub(crate) fn matrix_access(cx: &mut Cx<'_>, r: &Resolved, access: Access) {
    let _ = (cx, r, access);
}

/// `cp.async` has been issued for these destinations.
pub(crate) fn copy_started(cx: &mut Cx<'_>, r: &Resolved, bytes: u32) {
    let _ = (cx, r, bytes);
}

/// A copy has been waited for.
pub(crate) fn copy_done(cx: &mut Cx<'_>, p: &crate::exec::memory::Pending) {
    let _ = (cx, p);
}
