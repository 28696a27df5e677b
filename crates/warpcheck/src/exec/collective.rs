//! Warp collectives: `shfl`, `vote`, `match`, `redux`, `activemask`.

use super::{ExecContext, lanes::lanes};
use crate::program::Inst;

/// `shfl.sync`: source `a`, lane `b`, clamp in the extra's first register, mode in its first number.
pub(crate) unsafe fn shuffle(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let extra = &cx.program.extra[i.e as usize];
    // SAFETY: slots of the lowered program.
    unsafe {
        let source = cx.slot::<[u32; 32]>(i.a).read();
        let b = cx.slot::<[u32; 32]>(i.b).read();
        let c = cx.slot::<[u32; 32]>(extra.regs[0].unwrap_or_default().slot).read();
        let mode = extra.numbers[0];
        let d = cx.slot::<u32>(i.d);
        let mut within = 0;
        for lane in lanes(m) {
            let clamp = c[lane] & 31;
            let segment = c[lane] >> 8 & 31;
            let me = lane as u32;
            let most = me & segment | clamp & !segment;
            let least = me & segment;
            let by = b[lane] & 31;
            let (j, ok) = match mode {
                0 => {
                    let j = me as i32 - by as i32;
                    (j, j >= most as i32)
                }
                1 => ((me + by) as i32, me + by <= most),
                2 => ((me ^ by) as i32, me ^ by <= most),
                _ => {
                    let j = least | by & !segment;
                    (j as i32, j <= most)
                }
            };
            let from = if ok { j as usize & 31 } else { lane };
            d.add(lane).write(source[from]);
            within |= u32::from(ok) << lane;
        }
        if let Some(&(p, _)) = extra.preds.first() {
            cx.set_pred(p, m, within);
        }
    }
}

/// `vote.sync`: predicate `a` (`b` is 1 when negated); `e` chooses all, any, uni or ballot.
pub(crate) unsafe fn vote(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let yes = (cx.pred(i.a) ^ 0u32.wrapping_sub(u32::from(i.b))) & m;
    let result = match i.e {
        0 => yes == m,
        1 => yes != 0,
        2 => yes == m || yes == 0,
        _ => {
            // SAFETY: a slot of the lowered program.
            unsafe {
                for lane in lanes(m) {
                    cx.slot::<u32>(i.d).add(lane).write(yes);
                }
            }
            return;
        }
    };
    cx.set_pred(i.d, m, if result { !0 } else { 0 });
}

/// `activemask`.
pub(crate) unsafe fn active(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: a slot of the lowered program.
    unsafe {
        for lane in lanes(m) {
            cx.slot::<u32>(i.d).add(lane).write(m);
        }
    }
}

/// `match.sync`: source in the extra's first register; number 0 is `any`, 1 is `all`.
pub(crate) unsafe fn matching(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let extra = &cx.program.extra[i.e as usize];
    let source = extra.regs[0].unwrap_or_default();
    // SAFETY: slots of the lowered program.
    unsafe {
        let values: [u64; 32] = std::array::from_fn(|l| cx.get(source, l));
        let all = extra.numbers[0] == 1;
        let first = values[m.trailing_zeros() as usize];
        let same = lanes(m).all(|l| values[l] == first);
        for lane in lanes(m) {
            let mask = if all {
                if same { m } else { 0 }
            } else {
                lanes(m).filter(|&l| values[l] == values[lane]).fold(0, |s, l| s | 1 << l)
            };
            cx.slot::<u32>(i.d).add(lane).write(mask);
        }
        if let Some(&(p, _)) = extra.preds.first() {
            cx.set_pred(p, m, if same { !0 } else { 0 });
        }
    }
}

/// `redux.sync`: source `a`; `e` is the operation.
pub(crate) unsafe fn redux(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: slots of the lowered program.
    unsafe {
        let values = cx.slot::<[u32; 32]>(i.a).read();
        let take = |f: fn(u32, u32) -> u32| lanes(m).map(|l| values[l]).reduce(f).unwrap_or(0);
        let result = match i.e {
            0 => take(|a, b| a.wrapping_add(b)),
            1 => take(|a, b| a.min(b)),
            2 => take(|a, b| a.max(b)),
            3 => take(|a, b| (a as i32).min(b as i32) as u32),
            4 => take(|a, b| (a as i32).max(b as i32) as u32),
            5 => take(|a, b| a & b),
            6 => take(|a, b| a | b),
            _ => take(|a, b| a ^ b),
        };
        for lane in lanes(m) {
            cx.slot::<u32>(i.d).add(lane).write(result);
        }
    }
}

/// `elect.sync d|p`: the lowest lane.
pub(crate) unsafe fn elect(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let leader = m.trailing_zeros();
    // SAFETY: a slot of the lowered program.
    unsafe {
        if i.d != u16::MAX {
            for lane in lanes(m) {
                cx.slot::<u32>(i.d).add(lane).write(leader);
            }
        }
    }
    cx.set_pred(i.a, m, 1 << leader);
}
