//! The mem check: bounds, alignment, lifetime, access rights.

use super::{Details, add_finding};
use crate::{
    exec::{Event, ExecContext},
    finding::{Access, Check, FindingKind, StateSpace},
    launch::Fault,
    memory::{AllocationInfo, Kind},
};

/// The problem with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It exceeds the memory that it starts in.
    OutOfBounds,
    Misaligned,
    ReadOnly,
    /// There is nothing.
    Nowhere,
}

/// Addresses below this count as null pointers with an offset.
const NULL_PAGES: u64 = 1 << 16;
/// An address this close to an allocation counts as out of its bounds.
const NEAR: u64 = 1 << 21;

pub(super) fn verb(access: Access) -> &'static str {
    match access {
        Access::Write => "write",
        Access::Atomic => "atomic",
        _ => "read",
    }
}

fn name(space: StateSpace) -> &'static str {
    match space {
        StateSpace::Shared => "shared",
        StateSpace::Local => "local",
        StateSpace::Param => "parameter",
        StateSpace::Const => "constant",
        _ => "global",
    }
}

/// A lane's address is invalid: the launch fails; with the mem check there is a finding.
#[cold]
pub(crate) fn fault(
    cx: &mut ExecContext<'_>,
    lane: u32,
    problem: Problem,
    space: StateSpace,
    address: u64,
    bytes: u32,
    access: Access,
) {
    let code = if problem == Problem::Misaligned { Fault::MisalignedAddress } else { Fault::IllegalAddress };
    cx.fail(code);
    if !cx.launch.options.mem {
        cx.event = Event::Stop;
        return;
    }
    let space_here = cx.launch.space;
    let mut allocation: Option<AllocationInfo> = None;
    let (kind, text) = match (problem, space) {
        (Problem::Misaligned, _) => {
            allocation = space_here.lookup(address);
            let text = format!("address {address:#x} is not a multiple of {}", bytes.next_power_of_two().min(16));
            (FindingKind::Misaligned, text)
        }
        (Problem::ReadOnly, _) => {
            allocation = space_here.lookup(address);
            (FindingKind::ReadOnly, format!("address {address:#x} may only be read"))
        }
        (_, StateSpace::Shared) => {
            let size = cx.shared_bytes;
            (FindingKind::OutOfBounds, format!("offset {address} is outside the block's {size} bytes"))
        }
        (_, StateSpace::Local) => {
            let size = cx.local_bytes;
            (FindingKind::OutOfBounds, format!("offset {address} is outside the thread's {size} bytes"))
        }
        (_, StateSpace::Param) => {
            let size = cx.launch.params.len();
            (FindingKind::OutOfBounds, format!("offset {address} is outside the {size} bytes of parameters"))
        }
        _ => global(cx, address, bytes, &mut allocation),
    };
    let mut r =
        Details::new(Check::Mem, kind, lane, format!("{} {} of {bytes} bytes: {text}", name(space), verb(access)));
    r.access = access;
    r.space = space;
    r.address = address;
    r.bytes = bytes;
    r.allocation = allocation;
    add_finding(cx, r);
}

/// Names the allocation that a global address missed.
fn global(
    cx: &ExecContext<'_>,
    address: u64,
    bytes: u32,
    allocation: &mut Option<AllocationInfo>,
) -> (FindingKind, String) {
    if address < NULL_PAGES {
        return (FindingKind::Null, format!("null pointer ({address:#x})"));
    }
    let space = cx.launch.space;
    let describe = |a: &AllocationInfo| {
        let label = if a.label.is_empty() { String::new() } else { format!(" `{}`", a.label) };
        format!("{} bytes{label} at {:#x}", a.size, a.base)
    };
    if let Some(a) = space.lookup(address) {
        let text = if a.freed {
            format!("{address:#x} is in freed memory, offset {} of {}", address - a.base, describe(&a))
        } else {
            let over = address + u64::from(bytes) - (a.base + a.size).min(address + u64::from(bytes));
            format!("{address:#x} runs {over} bytes over the end of {}", describe(&a))
        };
        let kind = if a.freed { FindingKind::UseAfterFree } else { FindingKind::OutOfBounds };
        *allocation = Some(a);
        return (kind, text);
    }
    match space.nearest(address) {
        Some(a) => {
            let end = a.base + a.size;
            let (distance, side) = if address < a.base {
                (a.base - address, "before the start")
            } else {
                (address - end, "after the end")
            };
            let text = format!("{address:#x} is {distance} bytes {side} of {}", describe(&a));
            let near = distance < NEAR.max(a.size) && a.kind != Kind::Registered;
            let kind = if near { FindingKind::OutOfBounds } else { FindingKind::WildAddress };
            *allocation = Some(a);
            (kind, text)
        }
        None => (FindingKind::WildAddress, format!("{address:#x} is no memory")),
    }
}

/// A jump to something that is no function.
#[cold]
pub(crate) fn bad_target(cx: &mut ExecContext<'_>, lane: u32) {
    cx.fail(Fault::InvalidPc);
    cx.event = Event::Stop;
    if cx.launch.options.mem {
        cx.event = Event::Kill;
        let text = "a call or jump through an address that is no function".to_owned();
        add_finding(cx, Details::new(Check::Mem, FindingKind::WildAddress, lane, text));
    }
}

/// A recursion has used up the stack.
#[cold]
pub(crate) fn stack_overflow(cx: &mut ExecContext<'_>, lane: u32) {
    cx.fail(Fault::HardwareStackError);
    cx.event = Event::Stop;
    if cx.launch.options.mem {
        let text = format!("the stack of {} bytes has overflowed", cx.local_bytes);
        add_finding(cx, Details::new(Check::Mem, FindingKind::OutOfBounds, lane, text));
    }
}

/// Arguments are copied within a thread's local memory: copy the marks too.
pub(crate) fn local_copy(cx: &mut ExecContext<'_>, lane: usize, to: u32, from: u32, bytes: u32) {
    if !cx.launch.options.init {
        return;
    }
    let start = (cx.warp as usize * 32 + lane) * cx.local_bytes as usize;
    let marks = &mut cx.checker.block.local_written;
    let from = start + from as usize;
    marks.copy_within(from..from + bytes as usize, start + to as usize);
}

/// The driver's own write into a thread's local memory.
pub(crate) fn local_written(cx: &mut ExecContext<'_>, lane: usize, at: u32, bytes: u32) {
    if !cx.launch.options.init {
        return;
    }
    let start = (cx.warp as usize * 32 + lane) * cx.local_bytes as usize + at as usize;
    cx.checker.block.local_written[start..start + bytes as usize].fill(1);
}
