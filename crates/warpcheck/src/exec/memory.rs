//! Loads and stores, the general path: lane by lane, any state space.

use super::{ExecContext, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW, lanes::lanes};
use crate::{
    check::{self, memory::Problem},
    finding::{Access, StateSpace},
    memory::{Allocation, Kind},
    program::{Inst, MemOp},
};

/// The resolved addresses of an access.
pub(crate) struct Resolved {
    /// The lanes that may go on.
    pub(crate) ok: u32,
    /// Addresses in their state space: offsets for shared and local memory.
    pub(crate) address: [u64; 32],
    pub(crate) host: [*mut u8; 32],
    pub(crate) space: [StateSpace; 32],
    pub(crate) allocation: [*const Allocation; 32],
}

impl Resolved {
    pub(crate) fn lanes(&self) -> impl Iterator<Item = usize> + use<> {
        lanes(self.ok)
    }
}

/// The addresses of all lanes.
#[inline(always)]
pub(crate) unsafe fn addresses(cx: &ExecContext<'_>, op: &MemOp) -> [u64; 32] {
    // SAFETY: the base is a slot of the lowered program.
    unsafe {
        if op.wide {
            let base = cx.slot::<[u64; 32]>(op.base).read();
            base.map(|b| b.wrapping_add(op.offset as u64))
        } else {
            let base = cx.slot::<[u32; 32]>(op.base).read();
            base.map(|b| u64::from(b.wrapping_add(op.offset as u32)))
        }
    }
}

/// Finds the memory behind the addresses of the masked lanes; reports those that have none.
pub(crate) unsafe fn resolve(cx: &mut ExecContext<'_>, op: &MemOp, m: u32, bytes: u32, access: Access) -> Resolved {
    // SAFETY: as for `addresses`.
    let address = unsafe { addresses(cx, op) };
    resolve_at(cx, op.space, address, m, bytes, access)
}

/// [`resolve`] for addresses that are known.
pub(crate) fn resolve_at(
    cx: &mut ExecContext<'_>,
    space: StateSpace,
    address: [u64; 32],
    m: u32,
    bytes: u32,
    access: Access,
) -> Resolved {
    let mut out = Resolved {
        ok: m,
        address,
        host: [std::ptr::null_mut(); 32],
        space: [space; 32],
        allocation: [std::ptr::null(); 32],
    };
    let mut last: Option<&Allocation> = None;
    let align = u64::from(bytes.next_power_of_two().min(16));
    for lane in lanes(m) {
        let mut at = address[lane];
        let mut place = space;
        if space == StateSpace::Generic {
            (place, at) = match at {
                SHARED_WINDOW.. if at - SHARED_WINDOW < WINDOW => (StateSpace::Shared, at - SHARED_WINDOW),
                LOCAL_WINDOW.. if at - LOCAL_WINDOW < WINDOW => (StateSpace::Local, at - LOCAL_WINDOW),
                PARAM_WINDOW.. if at - PARAM_WINDOW < WINDOW => (StateSpace::Param, at - PARAM_WINDOW),
                _ => (StateSpace::Global, at),
            };
        }
        out.space[lane] = place;
        out.address[lane] = at;
        let problem = locate(cx, &mut out, &mut last, lane, bytes, access);
        let problem = match problem {
            Some(p) => Some(p),
            None if at & (align - 1) != 0 => Some(Problem::Misaligned),
            None => None,
        };
        if let Some(problem) = problem {
            out.ok &= !(1 << lane);
            check::memory::fault(cx, lane as u32, problem, place, at, bytes, access);
        }
    }
    out
}

/// Finds a lane's memory: sets `host` and `allocation`, or returns the problem. `last` is the previous lane's allocation.
#[inline(always)]
fn locate<'a>(
    cx: &ExecContext<'a>,
    out: &mut Resolved,
    last: &mut Option<&'a Allocation>,
    lane: usize,
    bytes: u32,
    access: Access,
) -> Option<Problem> {
    let launch = cx.launch;
    let at = out.address[lane];
    let end = at.checked_add(u64::from(bytes));
    let inside = |size: u64| end.is_some_and(|e| e <= size);
    match out.space[lane] {
        StateSpace::Shared => {
            if !inside(u64::from(cx.shared_bytes)) {
                Some(Problem::OutOfBounds)
            } else {
                // SAFETY: the offset lies inside the block's shared memory.
                out.host[lane] = unsafe { cx.shared.add(at as usize) };
                None
            }
        }
        StateSpace::Local => {
            if !inside(u64::from(cx.local_bytes)) {
                Some(Problem::OutOfBounds)
            } else {
                // SAFETY: the offset lies inside the lane's part of local memory.
                out.host[lane] = unsafe { cx.local.add(lane * cx.local_bytes as usize + at as usize) };
                None
            }
        }
        StateSpace::Param => {
            if !inside(launch.params.len() as u64) {
                Some(Problem::OutOfBounds)
            } else if access != Access::Read {
                Some(Problem::ReadOnly)
            } else {
                // SAFETY: inside the parameter block; nobody writes through it.
                out.host[lane] = unsafe { launch.params.as_ptr().add(at as usize).cast_mut() };
                None
            }
        }
        _ => {
            let known = last.filter(|a| at >= a.base && at < a.end());
            match known.or_else(|| launch.table.find(at).map(|a| &**a)) {
                None => Some(Problem::Nowhere),
                Some(a) => {
                    *last = Some(a);
                    out.allocation[lane] = a;
                    if end.is_none_or(|e| e > a.end()) {
                        Some(Problem::OutOfBounds)
                    } else if access != Access::Read && a.kind == Kind::Const {
                        Some(Problem::ReadOnly)
                    } else {
                        out.host[lane] = a.at(at);
                        None
                    }
                }
            }
        }
    }
}

/// Extends a loaded value to a register.
#[inline(always)]
fn extend(value: u64, bytes: u32, signed: bool) -> u64 {
    if !signed || bytes == 8 {
        return value;
    }
    let shift = 64 - 8 * bytes;
    ((value << shift) as i64 >> shift) as u64
}

#[inline(always)]
unsafe fn read_bytes(p: *const u8, bytes: u32) -> u64 {
    // SAFETY: the caller has resolved `p` for that many bytes; alignment is not assumed.
    unsafe {
        match bytes {
            1 => u64::from(p.read()),
            2 => u64::from(p.cast::<u16>().read_unaligned()),
            4 => u64::from(p.cast::<u32>().read_unaligned()),
            _ => p.cast::<u64>().read_unaligned(),
        }
    }
}

#[inline(always)]
unsafe fn write_bytes(p: *mut u8, bytes: u32, value: u64) {
    // SAFETY: as for `read_bytes`.
    unsafe {
        match bytes {
            1 => p.write(value as u8),
            2 => p.cast::<u16>().write_unaligned(value as u16),
            4 => p.cast::<u32>().write_unaligned(value as u32),
            _ => p.cast::<u64>().write_unaligned(value),
        }
    }
}

impl ExecContext<'_> {
    /// Writes one lane of a register.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, r: crate::program::Reg, lane: usize, value: u64) {
        // SAFETY: slots of a lowered program lie inside the file.
        unsafe {
            if r.wide {
                *self.slot::<u64>(r.slot).add(lane) = value;
            } else {
                *self.slot::<u32>(r.slot).add(lane) = value as u32;
            }
        }
    }

    /// Reads one lane of a register.
    #[inline(always)]
    pub(crate) unsafe fn get(&self, r: crate::program::Reg, lane: usize) -> u64 {
        // SAFETY: as above.
        unsafe {
            if r.wide { *self.slot::<u64>(r.slot).add(lane) } else { u64::from(*self.slot::<u32>(r.slot).add(lane)) }
        }
    }

    /// An access that other blocks can observe: waits for the block's turn if the result depends on the order.
    pub(crate) fn strong_access(&mut self, r: &Resolved) {
        if r.lanes().any(|l| r.space[l] == StateSpace::Global) {
            self.strong += 1;
            if self.program.ordered {
                self.launch.scheduler.wait_for_turn(self.sequence);
            }
        }
    }
}

/// Any load.
pub(crate) unsafe fn load(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: slots of the lowered program; `resolve` bounds every pointer.
    unsafe {
        let r = resolve(cx, op, m, op.total(), Access::Read);
        if op.strong {
            cx.strong_access(&r);
            cx.look(r.address[m.trailing_zeros() as usize]);
        }
        if cx.instrumented {
            check::access(cx, &r, op.total(), Access::Read, op.strong);
        }
        if op.strong {
            check::order::acquire(cx, &r);
        }
        for lane in lanes(m) {
            for (k, reg) in op.regs.iter().enumerate() {
                let Some(reg) = reg else { continue };
                let value = if r.ok >> lane & 1 != 0 {
                    read_bytes(r.host[lane].add(k * op.bytes as usize), op.bytes)
                } else {
                    0
                };
                cx.put(*reg, lane, extend(value, op.bytes, op.ty.signed()));
            }
        }
    }
}

/// Any store.
pub(crate) unsafe fn store(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    // SAFETY: as for `load`.
    unsafe {
        let r = resolve(cx, op, m, op.total(), Access::Write);
        cx.moved = true;
        if op.strong {
            cx.strong_access(&r);
        }
        if op.strong {
            check::order::release(cx, &r, op);
        }
        let global = cx.launch.options.race && r.lanes().any(|l| r.space[l] == StateSpace::Global);
        let _alone = global.then(|| cx.launch.stores.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if cx.instrumented {
            let silent = silent_lanes(cx, op, &r);
            check::store_access(cx, &r, op.total(), op.strong, silent);
        }
        for lane in r.lanes() {
            for (k, reg) in op.regs.iter().enumerate() {
                let Some(reg) = reg else { continue };
                write_bytes(r.host[lane].add(k * op.bytes as usize), op.bytes, cx.get(*reg, lane));
            }
        }
    }
}

/// Lanes whose store changes nothing: two threads that store the same value to one address are no observable race.
///
/// # Safety
/// `op` was resolved to `r`.
unsafe fn silent_lanes(cx: &ExecContext<'_>, op: &MemOp, r: &Resolved) -> u32 {
    let mut silent = 0;
    let keep = if op.bytes == 8 { !0 } else { (1u64 << (8 * op.bytes)) - 1 };
    for lane in r.lanes() {
        // SAFETY: resolved by the caller.
        let same = op.regs.iter().enumerate().all(|(k, reg)| unsafe {
            reg.is_none_or(|reg| {
                read_bytes(r.host[lane].add(k * op.bytes as usize), op.bytes) == cx.get(reg, lane) & keep
            })
        });
        silent |= u32::from(same) << lane;
    }
    silent
}

/// `ld.param` of a kernel's parameter at a fixed offset: `a` bytes at `e`, `b` is 1 to extend the sign, `c` 1 for a
/// wide register.
pub(crate) unsafe fn load_param(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let (at, bytes) = (i.e as usize, usize::from(i.a));
    let mut raw = [0u8; 8];
    if let Some(source) = cx.launch.params.get(at..at + bytes) {
        raw[..bytes].copy_from_slice(source);
    }
    let value = extend(u64::from_le_bytes(raw), bytes as u32, i.b != 0);
    // SAFETY: a slot of the lowered program.
    unsafe {
        for lane in lanes(m) {
            cx.put(crate::program::Reg { slot: i.d, wide: i.c != 0 }, lane, value);
        }
    }
}

/// A `cp.async` that has been issued and not yet waited for.
#[derive(Debug, Clone)]
pub(crate) struct PendingCopy {
    pub(crate) lane: u32,
    pub(crate) pc: u32,
    pub(crate) to: u32,
    /// Address of the source on the host; the launch keeps it mapped.
    pub(crate) from: usize,
    pub(crate) bytes: u32,
    /// Bytes that are read; the rest is zeros.
    pub(crate) source: u32,
    /// The group, counted from the lane's first; `None` while it is not committed.
    pub(crate) group: Option<u32>,
}
