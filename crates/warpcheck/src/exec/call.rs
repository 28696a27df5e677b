//! Calls, returns and jumps with a target per lane.

use super::{
    CODE_WINDOW, Event, ExecContext,
    lanes::lanes,
    warp::{Group, Warp},
};
use crate::{
    check,
    program::{Inst, Kind, LocalPlace},
};

/// Frames on a thread's stack before it overflows.
const DEEPEST: usize = 1 << 20;

impl Warp {
    /// Transfers control to the targets of the lanes.
    ///
    /// # Safety
    /// As for a `Handler`; `cx` is the context of this warp.
    pub(super) unsafe fn transfer(&mut self, cx: &mut ExecContext<'_>, i: &Inst, pc: u32, m: u32) {
        let program = cx.program;
        // SAFETY: slots of the lowered program.
        unsafe {
            match i.kind {
                Kind::Call => {
                    let op = &program.calls[i.e as usize];
                    for lane in lanes(m) {
                        cx.slot::<u32>(op.link).add(lane).write(pc + 1);
                    }
                    self.groups.push(Group { pc: op.target.unwrap_or(0), mask: m });
                }
                Kind::CallIndirect => {
                    let address = cx.slot::<[u64; 32]>(i.a).read();
                    self.by_target(m, |lane| {
                        let number = address[lane].wrapping_sub(CODE_WINDOW);
                        let entry =
                            number.is_multiple_of(16).then(|| program.entries.get((number / 16) as usize)).flatten();
                        let entry = entry.filter(|e| e.start != u32::MAX);
                        entry.map(|e| {
                            cx.slot::<u32>(e.link).add(lane).write(pc + 1);
                            e.start
                        })
                    });
                }
                Kind::Return => {
                    let link = cx.slot::<[u32; 32]>(i.a).read();
                    self.by_target(m, |lane| Some(link[lane]));
                }
                _ => {
                    let table = &program.tables[i.e as usize];
                    let index = cx.slot::<[u32; 32]>(i.a).read();
                    self.by_target(m, |lane| table.get(index[lane] as usize).copied());
                }
            }
            let sent = self.groups.iter().fold(0, |s, g| s | g.mask);
            let lost = m & !sent;
            if lost != 0 {
                check::memory::bad_target(cx, lost.trailing_zeros());
                if cx.event == Event::Kill {
                    cx.event = Event::None;
                    self.killed = true;
                    self.live &= !lost;
                    self.exited |= lost;
                    cx.live = self.live;
                }
            }
        }
    }

    /// One group for each distinct target.
    fn by_target(&mut self, m: u32, target: impl Fn(usize) -> Option<u32>) {
        let mut targets = [None; 32];
        for lane in lanes(m) {
            targets[lane] = target(lane);
        }
        let mut rest = m;
        while rest != 0 {
            let first = targets[rest.trailing_zeros() as usize];
            let same = lanes(rest).filter(|&l| targets[l] == first).fold(0, |s, l| s | 1 << l);
            rest &= !same;
            if let Some(pc) = first {
                self.groups.push(Group { pc, mask: same });
            }
        }
    }
}

/// Before a recursive call: pushes the caller's frame onto the lane's stack. `e` is the call.
pub(crate) unsafe fn save(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let Some(frame) = &cx.program.calls[i.e as usize].save else {
        return;
    };
    if cx.stacks.len() < 32 {
        cx.stacks.resize(32, Vec::new());
    }
    // SAFETY: the frame's slots lie inside the file.
    unsafe {
        for lane in lanes(m) {
            let top = *cx.slot::<u32>(frame.stack).add(lane);
            let over = u64::from(top) + 2 * u64::from(frame.local) > u64::from(cx.local_bytes);
            if over || cx.stacks[lane].len() > DEEPEST {
                check::memory::stack_overflow(cx, lane as u32);
                return;
            }
            let stack = &mut cx.stacks[lane];
            for &reg in &frame.regs {
                let value = if reg.wide {
                    *cx.regs.add(usize::from(reg.slot) * 32).cast::<u64>().add(lane)
                } else {
                    u64::from(*cx.regs.add(usize::from(reg.slot) * 32 + lane))
                };
                stack.push(value);
            }
            for p in frame.preds.0..frame.preds.1 {
                stack.push(u64::from(*cx.preds.add(usize::from(p)) >> lane & 1));
            }
            stack.push(u64::from(top));
            cx.slot::<u32>(frame.stack).add(lane).write(top + frame.local);
        }
    }
}

/// After a recursive call.
pub(crate) unsafe fn restore(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let Some(frame) = &cx.program.calls[i.e as usize].save else {
        return;
    };
    // SAFETY: as for `save`.
    unsafe {
        for lane in lanes(m) {
            let Some(stack) = cx.stacks.get_mut(lane) else { return };
            let Some(top) = stack.pop() else { return };
            cx.regs.add(usize::from(frame.stack) * 32 + lane).write(top as u32);
            for p in (frame.preds.0..frame.preds.1).rev() {
                let bit = stack.pop().unwrap_or(0) as u32;
                let word = cx.preds.add(usize::from(p));
                *word = *word & !(1 << lane) | bit << lane;
            }
            for &reg in frame.regs.iter().rev() {
                let value = stack.pop().unwrap_or(0);
                if reg.wide {
                    *cx.regs.add(usize::from(reg.slot) * 32).cast::<u64>().add(lane) = value;
                } else {
                    *cx.regs.add(usize::from(reg.slot) * 32 + lane) = value as u32;
                }
            }
        }
    }
}

/// The offset of a place in a lane's local memory.
pub(crate) unsafe fn local_at(cx: &ExecContext<'_>, place: LocalPlace, lane: usize) -> u32 {
    // SAFETY: a slot of the lowered program.
    let stack = place.stack.map_or(0, |s| unsafe { *cx.slot::<u32>(s).add(lane) });
    place.offset.wrapping_add(stack)
}

/// Copies arguments or results: `e` is the copy.
pub(crate) unsafe fn copy(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = cx.program.copies[i.e as usize];
    for lane in lanes(m) {
        // SAFETY: `local_at` is checked against the lane's part.
        unsafe {
            let (to, from) = (local_at(cx, op.to, lane), local_at(cx, op.from, lane));
            let inside = |at: u32| at.checked_add(op.bytes).is_some_and(|e| e <= cx.local_bytes);
            if !inside(to) || !inside(from) {
                check::memory::stack_overflow(cx, lane as u32);
                return;
            }
            let part = cx.local.add(lane * cx.local_bytes as usize);
            std::ptr::copy(part.add(from as usize), part.add(to as usize), op.bytes as usize);
            check::memory::local_copy(cx, lane, to, from, op.bytes);
        }
    }
}

/// The address of a variable on the stack: `b` is the stack pointer, `e` the offset, `c` 1 for a wide register,
/// `a` 1 for a generic address.
pub(crate) unsafe fn stack_address(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    for lane in lanes(m) {
        // SAFETY: slots of the lowered program.
        unsafe {
            let at = u64::from(i.e.wrapping_add(*cx.slot::<u32>(i.b).add(lane)));
            let window = if i.a != 0 { super::LOCAL_WINDOW } else { 0 };
            cx.put(crate::program::Reg { slot: i.d, wide: i.c != 0 }, lane, at + window);
        }
    }
}
