//! Conversions of the narrow formats, and their arithmetic.

use super::{Random, edges_f32, sweep_f32};
use ::half::{bf16, f16};
use warpcheck::arith::Rounding;
use warpcheck::arith::half::{self, Fp8, MinMax};
use warpcheck::arith::soft::{self, Format};

const DIRECTED: [Rounding; 3] = [Rounding::Zero, Rounding::Down, Rounding::Up];

/// The `f32`s at which rounding to a format of 16 bits decides: each number of it, each midpoint, and the neighbours.
fn decisive(widen: fn(u16) -> f32) -> Vec<f32> {
    let mut all = Vec::new();
    for bits in 0..0x8000u16 {
        let (x, y) = (widen(bits), widen(bits + 1));
        if x.is_nan() {
            continue;
        }
        let middle = ((f64::from(x) + f64::from(y)) / 2.0) as f32;
        for z in [x, middle] {
            all.extend([z, z.next_up(), z.next_down(), -z, -z.next_up(), -z.next_down()]);
        }
    }
    all
}

#[test]
fn every_half_widens_exactly() {
    for bits in 0..=u16::MAX {
        let expected = f16::from_bits(bits).to_f32();
        let got = half::f16_to_f32(bits);
        if expected.is_nan() {
            assert_eq!(got.to_bits(), 0x7fff_ffff, "f16 {bits:#06x}");
        } else {
            assert_eq!(got.to_bits(), expected.to_bits(), "f16 {bits:#06x}");
            assert_eq!(half::f16_to_f64(bits), f16::from_bits(bits).to_f64());
            assert_eq!(half::bf16_to_f32(bits).is_nan(), bf16::from_bits(bits).to_f32().is_nan());
        }
        let wide = bf16::from_bits(bits).to_f32();
        if !wide.is_nan() {
            assert_eq!(half::bf16_to_f32(bits).to_bits(), wide.to_bits(), "bf16 {bits:#06x}");
        }
    }
}

#[test]
fn narrowing_to_nearest_is_that_of_the_half_crate() {
    let all = decisive(half::f16_to_f32).into_iter().chain(decisive(half::bf16_to_f32));
    for x in all.chain(sweep_f32()).chain(edges_f32()) {
        let (f, b) = (half::f16_from_f32(x), half::bf16_from_f32(x));
        if x.is_nan() {
            assert_eq!((f, b), (half::NAN, half::NAN));
        } else {
            assert_eq!(f, f16::from_f32_const(x).to_bits(), "f16 of {x:e} {:#x}", x.to_bits());
            assert_eq!(b, bf16::from_f32(x).to_bits(), "bf16 of {x:e} {:#x}", x.to_bits());
            assert_eq!(u64::from(f), soft::convert(Format::F32, Format::F16, x.to_bits().into(), Rounding::Nearest));
            assert_eq!(u64::from(b), soft::convert(Format::F32, Format::BF16, x.to_bits().into(), Rounding::Nearest));
        }
    }
}

/// The definition of directed rounding: the result lies on the right side, and the next number does not.
fn is_directed(x: f64, result: f64, up: f64, down: f64, mode: Rounding) -> bool {
    match mode {
        Rounding::Down => result <= x && (up > x || result == x),
        Rounding::Up => result >= x && (down < x || result == x),
        _ if x >= 0.0 => result <= x && up > x,
        _ => result >= x && down < x,
    }
}

#[test]
fn directed_narrowing_brackets_the_number() {
    let up16 = |b: u16| match b {
        0x8000 => 1,
        b if b & 0x8000 == 0 => b + 1,
        b => b - 1,
    };
    let down16 = |b: u16| up16(b ^ 0x8000) ^ 0x8000;
    for x in decisive(half::f16_to_f32).into_iter().chain(sweep_f32()).chain(edges_f32()) {
        for mode in DIRECTED {
            let r = half::f16_from_f32_rounded(x, mode);
            if x.is_nan() {
                assert_eq!(r, half::NAN);
                continue;
            }
            assert_eq!(r >> 15, (x.to_bits() >> 31) as u16, "sign of {x:e} {mode:?}");
            if x.is_infinite() {
                assert_eq!(r & 0x7fff, 0x7c00);
                continue;
            }
            let value = |b: u16| f64::from(half::f16_to_f32(b));
            // Beyond an infinity there is nothing: the NaN there compares false, so it is put out of the way.
            let up = if r == 0x7c00 { f64::INFINITY } else { value(up16(r)) };
            let down = if r == 0xfc00 { f64::NEG_INFINITY } else { value(down16(r)) };
            assert!(is_directed(f64::from(x), value(r), up, down, mode), "f16 of {x:e} {mode:?}: {r:#06x}");
            let wide = half::f16_from_f64(f64::from(x), mode);
            assert_eq!(wide, r);
        }
    }
    for x in decisive(half::bf16_to_f32).into_iter().chain(sweep_f32()) {
        for mode in DIRECTED {
            let r = half::bf16_from_f32_rounded(x, mode);
            // For the format with f32's exponents the definition is arithmetic on its bits.
            let bits = x.to_bits();
            let inexact = u16::from(bits & 0xffff != 0);
            let expected = match mode {
                _ if x.is_nan() => half::NAN,
                Rounding::Down if bits >> 31 == 1 => (bits >> 16) as u16 + inexact,
                Rounding::Up if bits >> 31 == 0 => (bits >> 16) as u16 + inexact,
                _ => (bits >> 16) as u16,
            };
            assert_eq!(r, expected, "bf16 of {x:e} {mode:?}");
        }
    }
}

#[test]
fn tf32_rounds_its_last_bit_away_from_zero() {
    for x in sweep_f32().chain(edges_f32()) {
        let r = half::tf32_from_f32(x, Rounding::NearestAway);
        if x.is_nan() {
            assert_eq!(r, 0x7fff_ffff);
            continue;
        }
        assert_eq!(r & 0x1fff, 0);
        let (value, exact) = (f64::from(f32::from_bits(r)), f64::from(x));
        if x.is_infinite() || value.is_infinite() {
            assert!(x.abs() >= f32::from_bits(0x7f7f_f000), "{x:e} became infinite");
            continue;
        }
        let below = f64::from(f32::from_bits(x.to_bits() & !0x1fff));
        let above = f64::from(f32::from_bits((x.to_bits() & !0x1fff) + 0x2000));
        let expected = if (exact - below).abs() < (above - exact).abs() { below } else { above };
        assert_eq!(value.to_bits(), expected.to_bits(), "{x:e}");
        assert_eq!(half::tf32_from_f32(x, Rounding::Zero), x.to_bits() & !0x1fff);
        assert_eq!(half::tf32_operand(x.to_bits()).to_bits(), x.to_bits() & !0x1fff);
    }
}

/// Sum of powers of two: the definition of the 8-bit formats, straight from their tables.
fn fp8_value(format: Fp8, bits: u8) -> f64 {
    let (exponent_bits, fraction_bits, bias) = if format == Fp8::E4m3 { (4, 3, 7) } else { (5, 2, 15) };
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    let exponent = i32::from(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    let sign = if bits & 0x80 != 0 { -1.0 } else { 1.0 };
    let special = exponent == (1 << exponent_bits) - 1;
    match format {
        Fp8::E4m3 if bits & 0x7f == 0x7f => f64::NAN,
        Fp8::E5m2 if special && fraction == 0.0 => sign * f64::INFINITY,
        Fp8::E5m2 if special => f64::NAN,
        _ if exponent == 0 => sign * fraction * 2f64.powi(1 - bias),
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - bias),
    }
}

#[test]
fn eight_bit_formats_are_their_tables() {
    for format in [Fp8::E4m3, Fp8::E5m2] {
        let values: Vec<f64> = (0..=255).map(|b| fp8_value(format, b)).collect();
        for (bits, &value) in (0u8..=255).zip(&values) {
            let got = f64::from(format.to_f32(bits));
            assert!(super::same_f64(got, value), "{format:?} {bits:#04x}: {got} for {value}");
        }
        let finite = |b: &u8| values[usize::from(*b)].is_finite();
        let largest = (0..=127).rfind(finite).unwrap();
        let candidates: Vec<u8> = (0..=largest).collect();
        let halves = (0..=u16::MAX).map(half::f16_to_f32);
        for x in halves.chain(edges_f32()) {
            let got = format.from_f32(x);
            if x.is_nan() {
                assert_eq!(got, 0x7f);
                continue;
            }
            let magnitude = f64::from(x.abs());
            // The nearest by distance; of two as near the even one.
            let distance = |b: &u8| (values[usize::from(*b)] - magnitude).abs();
            let best = *candidates
                .iter()
                .min_by(|a, b| distance(a).total_cmp(&distance(b)).then((*a & 1).cmp(&(*b & 1))))
                .unwrap();
            let best = if magnitude > values[usize::from(largest)] { largest } else { best };
            assert_eq!(got, best | if x.is_sign_negative() { 0x80 } else { 0 }, "{format:?} of {x:e}");
        }
    }
}

/// A finite half in units of 2⁻²⁴, exactly.
fn units(bits: u16) -> i128 {
    (half::f16_to_f64(bits) * 16_777_216.0) as i128
}

/// Whether `result` is `exact` (in units of 2⁻⁴⁸) rounded to the nearest half, ties to even.
fn is_nearest_f16(exact: i128, result: u16) -> bool {
    let magnitude = exact.unsigned_abs() as i128;
    let bits = result & 0x7fff;
    // Infinity stands for 2¹⁶, the number after the largest.
    let value = |b: u16| if b == 0x7c00 { 1i128 << 64 } else { units(b) << 24 };
    if bits > 0x7c00 || exact != 0 && (exact < 0) != (result & 0x8000 != 0) {
        return false;
    }
    let distance = (value(bits) - magnitude).abs();
    if bits == 0x7c00 && magnitude > 1 << 64 {
        return true;
    }
    let beats = |other: u16| {
        let d = (value(other) - magnitude).abs();
        distance < d || distance == d && bits & 1 == 0
    };
    (bits == 0 || beats(bits - 1)) && (bits == 0x7c00 || beats(bits + 1))
}

#[test]
fn half_arithmetic_is_exact_arithmetic_rounded_once() {
    let edges =
        [0u16, 1, 2, 0x3ff, 0x400, 0x401, 0x3bff, 0x3c00, 0x3c01, 0x3555, 0x4248, 0x6400, 0x67ff, 0x7bfe, 0x7bff];
    let edges: Vec<u16> = edges.iter().flat_map(|b| [*b, b | 0x8000]).collect();
    for a in 0..=u16::MAX {
        if a & 0x7c00 == 0x7c00 {
            continue;
        }
        for &b in &edges {
            let (x, y) = (units(a), units(b));
            assert!(is_nearest_f16((x + y) << 24, half::add_f16(a, b)), "{a:#x} + {b:#x}");
            assert!(is_nearest_f16((x - y) << 24, half::sub_f16(a, b)), "{a:#x} - {b:#x}");
            assert!(is_nearest_f16(x * y, half::mul_f16(a, b)), "{a:#x} * {b:#x}");
        }
    }
    let mut random = Random(1);
    for _ in 0..300_000 {
        let r = random.draw();
        let (a, b, c) = (r as u16, (r >> 16) as u16, (r >> 32) as u16);
        // Half of the sums made to cancel or to tie: c near −a·b.
        let c = if r >> 48 & 1 == 0 { half::neg(half::mul_f16(a, b)) ^ (r >> 50 & 1) as u16 } else { c };
        if [a, b, c].iter().any(|x| x & 0x7c00 == 0x7c00) {
            continue;
        }
        let exact = units(a) * units(b) + (units(c) << 24);
        let got = half::fma_f16(a, b, c);
        assert!(is_nearest_f16(exact, got), "{a:#x} * {b:#x} + {c:#x} = {got:#x}");
        assert_eq!(u64::from(got), soft::fma(Format::F16, a.into(), b.into(), c.into(), Rounding::Nearest));
    }
}

#[test]
fn half_arithmetic_keeps_the_rules_of_the_edges() {
    let (inf, minus_inf, nan, one) = (0x7c00, 0xfc00, half::NAN, 0x3c00);
    assert_eq!(half::add_f16(inf, minus_inf), nan);
    assert_eq!(half::sub_f16(inf, inf), nan);
    assert_eq!(half::mul_f16(inf, 0), nan);
    assert_eq!(half::fma_f16(inf, 0, one), nan);
    assert_eq!(half::fma_f16(inf, one, minus_inf), nan);
    assert_eq!(half::add_f16(0x7e01, one), nan);
    assert_eq!(half::add_f16(inf, one), inf);
    assert_eq!(half::add_f16(0x8000, 0x8000), 0x8000);
    assert_eq!(half::add_f16(0, 0x8000), 0);
    assert_eq!(half::sub_f16(one, one), 0);
    assert_eq!(half::fma_f16(0x8000, one, 0x8000), 0x8000);
    assert_eq!(half::mul_f16(0x7bff, 0x7bff), inf);
    assert_eq!(half::mul_f16(1, 0x8001), 0x8000);
    assert_eq!(half::add_bf16(0x7f80, 0xff80), nan);
    assert_eq!(half::mul_bf16(0x7f7f, 0x7f7f), 0x7f80);
    assert_eq!(half::flush_f16(0x83ff), 0x8000);
    assert_eq!(half::flush_f16(0x0400), 0x0400);
    for bits in 0..=u16::MAX {
        let x = f16::from_bits(bits).to_f32();
        let clamped = if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) };
        assert_eq!(half::f16_to_f32(half::saturate_f16(bits)), clamped, "{bits:#x}");
        assert_eq!(half::saturate_f16(bits) >> 15, 0, "{bits:#x}");
        let positive = if x.is_nan() {
            nan
        } else if bits & 0x8000 != 0 {
            0
        } else {
            bits
        };
        assert_eq!(half::relu_f16(bits), positive);
    }
}

#[test]
fn bf16_arithmetic_is_rounded_once() {
    let mut random = Random(2);
    for i in 0..400_000 {
        let r = random.draw();
        let (a, b, mut c) = (r as u16, (r >> 16) as u16, (r >> 32) as u16);
        if i % 2 == 0 {
            // An addend far below a product that ties: where rounding twice goes wrong.
            let exponent = (i32::from(half::mul_bf16(a, b) >> 7 & 0xff) - 8 - (r >> 48 & 63) as i32).max(0);
            c = c & 0x807f | (exponent as u16) << 7;
        }
        for (got, expected) in [
            (half::fma_bf16(a, b, c), soft::fma(Format::BF16, a.into(), b.into(), c.into(), Rounding::Nearest)),
            (half::mul_bf16(a, b), soft::mul(Format::BF16, a.into(), b.into(), Rounding::Nearest)),
            (half::add_bf16(a, b), soft::add(Format::BF16, a.into(), b.into(), Rounding::Nearest)),
            (half::sub_bf16(a, b), soft::add(Format::BF16, a.into(), (b ^ 0x8000).into(), Rounding::Nearest)),
        ] {
            assert_eq!(u64::from(got), expected, "{a:#x} {b:#x} {c:#x}");
        }
    }
    // (1 + 2⁻⁷)·(1 + 2⁻¹) ties between two numbers of 8 bits; anything above must round up.
    let (a, b) = (0x3f81, 0x3fc0);
    assert_eq!(half::mul_bf16(a, b), 0x3fc2);
    assert_eq!(half::fma_bf16(a, b, 0x0080), 0x3fc2);
    assert_eq!(half::fma_bf16(a, b, 0x8080), 0x3fc1);
}

#[test]
fn the_lesser_and_the_greater_half() {
    let edges = [0u16, 0x8000, 1, 0x8001, 0x3c00, 0xbc00, 0x7bff, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xfe00];
    let plain = MinMax::default();
    for a in 0..=u16::MAX {
        for b in edges {
            let (x, y) = (f16::from_bits(a), f16::from_bits(b));
            for larger in [false, true] {
                let got = half::min_max_f16(a, b, MinMax { larger, ..plain });
                let nan = half::min_max_f16(a, b, MinMax { larger, nan: true, ..plain });
                let expected = match (x.is_nan(), y.is_nan()) {
                    (true, true) => half::NAN,
                    (true, false) => b,
                    (false, true) => a,
                    // total_cmp puts −0 below +0.
                    _ => (if x.total_cmp(&y).is_gt() == larger { x } else { y }).to_bits(),
                };
                assert_eq!(got, expected, "{a:#x} {b:#x} larger {larger}");
                assert_eq!(nan, if x.is_nan() || y.is_nan() { half::NAN } else { expected });
                if !x.is_nan() && !y.is_nan() {
                    let magnitude = half::min_max_f16(a & 0x7fff, b & 0x7fff, MinMax { larger, ..plain });
                    let signed = half::min_max_f16(a, b, MinMax { larger, xorsign: true, ..plain });
                    assert_eq!(signed, magnitude | (a ^ b) & 0x8000);
                }
            }
        }
    }
}
