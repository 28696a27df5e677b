//! `cvt` between every pair of types, with every rounding, `.sat`, `.ftz`; packed conversions.

use crate::{Form, check, f, form};
use warpcheck::arith::Rounding;
use warpcheck::arith::cvt::{self, Modifiers, Type};

fn class(ty: Type) -> (char, &'static str) {
    match ty {
        Type::U8 => ('r', "u8"),
        Type::U16 => ('h', "u16"),
        Type::U32 => ('r', "u32"),
        Type::U64 => ('d', "u64"),
        Type::S8 => ('r', "s8"),
        Type::S16 => ('h', "s16"),
        Type::S32 => ('r', "s32"),
        Type::S64 => ('d', "s64"),
        Type::F16 => ('h', "f16"),
        Type::Bf16 => ('h', "bf16"),
        Type::F32 => ('f', "f32"),
        Type::F64 => ('g', "f64"),
    }
}

fn push(all: &mut Vec<Form>, to: Type, from: Type, names: &str, modifiers: Modifiers) {
    let ((output, to_name), (input, from_name)) = (class(to), class(from));
    let text = format!("cvt{names}.{to_name}.{from_name} %{output}9, %{input}0;");
    let inputs = match input {
        'h' => "h",
        'r' => "r",
        'd' => "d",
        'f' => "f",
        _ => "g",
    };
    all.push(form(&text, inputs, output, move |x| {
        let result = cvt::convert(to, from, x[0], modifiers);
        // A narrow signed result fills its register with its sign.
        to.integer(result) as u64
    }));
}

#[test]
fn every_pair_of_types() {
    let mut all = Vec::new();
    let modes = [("n", Rounding::Nearest), ("z", Rounding::Zero), ("m", Rounding::Down), ("p", Rounding::Up)];
    for to in Type::ALL {
        for from in Type::ALL {
            match (from.format(), to.format()) {
                (None, None) => {
                    push(&mut all, to, from, "", Modifiers::default());
                    push(&mut all, to, from, ".sat", Modifiers { sat: true, ..Default::default() });
                }
                (Some(_), None) => {
                    for (name, rounding) in modes {
                        push(&mut all, to, from, &format!(".r{name}i"), Modifiers { rounding, ..Default::default() });
                    }
                    if from == Type::F32 {
                        let m = Modifiers { rounding: Rounding::Up, ftz: true, ..Default::default() };
                        push(&mut all, to, from, ".rpi.ftz", m);
                    }
                }
                (None, Some(_)) => {
                    for (name, rounding) in modes {
                        push(&mut all, to, from, &format!(".r{name}"), Modifiers { rounding, ..Default::default() });
                    }
                }
                (Some(a), Some(b)) if a.width() > b.width() => {
                    for (name, rounding) in modes {
                        let m = Modifiers { rounding, ..Default::default() };
                        push(&mut all, to, from, &format!(".r{name}"), m);
                        if to == Type::F32 {
                            push(
                                &mut all,
                                to,
                                from,
                                &format!(".r{name}.ftz.sat"),
                                Modifiers { ftz: true, sat: true, ..m },
                            );
                        }
                    }
                }
                (Some(_), Some(_)) if to == from => {
                    for (name, rounding) in modes {
                        let m = Modifiers { rounding, integral: true, ..Default::default() };
                        if to != Type::Bf16 {
                            push(&mut all, to, from, &format!(".r{name}i"), m);
                        }
                    }
                    if to == Type::F32 {
                        push(&mut all, to, from, ".sat", Modifiers { sat: true, ..Default::default() });
                        push(&mut all, to, from, ".ftz", Modifiers { ftz: true, ..Default::default() });
                    }
                }
                (Some(a), Some(b)) if a.width() < b.width() => push(&mut all, to, from, "", Modifiers::default()),
                _ => {}
            }
        }
    }
    check(90, &all);
}

#[test]
fn packed_and_tf32() {
    let (nearest, zero) = (Rounding::Nearest, Rounding::Zero);
    use warpcheck::arith::half::{self, Fp8};
    check(
        90,
        &[
            form("cvt.rn.f16x2.f32 %r9, %f0, %f1;", "ff", 'r', move |x| {
                cvt::f16x2_from_f32(f(x[0]), f(x[1]), nearest, false).into()
            }),
            form("cvt.rz.relu.f16x2.f32 %r9, %f0, %f1;", "ff", 'r', move |x| {
                cvt::f16x2_from_f32(f(x[0]), f(x[1]), zero, true).into()
            }),
            form("cvt.rn.bf16x2.f32 %r9, %f0, %f1;", "ff", 'r', move |x| {
                cvt::bf16x2_from_f32(f(x[0]), f(x[1]), nearest, false).into()
            }),
            form("cvt.rn.relu.bf16x2.f32 %r9, %f0, %f1;", "ff", 'r', move |x| {
                cvt::bf16x2_from_f32(f(x[0]), f(x[1]), nearest, true).into()
            }),
            // A narrow number in a wide register.
            form("cvt.s32.s16 %r9, %d0;", "d", 'r', |x| x[0] as i16 as u32 as u64),
            form("cvt.u32.u8 %r9, %d0;", "d", 'r', |x| x[0] as u8 as u64),
            form("cvt.rna.tf32.f32 %r9, %f0;", "f", 'r', |x| {
                half::tf32_from_f32(f(x[0]), Rounding::NearestAway).into()
            }),
            form("cvt.rn.satfinite.e4m3x2.f32 %h9, %f0, %f1;", "ff", 'h', |x| {
                cvt::fp8x2_from_f32(Fp8::E4m3, f(x[0]), f(x[1]), false).into()
            }),
            form("cvt.rn.satfinite.e5m2x2.f32 %h9, %f0, %f1;", "ff", 'h', |x| {
                cvt::fp8x2_from_f32(Fp8::E5m2, f(x[0]), f(x[1]), false).into()
            }),
            form("cvt.rn.f16x2.e4m3x2 %r9, %h0;", "h", 'r', |x| {
                cvt::f16x2_from_fp8x2(Fp8::E4m3, x[0] as u16, false).into()
            }),
            form("cvt.rn.satfinite.e4m3x2.f16x2 %h9, %r0;", "r", 'h', |x| {
                cvt::fp8x2_from_f16x2(Fp8::E4m3, x[0] as u32, false).into()
            }),
        ],
    );
}
