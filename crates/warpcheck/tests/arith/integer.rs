//! Integer arithmetic against 128-bit integers.

use super::Random;
use warpcheck::arith::integer as int;

fn words() -> Vec<u64> {
    let mut random = Random(7);
    let mut all = vec![0, 1, 2, u64::MAX, u64::MAX - 1, 1 << 63, u64::MAX >> 1, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff];
    all.extend([0x8000, 0x7fff, 0xff_ffff, 0x80_0000, 0x7f_ffff, 0x1_0000_0000, 0x8080_7f7f_ff01_80ff]);
    all.extend((0..60).map(|i| random.draw() >> (i % 5 * 13)));
    all
}

#[test]
fn products_carries_and_quotients() {
    for x in words() {
        for y in words() {
            let (a, b, c, d) = (x as u32, y as u32, x as i32, y as i32);
            let (wa, wb, wc, wd) = (i128::from(a), i128::from(b), i128::from(c), i128::from(d));
            let (ux, uy, sx, sy) = (u128::from(x), u128::from(y), i128::from(x as i64), i128::from(y as i64));
            assert_eq!(int::mul_hi_u32(a, b), ((wa * wb) >> 32) as u32);
            assert_eq!(int::mul_hi_s32(c, d), ((wc * wd) >> 32) as i32);
            assert_eq!(int::mul_hi_u64(x, y), ((ux * uy) >> 64) as u64);
            assert_eq!(int::mul_hi_s64(x as i64, y as i64), ((sx * sy) >> 64) as i64);
            assert_eq!(i128::from(int::mul_wide_u32(a, b)), wa * wb);
            assert_eq!(i128::from(int::mul_wide_s32(c, d)), wc * wd);
            let (h, k) = (i128::from(x as u16), i128::from(y as u16));
            let (i, j) = (i128::from(x as i16), i128::from(y as i16));
            assert_eq!(i128::from(int::mul_wide_u16(x as u16, y as u16)), h * k);
            assert_eq!(i128::from(int::mul_wide_s16(x as i16, y as i16)), i * j);
            assert_eq!(int::mul_hi_u16(x as u16, y as u16), ((h * k) >> 16) as u16);
            assert_eq!(int::mul_hi_s16(x as i16, y as i16), ((i * j) >> 16) as i16);
            let clamp = |v: i128| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            assert_eq!(int::mad_hi_sat_s32(c, d, c), clamp(((wc * wd) >> 32) + wc));
            let (m, n) = (wa & 0xff_ffff, wb & 0xff_ffff);
            let sign = |v: i128| if v & 0x80_0000 != 0 { v - 0x100_0000 } else { v };
            assert_eq!(int::mul24_lo_u32(a, b), (m * n) as u32);
            assert_eq!(int::mul24_hi_u32(a, b), ((m * n) >> 16) as u32);
            assert_eq!(int::mul24_lo_s32(c, d), (sign(m) * sign(n)) as i32);
            assert_eq!(int::mul24_hi_s32(c, d), ((sign(m) * sign(n)) >> 16) as i32);
            for carry in [false, true] {
                let one = i128::from(carry);
                let sum = wa + wb + one;
                assert_eq!(int::add_carry_u32(a, b, carry), (sum as u32, sum >> 32 == 1));
                let difference = wa - wb - one;
                assert_eq!(int::sub_borrow_u32(a, b, carry), (difference as u32, difference < 0));
                let (sum, difference) = (ux as i128 + uy as i128 + one, ux as i128 - uy as i128 - one);
                assert_eq!(int::add_carry_u64(x, y, carry), (sum as u64, sum >> 64 == 1));
                assert_eq!(int::sub_borrow_u64(x, y, carry), (difference as u64, difference < 0));
            }
            assert_eq!(int::sad_u32(a, b, 7), ((wa - wb).abs() + 7) as u32);
            assert_eq!(int::sad_s32(c, d, -7), ((wc - wd).abs() - 7) as i32);
            assert_eq!(int::sad_u64(x, y, 7), ((ux as i128 - uy as i128).abs() + 7) as u64);
            assert_eq!(int::sad_s64(x as i64, y as i64, -7), ((sx - sy).abs() - 7) as i64);
            assert_eq!(int::sad_u16(x as u16, y as u16, 7), ((h - k).abs() + 7) as u16);
            assert_eq!(int::sad_s16(x as i16, y as i16, -7), ((i - j).abs() - 7) as i16);
            if b == 0 {
                assert_eq!((int::div_u32(a, b), int::rem_u32(a, b)), (u32::MAX, a));
                assert_eq!((int::div_s32(c, d), int::rem_s32(c, d)), (-1, c));
            } else {
                assert_eq!((int::div_u32(a, b), int::rem_u32(a, b)), ((wa / wb) as u32, (wa % wb) as u32));
                assert_eq!((int::div_s32(c, d), int::rem_s32(c, d)), ((wc / wd) as i32, (wc % wd) as i32));
            }
            if y == 0 {
                assert_eq!((int::div_u64(x, y), int::rem_u64(x, y)), (u64::MAX, x));
                assert_eq!((int::div_s64(x as i64, 0), int::rem_s64(x as i64, 0)), (-1, x as i64));
            } else {
                assert_eq!((int::div_u64(x, y), int::rem_u64(x, y)), ((ux / uy) as u64, (ux % uy) as u64));
                let (q, r) = (int::div_s64(x as i64, y as i64), int::rem_s64(x as i64, y as i64));
                assert_eq!((q, r), ((sx / sy) as i64, (sx % sy) as i64));
            }
        }
    }
}

#[test]
fn dot_products() {
    for x in words() {
        for y in words() {
            let (a, b, c) = (x as u32, y as u32, (x >> 32) as u32 ^ (y >> 32) as u32);
            for (a_signed, b_signed) in [(false, false), (false, true), (true, false), (true, true)] {
                let byte = |v: u32, i: usize, signed: bool| {
                    let raw = i128::from(v.to_le_bytes()[i]);
                    if signed && raw > 127 { raw - 256 } else { raw }
                };
                let short = |v: u32, i: u32| {
                    let raw = i128::from(v >> (16 * i) & 0xffff);
                    if a_signed && raw > 0x7fff { raw - 0x1_0000 } else { raw }
                };
                let sum: i128 = (0..4).map(|i| byte(a, i, a_signed) * byte(b, i, b_signed)).sum();
                assert_eq!(int::dp4a(a, b, c, a_signed, b_signed), (i128::from(c) + sum) as u32);
                for high in [false, true] {
                    let first = if high { 2 } else { 0 };
                    let sum = short(a, 0) * byte(b, first, b_signed) + short(a, 1) * byte(b, first + 1, b_signed);
                    assert_eq!(int::dp2a(a, b, c, a_signed, b_signed, high), (i128::from(c) + sum) as u32);
                }
            }
        }
    }
}

#[test]
fn differences_of_parts() {
    for x in words() {
        for y in words() {
            let (a, b) = (x as u32, y as u32);
            let part = |v: u32, i: u32, width: u32| i64::from(v >> (i * width)) & ((1 << width) - 1);
            for (width, plain, sum) in [
                (8, int::vabsdiff4_u32(a, b, 5, false), int::vabsdiff4_u32(a, b, u32::MAX, true)),
                (16, int::vabsdiff2_u32(a, b, 5, false), int::vabsdiff2_u32(a, b, u32::MAX, true)),
            ] {
                let d: Vec<i64> = (0..32 / width).map(|i| (part(a, i, width) - part(b, i, width)).abs()).collect();
                assert!((0..).zip(&d).all(|(i, &d)| part(plain, i, width) == d), "{a:#x} {b:#x}");
                assert_eq!(sum, (d.iter().sum::<i64>() - 1) as u32);
            }
        }
    }
}
