//! Bit manipulation: `prmt`, `bfe`, `bfi`, `lop3`, `shf`, `shl`, `shr`, `bfind`, `fns`, `bmsk`, `szext` and the like.
//!
//! `brev`, `clz` and `popc` are Rust's `reverse_bits`, `leading_zeros` and `count_ones`; `clz` of zero is the width.

/// A mode of `prmt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Permute {
    /// No mode: four selectors of four bits in **c**, the top bit of each replicating the sign of the byte.
    #[default]
    Index,
    /// `.f4e`: forward four extract.
    F4e,
    /// `.b4e`: backward four extract.
    B4e,
    /// `.rc8`: replicate 8.
    Rc8,
    /// `.ecl`: edge clamp left.
    Ecl,
    /// `.ecr`: edge clamp right.
    Ecr,
    /// `.rc16`: replicate 16.
    Rc16,
}

/// `prmt.b32{.mode} d, a, b, c`: four bytes picked from {b, a}, the bytes of **a** being 0 to 3 and those of **b** 4 to 7.
#[inline]
pub fn prmt(a: u32, b: u32, c: u32, mode: Permute) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let byte = |i: u32| (bytes >> (8 * (i & 7))) as u32 & 0xff;
    let n = c & 3;
    let pick = |f: &dyn Fn(u32) -> u32| (0..4).fold(0, |d, i| d | byte(f(i)) << (8 * i));
    match mode {
        Permute::Index => (0..4).fold(0, |d, i| {
            let selector = c >> (4 * i) & 0xf;
            let value = byte(selector);
            let value = if selector & 8 != 0 { if value & 0x80 != 0 { 0xff } else { 0 } } else { value };
            d | value << (8 * i)
        }),
        Permute::F4e => pick(&|i| n + i),
        Permute::B4e => pick(&|i| n.wrapping_sub(i)),
        Permute::Rc8 => pick(&|_| n),
        Permute::Ecl => pick(&|i| n.max(i)),
        Permute::Ecr => pick(&|i| n.min(i)),
        Permute::Rc16 => pick(&|i| (n & 1) * 2 + (i & 1)),
    }
}

/// `bfe.u32 d, a, b, c`: `c` bits of **a** from bit `b` on; both taken modulo 256. Bits beyond the top are zero.
#[inline(always)]
pub fn bfe_u32(a: u32, b: u32, c: u32) -> u32 {
    bfe_u64(u64::from(a), b, c) as u32
}

/// `bfe.u64`.
#[inline(always)]
pub fn bfe_u64(a: u64, b: u32, c: u32) -> u64 {
    let (position, length) = (b & 0xff, c & 0xff);
    let moved = a.checked_shr(position).unwrap_or(0);
    if length >= 64 { moved } else { moved & ((1 << length) - 1) }
}

/// `bfe.s32`: the field's top bit fills the result; beyond the top it is the sign of **a**. Length zero gives zero.
#[inline(always)]
pub fn bfe_s32(a: i32, b: u32, c: u32) -> i32 {
    let (position, length) = (b & 0xff, c & 0xff);
    if length == 0 {
        return 0;
    }
    // A field that reaches beyond the top holds copies of the sign there, so extending from its top bit is the same.
    let moved = i64::from(a) >> position.min(63);
    let shift = 64 - length.min(64);
    (moved << shift >> shift) as i32
}

/// `bfe.s64`.
#[inline(always)]
pub fn bfe_s64(a: i64, b: u32, c: u32) -> i64 {
    let (position, length) = (b & 0xff, c & 0xff);
    if length == 0 {
        return 0;
    }
    let moved = a >> position.min(63);
    let shift = 64 - length.min(64);
    moved << shift >> shift
}

/// `bfi.b32 f, a, b, c, d`: **b** with `d` bits of **a** put in at bit `c`; both taken modulo 256.
#[inline(always)]
pub fn bfi_b32(a: u32, b: u32, c: u32, d: u32) -> u32 {
    let (position, length) = (c & 0xff, d & 0xff);
    if position >= 32 || length == 0 {
        return b;
    }
    let mask = (u32::MAX >> (32 - length.min(32))) << position;
    b & !mask | (a << position) & mask
}

/// `bfi.b64`.
#[inline(always)]
pub fn bfi_b64(a: u64, b: u64, c: u32, d: u32) -> u64 {
    let (position, length) = (c & 0xff, d & 0xff);
    if position >= 64 || length == 0 {
        return b;
    }
    let mask = (u64::MAX >> (64 - length.min(64))) << position;
    b & !mask | (a << position) & mask
}

/// `lop3.b32`: bit i of `table` is the result for inputs (a, b, c) = the bits of i, `a` the most significant.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    let term = |i: u8, m: u32| if table >> i & 1 == 1 { m } else { 0 };
    term(0, !a & !b & !c)
        | term(1, !a & !b & c)
        | term(2, !a & b & !c)
        | term(3, !a & b & c)
        | term(4, a & !b & !c)
        | term(5, a & !b & c)
        | term(6, a & b & !c)
        | term(7, a & b & c)
}

/// `shf.l`: the upper half of {b, a} shifted left; `.clamp` limits the shift to 32, `.wrap` takes it modulo 32.
#[inline(always)]
pub fn shf_left(a: u32, b: u32, c: u32, clamp: bool) -> u32 {
    let n = if clamp { c.min(32) } else { c & 31 };
    (((u64::from(b) << 32 | u64::from(a)) << n) >> 32) as u32
}

/// `shf.r`: the lower half of {b, a} shifted right.
#[inline(always)]
pub fn shf_right(a: u32, b: u32, c: u32, clamp: bool) -> u32 {
    let n = if clamp { c.min(32) } else { c & 31 };
    ((u64::from(b) << 32 | u64::from(a)) >> n) as u32
}

/// `shl.b32`: shifts beyond the width give zero. The narrower and wider forms are the same with their width.
#[inline(always)]
pub fn shl_b32(a: u32, b: u32) -> u32 {
    a.checked_shl(b).unwrap_or(0)
}

/// `shl.b64`.
#[inline(always)]
pub fn shl_b64(a: u64, b: u32) -> u64 {
    a.checked_shl(b).unwrap_or(0)
}

/// `shl.b16`.
#[inline(always)]
pub fn shl_b16(a: u16, b: u32) -> u16 {
    a.checked_shl(b).unwrap_or(0)
}

/// `shr.u32`, `shr.b32`.
#[inline(always)]
pub fn shr_u32(a: u32, b: u32) -> u32 {
    a.checked_shr(b).unwrap_or(0)
}

/// `shr.u64`, `shr.b64`.
#[inline(always)]
pub fn shr_u64(a: u64, b: u32) -> u64 {
    a.checked_shr(b).unwrap_or(0)
}

/// `shr.u16`, `shr.b16`.
#[inline(always)]
pub fn shr_u16(a: u16, b: u32) -> u16 {
    a.checked_shr(b).unwrap_or(0)
}

/// `shr.s32`: shifts beyond the width give the sign.
#[inline(always)]
pub fn shr_s32(a: i32, b: u32) -> i32 {
    a >> b.min(31)
}

/// `shr.s64`.
#[inline(always)]
pub fn shr_s64(a: i64, b: u32) -> i64 {
    a >> b.min(63)
}

/// `shr.s16`.
#[inline(always)]
pub fn shr_s16(a: i16, b: u32) -> i16 {
    a >> b.min(15)
}

/// `bfind.u32`: position of the highest one; `0xffffffff` if there is none. `.shiftamt`: the shift that would move it
/// to the top.
#[inline(always)]
pub fn bfind_u32(a: u32, shift_amount: bool) -> u32 {
    match a {
        0 => u32::MAX,
        _ if shift_amount => a.leading_zeros(),
        _ => 31 - a.leading_zeros(),
    }
}

/// `bfind.s32`: of a negative number the highest zero.
#[inline(always)]
pub fn bfind_s32(a: i32, shift_amount: bool) -> u32 {
    bfind_u32((a ^ (a >> 31)) as u32, shift_amount)
}

/// `bfind.u64`.
#[inline(always)]
pub fn bfind_u64(a: u64, shift_amount: bool) -> u32 {
    match a {
        0 => u32::MAX,
        _ if shift_amount => a.leading_zeros(),
        _ => 63 - a.leading_zeros(),
    }
}

/// `bfind.s64`.
#[inline(always)]
pub fn bfind_s64(a: i64, shift_amount: bool) -> u32 {
    bfind_u64((a ^ (a >> 63)) as u64, shift_amount)
}

/// `fns.b32 d, mask, base, offset`: the position of the n-th one of `mask` from bit `base` on, upwards for a positive
/// `offset` n, downwards for a negative one; for zero, `base` itself if its bit is one. `0xffffffff` if there is none.
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    let one = |i: &u32| mask >> i & 1 == 1;
    let found = match offset {
        0 => Some(base).filter(one),
        1.. => (base..32).filter(one).nth(offset as usize - 1),
        _ => (0..=base).rev().filter(one).nth(offset.unsigned_abs() as usize - 1),
    };
    found.unwrap_or(u32::MAX)
}

/// `bmsk.clamp/wrap.b32 d, a, b`: `b` ones from bit `a` on.
#[inline]
pub fn bmsk(a: u32, b: u32, clamp: bool) -> u32 {
    let (position, width) = if clamp { (a.min(32), b.min(32)) } else { (a & 31, b & 31) };
    let ones = if width == 32 { u32::MAX } else { (1 << width) - 1 };
    shl_b32(ones, position)
}

/// `szext.clamp/wrap.u32`: the low `b` bits of **a**, zero-extended.
#[inline]
pub fn szext_u32(a: u32, b: u32, clamp: bool) -> u32 {
    let n = if clamp { b.min(32) } else { b & 31 };
    if n == 32 { a } else { a & ((1 << n) - 1) }
}

/// `szext.clamp/wrap.s32`: the low `b` bits of **a**, sign-extended.
#[inline]
pub fn szext_s32(a: i32, b: u32, clamp: bool) -> i32 {
    let n = if clamp { b.min(32) } else { b & 31 };
    if n == 0 { 0 } else { a << (32 - n) >> (32 - n) }
}
