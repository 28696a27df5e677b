//! The approximations against `f64`, within the error that PTX states for each.

use super::{edges_f32, sweep_f32};
use warpcheck::arith::approx;

fn all() -> impl Iterator<Item = f32> {
    sweep_f32().chain(edges_f32())
}

/// Distance in units of the last place of the `f32` nearest to `exact`.
fn ulps(got: f32, exact: f64) -> f64 {
    let near = exact as f32;
    if near.is_infinite() || exact == 0.0 || got.is_nan() {
        return if got == near { 0.0 } else { f64::INFINITY };
    }
    let place = (f64::from(near.abs().next_up()) - f64::from(near.abs())).max(f64::from(f32::from_bits(1)));
    (f64::from(got) - exact).abs() / place
}

/// One function over everything: NaN where the exact one is, else within `bound` ulp.
fn check(name: &str, f: fn(f32) -> f32, exact: fn(f64) -> f64, bound: f64) {
    for x in all() {
        let (got, exact) = (f(x), exact(x.into()));
        if exact.is_nan() {
            assert_eq!(got.to_bits(), 0x7fff_ffff, "{name} {x:e}");
        } else {
            assert!(ulps(got, exact) <= bound, "{name} {x:e}: {got:e}, not {exact:e}");
            assert!(exact != 0.0 || got.to_bits() == (exact as f32).to_bits(), "{name} {x:e}: sign of zero");
        }
    }
}

#[test]
fn powers_logarithms_and_roots_stay_within_an_ulp() {
    // PTX: ex2 2 ulp, lg2 2⁻²² absolute in [0.5, 2], rcp 1 ulp, sqrt 2⁻²³ and rsqrt 2⁻²²·⁹ relative. Half an ulp is
    // correct rounding; 0.51 leaves room for the error of the `f64` behind it.
    check("ex2", approx::ex2_f32, f64::exp2, 0.51);
    check("rcp", approx::rcp_f32, f64::recip, 0.51);
    check("sqrt", approx::sqrt_f32, f64::sqrt, 0.51);
    check("rsqrt", approx::rsqrt_f32, |x| 1.0 / x.sqrt(), 0.51);
    for x in all() {
        let (got, exact) = (approx::lg2_f32(x), f64::from(x).log2());
        if exact.is_nan() {
            assert_eq!(got.to_bits(), 0x7fff_ffff, "lg2 {x:e}");
        } else {
            assert!(ulps(got, exact) <= 0.51 || (f64::from(got) - exact).abs() < 1e-15, "lg2 {x:e}: {got:e} {exact:e}");
        }
    }
}

#[test]
fn sine_and_cosine_stay_near_everywhere() {
    for x in all() {
        let (sin, cos) = (approx::sin_f32(x), approx::cos_f32(x));
        if !x.is_finite() {
            assert!(sin.to_bits() == 0x7fff_ffff && cos.to_bits() == 0x7fff_ffff, "{x:e}");
            continue;
        }
        assert!(sin.abs() <= 1.0 && cos.abs() <= 1.0, "{x:e}");
        assert!(x != 0.0 || sin.to_bits() == x.to_bits() && cos == 1.0);
        // PTX: 2⁻²⁰·⁵ in [−π, π]. Here that holds as far as the angle itself is known to f64.
        if x.abs() < 1e9 {
            let (s, c) = f64::from(x).sin_cos();
            let bound = 2f64.powi(-24) * if x.abs() < 1e5 { 1.0 } else { 8.0 };
            assert!((f64::from(sin) - s).abs() <= bound, "sin {x:e}: {sin:e}, not {s:e}");
            assert!((f64::from(cos) - c).abs() <= bound, "cos {x:e}: {cos:e}, not {c:e}");
        }
    }
}

#[test]
fn hyperbolic_tangent_is_odd_and_near() {
    for x in all() {
        let got = approx::tanh_f32(x);
        if x.is_nan() {
            assert_eq!(got.to_bits(), 0x7fff_ffff);
            continue;
        }
        let exact = f64::from(x).tanh();
        // PTX: 2⁻¹¹ relative.
        assert!((f64::from(got) - exact).abs() <= exact.abs() * 2f64.powi(-22), "tanh {x:e}: {got:e}, not {exact:e}");
        assert_eq!(got.to_bits(), approx::tanh_f32(-x).to_bits() ^ 0x8000_0000);
    }
}

#[test]
fn division_has_its_ranges() {
    let huge = f32::from_bits(0x7e80_0001);
    assert_eq!(approx::div_f32(1e30, huge).to_bits(), 0);
    assert_eq!(approx::div_f32(-1e30, huge).to_bits(), 0x8000_0000);
    assert_eq!(approx::div_f32(f32::INFINITY, huge).to_bits(), 0x7fff_ffff);
    assert_eq!(approx::div_f32(6.0, 3.0), 2.0);
    assert_eq!(approx::div_f32(1.0, 0.0), f32::INFINITY);
    assert_eq!(approx::div_f32(0.0, 0.0).to_bits(), 0x7fff_ffff);
    assert_eq!(approx::div_full_f32(huge, huge), 1.0);
}

#[test]
fn gross_approximations_of_doubles() {
    for x in [1.0, 3.0, -7.0, 1e300, 1e-300, 12345.678] {
        let got = approx::rcp_f64(x);
        assert_eq!(got.to_bits() as u32, 0);
        assert!((got * x - 1.0).abs() < 2f64.powi(-19), "{x}: {got}");
        assert!((approx::rsqrt_f64(x.abs()) * x.abs().sqrt() - 1.0).abs() < 1e-15);
        assert!((approx::rsqrt_ftz_f64(x.abs()) * x.abs().sqrt() - 1.0).abs() < 2f64.powi(-19));
    }
    assert_eq!(approx::rcp_f64(f64::from_bits(1)), f64::INFINITY);
    assert_eq!(approx::rcp_f64(-0.0), f64::NEG_INFINITY);
    assert_eq!(approx::rcp_f64(f64::INFINITY), 0.0);
    assert!(approx::rsqrt_f64(-1.0).is_nan());
}

#[test]
fn every_half_of_the_half_forms() {
    for bits in 0..=u16::MAX {
        let (f, b) = (::half::f16::from_bits(bits), ::half::bf16::from_bits(bits));
        let near = |got: f64, exact: f64, relative: f64, absolute: f64| {
            got == exact || got.is_nan() && exact.is_nan() || (got - exact).abs() <= exact.abs() * relative + absolute
        };
        let subnormal = 2f64.powi(-25);
        let ex2 = ::half::f16::from_bits(approx::ex2_f16(bits)).to_f64();
        let exact = f.to_f64().exp2();
        assert!(
            if exact >= 65520.0 { ex2.is_infinite() } else { near(ex2, exact, 2f64.powi(-11), subnormal) },
            "{f}: {ex2}"
        );
        let tanh = ::half::f16::from_bits(approx::tanh_f16(bits)).to_f64();
        assert!(near(tanh, f.to_f64().tanh(), 2f64.powi(-10), subnormal), "{f}: {tanh}");
        let tanh = ::half::bf16::from_bits(approx::tanh_bf16(bits)).to_f64();
        assert!(near(tanh, b.to_f64().tanh(), 2f64.powi(-8), 0.0), "{b}: {tanh}");
        let ex2 = ::half::bf16::from_bits(approx::ex2_bf16(bits)).to_f64();
        let exact = b.to_f64().exp2();
        assert!(exact > 3.39e38 || near(ex2, exact, 2f64.powi(-8), 1.2e-38), "{b}: {ex2}");
    }
}
