//! Lowering: the syntax tree becomes direct-threaded code, one flat program per kernel with its callees.

pub(crate) mod allocate;
mod compare;
mod control;
mod convert;
mod cost;
pub(crate) mod flatten;
mod float;
pub(crate) mod functions;
mod half;
mod integer;
pub(crate) mod load;
mod memory;
mod now;
mod polls;
mod tensor;
mod warp;

use std::collections::{HashMap, HashSet};

use flatten::{Base, Body, Opnd, RegId};
pub(crate) use now::Now;

use crate::{
    exec::{CODE_WINDOW, vector},
    program::*,
    ptx::{
        Error,
        syntax::{Ty, Unit},
    },
};

type Result<T> = std::result::Result<T, Error>;

/// Instructions of a program.
const MOST_INSTRUCTIONS: usize = 1 << 22;

/// The meaning of module-level names.
#[derive(Debug, Default)]
pub(crate) struct Symbols<'a> {
    /// Addresses of `.global` and `.const` variables.
    pub(crate) addresses: HashMap<&'a str, u64>,
    /// Numbers of device functions, for their addresses.
    pub(crate) functions: HashMap<&'a str, u32>,
}

impl Symbols<'_> {
    /// The address of a function.
    pub(crate) fn code_address(number: u32) -> u64 {
        CODE_WINDOW + u64::from(number) * 16
    }
}

/// The location of a function's variable.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Home {
    /// An offset in the kernel's parameters.
    KernelParam(u32),
    Shared(u32),
    Local(LocalPlace),
    Global(u64),
}

/// The state of lowering a function's body.
pub(crate) struct FunctionState<'a> {
    pub(crate) body: Body<'a>,
    /// Slots of its registers.
    pub(crate) slots: Vec<u32>,
    pub(crate) homes: Vec<Home>,
    pub(crate) link: u16,
    pub(crate) entry: bool,
    /// The predicate that holds the carry of `.cc`.
    pub(crate) carry: u16,
    pub(crate) rets: Vec<(LocalPlace, u32)>,
    pub(crate) params: Vec<(LocalPlace, u32)>,
    pub(crate) preds: (u16, u16),
    pub(crate) local: u32,
    /// The first of its branch tables.
    pub(crate) first_table: usize,
    /// Its number among the functions.
    pub(crate) number: u32,
    /// Registers that some instruction reads.
    pub(crate) used: Vec<bool>,
}

pub(crate) struct Lowering<'a, 'u> {
    pub(crate) symbols: &'u Symbols<'a>,
    /// The device's compute capability.
    pub(crate) sm: u32,
    pub(crate) out: Program,
    level: usize,
    next_slot: u32,
    pub(crate) next_pred: u32,
    constants: HashMap<(u64, bool), u16>,
    specials: HashMap<Special, u16>,
    /// Offsets of module-level shared variables.
    pub(crate) shared: HashMap<&'a str, u32>,
    line: SourceLine,
    guard: u16,
    text: String,
    /// Branches whose targets are not known yet: instruction and flat index.
    fixups: Vec<(u32, u32)>,
    pub(crate) calls_to: Vec<(u32, u32)>,
    pub(crate) abi: u32,
    pub(crate) stack_slot: u16,
    /// Calls (caller, callee) that may come back to their caller.
    pub(crate) recursion: HashSet<(u32, u32)>,
    /// Shared arrays whose length the launch gives, with their alignment: they start where the others end.
    pub(crate) dynamic: Vec<(&'a str, u32)>,
}

impl<'a, 'u> Lowering<'a, 'u> {
    pub(crate) fn new(unit: &'u Unit<'a>, symbols: &'u Symbols<'a>, sm: u32) -> Lowering<'a, 'u> {
        Lowering {
            symbols,
            sm,
            out: Program {
                code: Vec::new(),
                costs: Vec::new(),
                entry: 0,
                slots: 0,
                registers: 0,
                preds: 0,
                constants: Vec::new(),
                specials: Vec::new(),
                mem: Vec::new(),
                mem_pc: Vec::new(),
                scalars: Vec::new(),
                copies: Vec::new(),
                calls: Vec::new(),
                bars: Vec::new(),
                tables: Vec::new(),
                entries: Vec::new(),
                extra: Vec::new(),
                lines: Vec::new(),
                texts: Vec::new(),
                files: unit.files.iter().map(|(n, f)| (*n, (*f).to_owned())).collect(),
                static_shared: 0,
                local_bytes: 0,
                stack: None,
                stack_slot: 0,
                ordered: false,
                recursive: false,
                param_bytes: 0,
            },
            level: vector::level(),
            next_slot: 0,
            next_pred: 0,
            constants: HashMap::new(),
            specials: HashMap::new(),
            shared: HashMap::new(),
            line: SourceLine::default(),
            guard: 0,
            text: String::new(),
            fixups: Vec::new(),
            calls_to: Vec::new(),
            abi: 0,
            stack_slot: 0,
            recursion: HashSet::new(),
            dynamic: Vec::new(),
        }
    }

    /// Takes slots for the whole program.
    pub(crate) fn take_slots(&mut self, units: u32) -> Result<u16> {
        let at = self.next_slot;
        self.next_slot += units;
        match u16::try_from(self.next_slot) {
            Ok(_) => Ok(at as u16),
            Err(_) => Err(Error::new(self.line.ptx, "the kernel has too many registers")),
        }
    }

    pub(crate) fn next_slot(&self) -> u32 {
        self.next_slot
    }

    /// A slot that holds a constant in all lanes.
    pub(crate) fn constant(&mut self, value: u64, wide: bool) -> Result<Reg> {
        let value = if wide { value } else { value & 0xffff_ffff };
        let slot = match self.constants.get(&(value, wide)) {
            Some(&slot) => slot,
            None => {
                let slot = self.take_slots(if wide { 2 } else { 1 })?;
                self.constants.insert((value, wide), slot);
                self.out.constants.push(Constant { slot, wide, value });
                slot
            }
        };
        Ok(Reg { slot, wide })
    }

    pub(crate) fn special(&mut self, s: Special) -> Result<Reg> {
        let slot = match self.specials.get(&s) {
            Some(&slot) => slot,
            None => {
                let slot = self.take_slots(1)?;
                self.specials.insert(s, slot);
                self.out.specials.push((s, slot));
                slot
            }
        };
        Ok(Reg { slot, wide: false })
    }

    /// Appends an instruction.
    pub(crate) fn emit(&mut self, i: Inst) -> Result<u32> {
        if self.out.code.len() >= MOST_INSTRUCTIONS {
            return Err(Error::new(self.line.ptx, "the kernel is too long"));
        }
        let at = self.out.code.len() as u32;
        self.out.code.push(i);
        self.out.costs.push(Cost { issue: 0, ..Cost::default() });
        self.out.lines.push(self.line);
        self.out.texts.push(self.text.clone());
        Ok(at)
    }

    /// An instruction with a handler for each CPU level.
    pub(crate) fn inst(&self, levels: Levels, kind: Kind, class: Class) -> Inst {
        Inst { handler: levels[self.level], d: 0, a: 0, b: 0, c: 0, e: 0, guard: self.guard, kind, class, wide: false }
    }

    pub(crate) fn plain(&mut self, levels: Levels, class: Class, d: u16, abc: [u16; 3], e: u32) -> Result<()> {
        let mut i = self.inst(levels, Kind::Plain, class);
        (i.d, i.a, i.b, i.c, i.e) = (d, abc[0], abc[1], abc[2], e);
        self.emit(i).map(|_| ())
    }

    /// The slot of a register.
    pub(crate) fn reg(&self, now: &Now<'_, 'a>, r: RegId) -> Reg {
        Reg { slot: now.f.slots[r as usize] as u16, wide: now.f.body.regs[r as usize].wide() }
    }

    /// A destination register.
    pub(crate) fn dest(&self, now: &Now<'_, 'a>, k: usize) -> Result<Reg> {
        match now.op(k)? {
            Opnd::Reg(r) => Ok(self.reg(now, *r)),
            Opnd::Sink => Ok(Reg { slot: 0, wide: false }),
            _ => Err(now.error("the destination is no register")),
        }
    }

    pub(crate) fn dest_pred(&self, now: &Now<'_, 'a>, o: &Opnd<'a>) -> Result<u16> {
        match o {
            Opnd::Pred(p, false) => Ok(*p),
            // Predicate 1 is nobody's: what is written there is not read.
            Opnd::Sink => Ok(1),
            _ => Err(now.error("the destination is no predicate")),
        }
    }

    pub(crate) fn src_pred(&self, now: &Now<'_, 'a>, o: &Opnd<'a>) -> Result<(u16, bool)> {
        match o {
            Opnd::Pred(p, negated) => Ok((*p, *negated)),
            Opnd::Int(i) => Ok((0, *i == 0)),
            _ => Err(now.error("an operand is no predicate")),
        }
    }

    /// The value of a symbol as a number.
    pub(crate) fn symbol(&self, now: &Now<'_, 'a>, base: Base<'a>, offset: i64) -> Result<u64> {
        let value = match base {
            Base::Var(v) => match now.f.homes[v as usize] {
                Home::Shared(at) | Home::KernelParam(at) => u64::from(at),
                Home::Local(place) if place.stack.is_none() => u64::from(place.offset),
                Home::Local(_) => return Err(now.error("the address of a variable on a recursive function's stack")),
                Home::Global(a) => a,
            },
            Base::Name(name) => {
                if let Some(&a) = self.symbols.addresses.get(name) {
                    a
                } else if let Some(&a) = self.shared.get(name) {
                    u64::from(a)
                } else if let Some(&(_, align)) = self.dynamic.iter().find(|(n, _)| *n == name) {
                    u64::from(self.out.static_shared.next_multiple_of(align))
                } else if let Some(&n) = self.symbols.functions.get(name) {
                    Symbols::code_address(n)
                } else {
                    return Err(now.error(format!("`{name}` is not declared")));
                }
            }
            Base::None => 0,
            Base::Reg(_) => return Err(now.error("a register where a symbol is expected")),
        };
        Ok(value.wrapping_add(offset as u64))
    }

    /// A source of the width of `ty`, whose bits are taken as they are.
    pub(crate) fn source(&mut self, now: &Now<'_, 'a>, o: &Opnd<'a>, ty: Ty) -> Result<Reg> {
        let wide = ty.bytes() == 8;
        let float = matches!(ty, Ty::F32 | Ty::F64 | Ty::F16 | Ty::BF16);
        match o {
            Opnd::Reg(r) => {
                let reg = self.reg(now, *r);
                if reg.wide != wide {
                    return Err(now.error("an operand's register has the wrong width"));
                }
                Ok(reg)
            }
            Opnd::Int(_) if float && !matches!(ty, Ty::F16 | Ty::BF16) => {
                Err(now.error("an integer where a floating-point number is expected"))
            }
            Opnd::Int(i) => self.constant(*i, wide),
            Opnd::F32(b) if !wide => self.constant(u64::from(*b), false),
            Opnd::F32(b) => self.constant(f64::from(f32::from_bits(*b)).to_bits(), true),
            Opnd::F64(b) if wide => self.constant(*b, true),
            Opnd::F64(b) => self.constant(u64::from((f64::from_bits(*b) as f32).to_bits()), false),
            Opnd::Special(s) => {
                let reg = self.special(*s)?;
                if wide {
                    // `mov.u64 %rd, %gridid` and the like.
                    let t = self.take_slots(2)?;
                    self.plain(crate::exec::integer::ZEXT, Class::Move, t, [reg.slot, 0, 0], 0)?;
                    return Ok(Reg { slot: t, wide: true });
                }
                Ok(reg)
            }
            Opnd::Symbol(base, offset) => {
                let value = self.symbol(now, *base, *offset)?;
                self.constant(value, wide)
            }
            Opnd::Pred(..) => Err(now.error("a predicate where a number is expected")),
            _ => Err(now.error("an operand of the wrong kind")),
        }
    }

    /// A source at operand `k`.
    pub(crate) fn src(&mut self, now: &Now<'_, 'a>, k: usize, ty: Ty) -> Result<u16> {
        let o = now.op(k)?;
        Ok(self.source(now, o, ty)?.slot)
    }

    /// An operation on two sources of one type.
    pub(crate) fn two(&mut self, now: &Now<'_, 'a>, levels: Levels, class: Class, ty: Ty) -> Result<()> {
        let d = self.dest_of(now, 0, ty)?;
        let (a, b) = (self.src(now, 1, ty)?, self.src(now, 2, ty)?);
        self.plain(levels, class, d, [a, b, 0], 0)
    }

    pub(crate) fn one(&mut self, now: &Now<'_, 'a>, levels: Levels, class: Class, ty: Ty) -> Result<()> {
        let d = self.dest_of(now, 0, ty)?;
        let a = self.src(now, 1, ty)?;
        self.plain(levels, class, d, [a, 0, 0], 0)
    }

    pub(crate) fn three(&mut self, now: &Now<'_, 'a>, levels: Levels, class: Class, ty: Ty) -> Result<()> {
        let d = self.dest_of(now, 0, ty)?;
        let abc = [self.src(now, 1, ty)?, self.src(now, 2, ty)?, self.src(now, 3, ty)?];
        self.plain(levels, class, d, abc, 0)
    }

    /// A destination that must have the width of `ty`.
    pub(crate) fn dest_of(&self, now: &Now<'_, 'a>, k: usize, ty: Ty) -> Result<u16> {
        let d = self.dest(now, k)?;
        if d.wide != (ty.bytes() == 8) {
            return Err(now.error("the destination's register has the wrong width"));
        }
        Ok(d.slot)
    }

    /// An operation lane by lane: sources at operands 1, 2, … of the given types.
    pub(crate) fn scalar(
        &mut self,
        now: &Now<'_, 'a>,
        class: Class,
        d: Ty,
        sources: &[Ty],
        f: impl Fn(u64, u64, u64, u64) -> u64 + Send + Sync + 'static,
    ) -> Result<()> {
        let slot = self.dest_of(now, 0, d)?;
        let mut places = Vec::with_capacity(sources.len());
        for (k, &ty) in sources.iter().enumerate() {
            let o = now.op(k + 1)?;
            places.push(Place::Reg(self.source(now, o, ty)?));
        }
        let d = Place::Reg(Reg { slot, wide: d.bytes() == 8 });
        self.scalar_at(class, d, None, places, f)
    }

    pub(crate) fn scalar_at(
        &mut self,
        class: Class,
        d: Place,
        d2: Option<u16>,
        sources: Vec<Place>,
        f: impl Fn(u64, u64, u64, u64) -> u64 + Send + Sync + 'static,
    ) -> Result<()> {
        let e = self.out.scalars.len() as u32;
        self.out.scalars.push(Scalar { f: Box::new(f), d, d2, sources });
        self.plain([crate::exec::float::scalar; 3], class, 0, [0; 3], e)
    }

    /// Lowers a body; its first instruction is the next one.
    pub(crate) fn body(&mut self, f: &FunctionState<'a>, end_line: u32) -> Result<()> {
        let mut starts = Vec::with_capacity(f.body.flats.len() + 1);
        for flat in &f.body.flats {
            starts.push(self.out.code.len() as u32);
            self.line = SourceLine { file: flat.file, line: flat.source_line, ptx: flat.instr.line };
            self.guard = flat.guard;
            self.text = flat.instr.full();
            self.instruction(&Now { f, flat })?;
        }
        starts.push(self.out.code.len() as u32);
        for (cost, range) in cost::of(&f.body).into_iter().zip(starts.windows(2)) {
            let of_one = self.out.costs.get_mut(range[0] as usize..range[1] as usize).unwrap_or_default();
            of_one.fill(Cost { issue: 0, ..cost });
            if let Some(first) = of_one.first_mut() {
                first.issue = cost.issue;
            }
        }
        // Running off the end returns.
        self.guard = 0;
        self.line.ptx = end_line;
        self.text = "ret".to_owned();
        self.ret(f)?;
        for (at, flat) in std::mem::take(&mut self.fixups) {
            self.out.code[at as usize].e = starts[flat as usize];
        }
        let tables = self.out.tables.len();
        for t in &mut self.out.tables[f.first_table.min(tables)..] {
            for target in t {
                *target = starts[*target as usize];
            }
        }
        Ok(())
    }

    /// Sets the PTX line of generated instructions.
    pub(crate) fn begin(&mut self, ptx: u32) {
        self.line = SourceLine { file: 0, line: 0, ptx };
        self.guard = 0;
        self.text = "function entry".to_owned();
    }

    pub(crate) fn branch_to(&mut self, at: u32, flat: u32) {
        self.fixups.push((at, flat));
    }

    pub(crate) fn finish(mut self) -> Program {
        self.out.slots = self.next_slot.max(1);
        self.out.preds = self.next_pred + 1;
        let code = &mut self.out.code;
        let exit = |i: Option<&Inst>| i.is_some_and(|i| i.kind == Kind::Exit);
        for k in 0..code.len() {
            if code[k].kind == Kind::Branch {
                // Whether it leads to an exit, taken or not.
                code[k].a = u16::from(exit(code.get(code[k].e as usize))) | u16::from(exit(code.get(k + 1))) << 1;
            }
        }
        self.out
    }

    fn instruction(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let op = now.flat.instr.op;
        match op {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" => match now.ty()? {
                Ty::F32 | Ty::F64 => self.float(now),
                Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2 => self.half(now),
                _ => self.integer(now),
            },
            "mul24" | "mad24" | "sad" | "addc" | "subc" | "madc" | "and" | "or" | "xor" | "not" | "cnot" | "shl"
            | "shr" | "popc" | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "fns" | "prmt" | "lop3" | "shf" | "dp4a"
            | "dp2a" | "bmsk" | "szext" | "setp" | "set" | "selp" | "slct" => self.integer(now),
            "vabsdiff2" | "vabsdiff4" => {
                let (four, add) = (op == "vabsdiff4", now.has("add"));
                let f = if four { crate::arith::integer::vabsdiff4_u32 } else { crate::arith::integer::vabsdiff2_u32 };
                if now.types().any(|t| t != Ty::U32) || now.has("sat") {
                    return Err(now.unsupported());
                }
                self.scalar(now, Class::Integer, Ty::U32, &[Ty::U32; 3], move |a, b, c, _| {
                    u64::from(f(a as u32, b as u32, c as u32, add))
                })
            }
            "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "copysign" | "testp" => self.float(now),
            "mov" | "cvt" | "cvta" | "isspacep" => self.convert(now),
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "discard" | "applypriority" | "cp"
            | "mbarrier" => self.memory(now),
            "ldmatrix" | "stmatrix" | "movmatrix" | "mma" => self.tensor(now),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" | "bar" | "barrier" | "membar" | "fence"
            | "nanosleep" => self.warp(now),
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" | "pmevent" | "griddepcontrol"
            | "setmaxnreg" => self.control(now),
            _ => Err(now.lacking("this instruction is not supported")),
        }
    }
}
