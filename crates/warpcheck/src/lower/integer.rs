//! Integers, logic, shifts.

use super::{Class, Lowering, Now, Opnd, Place, Reg, Result, Ty};
use crate::{
    arith::{bits, half, integer as int},
    exec::integer as op,
    program::Levels,
};

/// The low 16 bits, sign-extended.
fn s16(x: u64) -> i16 {
    x as i16
}

impl<'a> Lowering<'a, '_> {
    pub(super) fn integer(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        match i.op {
            "setp" => return self.setp(now),
            "set" => return self.set(now),
            "selp" => return self.selp(now),
            "slct" => return self.slct(now),
            "and" | "or" | "xor" | "not" | "cnot" => return self.logic(now),
            _ => {}
        }
        let ty = now.ty()?;
        let carry = now.has("cc") || matches!(i.op, "addc" | "subc" | "madc");
        if carry {
            return self.carry(now, ty);
        }
        let c = Class::Integer;
        let signed = ty.signed();
        let (hi, wide) = (now.has("hi"), now.has("wide"));
        match (i.op, ty.bytes()) {
            ("add" | "sub", 2) => {
                let sub = i.op == "sub";
                self.scalar(now, c, ty, &[ty, ty], move |a, b, _, _| {
                    u64::from(if sub { (a as u16).wrapping_sub(b as u16) } else { (a as u16).wrapping_add(b as u16) })
                })
            }
            ("add" | "sub", 4) if matches!(ty, Ty::U16x2 | Ty::S16x2) => {
                now.needs(90, self.sm)?;
                let sub = i.op == "sub";
                self.scalar(now, c, ty, &[ty, ty], move |a, b, _, _| {
                    let f = |x: u16, y: u16| if sub { x.wrapping_sub(y) } else { x.wrapping_add(y) };
                    u64::from(half::both(a as u32, b as u32, f))
                })
            }
            ("add" | "sub", 4) if now.has("sat") => {
                let sub = i.op == "sub";
                self.scalar(now, c, ty, &[ty, ty], move |a, b, _, _| {
                    let (a, b) = (a as i32, b as i32);
                    u64::from(if sub { a.saturating_sub(b) } else { a.saturating_add(b) } as u32)
                })
            }
            ("add", 4) => self.two(now, op::ADD32, c, ty),
            ("sub", 4) => self.two(now, op::SUB32, c, ty),
            ("add", 8) => self.two(now, op::ADD64, c, ty),
            ("sub", 8) => self.two(now, op::SUB64, c, ty),
            ("mul", 4) if wide => {
                let d = self.dest_of(now, 0, Ty::U64)?;
                let (a, b) = (self.src(now, 1, ty)?, self.src(now, 2, ty)?);
                self.plain(if signed { op::MULWIDES32 } else { op::MULWIDEU32 }, c, d, [a, b, 0], 0)
            }
            ("mul", 4) if hi => self.two(now, if signed { op::MULHIS32 } else { op::MULHIU32 }, c, ty),
            ("mul", 4) => self.two(now, op::MUL32, c, ty),
            ("mul", 8) if hi && signed => {
                self.scalar(now, c, ty, &[ty, ty], |a, b, _, _| int::mul_hi_s64(a as i64, b as i64) as u64)
            }
            ("mul", 8) if hi => self.scalar(now, c, ty, &[ty, ty], |a, b, _, _| int::mul_hi_u64(a, b)),
            ("mul", 8) if !wide => self.two(now, op::MUL64, c, ty),
            ("mul", 2) => {
                let d = if wide { Ty::U32 } else { ty };
                self.scalar(now, c, d, &[ty, ty], move |a, b, _, _| mul16(a, b, signed, hi))
            }
            ("mad", 4) if wide => {
                let d = self.dest_of(now, 0, Ty::U64)?;
                let abc = [self.src(now, 1, ty)?, self.src(now, 2, ty)?, self.src(now, 3, Ty::U64)?];
                self.plain(if signed { op::MADWIDES32 } else { op::MADWIDEU32 }, c, d, abc, 0)
            }
            ("mad", 4) if hi => {
                let sat = now.has("sat");
                self.scalar(now, c, ty, &[ty, ty, ty], move |a, b, x, _| {
                    u64::from(match (signed, sat) {
                        (true, true) => int::mad_hi_sat_s32(a as i32, b as i32, x as i32) as u32,
                        (true, false) => int::mul_hi_s32(a as i32, b as i32).wrapping_add(x as i32) as u32,
                        _ => int::mul_hi_u32(a as u32, b as u32).wrapping_add(x as u32),
                    })
                })
            }
            ("mad", 4) => self.three(now, op::MAD32, c, ty),
            ("mad", 8) if hi => self.scalar(now, c, ty, &[ty, ty, ty], move |a, b, x, _| {
                let h = if signed { int::mul_hi_s64(a as i64, b as i64) as u64 } else { int::mul_hi_u64(a, b) };
                h.wrapping_add(x)
            }),
            ("mad", 8) if !wide => self.three(now, op::MAD64, c, ty),
            ("mad", 2) => {
                let d = if wide { Ty::U32 } else { ty };
                self.scalar(now, c, d, &[ty, ty, d], move |a, b, x, _| {
                    let sum = mul16(a, b, signed, hi).wrapping_add(x);
                    if wide { sum & 0xffff_ffff } else { sum & 0xffff }
                })
            }
            ("mul24" | "mad24", 4) => {
                let add = i.op == "mad24";
                let sources: &[Ty] = if add { &[ty, ty, ty] } else { &[ty, ty] };
                let sat = now.has("sat");
                self.scalar(now, c, ty, sources, move |a, b, x, _| {
                    let p = match (signed, hi) {
                        (true, true) => int::mul24_hi_s32(a as i32, b as i32) as u32,
                        (true, false) => int::mul24_lo_s32(a as i32, b as i32) as u32,
                        (false, true) => int::mul24_hi_u32(a as u32, b as u32),
                        (false, false) => int::mul24_lo_u32(a as u32, b as u32),
                    };
                    u64::from(match (add, sat) {
                        (false, _) => p,
                        (true, false) => p.wrapping_add(x as u32),
                        (true, true) => (p as i32).saturating_add(x as i32) as u32,
                    })
                })
            }
            ("div" | "rem", _) => self.divide(now, ty),
            ("abs", 2) => self.scalar(now, c, ty, &[ty], |a, _, _, _| u64::from(s16(a).wrapping_abs() as u16)),
            ("abs", 4) => self.one(now, op::ABS32, c, ty),
            ("abs", 8) => self.scalar(now, c, ty, &[ty], |a, _, _, _| (a as i64).wrapping_abs() as u64),
            ("neg", 2) => self.scalar(now, c, ty, &[ty], |a, _, _, _| u64::from((a as u16).wrapping_neg())),
            ("neg", 4) => self.one(now, op::NEG32, c, ty),
            ("neg", 8) => self.one(now, op::NEG64, c, ty),
            ("min" | "max", _) => self.extreme(now, ty),
            ("shl" | "shr", _) => self.shift(now, ty),
            ("popc", 4) => self.one(now, op::POPC32, c, ty),
            ("clz", 4) => self.one(now, op::CLZ32, c, ty),
            ("popc", 8) => self.scalar(now, c, Ty::U32, &[ty], |a, _, _, _| u64::from(a.count_ones())),
            ("clz", 8) => self.scalar(now, c, Ty::U32, &[ty], |a, _, _, _| u64::from(a.leading_zeros())),
            ("brev", 4) => self.one(now, op::BREV32, c, ty),
            ("brev", 8) => self.scalar(now, c, ty, &[ty], |a, _, _, _| a.reverse_bits()),
            ("bfind", _) => {
                let amount = now.has("shiftamt");
                self.scalar(now, c, Ty::U32, &[ty], move |a, _, _, _| {
                    u64::from(match ty {
                        Ty::S32 => bits::bfind_s32(a as i32, amount),
                        Ty::S64 => bits::bfind_s64(a as i64, amount),
                        Ty::U64 => bits::bfind_u64(a, amount),
                        _ => bits::bfind_u32(a as u32, amount),
                    })
                })
            }
            ("bfe", 4 | 8) => self.scalar(now, c, ty, &[ty, Ty::U32, Ty::U32], move |a, b, x, _| match ty {
                Ty::S32 => u64::from(bits::bfe_s32(a as i32, b as u32, x as u32) as u32),
                Ty::S64 => bits::bfe_s64(a as i64, b as u32, x as u32) as u64,
                Ty::U64 => bits::bfe_u64(a, b as u32, x as u32),
                _ => u64::from(bits::bfe_u32(a as u32, b as u32, x as u32)),
            }),
            ("bfi", 4) => self.scalar(now, c, ty, &[ty, ty, Ty::U32, Ty::U32], |a, b, x, y| {
                u64::from(bits::bfi_b32(a as u32, b as u32, x as u32, y as u32))
            }),
            ("bfi", 8) => self
                .scalar(now, c, ty, &[ty, ty, Ty::U32, Ty::U32], |a, b, x, y| bits::bfi_b64(a, b, x as u32, y as u32)),
            ("fns", 4) => self.scalar(now, c, ty, &[ty, Ty::U32, Ty::S32], |a, b, x, _| {
                u64::from(bits::fns(a as u32, b as u32, x as i32))
            }),
            ("prmt", 4) => {
                use bits::Permute::*;
                let mode = [("f4e", F4e), ("b4e", B4e), ("rc8", Rc8), ("ecl", Ecl), ("ecr", Ecr), ("rc16", Rc16)]
                    .into_iter()
                    .find(|(name, _)| now.has(name))
                    .map_or(Index, |(_, m)| m);
                self.scalar(now, c, ty, &[ty, ty, ty], move |a, b, x, _| {
                    u64::from(bits::prmt(a as u32, b as u32, x as u32, mode))
                })
            }
            ("lop3", 4) => {
                let Opnd::Int(table) = now.op(4)? else {
                    return Err(now.error("the table is no number"));
                };
                let d = self.dest_of(now, 0, ty)?;
                let abc = [self.src(now, 1, ty)?, self.src(now, 2, ty)?, self.src(now, 3, ty)?];
                self.plain(op::LOP3, c, d, abc, *table as u32 & 0xff)
            }
            ("shf", 4) => {
                let left = now.has("l");
                if now.has("clamp") {
                    return self.scalar(now, c, ty, &[ty, ty, ty], move |a, b, x, _| {
                        let f = if left { bits::shf_left } else { bits::shf_right };
                        u64::from(f(a as u32, b as u32, x as u32, true))
                    });
                }
                self.three(now, if left { op::SHFL32 } else { op::SHFR32 }, c, ty)
            }
            ("sad", _) => self.scalar(now, c, ty, &[ty, ty, ty], move |a, b, x, _| match ty {
                Ty::U16 => u64::from(int::sad_u16(a as u16, b as u16, x as u16)),
                Ty::S16 => u64::from(int::sad_s16(s16(a), s16(b), s16(x)) as u16),
                Ty::S32 => u64::from(int::sad_s32(a as i32, b as i32, x as i32) as u32),
                Ty::U64 => int::sad_u64(a, b, x),
                Ty::S64 => int::sad_s64(a as i64, b as i64, x as i64) as u64,
                _ => u64::from(int::sad_u32(a as u32, b as u32, x as u32)),
            }),
            ("dp4a" | "dp2a", 4) => {
                let types: Vec<Ty> = now.types().collect();
                let &[a_ty, b_ty] = types.as_slice() else {
                    return Err(now.error("two types are expected"));
                };
                let (a_signed, b_signed) = (a_ty.signed(), b_ty.signed());
                let (four, high) = (i.op == "dp4a", hi);
                self.scalar(now, c, Ty::U32, &[Ty::B32, Ty::B32, Ty::B32], move |a, b, x, _| {
                    let (a, b, x) = (a as u32, b as u32, x as u32);
                    u64::from(if four {
                        int::dp4a(a, b, x, a_signed, b_signed)
                    } else {
                        int::dp2a(a, b, x, a_signed, b_signed, high)
                    })
                })
            }
            ("bmsk", 4) => {
                let clamp = now.has("clamp");
                self.scalar(now, c, ty, &[ty, ty], move |a, b, _, _| u64::from(bits::bmsk(a as u32, b as u32, clamp)))
            }
            ("szext", 4) => {
                let clamp = now.has("clamp");
                self.scalar(now, c, ty, &[ty, Ty::U32], move |a, b, _, _| {
                    u64::from(if signed {
                        bits::szext_s32(a as i32, b as u32, clamp) as u32
                    } else {
                        bits::szext_u32(a as u32, b as u32, clamp)
                    })
                })
            }
            _ => Err(now.unsupported()),
        }
    }

    fn divide(&mut self, now: &Now<'_, 'a>, ty: Ty) -> Result<()> {
        let rem = now.flat.instr.op == "rem";
        self.scalar(now, Class::Integer, ty, &[ty, ty], move |a, b, _, _| match (ty, rem) {
            (Ty::U16, false) => u64::from(int::div_u32(a as u32 & 0xffff, b as u32 & 0xffff) as u16),
            (Ty::U16, true) => u64::from(int::rem_u32(a as u32 & 0xffff, b as u32 & 0xffff) as u16),
            (Ty::S16, false) => u64::from(int::div_s32(s16(a).into(), s16(b).into()) as u16),
            (Ty::S16, true) => u64::from(int::rem_s32(s16(a).into(), s16(b).into()) as u16),
            (Ty::S32, false) => u64::from(int::div_s32(a as i32, b as i32) as u32),
            (Ty::S32, true) => u64::from(int::rem_s32(a as i32, b as i32) as u32),
            (Ty::U64, false) => int::div_u64(a, b),
            (Ty::U64, true) => int::rem_u64(a, b),
            (Ty::S64, false) => int::div_s64(a as i64, b as i64) as u64,
            (Ty::S64, true) => int::rem_s64(a as i64, b as i64) as u64,
            (_, false) => u64::from(int::div_u32(a as u32, b as u32)),
            (_, true) => u64::from(int::rem_u32(a as u32, b as u32)),
        })
    }

    fn extreme(&mut self, now: &Now<'_, 'a>, ty: Ty) -> Result<()> {
        let max = now.flat.instr.op == "max";
        let relu = now.has("relu");
        let c = Class::Integer;
        match ty {
            Ty::S32 if !relu => return self.two(now, if max { op::MAXS32 } else { op::MINS32 }, c, ty),
            Ty::U32 => return self.two(now, if max { op::MAXU32 } else { op::MINU32 }, c, ty),
            _ => {}
        }
        self.scalar(now, c, ty, &[ty, ty], move |a, b, _, _| {
            macro_rules! pick {
                ($t:ty) => {{
                    let (x, y) = (a as $t, b as $t);
                    if max { x.max(y) } else { x.min(y) }
                }};
            }
            let pair_u = |x: u16, y: u16| if max { x.max(y) } else { x.min(y) };
            let pair_s = |x: u16, y: u16| {
                let (x, y) = (x as i16, y as i16);
                let r = if max { x.max(y) } else { x.min(y) };
                (if relu { r.max(0) } else { r }) as u16
            };
            match ty {
                Ty::U16 => u64::from(pick!(u16)),
                Ty::S16 => u64::from(pick!(i16) as u16),
                Ty::S32 => u64::from(pick!(i32).max(0) as u32),
                Ty::U64 => pick!(u64),
                Ty::S64 => pick!(i64) as u64,
                Ty::U16x2 => u64::from(half::both(a as u32, b as u32, pair_u)),
                _ => u64::from(half::both(a as u32, b as u32, pair_s)),
            }
        })
    }

    fn shift(&mut self, now: &Now<'_, 'a>, ty: Ty) -> Result<()> {
        let left = now.flat.instr.op == "shl";
        let signed = ty.signed();
        let levels: Levels = match (left, signed, ty.bytes()) {
            (true, _, 4) => op::SHL32,
            (false, false, 4) => op::SHRU32,
            (false, true, 4) => op::SHRS32,
            (true, _, 8) => op::SHL64,
            (false, false, 8) => op::SHRU64,
            (false, true, 8) => op::SHRS64,
            (_, _, 2) => {
                return self.scalar(now, Class::Integer, ty, &[ty, Ty::U32], move |a, b, _, _| {
                    u64::from(match (left, signed) {
                        (true, _) => bits::shl_b16(a as u16, b as u32),
                        (false, false) => bits::shr_u16(a as u16, b as u32),
                        (false, true) => bits::shr_s16(s16(a), b as u32) as u16,
                    })
                });
            }
            _ => return Err(now.unsupported()),
        };
        let d = self.dest_of(now, 0, ty)?;
        let (a, b) = (self.src(now, 1, ty)?, self.src(now, 2, Ty::U32)?);
        self.plain(levels, Class::Integer, d, [a, b, 0], 0)
    }

    fn logic(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let ty = now.ty()?;
        let name = now.flat.instr.op;
        let c = Class::Integer;
        if ty == Ty::Pred {
            let d = self.dest_pred(now, now.op(0)?)?;
            let (a, na) = self.src_pred(now, now.op(1)?)?;
            if name == "not" {
                return self.plain(op::PMOV, c, d, [a, 0, 0], u32::from(!na));
            }
            let (b, nb) = self.src_pred(now, now.op(2)?)?;
            let levels = match name {
                "and" => op::PAND,
                "or" => op::POR,
                "xor" => op::PXOR,
                _ => return Err(now.unsupported()),
            };
            return self.plain(levels, c, d, [a, b, 0], u32::from(na) | u32::from(nb) << 1);
        }
        let wide = ty.bytes() == 8;
        match (name, wide) {
            ("and", false) => self.two(now, op::AND32, c, ty),
            ("or", false) => self.two(now, op::OR32, c, ty),
            ("xor", false) => self.two(now, op::XOR32, c, ty),
            ("not", false) => self.one(now, op::NOT32, c, ty),
            ("and", true) => self.two(now, op::AND64, c, ty),
            ("or", true) => self.two(now, op::OR64, c, ty),
            ("xor", true) => self.two(now, op::XOR64, c, ty),
            ("not", true) => self.one(now, op::NOT64, c, ty),
            _ => {
                let keep = if wide { !0 } else { (1u64 << (8 * ty.bytes())) - 1 };
                self.scalar(now, c, ty, &[ty], move |a, _, _, _| u64::from(a & keep == 0))
            }
        }
    }

    /// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`.
    fn carry(&mut self, now: &Now<'_, 'a>, ty: Ty) -> Result<()> {
        let name = now.flat.instr.op;
        let uses = matches!(name, "addc" | "subc" | "madc");
        let sets = now.has("cc");
        let wide = ty.bytes() == 8;
        let subtract = matches!(name, "sub" | "subc");
        let product = matches!(name, "mad" | "madc").then(|| now.has("hi"));
        if !matches!(ty.bytes(), 4 | 8) {
            return Err(now.unsupported());
        }
        let mut sources = Vec::new();
        for k in 1..now.count() {
            let o = now.op(k)?;
            sources.push(Place::Reg(self.source(now, o, ty)?));
        }
        if sources.len() != if product.is_some() { 3 } else { 2 } {
            return Err(now.error("the wrong number of operands"));
        }
        let flag = now.f.carry;
        sources.push(if uses { Place::Pred(flag, false) } else { Place::None });
        let compute = move |x: u64, y: u64, z: u64, w: u64| -> (u64, bool) {
            let (a, b, cin) = match product {
                None => (x, y, z != 0),
                Some(hi) => {
                    let p = match (wide, ty.signed(), hi) {
                        (false, true, true) => int::mul_hi_s32(x as i32, y as i32) as u32 as u64,
                        (false, false, true) => int::mul_hi_u32(x as u32, y as u32) as u64,
                        (false, _, false) => u64::from((x as u32).wrapping_mul(y as u32)),
                        (true, true, true) => int::mul_hi_s64(x as i64, y as i64) as u64,
                        (true, false, true) => int::mul_hi_u64(x, y),
                        (true, _, false) => x.wrapping_mul(y),
                    };
                    (p, z, w != 0)
                }
            };
            match (wide, subtract) {
                (false, false) => {
                    let (s, c) = int::add_carry_u32(a as u32, b as u32, cin);
                    (s.into(), c)
                }
                (false, true) => {
                    let (s, c) = int::sub_borrow_u32(a as u32, b as u32, cin);
                    (s.into(), c)
                }
                (true, false) => int::add_carry_u64(a, b, cin),
                (true, true) => int::sub_borrow_u64(a, b, cin),
            }
        };
        let d = self.dest_of(now, 0, ty)?;
        let place = Place::Reg(Reg { slot: d, wide });
        if !wide {
            let d2 = sets.then_some(flag);
            return self.scalar_at(Class::Integer, place, d2, sources, move |a, b, c, e| {
                let (s, carry) = compute(a, b, c, e);
                s | u64::from(carry) << 32
            });
        }
        // 64 bits leave no room for the carry: it is computed apart, before the destination changes.
        if sets {
            let spare = now.f.carry + 1;
            let copy = sources.clone();
            self.scalar_at(Class::Integer, Place::Pred(spare, false), None, copy, move |a, b, c, e| {
                u64::from(compute(a, b, c, e).1)
            })?;
        }
        self.scalar_at(Class::Integer, place, None, sources, move |a, b, c, e| compute(a, b, c, e).0)?;
        if sets {
            self.plain(op::PMOV, Class::Integer, flag, [now.f.carry + 1, 0, 0], 0)?;
        }
        Ok(())
    }
}

fn mul16(a: u64, b: u64, signed: bool, hi: bool) -> u64 {
    let p = if signed { int::mul_wide_s16(s16(a), s16(b)) as u32 } else { int::mul_wide_u16(a as u16, b as u16) };
    // `.lo` keeps the low half when the register is narrow: consumers mask what they need.
    u64::from(if hi { p >> 16 } else { p })
}
