//! Loads, stores, atomics, asynchronous copies, barriers in memory.

use super::{Base, Class, Home, Inst, Kind, Lowering, MemOp, Now, Opnd, Place, Reg, Result, Ty, polls};
use crate::{
    arith::{float, half},
    exec::{access, atomic, copy, memory as mem, special},
    finding::StateSpace,
    program::{Levels, Scope},
};

/// The state space of an instruction.
fn space(now: &Now<'_, '_>) -> StateSpace {
    for m in &now.flat.instr.mods {
        match *m {
            "global" => return StateSpace::Global,
            "shared" | "shared::cta" | "shared::cluster" => return StateSpace::Shared,
            "local" => return StateSpace::Local,
            "const" => return StateSpace::Const,
            "param" | "param::entry" | "param::func" => return StateSpace::Param,
            _ => {}
        }
    }
    StateSpace::Generic
}

impl<'a> Lowering<'a, '_> {
    pub(super) fn memory(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        match now.flat.instr.op {
            "ld" | "ldu" => self.load(now),
            "st" => self.store(now),
            "atom" | "red" => self.atomic(now),
            "cp" => self.cp(now),
            "mbarrier" => self.mbarrier(now),
            // Hints.
            _ => self.plain([special::nothing; 3], Class::Move, 0, [0; 3], 0),
        }
    }

    /// The memory operand at operand `k`; its registers are still missing.
    pub(super) fn mem_operand(&mut self, now: &Now<'_, 'a>, k: usize, space: StateSpace, ty: Ty) -> Result<MemOp> {
        let Opnd::Address(base, offset) = *now.op(k)? else {
            return Err(now.error("an address in brackets is expected"));
        };
        let narrow = matches!(space, StateSpace::Shared | StateSpace::Local | StateSpace::Param);
        let mut space = space;
        let mut offset = offset;
        let reg = match base {
            Base::Reg(r) => self.reg(now, r),
            Base::Var(v) => match now.f.homes[v as usize] {
                Home::Local(place) => {
                    space = StateSpace::Local;
                    offset = offset.wrapping_add(i64::from(place.offset));
                    match place.stack {
                        Some(slot) => Reg { slot, wide: false },
                        None => self.constant(0, false)?,
                    }
                }
                Home::KernelParam(at) => {
                    space = StateSpace::Param;
                    self.constant(u64::from(at), false)?
                }
                Home::Shared(at) => self.constant(u64::from(at), !narrow)?,
                Home::Global(a) => self.constant(a, true)?,
            },
            base => {
                let value = self.symbol(now, base, 0)?;
                self.constant(value, !narrow)?
            }
        };
        let strong = ["volatile", "relaxed", "acquire", "release", "acq_rel", "mmio"].iter().any(|m| now.has(m));
        Ok(MemOp {
            space,
            base: reg.slot,
            wide: reg.wide,
            offset,
            ty,
            bytes: ty.bytes(),
            regs: Vec::new(),
            strong,
            acquire: now.has("acquire") || now.has("acq_rel"),
            release: now.has("release") || now.has("acq_rel"),
            scope: if now.has("cta") { Scope::Block } else { Scope::Device },
            glance: false,
            unread: 0,
        })
    }

    pub(super) fn add_mem(&mut self, op: MemOp) -> u32 {
        self.out.mem.push(op);
        // The instruction is the next one.
        self.out.mem_pc.push(self.out.code.len() as u32);
        self.out.mem.len() as u32 - 1
    }

    fn vector<'o>(&self, now: &Now<'o, 'a>, k: usize) -> Result<Vec<&'o Opnd<'a>>> {
        let n = if now.has("v2") {
            2
        } else if now.has("v4") {
            4
        } else {
            1
        };
        let list: Vec<_> = match now.op(k)? {
            Opnd::Vector(v) => v.iter().collect(),
            o => vec![o],
        };
        if list.len() != n {
            return Err(now.error(format!("{n} registers are expected")));
        }
        Ok(list)
    }

    fn load(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let ty = now.ty()?;
        let space = space(now);
        let list = self.vector(now, 0)?;
        let mut op = self.mem_operand(now, 1, space, ty)?;
        op.glance = now.has("volatile") && !polls::is_wait(&now.f.body, now.flat);
        for (k, o) in list.into_iter().enumerate() {
            if !matches!(o, Opnd::Reg(r) if now.f.used[*r as usize]) {
                op.unread |= ((1 << op.bytes) - 1) << (k as u32 * op.bytes);
            }
            op.regs.push(match o {
                Opnd::Reg(r) => Some(self.reg(now, *r)),
                Opnd::Sink => None,
                _ => return Err(now.error("the destination is no register")),
            });
        }
        if op.regs.iter().flatten().any(|r| !r.wide && op.bytes == 8) || op.bytes > 8 {
            return Err(now.error("the destination's register has the wrong width"));
        }
        // Parameters of the kernel at fixed places.
        if op.space == StateSpace::Param
            && let Opnd::Address(Base::Var(v), offset) = *now.op(1)?
            && let Home::KernelParam(at) = now.f.homes[v as usize]
        {
            let start = i64::from(at).checked_add(offset);
            let end = start.and_then(|s| s.checked_add(i64::from(op.total())));
            let (Some(start @ 0..), Some(end)) = (start, end) else {
                return Err(now.error("the parameter ends before this"));
            };
            if end > i64::from(self.out.param_bytes) {
                return Err(now.error("the parameter ends before this"));
            }
            for (k, r) in op.regs.iter().enumerate() {
                let Some(r) = r else { continue };
                let mut i = self.inst([mem::load_param; 3], Kind::Plain, Class::Load);
                i.d = r.slot;
                i.e = start as u32 + k as u32 * op.bytes;
                i.a = op.bytes as u16;
                i.b = u16::from(ty.signed());
                i.c = u16::from(r.wide);
                self.emit(i)?;
            }
            return Ok(());
        }
        self.order(&op);
        let levels = self.fast(&op, true);
        let slot = op.regs[0].map_or(0, |r| r.slot);
        let mut i = self.inst(levels.unwrap_or([mem::load; 3]), Kind::Event, Class::Load);
        i.d = slot;
        let offset = op.offset as u32;
        (i.a, i.b, i.c, i.wide) = (op.base, offset as u16, (offset >> 16) as u16, op.wide);
        i.e = self.add_mem(op);
        self.emit(i).map(|_| ())
    }

    /// A handler for the common shapes.
    fn fast(&self, op: &MemOp, load: bool) -> Option<Levels> {
        if i32::try_from(op.offset).is_err()
            || op.strong
            || op.acquire
            || op.release
            || op.regs.iter().any(Option::is_none)
        {
            return None;
        }
        let wide = op.regs[0].is_some_and(|r| r.wide);
        let shape = match (op.regs.len(), op.bytes, wide) {
            (1, 4, false) => 4,
            (1, 8, true) => 8,
            (4, 4, false) if op.regs.iter().flatten().all(|r| !r.wide) => 16,
            _ => return None,
        };
        match (op.space, op.wide, shape, load) {
            (StateSpace::Global, true, 4, true) => Some(access::LDG32),
            (StateSpace::Global, true, 8, true) => Some(access::LDG64),
            (StateSpace::Global, true, 16, true) => Some(access::LDG128),
            (StateSpace::Global, true, 4, false) => Some(access::STG32),
            (StateSpace::Global, true, 8, false) => Some(access::STG64),
            (StateSpace::Global, true, 16, false) => Some(access::STG128),
            (StateSpace::Shared, _, 4, true) => Some(access::LDS32),
            (StateSpace::Shared, _, 8, true) => Some(access::LDS64),
            (StateSpace::Shared, _, 16, true) => Some(access::LDS128),
            (StateSpace::Shared, _, 4, false) => Some(access::STS32),
            (StateSpace::Shared, _, 8, false) => Some(access::STS64),
            (StateSpace::Shared, _, 16, false) => Some(access::STS128),
            _ => None,
        }
    }

    /// With strong accesses to global memory the result depends on the order of blocks.
    fn order(&mut self, op: &MemOp) {
        if op.strong && matches!(op.space, StateSpace::Global | StateSpace::Generic) {
            self.out.ordered = true;
        }
    }

    fn store(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let ty = now.ty()?;
        let space = space(now);
        let list = self.vector(now, 1)?;
        let mut op = self.mem_operand(now, 0, space, ty)?;
        if op.bytes > 8 {
            return Err(now.unsupported());
        }
        for o in list {
            let r = match o {
                Opnd::Reg(r) => self.reg(now, *r),
                Opnd::Sink => {
                    op.regs.push(None);
                    continue;
                }
                o => self.source(now, o, ty)?,
            };
            if !r.wide && op.bytes == 8 {
                return Err(now.error("the source's register has the wrong width"));
            }
            op.regs.push(Some(r));
        }
        if op.space == StateSpace::Param {
            return Err(now.error("a kernel's parameters may only be read"));
        }
        self.order(&op);
        let levels = self.fast(&op, false);
        let slot = op.regs[0].map_or(0, |r| r.slot);
        let mut i = self.inst(levels.unwrap_or([mem::store; 3]), Kind::Event, Class::Store);
        i.d = slot;
        let offset = op.offset as u32;
        (i.a, i.b, i.c, i.wide) = (op.base, offset as u16, (offset >> 16) as u16, op.wide);
        i.e = self.add_mem(op);
        self.emit(i).map(|_| ())
    }

    fn atomic(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        let ty = now.ty()?;
        let returns = i.op == "atom";
        let names = ["add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas"];
        let name = i.mods.iter().copied().find(|m| names.contains(m)).ok_or_else(|| now.unsupported())?;
        if now.has("v2") || now.has("v4") || now.has("v8") || !(2..=8).contains(&ty.bytes()) {
            return Err(now.unsupported());
        }
        let half_type = matches!(ty, Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2);
        if matches!(ty, Ty::BF16 | Ty::BF16x2) {
            now.needs(90, self.sm)?;
        }
        let k = usize::from(returns);
        let mut op = self.mem_operand(now, k, space(now), ty)?;
        op.strong = true;
        let float = half_type || matches!(ty, Ty::F32 | Ty::F64);
        let used = returns && matches!(now.op(0)?, Opnd::Reg(r) if now.f.used[*r as usize]);
        let commutes = !float && matches!(name, "add" | "min" | "max" | "and" | "or" | "xor");
        if matches!(op.space, StateSpace::Global | StateSpace::Generic) && (used || !commutes) {
            self.out.ordered = true;
        }
        let d = if returns && !matches!(now.op(0)?, Opnd::Sink) {
            Place::Reg(Reg { slot: self.dest_of(now, 0, ty)?, wide: ty.bytes() == 8 })
        } else {
            Place::None
        };
        let mut sources = Vec::new();
        for n in k + 1..now.count().min(k + 3) {
            let o = now.op(n)?;
            sources.push(Place::Reg(self.source(now, o, ty)?));
        }
        if sources.len() < if name == "cas" { 2 } else { 1 } {
            return Err(now.error("an operand is missing"));
        }
        let ftz = matches!(op.space, StateSpace::Global | StateSpace::Generic) && ty == Ty::F32;
        let f = operation(name, ty, ftz).ok_or_else(|| now.unsupported())?;
        let number = self.out.scalars.len() as u32;
        self.out.scalars.push(super::Scalar { f, d, d2: None, sources });
        let mut inst: Inst = self.inst([atomic::atomic; 3], Kind::Event, Class::Atomic);
        inst.a = number as u16;
        inst.b = (number >> 16) as u16;
        inst.e = self.add_mem(op);
        self.emit(inst).map(|_| ())
    }

    /// `cp.async` and its groups.
    fn cp(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let i = now.flat.instr;
        now.needs(80, self.sm)?;
        if i.mods.first() != Some(&"async") || now.has("bulk") || now.has("tensor") {
            return Err(now.lacking("bulk copies are not supported"));
        }
        let number = |k: usize| match now.op(k)? {
            Opnd::Int(n) => Ok(*n),
            _ => Err(now.error("a number is expected")),
        };
        let c = Class::Sync;
        if now.has("commit_group") {
            let inst = self.inst([copy::commit; 3], Kind::Event, c);
            return self.emit(inst).map(|_| ());
        }
        if now.has("wait_all") || now.has("wait_group") {
            let all = now.has("wait_all");
            let mut inst = self.inst([copy::wait; 3], Kind::Event, c);
            inst.e = if all { 0 } else { number(0)?.min(1 << 20) as u32 };
            inst.a = u16::from(all);
            return self.emit(inst).map(|_| ());
        }
        if now.has("mbarrier") {
            let op = self.mem_operand(now, 0, space(now), Ty::B64)?;
            let mut inst = self.inst([copy::arrive_on; 3], Kind::Event, c);
            inst.e = self.add_mem(op);
            inst.a = u16::from(now.has("noinc"));
            return self.emit(inst).map(|_| ());
        }
        let bytes = number(2)?;
        let valid = if now.has("cg") { bytes == 16 } else { matches!(bytes, 4 | 8 | 16) };
        if !valid {
            return Err(now.error(format!("{bytes} bytes cannot be copied: 4, 8 or 16 (`.cg`: 16)")));
        }
        let mut to = self.mem_operand(now, 0, StateSpace::Shared, Ty::B8)?;
        let mut from = self.mem_operand(now, 1, StateSpace::Global, Ty::B8)?;
        to.bytes = bytes as u32;
        from.bytes = bytes as u32;
        let mut inst = self.inst([copy::start; 3], Kind::Event, Class::Load);
        // The bytes that are read, or a predicate that makes it none.
        match now.flat.operands.get(3) {
            None => inst.b = u16::MAX,
            Some(Opnd::Pred(p, negated)) => {
                inst.b = *p;
                inst.c = 1 + u16::from(*negated);
            }
            Some(o) if !(now.has("L2::cache_hint") && now.count() == 4) => {
                inst.b = self.source(now, o, Ty::U32)?.slot;
            }
            Some(_) => inst.b = u16::MAX,
        }
        inst.e = self.add_mem(to);
        let second = self.add_mem(from);
        debug_assert_eq!(second, inst.e + 1);
        self.emit(inst).map(|_| ())
    }

    fn mbarrier(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        now.needs(80, self.sm)?;
        let i = now.flat.instr;
        let what = i.mods.first().copied().unwrap_or("");
        let c = Class::Sync;
        let space = match space(now) {
            StateSpace::Generic => StateSpace::Generic,
            _ => StateSpace::Shared,
        };
        match what {
            "init" | "inval" => {
                let op = self.mem_operand(now, 0, space, Ty::B64)?;
                let count = if what == "init" { self.src(now, 1, Ty::U32)? } else { 0 };
                let mut inst = self.inst([copy::mbarrier_init; 3], Kind::Event, c);
                inst.a = count;
                inst.b = u16::from(what == "init");
                inst.e = self.add_mem(op);
                self.emit(inst).map(|_| ())
            }
            "arrive" | "arrive_drop" | "expect_tx" | "complete_tx" => {
                let returns = !matches!(now.op(0)?, Opnd::Address(..));
                let k = usize::from(returns);
                let op = self.mem_operand(now, k, space, Ty::B64)?;
                let tx = what.ends_with("_tx") || now.has("expect_tx");
                if tx {
                    now.needs(90, self.sm)?;
                }
                let operand = match now.flat.operands.get(k + 1) {
                    Some(o) => self.source(now, o, Ty::U32)?.slot,
                    None => self.constant(1, false)?.slot,
                };
                let mut inst = self.inst([copy::mbarrier_arrive; 3], Kind::Event, c);
                inst.d = if returns && !matches!(now.op(0)?, Opnd::Sink) {
                    self.dest_of(now, 0, Ty::B64)?
                } else {
                    u16::MAX
                };
                inst.a = operand;
                // Bit 0: the operand is a number of bytes; bit 1: it does not arrive; bit 2: it leaves for good;
                // bit 3: bytes have come.
                inst.b = u16::from(tx)
                    | u16::from(what.ends_with("_tx")) << 1
                    | u16::from(what == "arrive_drop") << 2
                    | u16::from(what == "complete_tx") << 3;
                inst.e = self.add_mem(op);
                self.emit(inst).map(|_| ())
            }
            "test_wait" | "try_wait" => {
                if what == "try_wait" {
                    now.needs(90, self.sm)?;
                }
                let parity = now.has("parity");
                let p = self.dest_pred(now, now.op(0)?)?;
                let op = self.mem_operand(now, 1, space, Ty::B64)?;
                let state = self.src(now, 2, if parity { Ty::U32 } else { Ty::B64 })?;
                let mut inst = self.inst([copy::mbarrier_wait; 3], Kind::Event, c);
                (inst.d, inst.a, inst.b) = (p, state, u16::from(parity));
                inst.e = self.add_mem(op);
                self.emit(inst).map(|_| ())
            }
            "pending_count" => self.scalar(now, c, Ty::U32, &[Ty::B64], |state, _, _, _| copy::pending(state)),
            _ => Err(now.unsupported()),
        }
    }
}

/// The new value from the old one and the operands.
fn operation(name: &str, ty: Ty, ftz: bool) -> Option<super::ScalarFn> {
    let wide = ty.bytes() == 8;
    let signed = ty.signed();
    Some(match (name, ty) {
        ("add", Ty::F32) => Box::new(move |o, b, _, _| {
            // In global memory subnormal inputs and results are flushed.
            let flush = |x: f32| if ftz { float::flush_f32(x) } else { x };
            let s = flush(f32::from_bits(o as u32)) + flush(f32::from_bits(b as u32));
            u64::from(flush(float::canonical_f32(s)).to_bits())
        }),
        ("add", Ty::F64) => {
            Box::new(|o, b, _, _| float::canonical_f64(f64::from_bits(o) + f64::from_bits(b)).to_bits())
        }
        ("add", Ty::F16) => Box::new(|o, b, _, _| half::add_f16(o as u16, b as u16).into()),
        ("add", Ty::BF16) => Box::new(|o, b, _, _| half::add_bf16(o as u16, b as u16).into()),
        ("add", Ty::F16x2) => Box::new(|o, b, _, _| half::both(o as u32, b as u32, half::add_f16).into()),
        ("add", Ty::BF16x2) => Box::new(|o, b, _, _| half::both(o as u32, b as u32, half::add_bf16).into()),
        (_, Ty::F32 | Ty::F64 | Ty::F16 | Ty::BF16 | Ty::F16x2 | Ty::BF16x2) => return None,
        ("add", _) => Box::new(|o, b, _, _| o.wrapping_add(b)),
        ("min", _) if signed && wide => Box::new(|o, b, _, _| (o as i64).min(b as i64) as u64),
        ("max", _) if signed && wide => Box::new(|o, b, _, _| (o as i64).max(b as i64) as u64),
        ("min", _) if signed => Box::new(|o, b, _, _| (o as i32).min(b as i32) as u32 as u64),
        ("max", _) if signed => Box::new(|o, b, _, _| (o as i32).max(b as i32) as u32 as u64),
        ("min", _) => Box::new(|o, b, _, _| o.min(b)),
        ("max", _) => Box::new(|o, b, _, _| o.max(b)),
        ("and", _) => Box::new(|o, b, _, _| o & b),
        ("or", _) => Box::new(|o, b, _, _| o | b),
        ("xor", _) => Box::new(|o, b, _, _| o ^ b),
        ("inc", _) => Box::new(|o, b, _, _| if o as u32 >= b as u32 { 0 } else { o + 1 }),
        ("dec", _) => Box::new(|o, b, _, _| if o as u32 == 0 || o as u32 > b as u32 { b } else { o - 1 }),
        ("exch", _) => Box::new(|_, b, _, _| b),
        ("cas", Ty::B16 | Ty::U16) => Box::new(|o, b, c, _| if o as u16 == b as u16 { c & 0xffff } else { o }),
        ("cas", _) => Box::new(|o, b, c, _| if o == b { c } else { o }),
        _ => return None,
    })
}
