//! `cvt` between every pair of types against Rust's conversions and the definitions of the rounding modes.

use super::{Random, edges_f32, edges_f64, sweep_f32};
use warpcheck::arith::Rounding;
use warpcheck::arith::cvt::{self, Modifiers, Type};

const MODES: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

fn with(rounding: Rounding) -> Modifiers {
    Modifiers { rounding, ..Modifiers::default() }
}

fn integers() -> Vec<u64> {
    let mut random = Random(3);
    let mut all = vec![0, u64::MAX];
    for bit in 0..64 {
        let power = 1u64 << bit;
        all.extend([
            power,
            power - 1,
            power + 1,
            !power,
            power | power >> 24,
            power | power >> 25,
            power | power >> 53,
        ]);
    }
    all.extend((0..2000).map(|_| random.draw() >> (random.draw() % 64)));
    all
}

#[test]
fn integers_extend_truncate_and_saturate() {
    for bits in integers() {
        for from in Type::ALL.into_iter().filter(|t| t.format().is_none()) {
            let value: i128 = match from {
                Type::U8 => (bits as u8).into(),
                Type::U16 => (bits as u16).into(),
                Type::U32 => (bits as u32).into(),
                Type::U64 => bits.into(),
                Type::S8 => (bits as i8).into(),
                Type::S16 => (bits as i16).into(),
                Type::S32 => (bits as i32).into(),
                _ => (bits as i64).into(),
            };
            let sat = Modifiers { sat: true, ..Modifiers::default() };
            macro_rules! check {
                ($($to:ident $unsigned:ty, $rust:ty;)*) => {$(
                    let plain = cvt::convert(Type::$to, from, bits, Modifiers::default());
                    assert_eq!(plain, u64::from(value as $rust as $unsigned), "{:?} from {from:?} {bits:#x}", Type::$to);
                    let clamped = value.clamp(<$rust>::MIN.into(), <$rust>::MAX.into()) as $rust as $unsigned;
                    assert_eq!(cvt::convert(Type::$to, from, bits, sat), u64::from(clamped));
                )*};
            }
            check! {
                U8 u8, u8; U16 u16, u16; U32 u32, u32; U64 u64, u64;
                S8 u8, i8; S16 u16, i16; S32 u32, i32; S64 u64, i64;
            }
        }
    }
}

#[test]
fn floats_become_integers_clamped() {
    let round = |x: f64, mode| match mode {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        _ => x.ceil(),
    };
    // Rust's conversion of a whole number clamps, and NaN gives zero.
    macro_rules! check {
        ($from:ident, $x:expr, $bits:expr; $($to:ident $unsigned:ty, $rust:ty, $nan64:expr;)*) => {$(
            for mode in MODES {
                let got = cvt::convert(Type::$to, Type::$from, $bits, with(mode));
                let expected = if $x.is_nan() && $nan64 { 1 << (<$rust>::BITS - 1) }
                    else { u64::from(round($x, mode) as $rust as $unsigned) };
                assert_eq!(got, expected, "{:?} of {} {mode:?}", Type::$to, $x);
            }
        )*};
    }
    for x in edges_f32().into_iter().chain(sweep_f32().step_by(7)) {
        let (wide, bits) = (f64::from(x), u64::from(x.to_bits()));
        check! { F32, wide, bits;
            U8 u8, u8, false; U16 u16, u16, false; U32 u32, u32, false; U64 u64, u64, true;
            S8 u8, i8, false; S16 u16, i16, false; S32 u32, i32, false; S64 u64, i64, true;
        }
    }
    for x in edges_f64() {
        check! { F64, x, x.to_bits();
            U8 u8, u8, true; U16 u16, u16, true; U32 u32, u32, true; U64 u64, u64, true;
            S8 u8, i8, true; S16 u16, i16, true; S32 u32, i32, true; S64 u64, i64, true;
        }
    }
    for half in 0..=u16::MAX {
        let (f, b) = (::half::f16::from_bits(half).to_f64(), ::half::bf16::from_bits(half).to_f64());
        check! { F16, f, u64::from(half); U8 u8, u8, false; S8 u8, i8, false; U16 u16, u16, false; S16 u16, i16, false;
        U32 u32, u32, false; S32 u32, i32, false; U64 u64, u64, true; S64 u64, i64, true; }
        check! { Bf16, b, u64::from(half); U32 u32, u32, false; S32 u32, i32, false; S64 u64, i64, true; }
    }
}

#[test]
fn integers_become_floats_rounded_once() {
    for bits in integers() {
        let check = |from: Type, f: f32, d: f64, value: i128| {
            let nearest = with(Rounding::Nearest);
            assert_eq!(cvt::convert(Type::F32, from, bits, nearest), u64::from(f.to_bits()), "f32 of {value}");
            assert_eq!(cvt::convert(Type::F64, from, bits, nearest), d.to_bits(), "f64 of {value}");
            for mode in [Rounding::Zero, Rounding::Down, Rounding::Up] {
                // The nearest is one of the two neighbours: compare exactly and step if it lies on the wrong side.
                let exact = |x: f64| (x as i128).cmp(&value);
                let wrong = |x: f64| match mode {
                    Rounding::Down => exact(x).is_gt(),
                    Rounding::Up => exact(x).is_lt(),
                    _ => {
                        if value >= 0 {
                            exact(x).is_gt()
                        } else {
                            exact(x).is_lt()
                        }
                    }
                };
                let upwards = mode == Rounding::Up || mode == Rounding::Zero && value < 0;
                let step = wrong(f.into());
                let f = if !step {
                    f
                } else if upwards {
                    f.next_up()
                } else {
                    f.next_down()
                };
                let step = wrong(d);
                let d = if !step {
                    d
                } else if upwards {
                    d.next_up()
                } else {
                    d.next_down()
                };
                assert_eq!(cvt::convert(Type::F32, from, bits, with(mode)), u64::from(f.to_bits()), "{value} {mode:?}");
                assert_eq!(cvt::convert(Type::F64, from, bits, with(mode)), d.to_bits(), "{value} {mode:?}");
            }
        };
        check(Type::U64, bits as f32, bits as f64, bits.into());
        check(Type::S64, bits as i64 as f32, bits as i64 as f64, (bits as i64).into());
        check(Type::U32, bits as u32 as f32, bits as u32 as f64, (bits as u32).into());
        check(Type::S32, bits as i32 as f32, bits as i32 as f64, (bits as i32).into());
        check(Type::U16, bits as u16 as f32, bits as u16 as f64, (bits as u16).into());
        check(Type::S8, bits as i8 as f32, bits as i8 as f64, (bits as i8).into());
        // 16-bit integers are exact in f32, so rounding from there rounds once.
        let half = ::half::f16::from_f32_const(bits as i16 as f32).to_bits();
        assert_eq!(cvt::convert(Type::F16, Type::S16, bits, with(Rounding::Nearest)), u64::from(half));
    }
}

#[test]
fn floats_become_floats() {
    let plain = with(Rounding::Nearest);
    for x in edges_f64() {
        let f = x as f32;
        let got = f32::from_bits(cvt::convert(Type::F32, Type::F64, x.to_bits(), plain) as u32);
        assert!(super::same_f32(got, f), "{x:e}: {got:e}");
        assert!(!f.is_nan() || got.to_bits() == 0x7fff_ffff);
        let down = f32::from_bits(cvt::convert(Type::F32, Type::F64, x.to_bits(), with(Rounding::Down)) as u32);
        let up = f32::from_bits(cvt::convert(Type::F32, Type::F64, x.to_bits(), with(Rounding::Up)) as u32);
        if x.is_finite() {
            assert!(f64::from(down) <= x && x <= f64::from(up), "{x:e}");
            assert!(down == up || down.next_up() == up, "{x:e}: {down:e} {up:e}");
            let zero = cvt::convert(Type::F32, Type::F64, x.to_bits(), with(Rounding::Zero)) as u32;
            assert_eq!(zero, if x < 0.0 { up } else { down }.to_bits(), "{x:e}");
        }
    }
    for x in edges_f32().into_iter().chain(sweep_f32().step_by(11)) {
        let bits = u64::from(x.to_bits());
        let wide = f64::from_bits(cvt::convert(Type::F64, Type::F32, bits, plain));
        assert!(super::same_f64(wide, x.into()));
        for mode in MODES {
            let whole = Modifiers { rounding: mode, integral: true, ..Modifiers::default() };
            let got = f32::from_bits(cvt::convert(Type::F32, Type::F32, bits, whole) as u32);
            let expected = match mode {
                Rounding::Nearest => x.round_ties_even(),
                Rounding::Zero => x.trunc(),
                Rounding::Down => x.floor(),
                _ => x.ceil(),
            };
            assert!(super::same_f32(got, expected), "{x:e} {mode:?}: {got:e}");
            assert!(super::same_f32(warpcheck::arith::float::integral_f32(x, mode), expected));
        }
        let sat = Modifiers { sat: true, ..plain };
        let got = f32::from_bits(cvt::convert(Type::F32, Type::F32, bits, sat) as u32);
        assert_eq!(got.to_bits(), if x > 0.0 { x.min(1.0) } else { 0.0 }.to_bits(), "{x:e}.sat");
        let ftz = Modifiers { ftz: true, ..plain };
        let flushed = if x.is_subnormal() { 0f32.copysign(x) } else { x };
        let got = f32::from_bits(cvt::convert(Type::F32, Type::F32, bits, ftz) as u32);
        assert!(super::same_f32(got, flushed));
    }
    // Between the two formats of 16 bits one is rounded once.
    for half in 0..=u16::MAX {
        let x = ::half::f16::from_bits(half);
        let got = cvt::convert(Type::Bf16, Type::F16, half.into(), plain) as u16;
        let expected = if x.is_nan() { 0x7fff } else { ::half::bf16::from_f32(x.to_f32()).to_bits() };
        assert_eq!(got, expected, "{half:#x}");
    }
}

#[test]
fn packed_forms_put_the_first_operand_in_the_upper_half() {
    let mode = Rounding::Nearest;
    assert_eq!(cvt::f16x2_from_f32(1.0, -2.0, mode, false), 0x3c00_c000);
    assert_eq!(cvt::f16x2_from_f32(1.0, -2.0, mode, true), 0x3c00_0000);
    assert_eq!(cvt::f16x2_from_f32(f32::NAN, 65520.0, mode, true), 0x7fff_7c00);
    assert_eq!(cvt::f16x2_from_f32(65520.0, -65520.0, Rounding::Zero, false), 0x7bff_fbff);
    assert_eq!(cvt::bf16x2_from_f32(1.0, -2.0, mode, false), 0x3f80_c000);
    assert_eq!(cvt::bf16x2_from_f32(-1.0, f32::NAN, mode, true), 0x0000_7fff);
    let e4m3 = warpcheck::arith::half::Fp8::E4m3;
    assert_eq!(cvt::fp8x2_from_f32(e4m3, 448.0, -1e9, false), 0x7efe);
    assert_eq!(cvt::fp8x2_from_f32(e4m3, f32::NAN, -1.0, true), 0x7f00);
    assert_eq!(cvt::f16x2_from_fp8x2(e4m3, 0x7f38, false), 0x7fff_3c00);
    assert_eq!(cvt::fp8x2_from_f16x2(e4m3, 0x3c00_c000, false), 0x38c0);
}
