//! `cp.async` and its groups, `mbarrier`.
//!
//! A copy takes effect when it is waited for, the latest point that hardware allows: without the wait a thread reads the
//! old contents, and the race check reports it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::{
    Event, ExecContext,
    lanes::lanes,
    memory::{PendingCopy, Resolved, addresses, resolve, resolve_at},
};
use crate::{check, finding::Access, program::Inst};

/// `cp.async`: memory operand `e` is the destination, `e + 1` the source; `b` the slot of the number of bytes that are
/// read, or a predicate that makes it none (`c` 1, or 2 when negated).
pub(crate) unsafe fn start(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let program = cx.program;
    let (to, from) = (&program.mem[i.e as usize], &program.mem[i.e as usize + 1]);
    // SAFETY: slots of the lowered program; both sides are resolved.
    unsafe {
        let ignored = match i.c {
            0 => 0,
            c => cx.pred(i.b) ^ 0u32.wrapping_sub(u32::from(c == 2)),
        };
        let mut counts = [to.bytes; 32];
        if i.c == 0 && i.b != u16::MAX {
            let given = cx.slot::<[u32; 32]>(i.b).read();
            for lane in lanes(m) {
                counts[lane] = given[lane].min(to.bytes);
            }
        }
        for lane in lanes(ignored & m) {
            counts[lane] = 0;
        }
        cx.moved = true;
        let target = resolve(cx, to, m, to.bytes, Access::Write);
        // A source of zero bytes may be anywhere.
        let reading = lanes(m).filter(|&l| counts[l] > 0).fold(0, |s, l| s | 1 << l);
        let address = addresses(cx, from);
        // Memory need not exist beyond the bytes read; the alignment is that of the full size.
        let aligned = |l: usize| address[l].is_multiple_of(u64::from(from.bytes));
        let partial = lanes(reading).filter(|&l| counts[l] < to.bytes && aligned(l)).fold(0, |s, l| s | 1 << l);
        let mut source = resolve_at(cx, from.space, address, reading & !partial, from.bytes, Access::Read);
        for lane in lanes(partial) {
            let one = resolve_at(cx, from.space, address, 1 << lane, counts[lane], Access::Read);
            source.ok |= one.ok;
            source.address[lane] = one.address[lane];
            source.host[lane] = one.host[lane];
            source.space[lane] = one.space[lane];
            source.allocation[lane] = one.allocation[lane];
        }
        if cx.instrumented {
            let whole = Resolved { ok: source.ok & !partial, ..source };
            check::access(cx, &whole, from.bytes, Access::Read, false);
            for lane in lanes(partial & source.ok) {
                let one = Resolved {
                    ok: 1 << lane,
                    address: source.address,
                    host: source.host,
                    space: source.space,
                    allocation: source.allocation,
                };
                check::access(cx, &one, counts[lane], Access::Read, false);
            }
            check::copy_started(cx, &target, to.bytes);
        }
        for lane in lanes(target.ok) {
            let read = if source.ok >> lane & 1 != 0 { counts[lane] } else { 0 };
            cx.copies.push(PendingCopy {
                lane: lane as u32,
                pc: cx.pc,
                to: target.address[lane] as u32,
                from: source.host[lane] as usize,
                bytes: to.bytes,
                source: read,
                group: None,
            });
        }
    }
}

/// `cp.async.commit_group`.
pub(crate) unsafe fn commit(cx: &mut ExecContext<'_>, _: &Inst, m: u32) {
    for lane in lanes(m) {
        let number = cx.groups_of(lane);
        cx.committed[lane] = number + 1;
    }
    let committed = cx.committed;
    for p in &mut cx.copies {
        if m >> p.lane & 1 != 0 && p.group.is_none() {
            p.group = Some(committed[p.lane as usize] - 1);
        }
    }
}

impl ExecContext<'_> {
    fn groups_of(&self, lane: usize) -> u32 {
        self.committed[lane]
    }

    /// Performs the copies for which `ready` returns true.
    pub(crate) fn finish_copies(&mut self, ready: impl Fn(&PendingCopy) -> bool) {
        let all = std::mem::take(&mut self.copies);
        for p in all {
            if !ready(&p) {
                self.copies.push(p);
                continue;
            }
            if u64::from(p.to) + u64::from(p.bytes) > u64::from(self.shared_bytes) {
                continue;
            }
            // SAFETY: the destination was resolved when the copy started, the source too; launches keep both alive.
            unsafe {
                let to = self.shared.add(p.to as usize);
                if p.source > 0 {
                    std::ptr::copy_nonoverlapping(p.from as *const u8, to, p.source as usize);
                }
                std::ptr::write_bytes(to.add(p.source as usize), 0, (p.bytes - p.source) as usize);
            }
            if self.instrumented {
                check::copy_done(self, &p);
            }
        }
    }
}

/// `cp.async.wait_group n` and `wait_all` (`a` is 1).
pub(crate) unsafe fn wait(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let (all, keep) = (i.a != 0, i.e);
    let committed = cx.committed;
    cx.finish_copies(|p| {
        m >> p.lane & 1 != 0 && (all || p.group.is_some_and(|g| g + keep < committed[p.lane as usize]))
    });
}

/// The parts of an mbarrier's 64 bits: the phase, arrivals that are pending, arrivals that a phase expects, bytes.
mod state {
    pub(super) const COUNT: u64 = (1 << 20) - 1;
    pub(super) fn phase(s: u64) -> u64 {
        s >> 63
    }
    pub(super) fn pending(s: u64) -> u64 {
        s >> 20 & COUNT
    }
    pub(super) fn expected(s: u64) -> u64 {
        s & COUNT
    }
    /// Pending transaction bytes, as a signed 22-bit number.
    pub(super) fn bytes(s: u64) -> i64 {
        (s << 1) as i64 >> 42
    }
    pub(super) fn pack(phase: u64, bytes: i64, pending: u64, expected: u64) -> u64 {
        phase << 63 | (bytes as u64 & ((1 << 22) - 1)) << 41 | (pending & COUNT) << 20 | expected & COUNT
    }
    /// Starts the next phase when this one is complete.
    pub(super) fn settle(s: u64) -> u64 {
        if pending(s) == 0 && bytes(s) == 0 { pack(phase(s) ^ 1, 0, expected(s), expected(s)) } else { s }
    }
}

/// `mbarrier.pending_count`.
pub(crate) fn pending(s: u64) -> u64 {
    state::pending(s)
}

/// `mbarrier.init` (`b` is 1, the count in `a`) and `inval`.
pub(crate) unsafe fn mbarrier_init(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: slots of the lowered program; the address is resolved.
    unsafe {
        let r = resolve(cx, op, m, 8, Access::Write);
        if cx.instrumented {
            check::barrier_init(cx, &r);
        }
        for lane in r.lanes() {
            let count = if i.b != 0 { u64::from(*cx.slot::<u32>(i.a).add(lane)) & state::COUNT } else { 0 };
            AtomicU64::from_ptr(r.host[lane].cast()).store(state::pack(0, 0, count, count), SeqCst);
        }
    }
}

/// `mbarrier.arrive` and its variants, encoded in `b` (see `lower/memory.rs`).
pub(crate) unsafe fn mbarrier_arrive(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    let (tx, only_bytes, drop, complete) = (i.b & 1 != 0, i.b & 2 != 0, i.b & 4 != 0, i.b & 8 != 0);
    // SAFETY: as for `mbarrier_init`.
    unsafe {
        let r = resolve(cx, op, m, 8, Access::Atomic);
        if cx.instrumented {
            check::access(cx, &r, 8, Access::Atomic, true);
        }
        cx.moved = true;
        let mut flipped = false;
        for lane in r.lanes() {
            let n = *cx.slot::<u32>(i.a).add(lane);
            let change = |s: u64| {
                let (mut bytes, mut pending, mut expected) = (state::bytes(s), state::pending(s), state::expected(s));
                if tx {
                    bytes += if complete { -i64::from(n) } else { i64::from(n) };
                }
                if !only_bytes {
                    let count = if tx { 1 } else { u64::from(n) };
                    pending = pending.saturating_sub(count);
                    if drop {
                        expected = expected.saturating_sub(count);
                    }
                }
                Some(state::settle(state::pack(state::phase(s), bytes, pending, expected)))
            };
            let cell = AtomicU64::from_ptr(r.host[lane].cast());
            let old = cell.fetch_update(SeqCst, SeqCst, change).unwrap_or(0);
            flipped |= state::phase(old) != state::phase(cell.load(SeqCst));
            if i.d != u16::MAX {
                cx.slot::<u64>(i.d).add(lane).write(old);
            }
        }
        check::order::arrived(cx, &r, flipped);
    }
}

/// `cp.async.mbarrier.arrive`: the lane's copies so far arrive when they are done.
pub(crate) unsafe fn arrive_on(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    cx.finish_copies(|p| m >> p.lane & 1 != 0);
    // SAFETY: as for `mbarrier_init`.
    unsafe {
        let r = resolve(cx, op, m, 8, Access::Atomic);
        cx.moved = true;
        let mut flipped = false;
        for lane in r.lanes() {
            // Without `.noinc` the pending count is raised first, so that the arrival leaves it as it was.
            if i.a != 0 {
                let change = |s: u64| {
                    let pending = state::pending(s).saturating_sub(1);
                    Some(state::settle(state::pack(state::phase(s), state::bytes(s), pending, state::expected(s))))
                };
                let cell = AtomicU64::from_ptr(r.host[lane].cast());
                let old = cell.fetch_update(SeqCst, SeqCst, change).unwrap_or(0);
                flipped |= state::phase(old) != state::phase(cell.load(SeqCst));
            }
        }
        check::order::arrived(cx, &r, flipped);
    }
}

/// `mbarrier.test_wait` and `try_wait`: predicate `d`; `a` the state, or the parity when `b` is 1.
pub(crate) unsafe fn mbarrier_wait(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: as for `mbarrier_init`.
    unsafe {
        let r = resolve(cx, op, m, 8, Access::Read);
        if cx.instrumented {
            check::access(cx, &r, 8, Access::Atomic, true);
        }
        let mut done = 0;
        for lane in r.lanes() {
            let now = AtomicU64::from_ptr(r.host[lane].cast()).load(SeqCst);
            let phase = if i.b != 0 {
                u64::from(*cx.slot::<u32>(i.a).add(lane) & 1)
            } else {
                state::phase(*cx.slot::<u64>(i.a).add(lane))
            };
            done |= u32::from(state::phase(now) != phase) << lane;
        }
        cx.set_pred(i.d, m, done);
        cx.look(r.address[m.trailing_zeros() as usize]);
        cx.moved |= done != 0;
        let there = Resolved { ok: r.ok & done, ..r };
        check::order::waited(cx, &there);
        if done & m != m {
            cx.event = Event::Yield;
        }
    }
}
