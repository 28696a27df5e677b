//! `atom` and `red`: the new value is a function of the old one and the operands, applied by the host's atomics in
//! global memory and plainly in shared memory, whose block one host thread runs.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use super::{ExecContext, memory::resolve};
use crate::{
    check,
    finding::{Access, StateSpace},
    program::{Inst, Place},
};

/// `e` is the memory operand, `a` and `b` the numbers of the operation among the scalars (low and high half).
pub(crate) unsafe fn atomic(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let program = cx.program;
    let op = &program.mem[i.e as usize];
    let scalar = &program.scalars[usize::from(i.a) | usize::from(i.b) << 16];
    // SAFETY: slots of the lowered program; `resolve` bounds every pointer.
    unsafe {
        let r = resolve(cx, op, m, op.bytes, Access::Atomic);
        cx.strong_access(&r);
        cx.look(r.address[m.trailing_zeros() as usize]);
        check::order::release(cx, &r, op);
        if cx.instrumented {
            check::access(cx, &r, op.bytes, Access::Atomic, true);
        }
        for lane in super::lanes::lanes(m) {
            if r.ok >> lane & 1 == 0 {
                if let Place::Reg(d) = scalar.d {
                    cx.put(d, lane, 0);
                }
                continue;
            }
            let source = |k: usize| match scalar.sources.get(k) {
                Some(Place::Reg(reg)) => cx.get(*reg, lane),
                _ => 0,
            };
            let (b, c) = (source(0), source(1));
            let f = |old: u64| (scalar.f)(old, b, c, 0);
            let p = r.host[lane];
            let old = if r.space[lane] == StateSpace::Global {
                match op.bytes {
                    2 => u64::from(
                        AtomicU16::from_ptr(p.cast())
                            .fetch_update(SeqCst, SeqCst, |o| Some(f(o.into()) as u16))
                            .unwrap_or(0),
                    ),
                    4 => u64::from(
                        AtomicU32::from_ptr(p.cast())
                            .fetch_update(SeqCst, SeqCst, |o| Some(f(o.into()) as u32))
                            .unwrap_or(0),
                    ),
                    _ => AtomicU64::from_ptr(p.cast()).fetch_update(SeqCst, SeqCst, |o| Some(f(o))).unwrap_or(0),
                }
            } else {
                match op.bytes {
                    2 => {
                        let old = p.cast::<u16>().read();
                        p.cast::<u16>().write(f(old.into()) as u16);
                        old.into()
                    }
                    4 => {
                        let old = p.cast::<u32>().read();
                        p.cast::<u32>().write(f(old.into()) as u32);
                        old.into()
                    }
                    _ => {
                        let old = p.cast::<u64>().read();
                        p.cast::<u64>().write(f(old));
                        old
                    }
                }
            };
            cx.moved |= f(old) != old;
            if let Place::Reg(d) = scalar.d {
                cx.put(d, lane, old);
            }
        }
        check::order::acquire(cx, &r);
    }
}
