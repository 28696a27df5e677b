//! Comparisons and selections.

use super::{Class, Lowering, Now, Opnd, Place, Reg, Result, Ty};
use crate::{
    arith::{float, half},
    exec::integer as op,
    program::Levels,
};

impl<'a> Lowering<'a, '_> {
    pub(super) fn selp(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let ty = now.ty()?;
        let d = self.dest_of(now, 0, ty)?;
        let (a, b) = (self.src(now, 1, ty)?, self.src(now, 2, ty)?);
        let (p, negated) = self.src_pred(now, now.op(3)?)?;
        let levels = if ty.bytes() == 8 { op::SELP64 } else { op::SELP32 };
        self.plain(levels, Class::Move, d, [a, b, p], u32::from(negated))
    }

    pub(super) fn slct(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let types: Vec<Ty> = now.types().collect();
        let &[ty, by] = types.as_slice() else {
            return Err(now.error("two types are expected"));
        };
        self.scalar(now, Class::Move, ty, &[ty, ty, by], move |a, b, c, _| {
            let first = if by == Ty::F32 {
                // Subnormal and NaN: the first where c ≥ 0, NaN chooses the second.
                f32::from_bits(c as u32) >= 0.0
            } else {
                c as i32 >= 0
            };
            if first { a } else { b }
        })
    }

    pub(super) fn setp(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        let ty = now.ty()?;
        let compare = i.mods.first().copied().unwrap_or("");
        let (d, d2) = match now.op(0)? {
            Opnd::Pair(a, b) => (self.dest_pred(now, a)?, self.dest_pred(now, b)?),
            o => (self.dest_pred(now, o)?, 0),
        };
        let combine = i.mods.iter().copied().find(|m| matches!(*m, "and" | "or" | "xor"));
        if combine.is_some() != (now.count() > 3) {
            return Err(now.error("the wrong number of operands"));
        }
        let flush = now.has("ftz");
        if let Some(levels) = hot_compare(compare, ty)
            && combine.is_none()
            && !flush
        {
            let (a, b) = (self.src(now, 1, ty)?, self.src(now, 2, ty)?);
            return self.plain(levels, compare_class(ty), d, [a, b, d2], 0);
        }
        let test = comparison(compare, ty, flush).ok_or_else(|| now.unsupported())?;
        let combine = match combine {
            None => 0,
            Some("and") => 1,
            Some("or") => 2,
            _ => 3,
        };
        // The half-pair forms give one predicate a half.
        if matches!(ty, Ty::F16x2 | Ty::BF16x2) {
            let single = comparison(compare, if ty == Ty::F16x2 { Ty::F16 } else { Ty::BF16 }, flush)
                .ok_or_else(|| now.unsupported())?;
            let mut sources = vec![];
            for k in 1..3 {
                let o = now.op(k)?;
                sources.push(Place::Reg(self.source(now, o, Ty::B32)?));
            }
            let c = match now.flat.operands.get(3) {
                Some(o) => {
                    let (p, n) = self.src_pred(now, o)?;
                    Place::Pred(p, n)
                }
                None => Place::None,
            };
            sources.push(c);
            return self.scalar_at(Class::F16, Place::Pred(d, false), Some(d2.max(1)), sources, move |a, b, c, _| {
                let low = mingle(single(a & 0xffff, b & 0xffff), c != 0, combine);
                let high = mingle(single(a >> 16, b >> 16), c != 0, combine);
                u64::from(low) | u64::from(high) << 32
            });
        }
        let mut sources = vec![];
        for k in 1..3 {
            let o = now.op(k)?;
            sources.push(Place::Reg(self.source(now, o, ty)?));
        }
        if let Some(o) = now.flat.operands.get(3) {
            let (p, n) = self.src_pred(now, o)?;
            sources.push(Place::Pred(p, n));
        }
        let d2 = (d2 != 0).then_some(d2);
        self.scalar_at(compare_class(ty), Place::Pred(d, false), d2, sources, move |a, b, c, _| {
            let t = test(a, b);
            u64::from(mingle(t, c != 0, combine)) | u64::from(mingle(!t, c != 0, combine)) << 32
        })
    }

    pub(super) fn set(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        let types: Vec<Ty> = now.types().collect();
        let &[to, ty] = types.as_slice() else {
            return Err(now.error("two types are expected"));
        };
        let compare = i.mods.first().copied().unwrap_or("");
        let flush = now.has("ftz");
        let combine = match i.mods.iter().copied().find(|m| matches!(*m, "and" | "or" | "xor")) {
            None => 0,
            Some("and") => 1,
            Some("or") => 2,
            _ => 3,
        };
        let mut sources = vec![];
        for k in 1..3 {
            let o = now.op(k)?;
            sources.push(Place::Reg(self.source(now, o, ty)?));
        }
        if combine != 0 {
            let (p, n) = self.src_pred(now, now.op(3)?)?;
            sources.push(Place::Pred(p, n));
        }
        let d = Place::Reg(Reg { slot: self.dest_of(now, 0, to)?, wide: to.bytes() == 8 });
        if matches!(ty, Ty::F16x2 | Ty::BF16x2) {
            let single = comparison(compare, if ty == Ty::F16x2 { Ty::F16 } else { Ty::BF16 }, flush)
                .ok_or_else(|| now.unsupported())?;
            let yes: u64 = match to {
                Ty::F16x2 => 0x3c00,
                Ty::BF16x2 => 0x3f80,
                _ => 0xffff,
            };
            return self.scalar_at(Class::F16, d, None, sources, move |a, b, c, _| {
                let low = mingle(single(a & 0xffff, b & 0xffff), c != 0, combine);
                let high = mingle(single(a >> 16 & 0xffff, b >> 16 & 0xffff), c != 0, combine);
                (u64::from(low) * yes) | ((u64::from(high) * yes) << 16)
            });
        }
        let test = comparison(compare, ty, flush).ok_or_else(|| now.unsupported())?;
        let yes: u64 = match to {
            Ty::F32 => u64::from(1f32.to_bits()),
            Ty::F16 => 0x3c00,
            Ty::BF16 => 0x3f80,
            Ty::U16 | Ty::S16 | Ty::B16 => 0xffff,
            Ty::U32 | Ty::S32 | Ty::B32 => 0xffff_ffff,
            _ => return Err(now.unsupported()),
        };
        self.scalar_at(compare_class(ty), d, None, sources, move |a, b, c, _| {
            u64::from(mingle(test(a, b), c != 0, combine)) * yes
        })
    }
}

fn mingle(test: bool, with: bool, how: u8) -> bool {
    match how {
        1 => test & with,
        2 => test | with,
        3 => test ^ with,
        _ => test,
    }
}

fn compare_class(ty: Ty) -> Class {
    match ty {
        Ty::F32 => Class::F32,
        Ty::F64 => Class::F64,
        Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2 => Class::F16,
        _ => Class::Integer,
    }
}

fn hot_compare(name: &str, ty: Ty) -> Option<Levels> {
    use op::*;
    Some(match (ty, name) {
        (Ty::U32 | Ty::S32 | Ty::B32, "eq") => compare_u32::EQ,
        (Ty::U32 | Ty::S32 | Ty::B32, "ne") => compare_u32::NE,
        (Ty::U32, "lt" | "lo") => compare_u32::LT,
        (Ty::U32, "le" | "ls") => compare_u32::LE,
        (Ty::U32, "gt" | "hi") => compare_u32::GT,
        (Ty::U32, "ge" | "hs") => compare_u32::GE,
        (Ty::S32, "lt") => compare_s32::LT,
        (Ty::S32, "le") => compare_s32::LE,
        (Ty::S32, "gt") => compare_s32::GT,
        (Ty::S32, "ge") => compare_s32::GE,
        (Ty::U64 | Ty::S64 | Ty::B64, "eq") => compare_u64::EQ,
        (Ty::U64 | Ty::S64 | Ty::B64, "ne") => compare_u64::NE,
        (Ty::U64, "lt" | "lo") => compare_u64::LT,
        (Ty::U64, "le" | "ls") => compare_u64::LE,
        (Ty::U64, "gt" | "hi") => compare_u64::GT,
        (Ty::U64, "ge" | "hs") => compare_u64::GE,
        (Ty::S64, "lt") => compare_s64::LT,
        (Ty::S64, "le") => compare_s64::LE,
        (Ty::S64, "gt") => compare_s64::GT,
        (Ty::S64, "ge") => compare_s64::GE,
        (Ty::F32, "eq") => compare_f32::EQ,
        (Ty::F32, "ne") => compare_f32::NE,
        (Ty::F32, "lt") => compare_f32::LT,
        (Ty::F32, "le") => compare_f32::LE,
        (Ty::F32, "gt") => compare_f32::GT,
        (Ty::F32, "ge") => compare_f32::GE,
        (Ty::F32, "equ") => compare_f32::EQU,
        (Ty::F32, "neu") => compare_f32::NEU,
        (Ty::F32, "ltu") => compare_f32::LTU,
        (Ty::F32, "leu") => compare_f32::LEU,
        (Ty::F32, "gtu") => compare_f32::GTU,
        (Ty::F32, "geu") => compare_f32::GEU,
        (Ty::F32, "num") => compare_f32::NUM,
        (Ty::F32, "nan") => compare_f32::NAN,
        (Ty::F64, "eq") => compare_f64::EQ,
        (Ty::F64, "ne") => compare_f64::NE,
        (Ty::F64, "lt") => compare_f64::LT,
        (Ty::F64, "le") => compare_f64::LE,
        (Ty::F64, "gt") => compare_f64::GT,
        (Ty::F64, "ge") => compare_f64::GE,
        (Ty::F64, "equ") => compare_f64::EQU,
        (Ty::F64, "neu") => compare_f64::NEU,
        (Ty::F64, "ltu") => compare_f64::LTU,
        (Ty::F64, "leu") => compare_f64::LEU,
        (Ty::F64, "gtu") => compare_f64::GTU,
        (Ty::F64, "geu") => compare_f64::GEU,
        (Ty::F64, "num") => compare_f64::NUM,
        (Ty::F64, "nan") => compare_f64::NAN,
        _ => return None,
    })
}

type Test = Box<dyn Fn(u64, u64) -> bool + Send + Sync>;

/// A comparison by name, on any type.
fn comparison(name: &str, ty: Ty, flush: bool) -> Option<Test> {
    use std::cmp::Ordering::{self, *};
    let accept: fn(Option<Ordering>) -> bool = match name {
        "eq" => |o| o == Some(Equal),
        "ne" => |o| matches!(o, Some(Less | Greater)),
        "lt" | "lo" => |o| o == Some(Less),
        "le" | "ls" => |o| matches!(o, Some(Less | Equal)),
        "gt" | "hi" => |o| o == Some(Greater),
        "ge" | "hs" => |o| matches!(o, Some(Greater | Equal)),
        "equ" => |o| matches!(o, None | Some(Equal)),
        "neu" => |o| o != Some(Equal),
        "ltu" => |o| matches!(o, None | Some(Less)),
        "leu" => |o| o != Some(Greater),
        "gtu" => |o| matches!(o, None | Some(Greater)),
        "geu" => |o| o != Some(Less),
        "num" => |o| o.is_some(),
        "nan" => |o| o.is_none(),
        _ => return None,
    };
    let f32_of = move |x: u64| {
        let x = f32::from_bits(x as u32);
        if flush { float::flush_f32(x) } else { x }
    };
    let order: Box<dyn Fn(u64, u64) -> Option<Ordering> + Send + Sync> = match ty {
        Ty::U16 | Ty::B16 => Box::new(|a, b| Some((a as u16).cmp(&(b as u16)))),
        Ty::S16 => Box::new(|a, b| Some((a as i16).cmp(&(b as i16)))),
        Ty::U32 | Ty::B32 => Box::new(|a, b| Some((a as u32).cmp(&(b as u32)))),
        Ty::S32 => Box::new(|a, b| Some((a as i32).cmp(&(b as i32)))),
        Ty::U64 | Ty::B64 => Box::new(|a, b| Some(a.cmp(&b))),
        Ty::S64 => Box::new(|a, b| Some((a as i64).cmp(&(b as i64)))),
        Ty::F32 => Box::new(move |a, b| f32_of(a).partial_cmp(&f32_of(b))),
        Ty::F64 => Box::new(|a, b| f64::from_bits(a).partial_cmp(&f64::from_bits(b))),
        Ty::F16 | Ty::F16x2 => Box::new(move |a, b| {
            let of = |x: u64| half::f16_to_f32(if flush { half::flush_f16(x as u16) } else { x as u16 });
            of(a).partial_cmp(&of(b))
        }),
        Ty::BF16 | Ty::BF16x2 => Box::new(|a, b| half::bf16_to_f32(a as u16).partial_cmp(&half::bf16_to_f32(b as u16))),
        _ => return None,
    };
    Some(Box::new(move |a, b| accept(order(a, b))))
}
