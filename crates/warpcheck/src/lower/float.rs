//! Single and double precision.

use super::{Class, Lowering, Now, Place, Result, Ty, convert::rounding};
use crate::{
    arith::{
        Rounding, approx,
        float::{self, Property},
    },
    exec::float as op,
    program::Levels,
};

fn f(x: u64) -> f32 {
    f32::from_bits(x as u32)
}

fn d(x: u64) -> f64 {
    f64::from_bits(x)
}

impl<'a> Lowering<'a, '_> {
    pub(super) fn float(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let name = now.flat.instr.op;
        let ty = now.ty()?;
        match (name, ty) {
            ("tanh" | "ex2", Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2) => self.half(now),
            ("testp", _) => self.testp(now, ty),
            (_, Ty::F32) => self.single(now, name),
            (_, Ty::F64) => self.double(now, name),
            _ => Err(now.unsupported()),
        }
    }

    /// A function of `f32` with the modifiers `.ftz` and `.sat` around it.
    fn f32_op(
        &mut self,
        now: &Now<'_, 'a>,
        class: Class,
        sources: usize,
        compute: impl Fn(f32, f32, f32) -> f32 + Send + Sync + 'static,
    ) -> Result<()> {
        let (ftz, sat) = (now.has("ftz"), now.has("sat"));
        self.scalar(now, class, Ty::F32, &[Ty::F32; 3][..sources], move |a, b, c, _| {
            let flush = |x: f32| if ftz { float::flush_f32(x) } else { x };
            let mut r = float::canonical_f32(compute(flush(f(a)), flush(f(b)), flush(f(c))));
            if sat {
                r = float::saturate_f32(r);
            }
            u64::from(flush(r).to_bits())
        })
    }

    fn f64_op(
        &mut self,
        now: &Now<'_, 'a>,
        class: Class,
        sources: usize,
        compute: impl Fn(f64, f64, f64) -> f64 + Send + Sync + 'static,
    ) -> Result<()> {
        self.scalar(now, class, Ty::F64, &[Ty::F64; 3][..sources], move |a, b, c, _| {
            float::canonical_f64(compute(d(a), d(b), d(c))).to_bits()
        })
    }

    fn single(&mut self, now: &Now<'_, 'a>, name: &str) -> Result<()> {
        let (mode, _, given) = rounding(now);
        let (ftz, sat, approximate) = (now.has("ftz"), now.has("sat"), now.has("approx"));
        let ty = Ty::F32;
        let simple = mode == Rounding::Nearest && !sat;
        let c = Class::F32;
        let hot: Option<(Levels, usize)> = match (name, simple, ftz) {
            ("add", true, false) => Some((op::ADDF32, 2)),
            ("add", true, true) => Some((op::ADDF32FTZ, 2)),
            ("sub", true, false) => Some((op::SUBF32, 2)),
            ("sub", true, true) => Some((op::SUBF32FTZ, 2)),
            ("mul", true, false) => Some((op::MULF32, 2)),
            ("mul", true, true) => Some((op::MULF32FTZ, 2)),
            ("fma" | "mad", true, false) => Some((op::FMA32, 3)),
            ("fma" | "mad", true, true) => Some((op::FMA32FTZ, 3)),
            ("div", true, false) if !approximate && !now.has("full") => Some((op::DIVF32, 2)),
            ("sqrt", true, false) if !approximate => Some((op::SQRTF32, 1)),
            ("rcp", true, false) if !approximate => Some((op::RCPF32, 1)),
            ("neg", _, false) => Some((op::NEGF32, 1)),
            ("abs", _, false) => Some((op::ABSF32, 1)),
            ("min", _, false) if plain_extreme(now) => Some((op::MINF32, 2)),
            ("max", _, false) if plain_extreme(now) => Some((op::MAXF32, 2)),
            _ => None,
        };
        if let Some((levels, n)) = hot {
            let class = if matches!(name, "div" | "sqrt" | "rcp") { Class::Special } else { c };
            return match n {
                1 => self.one(now, levels, class, ty),
                2 => self.two(now, levels, class, ty),
                _ => self.three(now, levels, class, ty),
            };
        }
        let s = Class::Special;
        match name {
            "add" => self.f32_op(now, c, 2, move |a, b, _| float::add_f32(a, b, mode)),
            "sub" => self.f32_op(now, c, 2, move |a, b, _| float::sub_f32(a, b, mode)),
            "mul" => self.f32_op(now, c, 2, move |a, b, _| float::mul_f32(a, b, mode)),
            "fma" | "mad" => self.f32_op(now, c, 3, move |a, b, x| float::fma_f32(a, b, x, mode)),
            "neg" | "abs" => {
                let negate = name == "neg";
                self.scalar(now, c, ty, &[ty], move |a, _, _, _| {
                    let x = float::flush_f32(f(a)).to_bits();
                    u64::from(if negate { x ^ 1 << 31 } else { x & !(1 << 31) })
                })
            }
            "min" | "max" => {
                let (max, nan, xor) = (name == "max", now.has("NaN"), now.has("xorsign"));
                let three = now.count() == 4;
                if nan || xor {
                    now.needs(80, self.sm)?;
                }
                self.f32_op(now, c, if three { 3 } else { 2 }, move |a, b, x| {
                    let two = |a: f32, b: f32| {
                        let (m, n) = if xor { (a.abs(), b.abs()) } else { (a, b) };
                        let r = match (max, nan) {
                            (true, true) => float::max_nan_f32(m, n),
                            (true, false) => float::max_f32(m, n),
                            (false, true) => float::min_nan_f32(m, n),
                            (false, false) => float::min_f32(m, n),
                        };
                        if xor && !r.is_nan() { float::xor_sign_f32(r, a, b) } else { r }
                    };
                    if three { two(two(a, b), x) } else { two(a, b) }
                })
            }
            "div" if approximate => self.f32_op(now, s, 2, |a, b, _| approx::div_f32(a, b)),
            "div" if now.has("full") => self.f32_op(now, s, 2, |a, b, _| approx::div_full_f32(a, b)),
            "div" if given => self.f32_op(now, s, 2, move |a, b, _| float::div_f32(a, b, mode)),
            "rcp" if approximate => self.f32_op(now, s, 1, |a, _, _| approx::rcp_f32(a)),
            "rcp" if given => self.f32_op(now, s, 1, move |a, _, _| float::rcp_f32(a, mode)),
            "sqrt" if approximate => self.f32_op(now, s, 1, |a, _, _| approx::sqrt_f32(a)),
            "sqrt" if given => self.f32_op(now, s, 1, move |a, _, _| float::sqrt_f32(a, mode)),
            "rsqrt" => self.f32_op(now, s, 1, |a, _, _| approx::rsqrt_f32(a)),
            "sin" => self.f32_op(now, s, 1, |a, _, _| approx::sin_f32(a)),
            "cos" => self.f32_op(now, s, 1, |a, _, _| approx::cos_f32(a)),
            "lg2" => self.f32_op(now, s, 1, |a, _, _| approx::lg2_f32(a)),
            "ex2" => self.f32_op(now, s, 1, |a, _, _| approx::ex2_f32(a)),
            "tanh" => {
                now.needs(75, self.sm)?;
                self.f32_op(now, s, 1, |a, _, _| approx::tanh_f32(a))
            }
            "copysign" => {
                self.scalar(now, c, ty, &[ty, ty], |a, b, _, _| u64::from(float::copysign_f32(f(a), f(b)).to_bits()))
            }
            _ => Err(now.unsupported()),
        }
    }

    fn double(&mut self, now: &Now<'_, 'a>, name: &str) -> Result<()> {
        let (mode, _, given) = rounding(now);
        let ty = Ty::F64;
        let c = Class::F64;
        let nearest = mode == Rounding::Nearest;
        match name {
            "add" if nearest => self.two(now, op::ADDF64, c, ty),
            "sub" if nearest => self.two(now, op::SUBF64, c, ty),
            "mul" if nearest => self.two(now, op::MULF64, c, ty),
            "fma" | "mad" if nearest => self.three(now, op::FMA64, c, ty),
            "div" if nearest => self.two(now, op::DIVF64, Class::Special, ty),
            "neg" => self.one(now, op::NEGF64, c, ty),
            "abs" => self.one(now, op::ABSF64, c, ty),
            "add" => self.f64_op(now, c, 2, move |a, b, _| float::add_f64(a, b, mode)),
            "sub" => self.f64_op(now, c, 2, move |a, b, _| float::sub_f64(a, b, mode)),
            "mul" => self.f64_op(now, c, 2, move |a, b, _| float::mul_f64(a, b, mode)),
            "fma" | "mad" => self.f64_op(now, c, 3, move |a, b, x| float::fma_f64(a, b, x, mode)),
            "div" => self.f64_op(now, Class::Special, 2, move |a, b, _| float::div_f64(a, b, mode)),
            "min" => self.f64_op(now, c, 2, |a, b, _| float::min_f64(a, b)),
            "max" => self.f64_op(now, c, 2, |a, b, _| float::max_f64(a, b)),
            "rcp" if now.has("approx") => self.f64_op(now, Class::Special, 1, |a, _, _| approx::rcp_f64(a)),
            "rcp" if given => self.f64_op(now, Class::Special, 1, move |a, _, _| float::rcp_f64(a, mode)),
            "sqrt" if given => self.f64_op(now, Class::Special, 1, move |a, _, _| float::sqrt_f64(a, mode)),
            "rsqrt" if now.has("ftz") => self.f64_op(now, Class::Special, 1, |a, _, _| approx::rsqrt_ftz_f64(a)),
            "rsqrt" => self.f64_op(now, Class::Special, 1, |a, _, _| approx::rsqrt_f64(a)),
            "copysign" => self.scalar(now, c, ty, &[ty, ty], |a, b, _, _| float::copysign_f64(d(a), d(b)).to_bits()),
            _ => Err(now.unsupported()),
        }
    }

    fn testp(&mut self, now: &Now<'_, 'a>, ty: Ty) -> Result<()> {
        let property = match now.flat.instr.mods.first().copied() {
            Some("finite") => Property::Finite,
            Some("infinite") => Property::Infinite,
            Some("number") => Property::Number,
            Some("notanumber") => Property::NotANumber,
            Some("normal") => Property::Normal,
            Some("subnormal") => Property::Subnormal,
            _ => return Err(now.unsupported()),
        };
        let p = self.dest_pred(now, now.op(0)?)?;
        let o = now.op(1)?;
        let a = self.source(now, o, ty)?;
        let single = ty == Ty::F32;
        self.scalar_at(Class::F32, Place::Pred(p, false), None, vec![Place::Reg(a)], move |x, _, _, _| {
            u64::from(if single { float::testp_f32(f(x), property) } else { float::testp_f64(d(x), property) })
        })
    }
}

fn plain_extreme(now: &Now<'_, '_>) -> bool {
    !now.has("NaN") && !now.has("xorsign") && now.count() == 3
}
