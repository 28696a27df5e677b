//! `.f32` and `.f64` arithmetic against the CPU's own, under each of its rounding modes.

use super::{Random, edges_f32, edges_f64, same_f32, same_f64};
use warpcheck::arith::Rounding;
use warpcheck::arith::float::{self, Property};
use warpcheck::arith::soft::{self, Format};

const MODES: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

/// The CPU's operation under a rounding mode: the control word set, one instruction, the control word restored.
#[cfg(target_arch = "x86_64")]
mod cpu {
    use std::arch::asm;
    use warpcheck::arith::Rounding;

    fn control(mode: Rounding) -> u32 {
        let field = match mode {
            Rounding::Down => 1,
            Rounding::Up => 2,
            Rounding::Zero => 3,
            _ => 0,
        };
        0x1f80 | field << 13
    }

    macro_rules! operation {
        ($name:ident, $type:ty, $instruction:literal) => {
            pub fn $name(mut a: $type, b: $type, mode: Rounding) -> $type {
                let (set, restore) = (control(mode), 0x1f80u32);
                // SAFETY: the control word is restored before anything else can run; two registers are touched.
                unsafe {
                    asm!(
                        "ldmxcsr [{set}]", concat!($instruction, " {a}, {b}"), "ldmxcsr [{restore}]",
                        set = in(reg) &set, restore = in(reg) &restore, a = inout(xmm_reg) a, b = in(xmm_reg) b,
                    );
                }
                a
            }
        };
    }
    operation!(add_f32, f32, "addss");
    operation!(sub_f32, f32, "subss");
    operation!(mul_f32, f32, "mulss");
    operation!(div_f32, f32, "divss");
    operation!(sqrt_f32, f32, "sqrtss");
    operation!(add_f64, f64, "addsd");
    operation!(sub_f64, f64, "subsd");
    operation!(mul_f64, f64, "mulsd");
    operation!(div_f64, f64, "divsd");
    operation!(sqrt_f64, f64, "sqrtsd");

    macro_rules! fused {
        ($name:ident, $type:ty, $instruction:literal) => {
            /// a × b + c. The caller has asked whether the CPU has FMA.
            pub fn $name(a: $type, b: $type, mut c: $type, mode: Rounding) -> $type {
                let (set, restore) = (control(mode), 0x1f80u32);
                // SAFETY: as above, and the caller has checked for the instruction.
                unsafe {
                    asm!(
                        "ldmxcsr [{set}]", concat!($instruction, " {c}, {a}, {b}"), "ldmxcsr [{restore}]",
                        set = in(reg) &set, restore = in(reg) &restore,
                        a = in(xmm_reg) a, b = in(xmm_reg) b, c = inout(xmm_reg) c,
                    );
                }
                c
            }
        };
    }
    fused!(fma_f32, f32, "vfmadd231ss");
    fused!(fma_f64, f64, "vfmadd231sd");
}

/// Pairs and a third: edges against edges, then random bits, half of them close in exponent so that sums cancel.
fn triples_f32() -> Vec<(f32, f32, f32)> {
    let edges = edges_f32();
    let mut random = Random(4);
    let mut all = Vec::new();
    for (i, &a) in edges.iter().enumerate() {
        for (j, &b) in edges.iter().enumerate() {
            all.push((a, b, edges[(7 * i + 13 * j) % edges.len()]));
            all.push((a, b, -(a * b)));
        }
    }
    for _ in 0..100_000 {
        let (r, s) = (random.draw(), random.draw());
        let (a, b) = (f32::from_bits(r as u32), f32::from_bits((r >> 32) as u32));
        let near = f32::from_bits((r as u32 & 0xff00_0000) | s as u32 & 0x80ff_ffff);
        all.push(if s >> 40 & 1 == 0 {
            (a, near, f32::from_bits((s >> 32) as u32))
        } else {
            (a, b, -(a * b).next_up())
        });
    }
    all
}

fn triples_f64() -> Vec<(f64, f64, f64)> {
    let edges = edges_f64();
    let mut random = Random(5);
    let mut all = Vec::new();
    for (i, &a) in edges.iter().enumerate() {
        for (j, &b) in edges.iter().enumerate() {
            all.push((a, b, edges[(7 * i + 13 * j) % edges.len()]));
        }
    }
    for _ in 0..100_000 {
        let (r, s, t) = (random.draw(), random.draw(), random.draw());
        let a = f64::from_bits(r);
        let near = f64::from_bits(r & 0xfff0_0000_0000_0000 ^ s & 0x803f_ffff_ffff_ffff);
        let c = if t & 1 == 0 { f64::from_bits(t) } else { -(a * near) };
        all.push((a, near, c));
    }
    all
}

#[cfg(target_arch = "x86_64")]
#[test]
fn single_precision_rounds_as_the_cpu_does() {
    for (a, b, c) in triples_f32() {
        for mode in MODES {
            for (name, got, expected) in [
                ("add", float::add_f32(a, b, mode), cpu::add_f32(a, b, mode)),
                ("sub", float::sub_f32(a, b, mode), cpu::sub_f32(a, b, mode)),
                ("mul", float::mul_f32(a, b, mode), cpu::mul_f32(a, b, mode)),
                ("div", float::div_f32(a, b, mode), cpu::div_f32(a, b, mode)),
                ("rcp", float::rcp_f32(b, mode), cpu::div_f32(1.0, b, mode)),
                ("sqrt", float::sqrt_f32(b, mode), cpu::sqrt_f32(a, b, mode)),
            ] {
                assert!(same_f32(got, expected), "{name} {a:e} {b:e} {mode:?}: {got:e}, not {expected:e}");
            }
            if std::is_x86_feature_detected!("fma") {
                let (got, expected) = (float::fma_f32(a, b, c, mode), cpu::fma_f32(a, b, c, mode));
                assert!(same_f32(got, expected), "fma {a:e} {b:e} {c:e} {mode:?}: {got:e}, not {expected:e}");
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn double_precision_rounds_as_the_cpu_does() {
    for (a, b, c) in triples_f64() {
        for mode in MODES {
            for (name, got, expected) in [
                ("add", float::add_f64(a, b, mode), cpu::add_f64(a, b, mode)),
                ("sub", float::sub_f64(a, b, mode), cpu::sub_f64(a, b, mode)),
                ("mul", float::mul_f64(a, b, mode), cpu::mul_f64(a, b, mode)),
                ("div", float::div_f64(a, b, mode), cpu::div_f64(a, b, mode)),
                ("rcp", float::rcp_f64(b, mode), cpu::div_f64(1.0, b, mode)),
                ("sqrt", float::sqrt_f64(b, mode), cpu::sqrt_f64(a, b, mode)),
            ] {
                assert!(same_f64(got, expected), "{name} {a:e} {b:e} {mode:?}: {got:e}, not {expected:e}");
            }
            if std::is_x86_feature_detected!("fma") {
                let (got, expected) = (float::fma_f64(a, b, c, mode), cpu::fma_f64(a, b, c, mode));
                assert!(same_f64(got, expected), "fma {a:e} {b:e} {c:e} {mode:?}: {got:e}, not {expected:e}");
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn exact_arithmetic_agrees_with_the_cpu_when_it_rounds_to_nearest() {
    let n = Rounding::Nearest;
    for (a, b, c) in triples_f32() {
        let [x, y, z] = [a, b, c].map(|v| u64::from(v.to_bits()));
        for (name, got, expected) in [
            ("add", soft::add(Format::F32, x, y, n), a + b),
            ("mul", soft::mul(Format::F32, x, y, n), a * b),
            ("div", soft::div(Format::F32, x, y, n), a / b),
            ("sqrt", soft::sqrt(Format::F32, x, n), a.sqrt()),
            ("fma", soft::fma(Format::F32, x, y, z, n), a.mul_add(b, c)),
        ] {
            let got = f32::from_bits(got as u32);
            assert!(same_f32(got, expected), "{name} {a:e} {b:e} {c:e}: {got:e}, not {expected:e}");
        }
    }
    for (a, b, c) in triples_f64() {
        let [x, y, z] = [a, b, c].map(f64::to_bits);
        for (name, got, expected) in [
            ("add", soft::add(Format::F64, x, y, n), a + b),
            ("mul", soft::mul(Format::F64, x, y, n), a * b),
            ("div", soft::div(Format::F64, x, y, n), a / b),
            ("sqrt", soft::sqrt(Format::F64, x, n), a.sqrt()),
            ("fma", soft::fma(Format::F64, x, y, z, n), a.mul_add(b, c)),
        ] {
            let got = f64::from_bits(got);
            assert!(same_f64(got, expected), "{name} {a:e} {b:e} {c:e}: {got:e}, not {expected:e}");
        }
    }
}

#[test]
fn the_lesser_the_greater_and_nan() {
    let edges = edges_f32();
    for &a in &edges {
        for &b in &edges {
            let expected = |larger: bool| match (a.is_nan(), b.is_nan()) {
                (true, true) => float::NAN_F32,
                (true, false) => b,
                (false, true) => a,
                // total_cmp puts −0 below +0.
                _ => {
                    if a.total_cmp(&b).is_gt() == larger {
                        a
                    } else {
                        b
                    }
                }
            };
            let nan = a.is_nan() || b.is_nan();
            for (larger, plain, strict) in [
                (false, float::min_f32(a, b), float::min_nan_f32(a, b)),
                (true, float::max_f32(a, b), float::max_nan_f32(a, b)),
            ] {
                assert_eq!(plain.to_bits(), expected(larger).to_bits(), "{a:e} {b:e} larger {larger}");
                let strictly = if nan { float::NAN_F32 } else { expected(larger) };
                assert_eq!(strict.to_bits(), strictly.to_bits(), "{a:e} {b:e} larger {larger}");
            }
            assert!(same_f64(float::min_f64(a.into(), b.into()), expected(false).into()), "{a:e} {b:e}");
            assert!(same_f64(float::max_f64(a.into(), b.into()), expected(true).into()), "{a:e} {b:e}");
            let signed = float::xor_sign_f32(float::min_f32(a.abs(), b.abs()), a, b);
            assert_eq!(signed.is_sign_negative(), a.is_sign_negative() != b.is_sign_negative());
            assert_eq!(float::copysign_f32(a, b).to_bits(), b.to_bits() & !(1 << 31) | a.to_bits() & 1 << 31);
        }
    }
    assert_eq!(float::copysign_f64(-1.0, 2.0), -2.0);
}

#[test]
fn flushing_saturation_and_classes() {
    for x in edges_f32() {
        let flushed = if x.is_subnormal() { 0f32.copysign(x) } else { x };
        assert_eq!(float::flush_f32(x).to_bits(), flushed.to_bits(), "{x:e}");
        let clamped = if x.is_nan() || x <= 0.0 { 0.0 } else { x.min(1.0) };
        assert_eq!(float::saturate_f32(x).to_bits(), clamped.to_bits(), "{x:e}");
        assert_eq!(float::saturate_f64(x.into()), f64::from(clamped));
        let ask = |property| float::testp_f32(x, property);
        let exponent = x.to_bits() >> 23 & 0xff;
        let fraction = x.to_bits() & 0x7f_ffff;
        assert_eq!(ask(Property::Finite), exponent != 255);
        assert_eq!(ask(Property::Infinite), exponent == 255 && fraction == 0);
        assert_eq!(ask(Property::Number), !(exponent == 255 && fraction != 0));
        assert_eq!(ask(Property::NotANumber), exponent == 255 && fraction != 0);
        assert_eq!(ask(Property::Normal), exponent != 255 && exponent != 0 || x == 0.0);
        assert_eq!(ask(Property::Subnormal), exponent == 0 && fraction != 0);
    }
    assert!(float::testp_f64(f64::from_bits(1), Property::Subnormal));
    assert!(float::testp_f64(-0.0, Property::Normal));
    assert_eq!(float::canonical_f32(f32::from_bits(0xffc0_0001)).to_bits(), 0x7fff_ffff);
    assert_eq!(float::canonical_f64(f64::NAN).to_bits(), 0x7fff_ffff_ffff_ffff);
}
