//! Moves, conversions, addresses.

use super::{Base, Class, Home, Kind, Lowering, Now, Opnd, Place, Reg, Result, Ty};
use crate::{
    arith::{
        Rounding,
        cvt::{self, Modifiers, Type},
        half::{self, Fp8},
    },
    exec::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW, call, float as fop, integer as op, special},
};

/// The rounding modifier of an instruction, and whether it rounds to an integer.
pub(super) fn rounding(now: &Now<'_, '_>) -> (Rounding, bool, bool) {
    for m in &now.flat.instr.mods {
        let (r, integral) = match *m {
            "rn" => (Rounding::Nearest, false),
            "rna" => (Rounding::NearestAway, false),
            "rz" => (Rounding::Zero, false),
            "rm" => (Rounding::Down, false),
            "rp" => (Rounding::Up, false),
            "rni" => (Rounding::Nearest, true),
            "rzi" => (Rounding::Zero, true),
            "rmi" => (Rounding::Down, true),
            "rpi" => (Rounding::Up, true),
            _ => continue,
        };
        return (r, integral, true);
    }
    (Rounding::Nearest, false, false)
}

fn scalar_type(ty: Ty) -> Option<Type> {
    Some(match ty {
        Ty::U8 | Ty::B8 => Type::U8,
        Ty::U16 | Ty::B16 => Type::U16,
        Ty::U32 | Ty::B32 => Type::U32,
        Ty::U64 | Ty::B64 => Type::U64,
        Ty::S8 => Type::S8,
        Ty::S16 => Type::S16,
        Ty::S32 => Type::S32,
        Ty::S64 => Type::S64,
        Ty::F16 => Type::F16,
        Ty::BF16 => Type::Bf16,
        Ty::F32 => Type::F32,
        Ty::F64 => Type::F64,
        _ => return None,
    })
}

impl<'a> Lowering<'a, '_> {
    pub(super) fn convert(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        match now.flat.instr.op {
            "mov" => self.mov(now),
            "cvt" if now.has("pack") => self.pack_saturated(now),
            "cvt" => self.cvt(now),
            "cvta" => self.cvta(now),
            _ => self.isspacep(now),
        }
    }

    fn mov(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let ty = now.ty()?;
        let c = Class::Move;
        match (now.op(0)?, now.op(1)?) {
            (Opnd::Pred(d, false), o) if ty == Ty::Pred => {
                let (a, negated) = self.src_pred(now, o)?;
                self.plain(op::PMOV, c, *d, [a, 0, 0], u32::from(negated))
            }
            (Opnd::Vector(parts), o) => self.unpack(now, parts, o, ty),
            (_, Opnd::Vector(parts)) => self.pack(now, parts, ty),
            (_, Opnd::Clock(name)) => {
                let d = self.dest(now, 0)?;
                let mut i = self.inst([special::clock; 3], Kind::Plain, c);
                i.d = d.slot;
                i.c = u16::from(d.wide);
                i.e = if *name == "%clock_hi" { 32 } else { 0 };
                self.emit(i).map(|_| ())
            }
            (_, Opnd::Symbol(Base::Var(v), offset)) => {
                let d = self.dest(now, 0)?;
                match now.f.homes[*v as usize] {
                    Home::Local(place) if place.stack.is_some() => self.stack_address(now, d, *v, *offset, false),
                    _ => {
                        let value = self.symbol(now, Base::Var(*v), *offset)?;
                        self.mov_constant(d, value)
                    }
                }
            }
            (_, Opnd::Symbol(base, offset)) => {
                let value = self.symbol(now, *base, *offset)?;
                let d = self.dest(now, 0)?;
                self.mov_constant(d, value)
            }
            _ => {
                let levels = if ty.bytes() == 8 { op::MOV64 } else { op::MOV32 };
                self.one(now, levels, c, ty)
            }
        }
    }

    pub(super) fn mov_constant(&mut self, d: Reg, value: u64) -> Result<()> {
        let s = self.constant(value, d.wide)?;
        let levels = if d.wide { op::MOV64 } else { op::MOV32 };
        self.plain(levels, Class::Move, d.slot, [s.slot, 0, 0], 0)
    }

    /// The address of a variable of a recursive function.
    fn stack_address(&mut self, now: &Now<'_, 'a>, d: Reg, var: u32, offset: i64, generic: bool) -> Result<()> {
        let Home::Local(place) = now.f.homes[var as usize] else {
            return Err(now.error("no variable on the stack"));
        };
        let mut i = self.inst([call::stack_address; 3], Kind::Plain, Class::Move);
        i.d = d.slot;
        i.c = u16::from(d.wide);
        i.a = u16::from(generic);
        i.b = place.stack.unwrap_or(0);
        i.e = place.offset.wrapping_add(offset as u32);
        self.emit(i).map(|_| ())
    }

    /// `mov.b64 {a, b}, c` and its like.
    fn unpack(&mut self, now: &Now<'_, 'a>, parts: &[Opnd<'a>], o: &Opnd<'a>, ty: Ty) -> Result<()> {
        let source = self.source(now, o, ty)?;
        let c = Class::Move;
        let bits = ty.bytes() * 8 / parts.len().max(1) as u32;
        if !matches!(parts.len(), 2 | 4) || bits < 8 {
            return Err(now.unsupported());
        }
        // The source may be one of the destinations' slots only when it is the same register: read it last.
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&k| matches!(&parts[k], Opnd::Reg(r) if self.reg(now, *r) == source));
        for k in order {
            let d = match &parts[k] {
                Opnd::Reg(r) => self.reg(now, *r),
                Opnd::Sink => continue,
                _ => return Err(now.error("a part is no register")),
            };
            match (ty.bytes(), bits, k) {
                (8, 32, 0) if !d.wide => self.plain(op::TRUNC, c, d.slot, [source.slot, 0, 0], 0)?,
                (8, 32, 1) if !d.wide => self.plain(op::HIGH64, c, d.slot, [source.slot, 0, 0], 0)?,
                (4, 16, 0) if !d.wide => self.plain(op::LOW32, c, d.slot, [source.slot, 0, 0], 16)?,
                (4, 16, 1) if !d.wide => self.plain(op::HIGH32, c, d.slot, [source.slot, 0, 0], 0)?,
                _ => {
                    let shift = bits * k as u32;
                    let keep = if bits == 64 { !0 } else { (1u64 << bits) - 1 };
                    self.scalar_at(c, Place::Reg(d), None, vec![Place::Reg(source)], move |x, _, _, _| {
                        x >> shift & keep
                    })?;
                }
            }
        }
        Ok(())
    }

    /// `mov.b64 d, {a, b}` and its like.
    fn pack(&mut self, now: &Now<'_, 'a>, parts: &[Opnd<'a>], ty: Ty) -> Result<()> {
        let d = self.dest_of(now, 0, ty)?;
        let bits = ty.bytes() * 8 / parts.len().max(1) as u32;
        let part = match bits {
            8 => Ty::B8,
            16 => Ty::B16,
            32 => Ty::B32,
            _ => return Err(now.unsupported()),
        };
        let mut sources = Vec::new();
        for p in parts {
            sources.push(self.source(now, p, part)?);
        }
        let c = Class::Move;
        match (ty.bytes(), sources.as_slice()) {
            (8, &[a, b]) => self.plain(op::PACK64, c, d, [a.slot, b.slot, 0], 0),
            (4, &[a, b]) => self.plain(op::PACK32, c, d, [a.slot, b.slot, 0], 0),
            (_, s) if s.len() == 4 => {
                let places = s.iter().map(|&r| Place::Reg(r)).collect();
                let wide = ty.bytes() == 8;
                let keep = (1u64 << bits) - 1;
                self.scalar_at(c, Place::Reg(Reg { slot: d, wide }), None, places, move |a, b, x, y| {
                    a & keep | (b & keep) << bits | (x & keep) << (2 * bits) | (y & keep) << (3 * bits)
                })
            }
            _ => Err(now.unsupported()),
        }
    }

    /// A source whose register may be wider than its type, as `cvt`, `ld` and `st` allow.
    fn loose(&mut self, now: &Now<'_, 'a>, o: &Opnd<'a>, ty: Ty) -> Result<Reg> {
        match o {
            Opnd::Reg(r) => Ok(self.reg(now, *r)),
            _ => self.source(now, o, ty),
        }
    }

    fn cvt(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let types: Vec<Ty> = now.types().collect();
        let &[to, from] = types.as_slice() else {
            return Err(now.error("two types are expected"));
        };
        let (mode, integral, given) = rounding(now);
        let (sat, ftz, relu) = (now.has("sat"), now.has("ftz"), now.has("relu"));
        // What saturates to the largest finite number is there for eight bits only, which always do.
        if now.has("satfinite") && !matches!(to, Ty::E4M3x2 | Ty::E5M2x2) {
            return Err(now.unsupported());
        }
        let c = Class::Conversion;
        let f32_of = |x: u64| f32::from_bits(x as u32);
        // Packed forms.
        match (to, from) {
            (Ty::F16x2 | Ty::BF16x2, Ty::F32) => {
                now.needs(80, self.sm)?;
                return self.scalar(now, c, Ty::B32, &[Ty::F32, Ty::F32], move |a, b, _, _| {
                    let f = if to == Ty::F16x2 { cvt::f16x2_from_f32 } else { cvt::bf16x2_from_f32 };
                    u64::from(f(f32_of(a), f32_of(b), mode, relu))
                });
            }
            (Ty::E4M3x2 | Ty::E5M2x2, Ty::F32) => {
                now.needs(89, self.sm)?;
                let format = if to == Ty::E4M3x2 { Fp8::E4m3 } else { Fp8::E5m2 };
                return self.scalar(now, c, Ty::B16, &[Ty::F32, Ty::F32], move |a, b, _, _| {
                    u64::from(cvt::fp8x2_from_f32(format, f32_of(a), f32_of(b), relu))
                });
            }
            (Ty::E4M3x2 | Ty::E5M2x2, Ty::F16x2) => {
                now.needs(89, self.sm)?;
                let format = if to == Ty::E4M3x2 { Fp8::E4m3 } else { Fp8::E5m2 };
                return self.scalar(now, c, Ty::B16, &[Ty::B32], move |a, _, _, _| {
                    u64::from(cvt::fp8x2_from_f16x2(format, a as u32, relu))
                });
            }
            (Ty::F16x2, Ty::E4M3x2 | Ty::E5M2x2) => {
                now.needs(89, self.sm)?;
                let format = if from == Ty::E4M3x2 { Fp8::E4m3 } else { Fp8::E5m2 };
                return self.scalar(now, c, Ty::B32, &[Ty::B16], move |a, _, _, _| {
                    u64::from(cvt::f16x2_from_fp8x2(format, a as u16, relu))
                });
            }
            (Ty::TF32, Ty::F32) => {
                now.needs(80, self.sm)?;
                return self.scalar(now, c, Ty::B32, &[Ty::F32], move |a, _, _, _| {
                    let x = f32_of(a);
                    let x = if relu && x <= 0.0 { 0.0 } else { x };
                    u64::from(half::tf32_from_f32(x, mode))
                });
            }
            _ => {}
        }
        let (Some(t), Some(f)) = (scalar_type(to), scalar_type(from)) else {
            return Err(now.unsupported());
        };
        if matches!(to, Ty::BF16) || matches!(from, Ty::BF16) {
            now.needs(80, self.sm)?;
        }
        let d = self.dest(now, 0)?;
        let o = now.op(1)?;
        let a = self.loose(now, o, from)?;
        let floats = |ty: Ty| matches!(ty, Ty::F16 | Ty::BF16 | Ty::F32 | Ty::F64);
        let nearest = mode == Rounding::Nearest && !integral && !sat && !ftz && !relu;
        let plain_int = !floats(to) && !floats(from) && !sat;
        // Everything about integers is a matter of widths.
        if plain_int {
            let (from_bits, to_bits) = (from.bytes() * 8, to.bytes() * 8);
            if from_bits == 32 && to_bits == 64 && !a.wide && d.wide {
                let levels = if from.signed() { op::SEXT } else { op::ZEXT };
                return self.plain(levels, c, d.slot, [a.slot, 0, 0], 0);
            }
            if a.wide && !d.wide && to_bits == 32 && from_bits >= 32 {
                return self.plain(op::TRUNC, c, d.slot, [a.slot, 0, 0], 0);
            }
            if !a.wide && !d.wide {
                if from_bits >= 32 && to_bits >= 32 {
                    return self.plain(op::MOV32, c, d.slot, [a.slot, 0, 0], 0);
                }
                // The narrower of the two decides; the sign that is extended is the narrower type's.
                let (bits, signed) =
                    if from_bits < to_bits { (from_bits, from.signed()) } else { (to_bits, to.signed()) };
                let levels = if signed { op::SIGN32 } else { op::LOW32 };
                return self.plain(levels, c, d.slot, [a.slot, 0, 0], bits);
            }
        }
        let hot = match (to, from) {
            (Ty::F32, Ty::S32) if nearest => Some(fop::S32TOF32),
            (Ty::F32, Ty::U32) if nearest => Some(fop::U32TOF32),
            (Ty::F64, Ty::F32) if !sat && !ftz => Some(fop::F32TOF64),
            (Ty::F32, Ty::F64) if nearest => Some(fop::F64TOF32),
            (Ty::F64, Ty::S32) if nearest => Some(fop::S32TOF64),
            (Ty::F32, Ty::F16) if !sat && !ftz => Some(fop::F16TOF32),
            (Ty::F16, Ty::F32) if nearest => Some(fop::F32TOF16),
            (Ty::F32, Ty::BF16) if !sat && !ftz => Some(fop::BF16TOF32),
            _ => None,
        };
        if let Some(levels) = hot
            && d.wide == (to.bytes() == 8)
            && a.wide == (from.bytes() == 8)
        {
            return self.plain(levels, c, d.slot, [a.slot, 0, 0], 0);
        }
        if floats(from) && !floats(to) && !given {
            return Err(now.error("a rounding modifier is missing"));
        }
        let modifiers = Modifiers { rounding: mode, integral, ftz, sat };
        let sign = to.signed() && !floats(to);
        let to_bits = to.bytes() * 8;
        self.scalar_at(c, Place::Reg(d), None, vec![Place::Reg(a)], move |x, _, _, _| {
            let mut r = cvt::convert(t, f, x, modifiers);
            if relu && to == Ty::F16 {
                r = half::relu_f16(r as u16).into();
            } else if relu && to == Ty::BF16 {
                r = half::relu_bf16(r as u16).into();
            }
            if sign { ((r << (64 - to_bits)) as i64 >> (64 - to_bits)) as u64 } else { r }
        })
    }

    /// `cvt.pack.sat.d.s32{.b32} d, a, b{, c}`.
    fn pack_saturated(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let types: Vec<Ty> = now.types().collect();
        let Some(&to) = types.first() else {
            return Err(now.error("there is no type"));
        };
        let with_c = now.count() == 4;
        let sources: &[Ty] = if with_c { &[Ty::S32, Ty::S32, Ty::B32] } else { &[Ty::S32, Ty::S32] };
        let (low, high, bits): (i64, i64, u32) = match to {
            Ty::U8 => (0, 255, 8),
            Ty::S8 => (-128, 127, 8),
            Ty::U16 => (0, 65535, 16),
            Ty::S16 => (-32768, 32767, 16),
            _ => return Err(now.unsupported()),
        };
        self.scalar(now, Class::Conversion, Ty::B32, sources, move |a, b, c, _| {
            let one = |x: u64| i64::from(x as i32).clamp(low, high) as u64 & ((1 << bits) - 1);
            let pair = one(a) << bits | one(b);
            let rest = if with_c && bits < 16 { c << (2 * bits) } else { 0 };
            (rest | pair) & 0xffff_ffff
        })
    }

    fn cvta(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let to = now.has("to");
        let d = self.dest(now, 0)?;
        let window = ["shared", "shared::cta", "shared::cluster", "local", "param", "global", "const", "param::entry"]
            .into_iter()
            .find(|s| now.has(s))
            .map(|s| match s {
                "local" => LOCAL_WINDOW,
                "param" | "param::entry" => PARAM_WINDOW,
                "global" | "const" => 0,
                _ => SHARED_WINDOW,
            })
            .ok_or_else(|| now.error("there is no state space"))?;
        if let Opnd::Symbol(Base::Var(v), offset) = now.op(1)?
            && let Home::Local(place) = now.f.homes[*v as usize]
            && place.stack.is_some()
        {
            return self.stack_address(now, d, *v, *offset, !to && window != 0);
        }
        let ty = if d.wide { Ty::U64 } else { Ty::U32 };
        let a = self.src(now, 1, ty)?;
        if window == 0 {
            let levels = if d.wide { op::MOV64 } else { op::MOV32 };
            return self.plain(levels, Class::Move, d.slot, [a, 0, 0], 0);
        }
        let w = self.constant(window, d.wide)?;
        let levels = match (to, d.wide) {
            (false, true) => op::ADD64,
            (true, true) => op::SUB64,
            _ => op::MOV32,
        };
        self.plain(levels, Class::Move, d.slot, [a, w.slot, 0], 0)
    }

    fn isspacep(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let d = self.dest_pred(now, now.op(0)?)?;
        let o = now.op(1)?;
        let a = self.source(now, o, Ty::U64)?;
        let window = match now.flat.instr.mods.first().copied() {
            Some("shared" | "shared::cta" | "shared::cluster") => SHARED_WINDOW,
            Some("local") => LOCAL_WINDOW,
            Some("param" | "param::entry") => PARAM_WINDOW,
            Some("global") => 0,
            Some("const") => return self.plain(op::PXOR, Class::Move, d, [0, 0, 0], 0),
            _ => return Err(now.unsupported()),
        };
        self.scalar_at(Class::Integer, Place::Pred(d, false), None, vec![Place::Reg(a)], move |x, _, _, _| {
            u64::from(if window == 0 { x < WINDOW } else { x.wrapping_sub(window) < WINDOW })
        })
    }
}
