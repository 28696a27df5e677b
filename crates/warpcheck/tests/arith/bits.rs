//! Bit manipulation against the loops of the PTX manual, bit by bit.

use super::Random;
use warpcheck::arith::bits::{self, Permute};

fn words() -> Vec<u64> {
    let mut random = Random(6);
    let mut all = vec![0, 1, u64::MAX, 0x8000_0000, 0x7fff_ffff, 1 << 63, u64::MAX >> 1, 0xff00_ff00_80ff_0180];
    all.extend((0..300).map(|i| random.draw() >> (i % 5 * 13)));
    all
}

/// The manual's loop of `bfe`.
fn bfe(a: u64, b: u32, c: u32, top: u32, signed: bool) -> u64 {
    let bit = |i: u32| a >> i & 1;
    let (position, length) = (b & 0xff, c & 0xff);
    let sign = if !signed || length == 0 { 0 } else { bit((position + length - 1).min(top)) };
    (0..=top).fold(0, |d, i| d | if i < length && position + i <= top { bit(position + i) } else { sign } << i)
}

/// The manual's loop of `bfi`.
fn bfi(a: u64, b: u64, c: u32, d: u32, top: u32) -> u64 {
    let (position, length) = (c & 0xff, d & 0xff);
    (0..length)
        .take_while(|i| position + i <= top)
        .fold(b, |f, i| f & !(1 << (position + i)) | (a >> i & 1) << (position + i))
}

#[test]
fn fields_are_extracted_and_inserted() {
    let lengths = [0u32, 1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257, 0xffff_ff04];
    for w in words() {
        for b in lengths {
            for c in lengths {
                assert_eq!(
                    u64::from(bits::bfe_u32(w as u32, b, c)),
                    bfe(w & 0xffff_ffff, b, c, 31, false),
                    "{w:#x} {b} {c}"
                );
                assert_eq!(
                    bits::bfe_s32(w as i32, b, c) as u32,
                    bfe(w & 0xffff_ffff, b, c, 31, true) as u32,
                    "{w:#x} {b} {c}"
                );
                assert_eq!(bits::bfe_u64(w, b, c), bfe(w, b, c, 63, false), "{w:#x} {b} {c}");
                assert_eq!(bits::bfe_s64(w as i64, b, c) as u64, bfe(w, b, c, 63, true), "{w:#x} {b} {c}");
                let into = w.rotate_left(29) ^ 0x5555;
                assert_eq!(u64::from(bits::bfi_b32(w as u32, into as u32, b, c)), bfi(w, into & 0xffff_ffff, b, c, 31));
                assert_eq!(bits::bfi_b64(w, into, b, c), bfi(w, into, b, c, 63), "{w:#x} {b} {c}");
            }
        }
    }
}

#[test]
fn every_permutation() {
    let (a, b) = (0x8302_8100u32, 0x0786_0584u32);
    let byte = |i: u32| if i < 4 { a >> (8 * i) & 0xff } else { b >> (8 * (i - 4)) & 0xff };
    let join = |d: [u32; 4]| d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
    for c in 0..=0xffff {
        let one = |selector: u32| {
            let value = byte(selector & 7);
            if selector & 8 == 0 {
                value
            } else if value >> 7 == 1 {
                0xff
            } else {
                0
            }
        };
        let expected = join([one(c >> 12), one(c >> 8 & 15), one(c >> 4 & 15), one(c & 15)]);
        assert_eq!(bits::prmt(a, b, c, Permute::Index), expected, "{c:#x}");
    }
    // The manual's table, d.b3 first.
    let tables: [(Permute, [[u32; 4]; 4]); 6] = [
        (Permute::F4e, [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
        (Permute::B4e, [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
        (Permute::Rc8, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
        (Permute::Ecl, [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
        (Permute::Ecr, [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
        (Permute::Rc16, [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
    ];
    for (mode, table) in tables {
        for (c, row) in (0..).zip(table) {
            assert_eq!(bits::prmt(a, b, c, mode), join(row.map(byte)), "{mode:?} {c}");
            assert_eq!(bits::prmt(a, b, c | 0xfffc, mode), join(row.map(byte)), "only two bits of c count");
        }
    }
}

#[test]
fn every_table_of_three_inputs() {
    let (a, b, c) = (0xf0f0_1234u32, 0xcccc_5678, 0xaaaa_9abc);
    for table in 0..=255u8 {
        let expected = (0..32).fold(0, |d, i| {
            let index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1;
            d | u32::from(table >> index & 1) << i
        });
        assert_eq!(bits::lop3(a, b, c, table), expected, "{table:#x}");
    }
    assert_eq!(bits::lop3(a, b, c, 0xf0 & 0xcc & 0xaa), a & b & c);
    assert_eq!(bits::lop3(a, b, c, 0xf0 ^ 0xcc ^ 0xaa), a ^ b ^ c);
}

#[test]
fn shifts() {
    for w in words() {
        let (a, b) = (w as u32, (w >> 32) as u32);
        for n in [0u32, 1, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, u32::MAX] {
            let bit = |i: i64| {
                if i < 0 {
                    0
                } else if i < 32 {
                    a >> i & 1
                } else if i < 64 {
                    b >> (i - 32) & 1
                } else {
                    0
                }
            };
            for clamp in [false, true] {
                let m = i64::from(if clamp { n.min(32) } else { n % 32 });
                let left = (0..32).fold(0, |d, i| d | bit(32 + i - m) << i);
                let right = (0..32).fold(0, |d, i| d | bit(i + m) << i);
                assert_eq!(bits::shf_left(a, b, n, clamp), left, "{w:#x} {n} {clamp}");
                assert_eq!(bits::shf_right(a, b, n, clamp), right, "{w:#x} {n} {clamp}");
            }
            let wide = n.min(127);
            assert_eq!(u128::from(bits::shl_b32(a, n)), u128::from(a) << wide & 0xffff_ffff);
            assert_eq!(u128::from(bits::shl_b16(a as u16, n)), u128::from(a as u16) << wide & 0xffff);
            assert_eq!(u128::from(bits::shl_b64(w, n)), if n > 63 { 0 } else { u128::from(w << n) });
            assert_eq!(u128::from(bits::shr_u32(a, n)), u128::from(a) >> wide);
            assert_eq!(u128::from(bits::shr_u64(w, n)), u128::from(w) >> wide);
            assert_eq!(u128::from(bits::shr_u16(a as u16, n)), u128::from(a as u16) >> wide);
            assert_eq!(i128::from(bits::shr_s32(a as i32, n)), i128::from(a as i32) >> wide);
            assert_eq!(i128::from(bits::shr_s64(w as i64, n)), i128::from(w as i64) >> wide);
            assert_eq!(i128::from(bits::shr_s16(a as i16, n)), i128::from(a as i16) >> wide);
        }
    }
}

#[test]
fn searches_and_masks() {
    for w in words() {
        // The manual's loops of bfind.
        let find = |a: u64, top: u32, signed: bool| {
            let a = if signed && a >> top & 1 == 1 { !a } else { a };
            (0..=top).rev().find(|i| a >> i & 1 == 1)
        };
        for shift in [false, true] {
            let result = |found: Option<u32>, top: u32| match found {
                Some(i) => {
                    if shift {
                        top - i
                    } else {
                        i
                    }
                }
                None => u32::MAX,
            };
            assert_eq!(bits::bfind_u32(w as u32, shift), result(find(w & 0xffff_ffff, 31, false), 31), "{w:#x}");
            assert_eq!(bits::bfind_s32(w as i32, shift), result(find(w & 0xffff_ffff, 31, true), 31), "{w:#x}");
            assert_eq!(bits::bfind_u64(w, shift), result(find(w, 63, false), 63), "{w:#x}");
            assert_eq!(bits::bfind_s64(w as i64, shift), result(find(w, 63, true), 63), "{w:#x}");
        }
        let mask = w as u32;
        for base in 0..32u32 {
            for offset in -33..=33i32 {
                // The manual's loop of fns.
                let mut expected = u32::MAX;
                if offset == 0 {
                    if mask >> base & 1 == 1 {
                        expected = base;
                    }
                } else {
                    let (mut position, mut count) = (base as i32, offset.abs() - 1);
                    while (0..32).contains(&position) {
                        if mask >> position & 1 == 1 {
                            if count == 0 {
                                expected = position as u32;
                                break;
                            }
                            count -= 1;
                        }
                        position += offset.signum();
                    }
                }
                assert_eq!(bits::fns(mask, base, offset), expected, "{mask:#x} {base} {offset}");
            }
        }
        for n in [0u32, 1, 8, 31, 32, 33, 40, u32::MAX] {
            for m in [0u32, 1, 8, 31, 32, 33, 40] {
                for clamp in [false, true] {
                    let limit = |x: u32| if clamp { x.min(32) } else { x % 32 };
                    let (from, to) = (limit(m), limit(m) + limit(n));
                    let ones = (0..32).fold(0, |d, i| d | u32::from((from..to).contains(&i)) << i);
                    assert_eq!(bits::bmsk(m, n, clamp), ones, "{m} {n} {clamp}");
                }
            }
            for clamp in [false, true] {
                let length = if clamp { n.min(32) } else { n % 32 };
                assert_eq!(u64::from(bits::szext_u32(mask, n, clamp)), bfe(mask.into(), 0, length, 31, false));
                assert_eq!(bits::szext_s32(mask as i32, n, clamp) as u32, bfe(mask.into(), 0, length, 31, true) as u32);
            }
        }
    }
}
