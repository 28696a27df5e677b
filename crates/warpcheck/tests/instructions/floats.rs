//! `.f32` and `.f64` arithmetic in every rounding, `.ftz`, `.sat`; comparisons; approximations.

use crate::{Form, check, f, fb, form, g};
use warpcheck::arith::Rounding;
use warpcheck::arith::{approx, float};

const MODES: [(&str, Rounding); 4] =
    [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];

#[test]
fn single_precision_in_every_rounding() {
    let mut all: Vec<Form> = Vec::new();
    for (name, mode) in MODES {
        for (suffix, ftz, sat) in
            [("", false, false), (".ftz", true, false), (".sat", false, true), (".ftz.sat", true, true)]
        {
            let flush = move |x: f32| if ftz { float::flush_f32(x) } else { x };
            let end = move |x: f32| {
                let x = flush(x);
                fb(if sat { float::saturate_f32(x) } else { x })
            };
            let i = move |x: u64| flush(f(x));
            let t = |op: &str, args: &str| format!("{op}.{name}{suffix}.f32 %f9, {args};");
            all.push(form(&t("add", "%f0, %f1"), "ff", 'f', move |x| end(float::add_f32(i(x[0]), i(x[1]), mode))));
            all.push(form(&t("sub", "%f0, %f1"), "ff", 'f', move |x| end(float::sub_f32(i(x[0]), i(x[1]), mode))));
            all.push(form(&t("mul", "%f0, %f1"), "ff", 'f', move |x| end(float::mul_f32(i(x[0]), i(x[1]), mode))));
            all.push(form(&t("fma", "%f0, %f1, %f2"), "fff", 'f', move |x| {
                end(float::fma_f32(i(x[0]), i(x[1]), i(x[2]), mode))
            }));
            if !sat {
                all.push(form(&t("div", "%f0, %f1"), "ff", 'f', move |x| end(float::div_f32(i(x[0]), i(x[1]), mode))));
                all.push(form(&t("rcp", "%f0"), "f", 'f', move |x| end(float::rcp_f32(i(x[0]), mode))));
                all.push(form(&t("sqrt", "%f0"), "f", 'f', move |x| end(float::sqrt_f32(i(x[0]), mode))));
            }
        }
    }
    all.push(form("add.f32 %f9, %f0, 0f3F800000;", "f", 'f', |x| fb(f(x[0]) + 1.0)));
    all.push(form("neg.f32 %f9, %f0;", "f", 'f', |x| x[0] ^ 1 << 31));
    all.push(form("abs.f32 %f9, %f0;", "f", 'f', |x| x[0] & 0x7fff_ffff));
    all.push(form("neg.ftz.f32 %f9, %f0;", "f", 'f', |x| fb(-float::flush_f32(f(x[0])))));
    all.push(form("copysign.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(float::copysign_f32(f(x[0]), f(x[1])))));
    all.push(form("min.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(float::min_f32(f(x[0]), f(x[1])))));
    all.push(form("max.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(float::max_f32(f(x[0]), f(x[1])))));
    all.push(form("min.NaN.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(float::min_nan_f32(f(x[0]), f(x[1])))));
    all.push(form("max.NaN.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(float::max_nan_f32(f(x[0]), f(x[1])))));
    all.push(form("max.ftz.f32 %f9, %f0, %f1;", "ff", 'f', |x| {
        fb(float::max_f32(float::flush_f32(f(x[0])), float::flush_f32(f(x[1]))))
    }));
    check(86, &all);
}

#[test]
fn double_precision_in_every_rounding() {
    let mut all: Vec<Form> = Vec::new();
    for (name, mode) in MODES {
        let t = |op: &str, args: &str| format!("{op}.{name}.f64 %g9, {args};");
        all.push(form(&t("add", "%g0, %g1"), "gg", 'g', move |x| float::add_f64(g(x[0]), g(x[1]), mode).to_bits()));
        all.push(form(&t("sub", "%g0, %g1"), "gg", 'g', move |x| float::sub_f64(g(x[0]), g(x[1]), mode).to_bits()));
        all.push(form(&t("mul", "%g0, %g1"), "gg", 'g', move |x| float::mul_f64(g(x[0]), g(x[1]), mode).to_bits()));
        all.push(form(&t("fma", "%g0, %g1, %g2"), "ggg", 'g', move |x| {
            float::fma_f64(g(x[0]), g(x[1]), g(x[2]), mode).to_bits()
        }));
        all.push(form(&t("div", "%g0, %g1"), "gg", 'g', move |x| float::div_f64(g(x[0]), g(x[1]), mode).to_bits()));
        all.push(form(&t("rcp", "%g0"), "g", 'g', move |x| float::rcp_f64(g(x[0]), mode).to_bits()));
        all.push(form(&t("sqrt", "%g0"), "g", 'g', move |x| float::sqrt_f64(g(x[0]), mode).to_bits()));
    }
    all.push(form("neg.f64 %g9, %g0;", "g", 'g', |x| x[0] ^ 1 << 63));
    all.push(form("abs.f64 %g9, %g0;", "g", 'g', |x| x[0] & !(1 << 63)));
    all.push(form("min.f64 %g9, %g0, %g1;", "gg", 'g', |x| float::min_f64(g(x[0]), g(x[1])).to_bits()));
    all.push(form("max.f64 %g9, %g0, %g1;", "gg", 'g', |x| float::max_f64(g(x[0]), g(x[1])).to_bits()));
    all.push(form("copysign.f64 %g9, %g0, %g1;", "gg", 'g', |x| float::copysign_f64(g(x[0]), g(x[1])).to_bits()));
    check(70, &all);
}

#[test]
fn comparisons_ordered_and_unordered() {
    let mut all: Vec<Form> = Vec::new();
    let operations: [(&str, fn(f64, f64) -> bool); 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| a == b || a.is_nan() || b.is_nan()),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a < b || a.is_nan() || b.is_nan()),
        ("leu", |a, b| a <= b || a.is_nan() || b.is_nan()),
        ("gtu", |a, b| a > b || a.is_nan() || b.is_nan()),
        ("geu", |a, b| a >= b || a.is_nan() || b.is_nan()),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (name, op) in operations {
        all.push(form(&format!("setp.{name}.f32 %p9, %f0, %f1;"), "ff", 'p', move |x| {
            op(f(x[0]).into(), f(x[1]).into()).into()
        }));
        all.push(form(&format!("setp.{name}.f64 %p9, %g0, %g1;"), "gg", 'p', move |x| op(g(x[0]), g(x[1])).into()));
        all.push(form(&format!("setp.{name}.ftz.f32 %p9, %f0, %f1;"), "ff", 'p', move |x| {
            op(float::flush_f32(f(x[0])).into(), float::flush_f32(f(x[1])).into()).into()
        }));
        all.push(form(&format!("set.{name}.f32.f32 %f9, %f0, %f1;"), "ff", 'f', move |x| {
            fb(if op(f(x[0]).into(), f(x[1]).into()) { 1.0 } else { 0.0 })
        }));
    }
    use float::Property::{Finite, Infinite, Normal, NotANumber, Number, Subnormal};
    let classes = [
        ("finite", Finite),
        ("infinite", Infinite),
        ("number", Number),
        ("notanumber", NotANumber),
        ("normal", Normal),
        ("subnormal", Subnormal),
    ];
    for (name, property) in classes {
        all.push(form(&format!("testp.{name}.f32 %p9, %f0;"), "f", 'p', move |x| {
            float::testp_f32(f(x[0]), property).into()
        }));
        all.push(form(&format!("testp.{name}.f64 %p9, %g0;"), "g", 'p', move |x| {
            float::testp_f64(g(x[0]), property).into()
        }));
    }
    check(80, &all);
}

#[test]
fn approximations() {
    let ftz = |op: fn(f32) -> f32| move |x: &[u64]| fb(float::flush_f32(op(float::flush_f32(f(x[0])))));
    let mut all: Vec<Form> = Vec::new();
    let unary: [(&str, fn(f32) -> f32); 7] = [
        ("ex2", approx::ex2_f32),
        ("lg2", approx::lg2_f32),
        ("sin", approx::sin_f32),
        ("cos", approx::cos_f32),
        ("rcp", approx::rcp_f32),
        ("rsqrt", approx::rsqrt_f32),
        ("sqrt", approx::sqrt_f32),
    ];
    for (name, op) in unary {
        all.push(form(&format!("{name}.approx.f32 %f9, %f0;"), "f", 'f', move |x| fb(op(f(x[0])))));
        all.push(form(&format!("{name}.approx.ftz.f32 %f9, %f0;"), "f", 'f', ftz(op)));
    }
    all.push(form("tanh.approx.f32 %f9, %f0;", "f", 'f', |x| fb(approx::tanh_f32(f(x[0])))));
    all.push(form("div.approx.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(approx::div_f32(f(x[0]), f(x[1])))));
    all.push(form("div.full.f32 %f9, %f0, %f1;", "ff", 'f', |x| fb(approx::div_full_f32(f(x[0]), f(x[1])))));
    all.push(form("rcp.approx.ftz.f64 %g9, %g0;", "g", 'g', |x| approx::rcp_f64(g(x[0])).to_bits()));
    all.push(form("rsqrt.approx.f64 %g9, %g0;", "g", 'g', |x| approx::rsqrt_f64(g(x[0])).to_bits()));
    check(80, &all);
}
