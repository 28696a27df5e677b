//! Integer arithmetic, comparison and selection.

use crate::{Form, check, form};
use warpcheck::arith::integer as int;

/// The same operation in every integer type: `$name` with Rust's operation on each.
macro_rules! every {
    ($forms:ident, $text:literal, $op:expr; $($class:literal $ptx:literal $rust:ty),*) => {$(
        let three = $text.contains("C");
        let text = $text.replace("T", $ptx).replace("D", concat!("%", $class, "9"))
            .replace("A", concat!("%", $class, "0")).replace("B", concat!("%", $class, "1"))
            .replace("C", concat!("%", $class, "2"));
        let inputs = if three { concat!($class, $class, $class) } else { concat!($class, $class) };
        $forms.push(form(&text, inputs, $class.chars().next().unwrap(), |x| {
            let op: fn($rust, $rust, $rust) -> $rust = $op;
            op(x[0] as $rust, x[1] as $rust, *x.get(2).unwrap_or(&0) as $rust) as u64
        }));
    )*};
}

#[test]
fn arithmetic_in_every_width() {
    let mut all: Vec<Form> = Vec::new();
    every!(all, "add.T D, A, B;", |a, b, _| a.wrapping_add(b); "h" "u16" u16, "h" "s16" i16, "r" "u32" u32, "r" "s32" i32, "d" "u64" u64, "d" "s64" i64);
    every!(all, "sub.T D, A, B;", |a, b, _| a.wrapping_sub(b); "h" "u16" u16, "h" "s16" i16, "r" "u32" u32, "r" "s32" i32, "d" "u64" u64, "d" "s64" i64);
    every!(all, "mul.lo.T D, A, B;", |a, b, _| a.wrapping_mul(b); "h" "u16" u16, "h" "s16" i16, "r" "u32" u32, "r" "s32" i32, "d" "u64" u64, "d" "s64" i64);
    every!(all, "mad.lo.T D, A, B, C;", |a, b, c| a.wrapping_mul(b).wrapping_add(c); "h" "u16" u16, "h" "s16" i16, "r" "u32" u32, "r" "s32" i32, "d" "u64" u64, "d" "s64" i64);
    every!(all, "min.T D, A, B;", |a, b, _| a.min(b); "h" "u16" u16, "h" "s16" i16, "r" "u32" u32, "r" "s32" i32, "d" "u64" u64, "d" "s64" i64);
    every!(all, "max.T D, A, B;", |a, b, _| a.max(b); "h" "u16" u16, "h" "s16" i16, "r" "u32" u32, "r" "s32" i32, "d" "u64" u64, "d" "s64" i64);
    // A divisor of zero is undefined: it is made one.
    every!(all, "or.b16 B, B, 1; div.T D, A, B;", |a, b, _| a.wrapping_div(b | 1); "h" "u16" u16, "h" "s16" i16);
    every!(all, "or.b32 B, B, 1; div.T D, A, B;", |a, b, _| a.wrapping_div(b | 1); "r" "u32" u32, "r" "s32" i32);
    every!(all, "or.b64 B, B, 1; div.T D, A, B;", |a, b, _| a.wrapping_div(b | 1); "d" "u64" u64, "d" "s64" i64);
    every!(all, "or.b32 B, B, 1; rem.T D, A, B;", |a, b, _| a.wrapping_rem(b | 1); "r" "u32" u32, "r" "s32" i32);
    every!(all, "or.b64 B, B, 1; rem.T D, A, B;", |a, b, _| a.wrapping_rem(b | 1); "d" "u64" u64, "d" "s64" i64);
    every!(all, "neg.T D, A;", |a, _, _| a.wrapping_neg(); "h" "s16" i16, "r" "s32" i32, "d" "s64" i64);
    every!(all, "abs.T D, A;", |a, _, _| a.wrapping_abs(); "h" "s16" i16, "r" "s32" i32, "d" "s64" i64);
    every!(all, "add.sat.T D, A, B;", |a, b, _| a.saturating_add(b); "r" "s32" i32);
    every!(all, "sub.sat.T D, A, B;", |a, b, _| a.saturating_sub(b); "r" "s32" i32);
    every!(all, "and.T D, A, B;", |a, b, _| a & b; "h" "b16" u16, "r" "b32" u32, "d" "b64" u64);
    every!(all, "or.T D, A, B;", |a, b, _| a | b; "h" "b16" u16, "r" "b32" u32, "d" "b64" u64);
    every!(all, "xor.T D, A, B;", |a, b, _| a ^ b; "h" "b16" u16, "r" "b32" u32, "d" "b64" u64);
    every!(all, "not.T D, A;", |a, _, _| !a; "h" "b16" u16, "r" "b32" u32, "d" "b64" u64);
    every!(all, "cnot.T D, A;", |a, _, _| if a == 0 { 1 } else { 0 }; "h" "b16" u16, "r" "b32" u32, "d" "b64" u64);
    check(80, &all);
}

#[test]
fn products_wide_high_and_of_24_bits() {
    let s = |x: u64| x as i32;
    let u = |x: u64| x as u32;
    check(
        80,
        &[
            form("mul.hi.u32 %r9, %r0, %r1;", "rr", 'r', move |x| int::mul_hi_u32(u(x[0]), u(x[1])).into()),
            form("mul.hi.s32 %r9, %r0, %r1;", "rr", 'r', move |x| int::mul_hi_s32(s(x[0]), s(x[1])) as u64),
            form("mul.hi.u64 %d9, %d0, %d1;", "dd", 'd', |x| int::mul_hi_u64(x[0], x[1])),
            form("mul.hi.s64 %d9, %d0, %d1;", "dd", 'd', |x| int::mul_hi_s64(x[0] as i64, x[1] as i64) as u64),
            form("mul.hi.u16 %h9, %h0, %h1;", "hh", 'h', |x| int::mul_hi_u16(x[0] as u16, x[1] as u16).into()),
            form("mul.hi.s16 %h9, %h0, %h1;", "hh", 'h', |x| int::mul_hi_s16(x[0] as i16, x[1] as i16) as u64),
            form("mul.wide.u32 %d9, %r0, %r1;", "rr", 'd', move |x| int::mul_wide_u32(u(x[0]), u(x[1]))),
            form("mul.wide.s32 %d9, %r0, %r1;", "rr", 'd', move |x| int::mul_wide_s32(s(x[0]), s(x[1])) as u64),
            form("mul.wide.u16 %r9, %h0, %h1;", "hh", 'r', |x| int::mul_wide_u16(x[0] as u16, x[1] as u16).into()),
            form("mul.wide.s16 %r9, %h0, %h1;", "hh", 'r', |x| int::mul_wide_s16(x[0] as i16, x[1] as i16) as u64),
            form("mad.wide.u32 %d9, %r0, %r1, %d2;", "rrd", 'd', move |x| {
                int::mul_wide_u32(u(x[0]), u(x[1])).wrapping_add(x[2])
            }),
            form("mad.wide.s32 %d9, %r0, %r1, %d2;", "rrd", 'd', move |x| {
                (int::mul_wide_s32(s(x[0]), s(x[1])) as u64).wrapping_add(x[2])
            }),
            form("mad.hi.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::mul_hi_u32(u(x[0]), u(x[1])).wrapping_add(u(x[2])).into()
            }),
            form("mad.hi.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::mul_hi_s32(s(x[0]), s(x[1])).wrapping_add(s(x[2])) as u64
            }),
            form("mad.hi.sat.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::mad_hi_sat_s32(s(x[0]), s(x[1]), s(x[2])) as u64
            }),
            form("mul24.lo.u32 %r9, %r0, %r1;", "rr", 'r', move |x| int::mul24_lo_u32(u(x[0]), u(x[1])).into()),
            form("mul24.hi.s32 %r9, %r0, %r1;", "rr", 'r', move |x| int::mul24_hi_s32(s(x[0]), s(x[1])) as u64),
            form("mul24.lo.s32 %r9, %r0, %r1;", "rr", 'r', move |x| int::mul24_lo_s32(s(x[0]), s(x[1])) as u64),
            form("mad24.lo.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::mul24_lo_u32(u(x[0]), u(x[1])).wrapping_add(u(x[2])).into()
            }),
            form("sad.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| int::sad_u32(u(x[0]), u(x[1]), u(x[2])).into()),
            form("sad.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| int::sad_s32(s(x[0]), s(x[1]), s(x[2])) as u64),
            form("dp4a.s32.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::dp4a(u(x[0]), u(x[1]), u(x[2]), true, true).into()
            }),
            form("dp4a.u32.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::dp4a(u(x[0]), u(x[1]), u(x[2]), false, true).into()
            }),
            form("dp2a.lo.s32.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::dp2a(u(x[0]), u(x[1]), u(x[2]), true, false, false).into()
            }),
            form("dp2a.hi.u32.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::dp2a(u(x[0]), u(x[1]), u(x[2]), false, false, true).into()
            }),
            form("vabsdiff4.u32.u32.u32 %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::vabsdiff4_u32(u(x[0]), u(x[1]), u(x[2]), false).into()
            }),
            form("vabsdiff4.u32.u32.u32.add %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::vabsdiff4_u32(u(x[0]), u(x[1]), u(x[2]), true).into()
            }),
            form("vabsdiff2.u32.u32.u32.add %r9, %r0, %r1, %r2;", "rrr", 'r', move |x| {
                int::vabsdiff2_u32(u(x[0]), u(x[1]), u(x[2]), true).into()
            }),
        ],
    );
}

#[test]
fn carries_run_through_chains() {
    let wide = |x: &[u64]| (u128::from(x[1]) << 64 | u128::from(x[0]), u128::from(x[3]) << 64 | u128::from(x[2]));
    let split = "mov.b64 {%r0, %r1}, %d0; mov.b64 {%r2, %r3}, %d1;";
    check(
        80,
        &[
            form("add.cc.u64 %d5, %d0, %d2; addc.u64 %d9, %d1, %d3;", "dddd", 'd', move |x| {
                let (a, b) = wide(x);
                (a.wrapping_add(b) >> 64) as u64
            }),
            form("sub.cc.u64 %d5, %d0, %d2; subc.u64 %d9, %d1, %d3;", "dddd", 'd', move |x| {
                let (a, b) = wide(x);
                (a.wrapping_sub(b) >> 64) as u64
            }),
            form(
                &format!("{split} add.cc.u32 %r4, %r0, %r2; addc.u32 %r5, %r1, %r3; mov.b64 %d9, {{%r4, %r5}};"),
                "dd",
                'd',
                |x| x[0].wrapping_add(x[1]),
            ),
            form(
                &format!("{split} sub.cc.u32 %r4, %r0, %r2; subc.cc.u32 %r5, %r1, %r3; mov.b64 %d9, {{%r4, %r5}};"),
                "dd",
                'd',
                |x| x[0].wrapping_sub(x[1]),
            ),
            form(
                &format!(
                    "{split} mad.lo.cc.u32 %r4, %r0, %r2, %r3; madc.hi.u32 %r5, %r0, %r2, %r1; mov.b64 %d9, {{%r4, %r5}};"
                ),
                "dd",
                'd',
                |x| {
                    let product = (x[0] & 0xffff_ffff) * (x[1] & 0xffff_ffff);
                    product.wrapping_add((x[0] >> 32) << 32 | x[1] >> 32)
                },
            ),
            form("add.cc.u32 %r4, %r0, %r1; addc.u32 %r9, 0, 0;", "rr", 'r', |x| u64::from(x[0] + x[1] > 0xffff_ffff)),
            form(
                "sub.cc.u32 %r4, %r0, %r1; subc.u32 %r9, 0, 0;",
                "rr",
                'r',
                |x| if x[0] < x[1] { u64::MAX } else { 0 },
            ),
        ],
    );
}

#[test]
fn comparisons_selections_and_predicates() {
    let mut all: Vec<Form> = Vec::new();
    macro_rules! compare {
        ($class:literal $ptx:literal $rust:ty: $($op:literal $f:expr),*) => {$(
            let text = format!("setp.{}.{} %p9, %{c}0, %{c}1;", $op, $ptx, c = $class);
            all.push(form(&text, concat!($class, $class), 'p', |x| {
                let f: fn(&$rust, &$rust) -> bool = $f;
                f(&(x[0] as $rust), &(x[1] as $rust)).into()
            }));
            let text = format!("set.{}.u32.{} %r9, %{c}0, %{c}1;", $op, $ptx, c = $class);
            all.push(form(&text, concat!($class, $class), 'r', |x| {
                let f: fn(&$rust, &$rust) -> bool = $f;
                if f(&(x[0] as $rust), &(x[1] as $rust)) { u64::MAX } else { 0 }
            }));
        )*};
    }
    compare!("r" "s32" i32: "eq" PartialEq::eq, "ne" PartialEq::ne, "lt" PartialOrd::lt, "le" PartialOrd::le, "gt" PartialOrd::gt, "ge" PartialOrd::ge);
    compare!("r" "u32" u32: "lt" PartialOrd::lt, "le" PartialOrd::le, "gt" PartialOrd::gt, "ge" PartialOrd::ge, "lo" PartialOrd::lt, "hs" PartialOrd::ge);
    compare!("d" "s64" i64: "lt" PartialOrd::lt, "ge" PartialOrd::ge, "eq" PartialEq::eq);
    compare!("d" "u64" u64: "lt" PartialOrd::lt, "gt" PartialOrd::gt, "ls" PartialOrd::le, "hi" PartialOrd::gt);
    compare!("h" "s16" i16: "lt" PartialOrd::lt, "ne" PartialEq::ne);
    compare!("h" "u16" u16: "le" PartialOrd::le, "eq" PartialEq::eq);
    all.extend([
        form("setp.lt.s32 %p1, %r0, 0; setp.gt.and.u32 %p9, %r1, 100, %p1;", "rr", 'p', |x| ((x[0] as i32) < 0 && x[1] > 100).into()),
        form("setp.lt.s32 %p1, %r0, 0; setp.gt.or.u32 %p9, %r1, 100, !%p1;", "rr", 'p', |x| ((x[0] as i32) >= 0 || x[1] > 100).into()),
        form("setp.eq.u32 %p1|%p9, %r0, %r1;", "rr", 'p', |x| (x[0] != x[1]).into()),
        form("setp.lt.u32 %p1, %r0, %r1; selp.b32 %r9, %r0, %r1, %p1;", "rr", 'r', |x| x[0].min(x[1])),
        form("setp.lt.u32 %p1, %r0, %r1; selp.b64 %d9, 5, -6, %p1;", "rr", 'd', |x| if x[0] < x[1] { 5 } else { -6i64 as u64 }),
        form("slct.s32.s32 %r9, %r0, %r1, %r2;", "rrr", 'r', |x| if (x[2] as i32) >= 0 { x[0] } else { x[1] }),
        form("setp.ne.u32 %p1, %r0, 0; setp.lt.s32 %p2, %r1, 0; xor.pred %p3, %p1, %p2; not.pred %p4, %p3; or.pred %p9, %p4, %p2;", "rr", 'p', |x| {
            let (a, b) = (x[0] != 0, (x[1] as i32) < 0);
            (!(a ^ b) || b).into()
        }),
    ]);
    check(80, &all);
}

#[test]
fn pairs_of_sixteen_bits_and_relu() {
    let pairs = |text: &str, f: fn(i16, i16) -> i16| {
        form(text, "rr", 'r', move |x| {
            let part = |shift: u32| f((x[0] >> shift) as i16, (x[1] >> shift) as i16) as u16;
            u64::from(part(0)) | u64::from(part(16)) << 16
        })
    };
    check(
        90,
        &[
            pairs("add.u16x2 %r9, %r0, %r1;", |a, b| a.wrapping_add(b)),
            pairs("add.s16x2 %r9, %r0, %r1;", |a, b| a.wrapping_add(b)),
            pairs("min.s16x2 %r9, %r0, %r1;", |a, b| a.min(b)),
            pairs("max.s16x2 %r9, %r0, %r1;", |a, b| a.max(b)),
            pairs("min.u16x2 %r9, %r0, %r1;", |a, b| (a as u16).min(b as u16) as i16),
            pairs("max.u16x2 %r9, %r0, %r1;", |a, b| (a as u16).max(b as u16) as i16),
            pairs("min.relu.s16x2 %r9, %r0, %r1;", |a, b| a.min(b).max(0)),
            pairs("max.relu.s16x2 %r9, %r0, %r1;", |a, b| a.max(b).max(0)),
            form("min.relu.s32 %r9, %r0, %r1;", "rr", 'r', |x| (x[0] as i32).min(x[1] as i32).max(0) as u64),
            form("max.relu.s32 %r9, %r0, %r1;", "rr", 'r', |x| (x[0] as i32).max(x[1] as i32).max(0) as u64),
        ],
    );
}
