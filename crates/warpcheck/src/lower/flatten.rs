//! A function's body as one list of instructions, its names resolved.

use std::collections::HashMap;

use crate::{
    program::Special,
    ptx::{
        Error,
        syntax::{Function, Instr, Operand, Stmt, Ty, Variable},
    },
};

/// Registers that a function may have.
const MOST_REGISTERS: usize = 1 << 20;

/// A register of the function: an index into [`Body::regs`].
pub(crate) type RegId = u32;

/// The uses of a register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegInfo {
    pub(crate) ty: Ty,
    /// Its number among the predicates, for a predicate.
    pub(crate) pred: u16,
}

impl RegInfo {
    pub(crate) fn wide(&self) -> bool {
        self.ty.bytes() == 8
    }
}

/// The meaning of a name outside brackets, or of the base of an address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Base<'a> {
    Reg(RegId),
    /// A variable of the function: an index into [`Body::vars`].
    Var(u32),
    /// A name of the module, a label or a function.
    Name(&'a str),
    None,
}

/// An operand with its names resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Opnd<'a> {
    Reg(RegId),
    Pred(u16, bool),
    Special(Special),
    /// `%clock` and its like: the name.
    Clock(&'a str),
    Symbol(Base<'a>, i64),
    Int(u64),
    F32(u32),
    F64(u64),
    Address(Base<'a>, i64),
    Vector(Vec<Opnd<'a>>),
    Pair(Box<Opnd<'a>>, Box<Opnd<'a>>),
    Sink,
    List(Vec<Opnd<'a>>),
}

/// An instruction with its operands resolved.
#[derive(Debug)]
pub(crate) struct Flat<'a> {
    pub(crate) instr: &'a Instr<'a>,
    pub(crate) operands: Vec<Opnd<'a>>,
    /// Predicate number × 2, plus 1 when negated.
    pub(crate) guard: u16,
    pub(crate) scope: u32,
    pub(crate) file: u32,
    pub(crate) source_line: u32,
}

#[derive(Debug, Clone, Copy)]
enum Entity {
    /// One register, or the first of a family with its length.
    Register {
        decl: u32,
        count: Option<u32>,
    },
    Var(u32),
    Targets(u32),
}

/// A function's body.
#[derive(Debug, Default)]
pub(crate) struct Body<'a> {
    pub(crate) flats: Vec<Flat<'a>>,
    pub(crate) regs: Vec<RegInfo>,
    pub(crate) vars: Vec<Variable<'a>>,
    targets: Vec<&'a [&'a str]>,
    parents: Vec<u32>,
    labels: HashMap<(u32, &'a str), u32>,
    names: HashMap<(u32, &'a str), Entity>,
    decls: Vec<Ty>,
    numbered: HashMap<(u32, u32), RegId>,
}

impl<'a> Body<'a> {
    /// Flattens `f`; predicate numbers are taken from `preds` on.
    pub(crate) fn new(f: &'a Function<'a>, preds: &mut u32) -> Result<Body<'a>, Error> {
        let mut body = Body::default();
        body.parents.push(0);
        for v in f.params.iter().chain(&f.rets) {
            if v.register {
                return Err(Error::unsupported(
                    v.line,
                    format!("`{}`: parameters in registers are not supported", v.name),
                ));
            }
            body.declare_var(0, v.clone())?;
        }
        let mut loc = (0, 0);
        body.walk(f.body.as_deref().unwrap_or(&[]), 0, &mut loc, preds)?;
        Ok(body)
    }

    fn declare_var(&mut self, scope: u32, v: Variable<'a>) -> Result<(), Error> {
        let n = self.vars.len() as u32;
        if self.names.insert((scope, v.name), Entity::Var(n)).is_some() {
            return Err(Error::new(v.line, format!("`{}` is declared twice", v.name)));
        }
        self.vars.push(v);
        Ok(())
    }

    fn walk(&mut self, stmts: &'a [Stmt<'a>], scope: u32, loc: &mut (u32, u32), preds: &mut u32) -> Result<(), Error> {
        // Declarations may come after a use only for labels and branch tables.
        for s in stmts {
            if let Stmt::Targets { name, labels } = s {
                let n = self.targets.len() as u32;
                self.targets.push(labels);
                self.names.insert((scope, name), Entity::Targets(n));
            }
        }
        for s in stmts {
            match s {
                Stmt::Label(name, line) => {
                    let at = self.flats.len() as u32;
                    if self.labels.insert((scope, name), at).is_some() {
                        return Err(Error::new(*line, format!("label `{name}` is defined twice")));
                    }
                }
                Stmt::Loc { file, line } => {
                    // Line 0 marks code that belongs to no line: it stays with the last one.
                    if *line != 0 {
                        *loc = (*file, *line);
                    }
                }
                Stmt::Reg { line, ty, name, count } => {
                    if *ty == Ty::B128 {
                        return Err(Error::unsupported(*line, "128-bit registers are not supported"));
                    }
                    let decl = self.decls.len() as u32;
                    self.decls.push(*ty);
                    let entity = Entity::Register { decl, count: *count };
                    if self.names.insert((scope, name), entity).is_some() {
                        return Err(Error::new(*line, format!("`{name}` is declared twice")));
                    }
                }
                Stmt::Var(v) => self.declare_var(scope, v.clone())?,
                Stmt::Block(inner) => {
                    let child = self.parents.len() as u32;
                    self.parents.push(scope);
                    self.walk(inner, child, loc, preds)?;
                }
                Stmt::Instr(i) => self.push(i, scope, *loc, preds)?,
                Stmt::Prototype | Stmt::Targets { .. } => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, i: &'a Instr<'a>, scope: u32, loc: (u32, u32), preds: &mut u32) -> Result<(), Error> {
        let mut guard = 0;
        if let Some((name, negated)) = i.guard {
            match self.name(name, scope, i.line, preds)? {
                Opnd::Pred(p, _) => guard = p << 1 | u16::from(negated),
                _ => return Err(Error::new(i.line, format!("`{name}` is no predicate"))),
            }
        }
        let mut operands = Vec::with_capacity(i.operands.len());
        for o in &i.operands {
            operands.push(self.resolve(o, scope, i.line, preds)?);
        }
        self.flats.push(Flat { instr: i, operands, guard, scope, file: loc.0, source_line: loc.1 });
        Ok(())
    }

    fn scopes(&self, scope: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = Some(scope);
        std::iter::from_fn(move || {
            let s = next?;
            next = (s != 0).then(|| self.parents[s as usize]);
            Some(s)
        })
    }

    /// The instruction that a label stands before.
    pub(crate) fn label(&self, name: &str, scope: u32) -> Option<u32> {
        self.scopes(scope).find_map(|s| self.labels.get(&(s, name)).copied())
    }

    pub(crate) fn targets(&self, name: &str, scope: u32) -> Option<&'a [&'a str]> {
        self.scopes(scope).find_map(|s| match self.names.get(&(s, name)) {
            Some(Entity::Targets(n)) => Some(self.targets[*n as usize]),
            _ => None,
        })
    }

    fn register(&mut self, decl: u32, n: u32, line: u32, preds: &mut u32) -> Result<Opnd<'a>, Error> {
        let ty = self.decls[decl as usize];
        let id = match self.numbered.get(&(decl, n)) {
            Some(&id) => id,
            None => {
                if self.regs.len() >= MOST_REGISTERS {
                    return Err(Error::new(line, "too many registers"));
                }
                let mut pred = 0;
                if ty == Ty::Pred {
                    *preds += 1;
                    pred = u16::try_from(*preds)
                        .ok()
                        .filter(|&p| p < 1 << 15)
                        .ok_or_else(|| Error::new(line, "too many predicates"))?;
                }
                let id = self.regs.len() as RegId;
                self.regs.push(RegInfo { ty, pred });
                self.numbered.insert((decl, n), id);
                id
            }
        };
        Ok(match ty {
            Ty::Pred => Opnd::Pred(self.regs[id as usize].pred, false),
            _ => Opnd::Reg(id),
        })
    }

    fn name(&mut self, name: &'a str, scope: u32, line: u32, preds: &mut u32) -> Result<Opnd<'a>, Error> {
        let exact = self.scopes(scope).find_map(|s| self.names.get(&(s, name)).copied());
        match exact {
            Some(Entity::Register { decl, count: None }) => return self.register(decl, 0, line, preds),
            Some(Entity::Var(v)) => return Ok(Opnd::Symbol(Base::Var(v), 0)),
            _ => {}
        }
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        if !digits.is_empty() && (digits.len() == 1 || !digits.starts_with('0')) {
            let family = self.scopes(scope).find_map(|s| match self.names.get(&(s, stem)) {
                Some(Entity::Register { decl, count: Some(count) }) => Some((*decl, *count)),
                _ => None,
            });
            if let Some((decl, count)) = family {
                return match digits.parse::<u32>() {
                    Ok(n) if n < count => self.register(decl, n, line, preds),
                    _ => Err(Error::new(line, format!("`{name}` is beyond its declaration of {count} registers"))),
                };
            }
        }
        if name.starts_with('%') {
            return special(name).ok_or_else(|| Error::unsupported(line, format!("unknown register `{name}`")));
        }
        if name == "WARP_SZ" {
            return Ok(Opnd::Int(32));
        }
        Ok(Opnd::Symbol(Base::Name(name), 0))
    }

    fn base(&mut self, name: &'a str, scope: u32, line: u32, preds: &mut u32) -> Result<Base<'a>, Error> {
        match self.name(name, scope, line, preds)? {
            Opnd::Reg(r) => Ok(Base::Reg(r)),
            Opnd::Symbol(base, _) => Ok(base),
            _ => Err(Error::new(line, format!("`{name}` is no address"))),
        }
    }

    fn resolve(&mut self, o: &Operand<'a>, scope: u32, line: u32, preds: &mut u32) -> Result<Opnd<'a>, Error> {
        Ok(match o {
            Operand::Name(n) => self.name(n, scope, line, preds)?,
            Operand::Sum(n, offset) => match self.base(n, scope, line, preds)? {
                Base::Reg(_) => return Err(Error::new(line, format!("`{n}` is a register: no sum is allowed here"))),
                base => Opnd::Symbol(base, *offset),
            },
            Operand::Int(i) => Opnd::Int(*i),
            Operand::F32(b) => Opnd::F32(*b),
            Operand::F64(b) => Opnd::F64(*b),
            Operand::Address(None, offset) => Opnd::Address(Base::None, *offset),
            Operand::Address(Some(n), offset) => Opnd::Address(self.base(n, scope, line, preds)?, *offset),
            Operand::Vector(v) => Opnd::Vector(self.resolve_all(v, scope, line, preds)?),
            Operand::List(v) => Opnd::List(self.resolve_all(v, scope, line, preds)?),
            Operand::Pair(a, b) => Opnd::Pair(
                Box::new(self.resolve(a, scope, line, preds)?),
                Box::new(self.resolve(b, scope, line, preds)?),
            ),
            Operand::Not(n) => match self.name(n, scope, line, preds)? {
                Opnd::Pred(p, _) => Opnd::Pred(p, true),
                _ => return Err(Error::new(line, format!("`{n}` is no predicate"))),
            },
            Operand::Sink => Opnd::Sink,
        })
    }

    fn resolve_all(
        &mut self,
        all: &[Operand<'a>],
        scope: u32,
        line: u32,
        preds: &mut u32,
    ) -> Result<Vec<Opnd<'a>>, Error> {
        all.iter().map(|o| self.resolve(o, scope, line, preds)).collect()
    }
}

fn special(name: &str) -> Option<Opnd<'_>> {
    let axis = |rest: &str| match rest {
        ".x" => Some(0),
        ".y" => Some(1),
        ".z" => Some(2),
        _ => None,
    };
    let s = match name {
        "%laneid" => Special::Laneid,
        "%warpid" => Special::Warpid,
        "%nwarpid" => Special::Nwarpid,
        "%smid" => Special::Smid,
        "%nsmid" => Special::Nsmid,
        "%gridid" => Special::Gridid,
        "%lanemask_eq" => Special::LaneEq,
        "%lanemask_lt" => Special::LaneLt,
        "%lanemask_le" => Special::LaneLe,
        "%lanemask_gt" => Special::LaneGt,
        "%lanemask_ge" => Special::LaneGe,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" | "%aggr_smem_size" => Special::TotalShared,
        "%zero" | "%cluster_ctarank" => Special::Zero,
        "%reserved_smem_offset_begin" | "%reserved_smem_offset_0" => Special::ReservedShared(0),
        // 288 bytes from here are those of cooperative groups.
        "%reserved_smem_offset_1" => Special::ReservedShared(512),
        "%reserved_smem_offset_end" | "%reserved_smem_offset_cap" => Special::ReservedShared(1024),
        "%one" | "%cluster_nctarank" => Special::One,
        "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi" => {
            return Some(Opnd::Clock(match name {
                "%clock" => "%clock",
                "%clock_hi" => "%clock_hi",
                "%clock64" => "%clock64",
                "%globaltimer" => "%globaltimer",
                "%globaltimer_lo" => "%clock",
                _ => "%clock_hi",
            }));
        }
        _ => {
            if let Some(rest) = name.strip_prefix("%tid") {
                Special::Tid(axis(rest)?)
            } else if let Some(rest) = name.strip_prefix("%ntid") {
                Special::Ntid(axis(rest)?)
            } else if let Some(rest) = name.strip_prefix("%ctaid") {
                Special::Ctaid(axis(rest)?)
            } else {
                Special::Nctaid(axis(name.strip_prefix("%nctaid")?)?)
            }
        }
    };
    Some(Opnd::Special(s))
}
