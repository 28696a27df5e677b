//! Programmatic dependent launch: what a launch touches while the launches before it may still run.
//!
//! A programmatic dependent may start as soon as every block of the launch before has executed
//! `griddepcontrol.launch_dependents` or has ended. `griddepcontrol.wait` alone orders it: it returns when those launches have
//! completed and what they wrote is visible. Therefore
//!
//! - **before a wait** run the predecessors, and what may run when they let their dependents start: if some block of them did so
//!   after its own wait, what may run after their wait, otherwise what may run before it;
//! - **after a wait** the predecessors have completed, and with them what they waited for. If no thread of them waited, what
//!   might run beside them still may.
//!
//! The shadow words of the race check ([`super::race`]) tell which launch wrote or read a word last.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use super::{
    Details, add_finding,
    memory::verb,
    race::{age, launch_tag, origin, place, words},
    shadow::Entry,
};
use crate::{
    exec::{ExecContext, LaunchState, lanes::lanes, memory::Resolved, thread_at},
    finding::{Access, Check, FindingKind, Other, StateSpace},
    program::Program,
};

/// A launch that other launches may overlap.
#[derive(Debug)]
struct Earlier {
    number: u64,
    kernel: String,
    program: Arc<Program>,
    grid: [u32; 3],
    block: [u32; 3],
}

/// A launch that has run, for its programmatic dependents.
#[derive(Debug)]
pub struct Grid {
    own: Arc<Earlier>,
    /// What may have run beside it until it waited.
    before: Vec<Arc<Earlier>>,
    /// What may have run beside it even then.
    after: Vec<Arc<Earlier>>,
    /// A thread waited: the launch did not complete earlier than what it waited for.
    waited: bool,
    /// A block waited before it let the dependents start.
    settled: bool,
}

/// The launches that may run beside the current one.
#[derive(Debug, Default)]
pub(crate) struct Overlap {
    before: Vec<Arc<Earlier>>,
    after: Vec<Arc<Earlier>>,
    /// Of words that this launch has read meanwhile: their last reader before, which the shadow word no longer names.
    readers: Mutex<HashMap<u64, Entry>>,
    waited: AtomicBool,
    settled: AtomicBool,
}

/// What the threads of a block have done about it.
#[derive(Debug, Default)]
pub(crate) struct Dependence {
    /// Per warp the lanes that are behind a wait.
    behind: Vec<u32>,
    /// Threads that waited, and when.
    waits: Vec<(u32, u32)>,
    /// Whether a thread let the dependents start, and whether one did so before it was behind a wait.
    triggered: bool,
    early: bool,
}

impl Overlap {
    /// What may run beside launch `number`, a programmatic dependent of these.
    pub(crate) fn after(number: u64, predecessors: &[Arc<Grid>]) -> Option<Overlap> {
        let mut overlap = Overlap::default();
        for grid in predecessors {
            let running = if grid.settled { &grid.after } else { &grid.before };
            overlap.before.extend(running.iter().chain([&grid.own]).cloned());
            overlap.after.extend(if grid.waited { &grid.after } else { &grid.before }.iter().cloned());
        }
        for list in [&mut overlap.before, &mut overlap.after] {
            // Of older ones the shadow words know nothing.
            list.retain(|earlier| age(earlier.number) + 1 >= age(number));
            list.sort_by_key(|earlier| earlier.number);
            list.dedup_by_key(|earlier| earlier.number);
        }
        (!overlap.before.is_empty()).then_some(overlap)
    }
}

impl Grid {
    /// A launch that has come to its end.
    pub(crate) fn new(launch: &LaunchState<'_>) -> Arc<Grid> {
        let own = Arc::new(Earlier {
            number: launch.launch,
            kernel: launch.kernel.name.clone(),
            program: launch.kernel.program.clone(),
            grid: launch.grid,
            block: launch.block,
        });
        let Some(overlap) = &launch.overlap else {
            return Arc::new(Grid { own, before: Vec::new(), after: Vec::new(), waited: true, settled: true });
        };
        Arc::new(Grid {
            own,
            before: overlap.before.clone(),
            after: overlap.after.clone(),
            waited: overlap.waited.load(Relaxed),
            settled: overlap.settled.load(Relaxed),
        })
    }
}

impl Dependence {
    pub(crate) fn start(&mut self, warps: usize) {
        self.behind.clear();
        self.behind.resize(warps, 0);
        self.waits.clear();
        (self.triggered, self.early) = (false, false);
    }
}

/// `griddepcontrol.wait`.
pub(crate) fn wait(cx: &mut ExecContext<'_>, m: u32) {
    if cx.launch.overlap.is_none() {
        return;
    }
    let (warp, live) = (cx.warp, cx.live);
    let block = &mut cx.checker.block;
    let clock = block.clocks.now(warp);
    let behind = &mut block.dependence.behind[warp as usize];
    // Others in the warp are behind it after a barrier of the warp. If all wait, one stands for them.
    let new = if m == live { m & !*behind & m.wrapping_neg() } else { m & !*behind };
    *behind |= m;
    block.dependence.waits.extend(lanes(new).map(|lane| (warp * 32 + lane as u32, clock)));
}

/// `griddepcontrol.launch_dependents`.
pub(crate) fn trigger(cx: &mut ExecContext<'_>, m: u32) {
    if cx.launch.overlap.is_some() {
        let early = lanes(m).any(|lane| !is_behind(cx, lane));
        let dependence = &mut cx.checker.block.dependence;
        dependence.triggered = true;
        dependence.early |= early;
    }
}

/// A block has ended, which lets the dependents start as well.
pub(crate) fn done(cx: &mut ExecContext<'_>) {
    let Some(overlap) = &cx.launch.overlap else { return };
    let dependence = &cx.checker.block.dependence;
    let waited = !dependence.waits.is_empty();
    if waited {
        overlap.waited.store(true, Relaxed);
    }
    if if dependence.triggered { !dependence.early } else { waited } {
        overlap.settled.store(true, Relaxed);
    }
}

/// Whether a thread of the running warp is behind a wait: its own, or one that a barrier orders before it.
fn is_behind(cx: &mut ExecContext<'_>, lane: usize) -> bool {
    let block = &mut cx.checker.block;
    let behind = &mut block.dependence.behind[cx.warp as usize];
    let thread = cx.warp * 32 + lane as u32;
    let ordered = |&(other, clock): &(u32, u32)| block.clocks.ordered(thread, other, clock);
    if *behind >> lane & 1 == 0 && block.dependence.waits.iter().any(ordered) {
        *behind |= 1 << lane;
    }
    *behind >> lane & 1 != 0
}

/// Whether nothing runs beside these lanes.
#[inline(always)]
pub(crate) fn passed(cx: &ExecContext<'_>, m: u32) -> bool {
    match &cx.launch.overlap {
        None => true,
        Some(overlap) => overlap.after.is_empty() && cx.checker.block.dependence.behind[cx.warp as usize] & m == m,
    }
}

/// An access that conflicts with one of another launch.
struct Conflict<'l> {
    lane: usize,
    address: u64,
    entry: Entry,
    read: bool,
    earlier: &'l Earlier,
}

/// Reports an access that another launch, which may still run, forbids. Comes before the race check records it.
pub(crate) fn access(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, kind: Access, strong: bool) {
    if passed(cx, r.ok) {
        return;
    }
    let launch = cx.launch;
    let Some(overlap) = &launch.overlap else { return };
    let mut found: Vec<Conflict<'_>> = Vec::new();
    for lane in r.lanes().filter(|&lane| r.space[lane] == StateSpace::Global) {
        let running = if is_behind(cx, lane) { &overlap.after } else { &overlap.before };
        // SAFETY: allocations are held by the launch.
        let Some(a) = (unsafe { r.allocation[lane].as_ref() }) else { continue };
        for (w, mask) in words(r.address[lane] - a.base, bytes) {
            let address = a.base + w as u64 * 4;
            let conflict = overlap.word(a, w, address, running, kind != Access::Read, |entry| {
                entry.all_bytes() & mask != 0 && !(strong && entry.strong())
            });
            found.extend(conflict.map(|(entry, read, earlier)| Conflict { lane, address, entry, read, earlier }));
        }
    }
    for conflict in found {
        tell(cx, r, bytes, kind, conflict);
    }
}

impl Overlap {
    /// What one of the running launches did to a word, if that `conflicts`; a read only if the current launch `writes`.
    fn word<'l>(
        &self,
        a: &crate::memory::Allocation,
        w: usize,
        address: u64,
        running: &'l [Arc<Earlier>],
        writes: bool,
        conflicts: impl Fn(Entry) -> bool,
    ) -> Option<(Entry, bool, &'l Earlier)> {
        let mut remembered = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for earlier in running {
            let tag = launch_tag(earlier.number);
            let its = |entry: Entry| entry.0 != 0 && origin(entry).0 == tag;
            let Some(shadow) = a.known_shadow(age(earlier.number)) else { continue };
            let writer = Entry(shadow[2 * w].load(SeqCst));
            if its(writer) && conflicts(writer) {
                return Some((writer, false, earlier));
            }
            let reader = Entry(shadow[2 * w + 1].load(SeqCst));
            let reader = if its(reader) { Some(reader) } else { remembered.get(&address).copied().filter(|&e| its(e)) };
            match reader {
                Some(reader) if !writes => {
                    remembered.entry(address).or_insert(reader);
                }
                Some(reader) if conflicts(reader) => return Some((reader, true, earlier)),
                _ => {}
            }
        }
        None
    }
}

#[cold]
fn tell(cx: &mut ExecContext<'_>, r: &Resolved, bytes: u32, kind: Access, conflict: Conflict<'_>) {
    let Conflict { lane, address, entry, read, earlier } = conflict;
    let program = &earlier.program;
    let pc = program.mem_pc.get(entry.place() as usize).copied().unwrap_or(u32::MAX);
    let access = match program.code.get(pc as usize).map(|i| i.class) {
        Some(crate::program::Class::Atomic) => Access::Atomic,
        _ if read => Access::Read,
        _ => Access::Write,
    };
    let other = Other {
        kernel: Some(earlier.kernel.clone()),
        location: program.location(pc),
        instruction: program.text(pc).to_owned(),
        // Blocks beyond 2¹⁵ are known by their number's lower bits alone.
        block: thread_at(earlier.grid, origin(entry).1 as u32),
        thread: thread_at(earlier.block, entry.thread()),
        access,
    };
    let text = format!(
        "race: global {} of {bytes} bytes at {address:#x}, {}, against the {} at {} by {}, which may still run",
        verb(kind),
        match is_behind(cx, lane) {
            true => "after a `griddepcontrol.wait` that does not wait for it",
            false => "before `griddepcontrol.wait`",
        },
        verb(access),
        place(other.location.as_ref()),
        earlier.kernel,
    );
    let mut report = Details::new(Check::Race, FindingKind::Race, lane as u32, text);
    report.access = kind;
    report.space = StateSpace::Global;
    report.address = r.address[lane];
    report.bytes = bytes;
    report.allocation = cx.launch.space.lookup(address);
    // Instructions of another program are no instructions of this one.
    report.other = Some((1 << 31 | pc, other));
    add_finding(cx, report);
}
