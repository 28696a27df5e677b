//! Integer arithmetic, logic, shifts, comparisons, moves.

use super::{ExecContext, vector::levels};
use crate::program::Inst;

levels! {
    ADD32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a.wrapping_add(b));
    SUB32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a.wrapping_sub(b));
    MUL32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a.wrapping_mul(b));
    MAD32 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c));
    ADD64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u64| a.wrapping_add(b));
    SUB64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u64| a.wrapping_sub(b));
    MUL64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u64| a.wrapping_mul(b));
    MAD64 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: u64, b: u64, c: u64| a.wrapping_mul(b).wrapping_add(c));
    MULHIU32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    MULHIS32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32);
    MULWIDEU32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| u64::from(a) * u64::from(b));
    MULWIDES32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: i32, b: i32| i64::from(a) * i64::from(b));
    MADWIDEU32 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c,
        |a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c));
    MADWIDES32 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c,
        |a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c));
    MINS32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: i32, b: i32| a.min(b));
    MAXS32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: i32, b: i32| a.max(b));
    MINU32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a.min(b));
    MAXU32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a.max(b));
    NEG32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a.wrapping_neg());
    NEG64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| a.wrapping_neg());
    ABS32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: i32| a.wrapping_abs());
    AND32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a & b);
    OR32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a | b);
    XOR32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a ^ b);
    NOT32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| !a);
    AND64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u64| a & b);
    OR64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u64| a | b);
    XOR64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u64| a ^ b);
    NOT64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| !a);
    SHL32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| if b < 32 { a << (b & 31) } else { 0 });
    SHRU32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| if b < 32 { a >> (b & 31) } else { 0 });
    SHRS32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: i32, b: u32| a >> (b.min(31) & 31));
    SHL64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u32| if b < 64 { a << (b & 63) } else { 0 });
    SHRU64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u64, b: u32| if b < 64 { a >> (b & 63) } else { 0 });
    SHRS64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: i64, b: u32| a >> (b.min(63) & 63));
    MOV32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a);
    MOV64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| a);
    /// 32 bits to 64, unsigned.
    ZEXT = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| u64::from(a));
    /// 32 bits to 64, signed.
    SEXT = |cx, i, m| cx.map1(m, i.d, i.a, |a: i32| i64::from(a));
    TRUNC = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| a as u32);
    /// The low bits (`e` of them) of 32, the rest zero.
    LOW32 = |cx, i, m| { let e = i.e; cx.map1(m, i.d, i.a, |a: u32| a << (32 - e) >> (32 - e)) };
    /// The low bits (`e` of them) of 32, sign-extended.
    SIGN32 = |cx, i, m| { let e = i.e; cx.map1(m, i.d, i.a, |a: i32| a << (32 - e) >> (32 - e)) };
    /// `mov.b64 d, {a, b}`.
    PACK64 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| u64::from(a) | u64::from(b) << 32);
    /// The upper half of 64 bits.
    HIGH64 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u64| (a >> 32) as u32);
    PACK32 = |cx, i, m| cx.map2(m, i.d, i.a, i.b, |a: u32, b: u32| a & 0xffff | b << 16);
    HIGH32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a >> 16);
    POPC32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a.count_ones());
    CLZ32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a.leading_zeros());
    BREV32 = |cx, i, m| cx.map1(m, i.d, i.a, |a: u32| a.reverse_bits());
    SHFL32 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: u32, b: u32, c: u32| {
        ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32
    });
    SHFR32 = |cx, i, m| cx.map3(m, i.d, i.a, i.b, i.c, |a: u32, b: u32, c: u32| {
        ((u64::from(b) << 32 | u64::from(a)) >> (c & 31)) as u32
    });
    /// `lop3`, the table in `e`.
    LOP3 = |cx, i, m| {
        let t: [u32; 8] = std::array::from_fn(|k| 0u32.wrapping_sub(i.e >> k & 1));
        cx.map3(m, i.d, i.a, i.b, i.c, |a: u32, b: u32, c: u32| {
            (t[0] & !a & !b & !c) | (t[1] & !a & !b & c) | (t[2] & !a & b & !c) | (t[3] & !a & b & c)
                | (t[4] & a & !b & !c) | (t[5] & a & !b & c) | (t[6] & a & b & !c) | (t[7] & a & b & c)
        })
    };
    /// Selects by predicate `c`; `e` is 1 when it is negated.
    SELP32 = |cx, i, m| { let p = cx.pred(i.c) ^ 0u32.wrapping_sub(i.e); cx.select::<u32>(m, i.d, i.a, i.b, p) };
    SELP64 = |cx, i, m| { let p = cx.pred(i.c) ^ 0u32.wrapping_sub(i.e); cx.select::<u64>(m, i.d, i.a, i.b, p) };
}

/// Comparisons: the result goes to predicate `d`; `c` is its complement's predicate where the instruction has one
/// (0 is none).
macro_rules! compare {
    ($($name:ident: $ty:ty = $f:expr;)*) => {
        levels! {
            $($name = |cx, i, m| {
                let lanes = cx.test2::<$ty>(i.a, i.b, $f);
                cx.set_pred(i.d, m, lanes);
                if i.c != 0 { cx.set_pred(i.c, m, !lanes); }
            };)*
        }
    };
}

/// Comparisons of `u32`.
pub(crate) mod compare_u32 {
    use super::*;
    compare! { EQ: u32 = |a, b| a == b; NE: u32 = |a, b| a != b; LT: u32 = |a, b| a < b;
    LE: u32 = |a, b| a <= b; GT: u32 = |a, b| a > b; GE: u32 = |a, b| a >= b; }
}

/// Comparisons of `i32`.
pub(crate) mod compare_s32 {
    use super::*;
    compare! { LT: i32 = |a, b| a < b; LE: i32 = |a, b| a <= b; GT: i32 = |a, b| a > b; GE: i32 = |a, b| a >= b; }
}

/// Comparisons of `u64`.
pub(crate) mod compare_u64 {
    use super::*;
    compare! { EQ: u64 = |a, b| a == b; NE: u64 = |a, b| a != b; LT: u64 = |a, b| a < b;
    LE: u64 = |a, b| a <= b; GT: u64 = |a, b| a > b; GE: u64 = |a, b| a >= b; }
}

/// Comparisons of `i64`.
pub(crate) mod compare_s64 {
    use super::*;
    compare! { LT: i64 = |a, b| a < b; LE: i64 = |a, b| a <= b; GT: i64 = |a, b| a > b; GE: i64 = |a, b| a >= b; }
}

/// Comparisons of `f32`; the unordered ones hold when one side is NaN.
pub(crate) mod compare_f32 {
    use super::*;
    compare! { EQ: f32 = |a, b| a == b; NE: f32 = |a, b| a != b && !a.is_nan() && !b.is_nan(); LT: f32 = |a, b| a < b;
    LE: f32 = |a, b| a <= b; GT: f32 = |a, b| a > b; GE: f32 = |a, b| a >= b;
    EQU: f32 = |a, b| a == b || a.is_nan() || b.is_nan(); NEU: f32 = |a, b| a != b;
    LTU: f32 = |a, b| a < b || a.is_nan() || b.is_nan(); LEU: f32 = |a, b| a <= b || a.is_nan() || b.is_nan(); GTU: f32 = |a, b| a > b || a.is_nan() || b.is_nan(); GEU: f32 = |a, b| a >= b || a.is_nan() || b.is_nan();
    NUM: f32 = |a, b| !a.is_nan() && !b.is_nan(); NAN: f32 = |a, b| a.is_nan() || b.is_nan(); }
}

/// Comparisons of `f64`.
pub(crate) mod compare_f64 {
    use super::*;
    compare! { EQ: f64 = |a, b| a == b; NE: f64 = |a, b| a != b && !a.is_nan() && !b.is_nan(); LT: f64 = |a, b| a < b;
    LE: f64 = |a, b| a <= b; GT: f64 = |a, b| a > b; GE: f64 = |a, b| a >= b;
    EQU: f64 = |a, b| a == b || a.is_nan() || b.is_nan(); NEU: f64 = |a, b| a != b;
    LTU: f64 = |a, b| a < b || a.is_nan() || b.is_nan(); LEU: f64 = |a, b| a <= b || a.is_nan() || b.is_nan(); GTU: f64 = |a, b| a > b || a.is_nan() || b.is_nan(); GEU: f64 = |a, b| a >= b || a.is_nan() || b.is_nan();
    NUM: f64 = |a, b| !a.is_nan() && !b.is_nan(); NAN: f64 = |a, b| a.is_nan() || b.is_nan(); }
}

mod logic {
    use super::*;
    levels! {
        /// Logic of predicates: `e` bit 0 and 1 negate the sources.
        PAND = |cx, i, m| { let (a, b) = sources(cx, i); cx.set_pred(i.d, m, a & b) };
        POR = |cx, i, m| { let (a, b) = sources(cx, i); cx.set_pred(i.d, m, a | b) };
        PXOR = |cx, i, m| { let (a, b) = sources(cx, i); cx.set_pred(i.d, m, a ^ b) };
        PMOV = |cx, i, m| { let (a, _) = sources(cx, i); cx.set_pred(i.d, m, a) };
    }

    #[inline(always)]
    fn sources(cx: &ExecContext<'_>, i: &Inst) -> (u32, u32) {
        (cx.pred(i.a) ^ 0u32.wrapping_sub(i.e & 1), cx.pred(i.b) ^ 0u32.wrapping_sub(i.e >> 1 & 1))
    }
}
pub(crate) use logic::{PAND, PMOV, POR, PXOR};
