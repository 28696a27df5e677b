//! Registers that change while a warp runs.

use super::{ExecContext, lanes::lanes};
use crate::program::Inst;

/// `%clock` and its like: `e` is the shift, `c` 1 for a wide register.
pub(crate) unsafe fn clock(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // One instruction per cycle; a read costs a few, so that time advances between two reads.
    cx.clock += 16;
    let value = cx.clock >> i.e;
    // SAFETY: a slot of the lowered program.
    unsafe {
        for lane in lanes(m) {
            cx.put(crate::program::Reg { slot: i.d, wide: i.c != 0 }, lane, value);
        }
    }
}

/// `nanosleep`: others may run.
pub(crate) unsafe fn sleep(cx: &mut ExecContext<'_>, _: &Inst, _: u32) {
    cx.event = super::Event::Yield;
}

/// An instruction without effect here, such as a fence.
pub(crate) unsafe fn fence(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    crate::check::order::fence(cx, i.e, m);
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// `griddepcontrol.wait`.
pub(crate) unsafe fn grid_wait(cx: &mut ExecContext<'_>, _: &Inst, m: u32) {
    crate::check::overlap::wait(cx, m);
}

/// `griddepcontrol.launch_dependents`.
pub(crate) unsafe fn grid_trigger(cx: &mut ExecContext<'_>, _: &Inst, m: u32) {
    crate::check::overlap::trigger(cx, m);
}

/// Nothing.
pub(crate) unsafe fn nothing(_: &mut ExecContext<'_>, _: &Inst, _: u32) {}
