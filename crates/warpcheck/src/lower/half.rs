//! Half precision: `.f16`, `.bf16` and their pairs.

use super::{Class, Lowering, Now, Result, Ty};
use crate::arith::{
    approx,
    half::{self, MinMax},
};

impl<'a> Lowering<'a, '_> {
    pub(super) fn half(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let name = now.flat.instr.op;
        let ty = now.ty()?;
        let brain = matches!(ty, Ty::BF16 | Ty::BF16x2);
        let pair = matches!(ty, Ty::F16x2 | Ty::BF16x2);
        let needs = match (name, brain) {
            ("add" | "sub" | "mul", true) => 90,
            (_, true) => 80,
            ("ex2" | "tanh", _) => 75,
            ("min" | "max", _) => 80,
            _ => 53,
        };
        now.needs(needs, self.sm)?;
        let (ftz, sat, relu) = (now.has("ftz"), now.has("sat"), now.has("relu"));
        let minmax = MinMax { larger: name == "max", nan: now.has("NaN"), xorsign: now.has("xorsign") };
        type Three = fn(u16, u16, u16) -> u16;
        let (n, f): (usize, Three) = match (name, brain) {
            ("add", false) => (2, |a, b, _| half::add_f16(a, b)),
            ("sub", false) => (2, |a, b, _| half::sub_f16(a, b)),
            ("mul", false) => (2, |a, b, _| half::mul_f16(a, b)),
            ("fma", false) => (3, half::fma_f16),
            ("add", true) => (2, |a, b, _| half::add_bf16(a, b)),
            ("sub", true) => (2, |a, b, _| half::sub_bf16(a, b)),
            ("mul", true) => (2, |a, b, _| half::mul_bf16(a, b)),
            ("fma", true) => (3, half::fma_bf16),
            ("neg", _) => (1, |a, _, _| half::neg(a)),
            ("abs", _) => (1, |a, _, _| half::abs(a)),
            ("ex2", false) => (1, |a, _, _| approx::ex2_f16(a)),
            ("ex2", true) => (1, |a, _, _| approx::ex2_bf16(a)),
            ("tanh", false) => (1, |a, _, _| approx::tanh_f16(a)),
            ("tanh", true) => (1, |a, _, _| approx::tanh_bf16(a)),
            ("min" | "max", _) => (2, |a, _, _| a),
            _ => return Err(now.unsupported()),
        };
        let extreme = matches!(name, "min" | "max");
        let one = move |a: u16, b: u16, c: u16| {
            let flush = |x| if ftz && !brain { half::flush_f16(x) } else { x };
            let (a, b, c) = (flush(a), flush(b), flush(c));
            let mut r = match (extreme, brain) {
                (true, false) => half::min_max_f16(a, b, minmax),
                (true, true) => half::min_max_bf16(a, b, minmax),
                _ => f(a, b, c),
            };
            if sat {
                r = half::saturate_f16(r);
            }
            if relu {
                r = if brain { half::relu_bf16(r) } else { half::relu_f16(r) };
            }
            flush(r)
        };
        let class = if matches!(name, "ex2" | "tanh") { Class::Special } else { Class::F16 };
        let t = if pair { Ty::B32 } else { Ty::B16 };
        self.scalar(now, class, t, &[t; 3][..n], move |a, b, c, _| {
            if pair {
                u64::from(half::both3(a as u32, b as u32, c as u32, one))
            } else {
                u64::from(one(a as u16, b as u16, c as u16))
            }
        })
    }
}
