//! Integer arithmetic: wide and high products, carry chains, dot products, sums of absolute differences.
//!
//! What is not here is one Rust method: `add`, `sub`, `mul.lo` wrap; `min`, `max`, `abs`, `neg` too (`abs` and `neg` of
//! the smallest number are that number). `add.sat.s32`, `sub.sat.s32` saturate.

/// `div` by zero: unspecified in PTX; hardware gives all ones.
#[inline(always)]
pub fn div_u32(a: u32, b: u32) -> u32 {
    a.checked_div(b).unwrap_or(u32::MAX)
}

/// `div.s32`; the smallest number by −1 wraps. By zero, all ones.
#[inline(always)]
pub fn div_s32(a: i32, b: i32) -> i32 {
    if b == 0 { -1 } else { a.wrapping_div(b) }
}

/// `div.u64`. By zero, all ones.
#[inline(always)]
pub fn div_u64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(u64::MAX)
}

/// `div.s64`. By zero, all ones.
#[inline(always)]
pub fn div_s64(a: i64, b: i64) -> i64 {
    if b == 0 { -1 } else { a.wrapping_div(b) }
}

/// `rem.u32`. By zero, the dividend.
#[inline(always)]
pub fn rem_u32(a: u32, b: u32) -> u32 {
    a.checked_rem(b).unwrap_or(a)
}

/// `rem.s32`. By zero, the dividend.
#[inline(always)]
pub fn rem_s32(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { a.wrapping_rem(b) }
}

/// `rem.u64`. By zero, the dividend.
#[inline(always)]
pub fn rem_u64(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(a)
}

/// `rem.s64`. By zero, the dividend.
#[inline(always)]
pub fn rem_s64(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { a.wrapping_rem(b) }
}

/// `mul.hi.u32`.
#[inline(always)]
pub fn mul_hi_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

/// `mul.hi.s32`.
#[inline(always)]
pub fn mul_hi_s32(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b)) >> 32) as i32
}

/// `mul.hi.u64`.
#[inline(always)]
pub fn mul_hi_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

/// `mul.hi.s64`.
#[inline(always)]
pub fn mul_hi_s64(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

/// `mul.hi.u16`.
#[inline(always)]
pub fn mul_hi_u16(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

/// `mul.hi.s16`.
#[inline(always)]
pub fn mul_hi_s16(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// `mul.wide.u32`.
#[inline(always)]
pub fn mul_wide_u32(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

/// `mul.wide.s32`.
#[inline(always)]
pub fn mul_wide_s32(a: i32, b: i32) -> i64 {
    i64::from(a) * i64::from(b)
}

/// `mul.wide.u16`.
#[inline(always)]
pub fn mul_wide_u16(a: u16, b: u16) -> u32 {
    u32::from(a) * u32::from(b)
}

/// `mul.wide.s16`.
#[inline(always)]
pub fn mul_wide_s16(a: i16, b: i16) -> i32 {
    i32::from(a) * i32::from(b)
}

/// `mad.hi.sat.s32`: the high half of a × b plus c, clamped.
#[inline(always)]
pub fn mad_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul_hi_s32(a, b).saturating_add(c)
}

/// The product of the low 24 bits, unsigned: 48 bits.
#[inline(always)]
fn product24_u(a: u32, b: u32) -> u64 {
    u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)
}

/// The product of the low 24 bits, signed: 48 bits.
#[inline(always)]
fn product24_s(a: i32, b: i32) -> i64 {
    i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)
}

/// `mul24.lo.u32`: the low 32 of the 48 bits.
#[inline(always)]
pub fn mul24_lo_u32(a: u32, b: u32) -> u32 {
    product24_u(a, b) as u32
}

/// `mul24.hi.u32`: the high 32 of the 48 bits.
#[inline(always)]
pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    (product24_u(a, b) >> 16) as u32
}

/// `mul24.lo.s32`.
#[inline(always)]
pub fn mul24_lo_s32(a: i32, b: i32) -> i32 {
    product24_s(a, b) as i32
}

/// `mul24.hi.s32`.
#[inline(always)]
pub fn mul24_hi_s32(a: i32, b: i32) -> i32 {
    (product24_s(a, b) >> 16) as i32
}

/// `add.cc`, `addc.cc` of 32 bits: the sum and the carry out, for `CC.CF`.
#[inline(always)]
pub fn add_carry_u32(a: u32, b: u32, carry: bool) -> (u32, bool) {
    let sum = u64::from(a) + u64::from(b) + u64::from(carry);
    (sum as u32, sum >> 32 != 0)
}

/// `add.cc`, `addc.cc` of 64 bits.
#[inline(always)]
pub fn add_carry_u64(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    (sum as u64, sum >> 64 != 0)
}

/// `sub.cc`, `subc.cc` of 32 bits: the difference and the borrow out, for `CC.CF`.
#[inline(always)]
pub fn sub_borrow_u32(a: u32, b: u32, borrow: bool) -> (u32, bool) {
    let (d, first) = a.overflowing_sub(b);
    let (d, second) = d.overflowing_sub(u32::from(borrow));
    (d, first || second)
}

/// `sub.cc`, `subc.cc` of 64 bits.
#[inline(always)]
pub fn sub_borrow_u64(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let (d, first) = a.overflowing_sub(b);
    let (d, second) = d.overflowing_sub(u64::from(borrow));
    (d, first || second)
}

/// `sad.u32`: |a − b| + c.
#[inline(always)]
pub fn sad_u32(a: u32, b: u32, c: u32) -> u32 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s32`.
#[inline(always)]
pub fn sad_s32(a: i32, b: i32, c: i32) -> i32 {
    c.wrapping_add_unsigned(a.abs_diff(b))
}

/// `sad.u64`.
#[inline(always)]
pub fn sad_u64(a: u64, b: u64, c: u64) -> u64 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s64`.
#[inline(always)]
pub fn sad_s64(a: i64, b: i64, c: i64) -> i64 {
    c.wrapping_add_unsigned(a.abs_diff(b))
}

/// `sad.u16`.
#[inline(always)]
pub fn sad_u16(a: u16, b: u16, c: u16) -> u16 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s16`.
#[inline(always)]
pub fn sad_s16(a: i16, b: i16, c: i16) -> i16 {
    c.wrapping_add_unsigned(a.abs_diff(b))
}

/// Byte `i` of a word, sign- or zero-extended.
#[inline(always)]
fn byte(x: u32, i: u32, signed: bool) -> i32 {
    let b = (x >> (8 * i)) as u8;
    if signed { i32::from(b as i8) } else { i32::from(b) }
}

/// Half `i` of a word, sign- or zero-extended.
#[inline(always)]
fn short(x: u32, i: u32, signed: bool) -> i64 {
    let h = (x >> (16 * i)) as u16;
    if signed { i64::from(h as i16) } else { i64::from(h) }
}

/// `dp4a.atype.btype d, a, b, c`: c plus the four products of bytes, wrapping. The flags say which operand is `.s32`.
#[inline(always)]
pub fn dp4a(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    let mut sum = c;
    for i in 0..4 {
        sum = sum.wrapping_add(byte(a, i, a_signed).wrapping_mul(byte(b, i, b_signed)) as u32);
    }
    sum
}

/// `dp2a.lo/.hi.atype.btype d, a, b, c`: c plus the two halves of **a** times the lower or upper two bytes of **b**.
#[inline(always)]
pub fn dp2a(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool, high: bool) -> u32 {
    let first = if high { 2 } else { 0 };
    let mut sum = c;
    for i in 0..2 {
        sum = sum.wrapping_add((short(a, i, a_signed) * i64::from(byte(b, first + i, b_signed))) as u32);
    }
    sum
}

/// `vabsdiff4.u32.u32.u32 d, a, b, c`: |a − b| of each byte. With `.add`, c plus the sum of them.
#[inline(always)]
pub fn vabsdiff4_u32(a: u32, b: u32, c: u32, add: bool) -> u32 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let d = [0, 1, 2, 3].map(|i| a[i].abs_diff(b[i]));
    if add { d.iter().fold(c, |sum, &x| sum.wrapping_add(x.into())) } else { u32::from_le_bytes(d) }
}

/// `vabsdiff2.u32.u32.u32 d, a, b, c`: |a − b| of each half. With `.add`, c plus the sum of them.
#[inline(always)]
pub fn vabsdiff2_u32(a: u32, b: u32, c: u32, add: bool) -> u32 {
    let low = (a & 0xffff).abs_diff(b & 0xffff);
    let high = (a >> 16).abs_diff(b >> 16);
    if add { c.wrapping_add(low).wrapping_add(high) } else { low | high << 16 }
}
