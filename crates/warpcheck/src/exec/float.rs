//! Floating point in round-to-nearest, the common forms. The others run lane by lane through
//! `arith`.

use super::{ExecContext, vector::levels};
use crate::{
    arith::float::{canonical_f32, canonical_f64, flush_f32},
    program::Inst,
};

levels! {
    FMA32 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: f32, b: f32, c: f32| canonical_f32(a.mul_add(b, c)));
    FMA32FTZ = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: f32, b: f32, c: f32| {
        flush_f32(canonical_f32(flush_f32(a).mul_add(flush_f32(b), flush_f32(c))))
    });
    ADDF32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f32, b: f32| canonical_f32(a + b));
    SUBF32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f32, b: f32| canonical_f32(a - b));
    MULF32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f32, b: f32| canonical_f32(a * b));
    DIVF32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f32, b: f32| canonical_f32(a / b));
    SQRTF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: f32| canonical_f32(a.sqrt()));
    RCPF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: f32| canonical_f32(1.0 / a));
    ADDF32FTZ = |cx, i, m| cx.map2(m, i.d, i.a, i.b,
        |a: f32, b: f32| flush_f32(canonical_f32(flush_f32(a) + flush_f32(b))));
    SUBF32FTZ = |cx, i, m| cx.map2(m, i.d, i.a, i.b,
        |a: f32, b: f32| flush_f32(canonical_f32(flush_f32(a) - flush_f32(b))));
    MULF32FTZ = |cx, i, m| cx.map2(m, i.d, i.a, i.b,
        |a: f32, b: f32| flush_f32(canonical_f32(flush_f32(a) * flush_f32(b))));
    FMA64 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: f64, b: f64, c: f64| canonical_f64(a.mul_add(b, c)));
    ADDF64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f64, b: f64| canonical_f64(a + b));
    SUBF64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f64, b: f64| canonical_f64(a - b));
    MULF64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f64, b: f64| canonical_f64(a * b));
    DIVF64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: f64, b: f64| canonical_f64(a / b));
    NEGF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a ^ 0x8000_0000);
    ABSF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a & 0x7fff_ffff);
    NEGF64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| a ^ 1 << 63);
    ABSF64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| a & !(1 << 63));
    MINF32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, crate::arith::float::min_f32);
    MAXF32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, crate::arith::float::max_f32);
    S32TOF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: i32| a as f32);
    U32TOF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a as f32);
    F32TOF64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: f32| canonical_f64(f64::from(a)));
    F64TOF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: f64| canonical_f32(a as f32));
    S32TOF64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: i32| f64::from(a));
    F16TOF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| crate::arith::half::f16_to_f32(a as u16));
    F32TOF16 = |cx, i, m| cx.map1(m, i.d, i.a, |a: f32| u32::from(crate::arith::half::f16_from_f32(a)));
    BF16TOF32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| f32::from_bits(a << 16));
}

/// Lane by lane through the function that the program holds.
pub(crate) unsafe fn scalar(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    use crate::program::Place;
    let program = cx.program;
    let op = &program.scalars[i.e as usize];
    let mut lanes = m;
    let mut bits = 0u32;
    let mut carry = 0u32;
    let read = |place: Option<&Place>, lane: usize| -> u64 {
        match place {
            // SAFETY: slots and predicates of a lowered program lie inside the file.
            Some(Place::Reg(r)) => unsafe {
                if r.wide { *cx.slot::<u64>(r.slot).add(lane) } else { u64::from(*cx.slot::<u32>(r.slot).add(lane)) }
            },
            Some(Place::Pred(p, negated)) => u64::from((cx.pred(*p) >> lane & 1 != 0) != *negated),
            _ => 0,
        }
    };
    while lanes != 0 {
        let lane = lanes.trailing_zeros() as usize;
        lanes &= lanes - 1;
        let s = &op.sources;
        let x = (op.f)(read(s.first(), lane), read(s.get(1), lane), read(s.get(2), lane), read(s.get(3), lane));
        match op.d {
            // SAFETY: as above.
            Place::Reg(r) => unsafe {
                if r.wide {
                    *cx.slot::<u64>(r.slot).add(lane) = x;
                } else {
                    *cx.slot::<u32>(r.slot).add(lane) = x as u32;
                }
            },
            Place::Pred(..) => bits |= (x as u32 & 1) << lane,
            Place::None => {}
        }
        carry |= ((x >> 32) as u32 & 1) << lane;
    }
    if let Place::Pred(p, _) = op.d {
        cx.set_pred(p, m, bits);
    }
    if let Some(p) = op.d2 {
        cx.set_pred(p, m, carry);
    }
}
