//! Lanes that talk, barriers, fences.

use super::{Class, Kind, Lowering, Now, Opnd, Reg, Result, Ty};
use crate::{
    exec::{collective, special},
    program::{BarOp, BarReduce, Extra, Reduce},
};

impl<'a> Lowering<'a, '_> {
    pub(super) fn warp(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        match i.op {
            "shfl" => self.shfl(now),
            "vote" => self.vote(now),
            "match" => self.matching(now),
            "redux" => self.redux(now),
            "activemask" => {
                let d = self.dest_of(now, 0, Ty::B32)?;
                self.plain([collective::active; 3], Class::Move, d, [0; 3], 0)
            }
            "elect" => {
                now.needs(90, self.sm)?;
                let (d, p) = match now.op(0)? {
                    Opnd::Pair(a, b) => {
                        let d = match &**a {
                            Opnd::Reg(r) => self.reg(now, *r).slot,
                            _ => u16::MAX,
                        };
                        (d, self.dest_pred(now, b)?)
                    }
                    _ => return Err(now.error("`d|p` is expected")),
                };
                let members = self.src(now, 1, Ty::B32)?;
                let mut inst = self.inst([collective::elect; 3], Kind::Sync, Class::Move);
                (inst.d, inst.a, inst.c) = (d, p, members);
                self.emit(inst).map(|_| ())
            }
            "bar" | "barrier" => self.bar(now),
            "nanosleep" => {
                let inst = self.inst([special::sleep; 3], Kind::Event, Class::Sync);
                self.emit(inst).map(|_| ())
            }
            _ => {
                // 0 the block, 1 the device, 2 the system.
                let scope = i.mods.iter().find_map(|m| match *m {
                    "cta" => Some(0),
                    "gl" | "gpu" | "cluster" => Some(1),
                    "sys" => Some(2),
                    _ => None,
                });
                if now.has("proxy") {
                    return self.plain([special::nothing; 3], Class::Sync, 0, [0; 3], 0);
                }
                let e = scope.unwrap_or(1);
                let mut inst = self.inst([special::fence; 3], Kind::Plain, Class::Sync);
                inst.e = e;
                self.emit(inst).map(|_| ())
            }
        }
    }

    fn shfl(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        if !now.has("sync") {
            return Err(now.error("only the `.sync` form exists from sm_70 on"));
        }
        let mode = match now.flat.instr.mods.get(1).copied() {
            Some("up") => 0,
            Some("down") => 1,
            Some("bfly") => 2,
            Some("idx") => 3,
            _ => return Err(now.unsupported()),
        };
        let mut extra = Extra { numbers: vec![mode], ..Extra::default() };
        let d = match now.op(0)? {
            Opnd::Pair(a, p) => {
                extra.preds.push((self.dest_pred(now, p)?, false));
                match &**a {
                    Opnd::Reg(r) => self.reg(now, *r),
                    _ => return Err(now.error("the destination is no register")),
                }
            }
            _ => self.dest(now, 0)?,
        };
        if d.wide {
            return Err(now.error("the destination's register has the wrong width"));
        }
        let (a, b, c) = (self.src(now, 1, Ty::B32)?, self.src(now, 2, Ty::B32)?, self.src(now, 3, Ty::B32)?);
        let members = self.src(now, 4, Ty::B32)?;
        extra.regs.push(Some(Reg { slot: c, wide: false }));
        let mut inst = self.inst([collective::shuffle; 3], Kind::Sync, Class::Move);
        (inst.d, inst.a, inst.b, inst.c) = (d.slot, a, b, members);
        inst.e = self.out.extra.len() as u32;
        self.out.extra.push(extra);
        self.emit(inst).map(|_| ())
    }

    fn vote(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        if !now.has("sync") {
            return Err(now.error("only the `.sync` form exists from sm_70 on"));
        }
        let how = match now.flat.instr.mods.get(1).copied() {
            Some("all") => 0,
            Some("any") => 1,
            Some("uni") => 2,
            Some("ballot") => 3,
            _ => return Err(now.unsupported()),
        };
        let d = if how == 3 { self.dest_of(now, 0, Ty::B32)? } else { self.dest_pred(now, now.op(0)?)? };
        let (p, negated) = self.src_pred(now, now.op(1)?)?;
        let members = self.src(now, 2, Ty::B32)?;
        let mut inst = self.inst([collective::vote; 3], Kind::Sync, Class::Move);
        (inst.d, inst.a, inst.b, inst.c, inst.e) = (d, p, u16::from(negated), members, how);
        self.emit(inst).map(|_| ())
    }

    fn matching(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let all = now.has("all");
        let ty = now.ty()?;
        let mut extra = Extra { numbers: vec![u64::from(all)], ..Extra::default() };
        let d = match now.op(0)? {
            Opnd::Pair(a, p) => {
                extra.preds.push((self.dest_pred(now, p)?, false));
                match &**a {
                    Opnd::Reg(r) => self.reg(now, *r).slot,
                    _ => return Err(now.error("the destination is no register")),
                }
            }
            _ => self.dest_of(now, 0, Ty::B32)?,
        };
        let o = now.op(1)?;
        extra.regs.push(Some(self.source(now, o, ty)?));
        let members = self.src(now, 2, Ty::B32)?;
        let mut inst = self.inst([collective::matching; 3], Kind::Sync, Class::Move);
        (inst.d, inst.c) = (d, members);
        inst.e = self.out.extra.len() as u32;
        self.out.extra.push(extra);
        self.emit(inst).map(|_| ())
    }

    fn redux(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        now.needs(80, self.sm)?;
        let signed = now.ty()?.signed();
        let how = match (now.flat.instr.mods.get(1).copied(), signed) {
            (Some("add"), _) => 0,
            (Some("min"), false) => 1,
            (Some("max"), false) => 2,
            (Some("min"), true) => 3,
            (Some("max"), true) => 4,
            (Some("and"), _) => 5,
            (Some("or"), _) => 6,
            (Some("xor"), _) => 7,
            _ => return Err(now.unsupported()),
        };
        let d = self.dest_of(now, 0, Ty::B32)?;
        let (a, members) = (self.src(now, 1, Ty::B32)?, self.src(now, 2, Ty::B32)?);
        let mut inst = self.inst([collective::redux; 3], Kind::Sync, Class::Integer);
        (inst.d, inst.a, inst.c, inst.e) = (d, a, members, how);
        self.emit(inst).map(|_| ())
    }

    fn bar(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        if now.has("warp") {
            let members = self.src(now, 0, Ty::B32)?;
            let mut inst = self.inst([special::nothing; 3], Kind::SyncWarp, Class::Sync);
            inst.c = members;
            return self.emit(inst).map(|_| ());
        }
        if now.has("cluster") {
            now.needs(90, self.sm)?;
        }
        let aligned = i.op == "bar" || now.has("aligned");
        let arrive = now.has("arrive");
        let mut k = 0;
        let mut reduce = None;
        if now.has("red") {
            let op = match i.mods.iter().find(|m| matches!(**m, "and" | "or" | "popc")) {
                Some(&"and") => Reduce::And,
                Some(&"or") => Reduce::Or,
                Some(_) => Reduce::Popc,
                None => return Err(now.unsupported()),
            };
            let d = match op {
                Reduce::Popc => self.dest_of(now, 0, Ty::U32)?,
                _ => self.dest_pred(now, now.op(0)?)?,
            };
            let source = self.src_pred(now, now.op(now.count() - 1)?)?;
            reduce = Some(BarReduce { op, source, d });
            k = 1;
        }
        let last = now.count() - usize::from(reduce.is_some());
        let id = if k < last { self.src(now, k, Ty::U32)? } else { self.constant(0, false)?.slot };
        if let Some(Opnd::Int(n)) = now.flat.operands.get(k)
            && *n > 15
        {
            return Err(now.error("there are barriers 0 to 15"));
        }
        let count = if k + 1 < last { Some(self.src(now, k + 1, Ty::U32)?) } else { None };
        if arrive && count.is_none() {
            return Err(now.error("the number of threads is missing"));
        }
        let mut inst = self.inst([special::nothing; 3], Kind::Barrier, Class::Sync);
        inst.e = self.out.bars.len() as u32;
        self.out.bars.push(BarOp { id, count, arrive, aligned, reduce });
        self.emit(inst).map(|_| ())
    }
}
