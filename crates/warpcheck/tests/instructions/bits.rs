//! Bit fields, permutations, shifts, searches.

use crate::{Form, check, form};
use warpcheck::arith::bits::{self, Permute};

#[test]
fn bit_manipulation() {
    let u = |x: u64| x as u32;
    let s = |x: u64| x as i32;
    let mut all: Vec<Form> = vec![
        form("bfe.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| bits::bfe_u32(u(x[0]), u(x[1]), u(x[2])).into()),
        form("bfe.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| bits::bfe_s32(s(x[0]), u(x[1]), u(x[2])) as u64),
        form("bfe.u64 %d9, %d0, %r1, %r2;", "drr", 'd', move |x| bits::bfe_u64(x[0], u(x[1]), u(x[2]))),
        form("bfe.s64 %d9, %d0, %r1, %r2;", "drr", 'd', move |x| bits::bfe_s64(x[0] as i64, u(x[1]), u(x[2])) as u64),
        form("bfi.b32 %r9, %r0, %r1, %r2, %r3;", "rrrr", 'r', move |x| {
            bits::bfi_b32(u(x[0]), u(x[1]), u(x[2]), u(x[3])).into()
        }),
        form("bfi.b64 %d9, %d0, %d1, %r2, %r3;", "ddrr", 'd', move |x| bits::bfi_b64(x[0], x[1], u(x[2]), u(x[3]))),
        form("brev.b32 %r9, %r0;", "r", 'r', move |x| u(x[0]).reverse_bits().into()),
        form("brev.b64 %d9, %d0;", "d", 'd', |x| x[0].reverse_bits()),
        form("clz.b32 %r9, %r0;", "r", 'r', move |x| u(x[0]).leading_zeros().into()),
        form("clz.b64 %r9, %d0;", "d", 'r', |x| x[0].leading_zeros().into()),
        form("popc.b32 %r9, %r0;", "r", 'r', move |x| u(x[0]).count_ones().into()),
        form("popc.b64 %r9, %d0;", "d", 'r', |x| x[0].count_ones().into()),
        form("bfind.u32 %r9, %r0;", "r", 'r', move |x| bits::bfind_u32(u(x[0]), false).into()),
        form("bfind.s32 %r9, %r0;", "r", 'r', move |x| bits::bfind_s32(s(x[0]), false).into()),
        form("bfind.u64 %r9, %d0;", "d", 'r', |x| bits::bfind_u64(x[0], false).into()),
        form("bfind.shiftamt.s64 %r9, %d0;", "d", 'r', |x| bits::bfind_s64(x[0] as i64, true).into()),
        form("bfind.shiftamt.u32 %r9, %r0;", "r", 'r', move |x| bits::bfind_u32(u(x[0]), true).into()),
        form("fns.b32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| bits::fns(u(x[0]), u(x[1]), s(x[2])).into()),
        form("bmsk.clamp.b32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::bmsk(u(x[0]), u(x[1]), true).into()),
        form("bmsk.wrap.b32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::bmsk(u(x[0]), u(x[1]), false).into()),
        form("szext.clamp.s32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::szext_s32(s(x[0]), u(x[1]), true) as u64),
        form("szext.wrap.u32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::szext_u32(u(x[0]), u(x[1]), false).into()),
        form("shf.l.clamp.b32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
            bits::shf_left(u(x[0]), u(x[1]), u(x[2]), true).into()
        }),
        form("shf.l.wrap.b32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
            bits::shf_left(u(x[0]), u(x[1]), u(x[2]), false).into()
        }),
        form("shf.r.clamp.b32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
            bits::shf_right(u(x[0]), u(x[1]), u(x[2]), true).into()
        }),
        form("shf.r.wrap.b32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
            bits::shf_right(u(x[0]), u(x[1]), u(x[2]), false).into()
        }),
        form("shl.b16 %h9, %h0, %r1;", "hr", 'h', move |x| bits::shl_b16(x[0] as u16, u(x[1])).into()),
        form("shl.b32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::shl_b32(u(x[0]), u(x[1])).into()),
        form("shl.b64 %d9, %d0, %r1;", "dr", 'd', move |x| bits::shl_b64(x[0], u(x[1]))),
        form("shr.u16 %h9, %h0, %r1;", "hr", 'h', move |x| bits::shr_u16(x[0] as u16, u(x[1])).into()),
        form("shr.s16 %h9, %h0, %r1;", "hr", 'h', move |x| bits::shr_s16(x[0] as i16, u(x[1])) as u64),
        form("shr.u32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::shr_u32(u(x[0]), u(x[1])).into()),
        form("shr.s32 %r9, %r0, %r1;", "rr", 'r', move |x| bits::shr_s32(s(x[0]), u(x[1])) as u64),
        form("shr.b64 %d9, %d0, %r1;", "dr", 'd', move |x| bits::shr_u64(x[0], u(x[1]))),
        form("shr.s64 %d9, %d0, %r1;", "dr", 'd', move |x| bits::shr_s64(x[0] as i64, u(x[1])) as u64),
        form("mov.b64 {%r5, %r9}, %d0;", "d", 'r', |x| x[0] >> 32),
        form("mov.b64 %d9, {%r0, %r1};", "rr", 'd', |x| x[1] << 32 | x[0]),
        form("mov.b32 %r9, {%h0, %h1};", "hh", 'r', |x| x[1] << 16 | x[0]),
        form("mov.b32 {%h9, %h5}, %r0;", "r", 'h', |x| x[0]),
    ];
    for (name, mode) in [
        ("", Permute::Index),
        (".f4e", Permute::F4e),
        (".b4e", Permute::B4e),
        (".rc8", Permute::Rc8),
        (".ecl", Permute::Ecl),
        (".ecr", Permute::Ecr),
        (".rc16", Permute::Rc16),
    ] {
        let text = format!("prmt.b32{name} %r9, %r0, %r1, %r2;");
        all.push(form(&text, "rrr", 'r', move |x| bits::prmt(u(x[0]), u(x[1]), u(x[2]), mode).into()));
    }
    for table in [0u8, 0x1b, 0x80, 0x96, 0xca, 0xe8, 0xfe, 0xff] {
        let text = format!("lop3.b32 %r9, %r0, %r1, %r2, {table};");
        all.push(form(&text, "rrr", 'r', move |x| bits::lop3(u(x[0]), u(x[1]), u(x[2]), table).into()));
    }
    check(80, &all);
}
