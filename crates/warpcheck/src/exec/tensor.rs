//! `ldmatrix`, `stmatrix`, `mma.sync`.

use super::{
    ExecContext,
    lanes::lanes,
    memory::{Resolved, resolve},
    vector::levels,
};
use crate::{
    arith::mma::{self, Element, Lanes, WideLanes},
    check,
    finding::Access,
    program::Inst,
};

/// `ldmatrix`: memory operand `e` with its registers; `a` matrices; `b` is 1 for `.trans`.
pub(crate) unsafe fn load_matrix(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    let count = usize::from(i.a);
    // SAFETY: slots of the lowered program; every row is resolved.
    unsafe {
        // Lanes 8k to 8k + 7 give the rows of matrix k.
        let rows = if count == 4 { m } else { m & ((1 << (8 * count)) - 1) };
        let r = resolve(cx, op, rows, 16, Access::Read);
        if cx.instrumented {
            check::matrix_access(cx, &r, Access::Read);
        }
        let row = |k: usize| -> [u16; 8] {
            if r.ok >> k & 1 != 0 { r.host[k].cast::<[u16; 8]>().read_unaligned() } else { [0; 8] }
        };
        for matrix in 0..count {
            let rows: [[u16; 8]; 8] = std::array::from_fn(|k| row(matrix * 8 + k));
            let Some(reg) = op.regs[matrix] else { continue };
            for lane in lanes(m) {
                let (g, t) = (lane / 4, lane % 4);
                let (low, high) =
                    if i.b != 0 { (rows[2 * t][g], rows[2 * t + 1][g]) } else { (rows[g][2 * t], rows[g][2 * t + 1]) };
                cx.put(reg, lane, u64::from(low) | u64::from(high) << 16);
            }
        }
    }
}

/// `stmatrix`.
pub(crate) unsafe fn store_matrix(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let op = &cx.program.mem[i.e as usize];
    let count = usize::from(i.a);
    // SAFETY: as for `load_matrix`.
    unsafe {
        let rows = if count == 4 { m } else { m & ((1 << (8 * count)) - 1) };
        let r: Resolved = resolve(cx, op, rows, 16, Access::Write);
        if cx.instrumented {
            check::matrix_access(cx, &r, Access::Write);
        }
        for matrix in 0..count {
            let mut out = [[0u16; 8]; 8];
            let Some(reg) = op.regs[matrix] else { continue };
            for lane in lanes(m) {
                let value = cx.get(reg, lane);
                let (g, t) = (lane / 4, lane % 4);
                if i.b != 0 {
                    out[2 * t][g] = value as u16;
                    out[2 * t + 1][g] = (value >> 16) as u16;
                } else {
                    out[g][2 * t] = value as u16;
                    out[g][2 * t + 1] = (value >> 16) as u16;
                }
            }
            for (k, row) in out.iter().enumerate() {
                if r.ok >> (matrix * 8 + k) & 1 != 0 {
                    r.host[matrix * 8 + k].cast::<[u16; 8]>().write_unaligned(*row);
                }
            }
        }
    }
}

/// `movmatrix`: a transposed 8 × 8 matrix between registers.
pub(crate) unsafe fn move_matrix(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    // SAFETY: slots of the lowered program.
    unsafe {
        let source = cx.slot::<[u32; 32]>(i.a).read();
        let at = |row: usize, column: usize| (source[row * 4 + column / 2] >> (16 * (column % 2))) & 0xffff;
        for lane in lanes(m) {
            let (g, t) = (lane / 4, lane % 4);
            cx.slot::<u32>(i.d).add(lane).write(at(2 * t, g) | at(2 * t + 1, g) << 16);
        }
    }
}

/// # Safety
/// As for a `Handler`.
#[inline(always)]
unsafe fn multiply(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let extra = &cx.program.extra[i.e as usize];
    let Some(form) = &extra.mma else { return };
    let slot = |k: usize| extra.regs[k].unwrap_or_default().slot;
    let (nd, na, nb, nc) =
        (extra.numbers[0] as usize, extra.numbers[1] as usize, extra.numbers[2] as usize, extra.numbers[3] as usize);
    // SAFETY: slots of the lowered program.
    unsafe {
        if form.a == Element::F64 {
            let take = |from: usize, n: usize| -> Vec<WideLanes> {
                (from..from + n).map(|k| cx.slot::<WideLanes>(slot(k)).read()).collect()
            };
            let (a, b, c) = (take(nd, na), take(nd + na, nb), take(nd + na + nb, nc));
            let mut d = vec![[0u64; 32]; nd];
            mma::multiply_f64(form.shape, &a, &b, &c, &mut d);
            for (k, lanes_of) in d.iter().enumerate() {
                for lane in lanes(m) {
                    cx.slot::<u64>(slot(k)).add(lane).write(lanes_of[lane]);
                }
            }
            return;
        }
        let mut registers = [[0u32; 32]; 20];
        for (k, register) in registers.iter_mut().enumerate().take(na + nb + nc) {
            *register = cx.slot::<Lanes>(slot(nd + k)).read();
        }
        let (a, rest) = registers.split_at(na);
        let (b, c) = rest.split_at(nb);
        let mut d = [[0u32; 32]; 8];
        if extra.numbers[4] != 0 {
            let layouts = (extra.numbers[4] & 2 != 0, extra.numbers[4] & 4 != 0);
            mma::volta::multiply(layouts, (form.c, form.d), a, b, &c[..nc], &mut d);
        } else {
            match form.a {
                Element::S8 | Element::U8 | Element::S4 | Element::U4 | Element::B1 => {
                    mma::multiply_integer(form, a, b, &c[..nc], &mut d);
                }
                _ => mma::multiply_float(form, a, b, &c[..nc], &mut d),
            }
        }
        for (k, lanes_of) in d.iter().enumerate().take(nd) {
            if m == !0 {
                cx.slot::<Lanes>(slot(k)).write(*lanes_of);
            } else {
                for lane in lanes(m) {
                    cx.slot::<u32>(slot(k)).add(lane).write(lanes_of[lane]);
                }
            }
        }
    }
}

levels! {
    MMA = |cx, i, m| multiply(cx, i, m);
}
