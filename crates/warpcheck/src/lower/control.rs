//! Branches, calls, exits.

use super::{Base, CallOp, Class, FunctionState, Home, Kind, LocalCopy, LocalPlace, Lowering, Now, Opnd, Result};
use crate::{
    exec::{call, print, special},
    program::Frame,
};

impl<'a> Lowering<'a, '_> {
    pub(super) fn control(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let c = Class::Control;
        match now.flat.instr.op {
            "bra" => {
                let Opnd::Symbol(Base::Name(name), 0) = now.op(0)? else {
                    return Err(now.error("the target is no label"));
                };
                let target = now
                    .f
                    .body
                    .label(name, now.flat.scope)
                    .ok_or_else(|| now.error(format!("there is no label `{name}`")))?;
                let i = self.inst([special::nothing; 3], Kind::Branch, c);
                let at = self.emit(i)?;
                self.branch_to(at, target);
                Ok(())
            }
            "brx" => {
                let (Opnd::Reg(r), Opnd::Symbol(Base::Name(name), 0)) = (now.op(0)?, now.op(1)?) else {
                    return Err(now.error("an index and a table are expected"));
                };
                let labels = now
                    .f
                    .body
                    .targets(name, now.flat.scope)
                    .ok_or_else(|| now.error(format!("there is no table `{name}`")))?;
                let mut table = Vec::with_capacity(labels.len());
                for l in labels {
                    let target = now.f.body.label(l, now.flat.scope);
                    table.push(target.ok_or_else(|| now.error(format!("there is no label `{l}`")))?);
                }
                let mut i = self.inst([special::nothing; 3], Kind::BranchIndex, c);
                i.a = self.reg(now, *r).slot;
                i.e = self.out.tables.len() as u32;
                self.out.tables.push(table);
                self.emit(i).map(|_| ())
            }
            "exit" => {
                let i = self.inst([special::nothing; 3], Kind::Exit, c);
                self.emit(i).map(|_| ())
            }
            "ret" => self.ret(now.f),
            "trap" | "brkpt" => {
                let i = self.inst([special::nothing; 3], Kind::Trap, c);
                self.emit(i).map(|_| ())
            }
            "pmevent" => self.plain([special::nothing; 3], c, 0, [0; 3], 0),
            "griddepcontrol" => {
                now.needs(90, self.sm)?;
                let handler = if now.has("wait") { special::grid_wait } else { special::grid_trigger };
                self.plain([handler; 3], c, 0, [0; 3], 0)
            }
            "setmaxnreg" => {
                now.needs(90, self.sm)?;
                self.plain([special::nothing; 3], c, 0, [0; 3], 0)
            }
            _ => self.call(now),
        }
    }

    /// The end of a function: stores the results where the caller reads them.
    pub(super) fn ret(&mut self, f: &FunctionState<'a>) -> Result<()> {
        if f.entry {
            let i = self.inst([special::nothing; 3], Kind::Exit, Class::Control);
            return self.emit(i).map(|_| ());
        }
        let mut at = 0;
        for &(place, bytes) in &f.rets {
            at = aligned(at, bytes);
            self.local_copy(LocalPlace { offset: at, stack: None }, place, bytes)?;
            at += bytes;
        }
        let mut i = self.inst([special::nothing; 3], Kind::Return, Class::Control);
        i.a = f.link;
        self.emit(i).map(|_| ())
    }

    pub(super) fn local_copy(&mut self, to: LocalPlace, from: LocalPlace, bytes: u32) -> Result<()> {
        let e = self.out.copies.len() as u32;
        self.out.copies.push(LocalCopy { to, from, bytes });
        let mut i = self.inst([call::copy; 3], Kind::Event, Class::Move);
        i.e = e;
        self.emit(i).map(|_| ())
    }

    /// The variables of a list, as places in local memory.
    fn places(&self, now: &Now<'_, 'a>, list: &[Opnd<'a>]) -> Result<Vec<(LocalPlace, u32)>> {
        list.iter()
            .map(|o| match o {
                Opnd::Symbol(Base::Var(v), 0) => match now.f.homes[*v as usize] {
                    Home::Local(place) => Ok((place, now.f.body.vars[*v as usize].bytes() as u32)),
                    _ => Err(now.error("an argument is no `.param` variable")),
                },
                _ => Err(now.error("an argument is no `.param` variable")),
            })
            .collect()
    }

    fn call(&mut self, now: &Now<'_, 'a>) -> Result<()> {
        let operands = &now.flat.operands;
        let mut k = 0;
        let mut rets = Vec::new();
        if let Some(Opnd::List(list)) = operands.first() {
            rets = self.places(now, list)?;
            k = 1;
        }
        let target = now.op(k)?;
        let mut args = Vec::new();
        if let Some(Opnd::List(list)) = operands.get(k + 1) {
            args = self.places(now, list)?;
        }
        let name = match target {
            Opnd::Symbol(Base::Name(name), 0) => Some(*name),
            Opnd::Reg(_) => None,
            _ => return Err(now.error("the target is no function")),
        };
        match name {
            Some("vprintf") if args.len() == 2 => return self.vprintf(now, &rets, &args),
            Some("__assertfail") if args.len() == 5 => return self.assertfail(&args),
            Some("malloc" | "free") => return self.heap(now, name == Some("malloc"), &rets, &args),
            _ => {}
        }
        // Arguments.
        let mut at = 0;
        for &(place, bytes) in &args {
            at = aligned(at, bytes);
            self.local_copy(LocalPlace { offset: at, stack: None }, place, bytes)?;
            at += bytes;
        }
        self.abi = self.abi.max(at);
        let number = match name {
            Some(name) => Some(
                *self
                    .symbols
                    .functions
                    .get(name)
                    .ok_or_else(|| now.lacking(format!("`{name}` has no body here; modules are not linked")))?,
            ),
            None => None,
        };
        let recursive = match number {
            Some(n) => self.recursion.contains(&(now.f.number, n)),
            None => self.recursion.contains(&(now.f.number, u32::MAX)),
        };
        let e = self.out.calls.len() as u32;
        let save = recursive.then(|| {
            let regs = (0..now.f.body.regs.len())
                .filter(|&r| now.f.body.regs[r].pred == 0)
                .map(|r| self.reg(now, r as u32))
                .chain((!now.f.entry).then_some(super::Reg { slot: now.f.link, wide: false }))
                .collect();
            Frame { regs, preds: now.f.preds, stack: self.stack_slot, local: now.f.local }
        });
        let address = match target {
            Opnd::Reg(r) => self.reg(now, *r).slot,
            _ => 0,
        };
        self.out.calls.push(CallOp { target: None, link: 0, save });
        if recursive {
            let mut i = self.inst([call::save; 3], Kind::Event, Class::Control);
            i.e = e;
            self.emit(i)?;
        }
        let kind = if number.is_some() { Kind::Call } else { Kind::CallIndirect };
        let mut i = self.inst([special::nothing; 3], kind, Class::Control);
        i.a = address;
        i.e = e;
        self.emit(i)?;
        if let Some(n) = number {
            self.calls_to.push((e, n));
        }
        if recursive {
            let mut i = self.inst([call::restore; 3], Kind::Event, Class::Control);
            i.e = e;
            self.emit(i)?;
        }
        // Results.
        let mut at = 0;
        for &(place, bytes) in &rets {
            at = aligned(at, bytes);
            self.local_copy(place, LocalPlace { offset: at, stack: None }, bytes)?;
            at += bytes;
        }
        self.abi = self.abi.max(at);
        Ok(())
    }

    fn argument_copies(&mut self, args: &[(LocalPlace, u32)]) -> u32 {
        let e = self.out.copies.len() as u32;
        for &(place, bytes) in args {
            self.out.copies.push(LocalCopy { to: place, from: place, bytes });
        }
        e
    }

    fn vprintf(&mut self, now: &Now<'_, 'a>, rets: &[(LocalPlace, u32)], args: &[(LocalPlace, u32)]) -> Result<()> {
        let _ = now;
        let none = (LocalPlace { offset: 0, stack: None }, 0);
        let e = self.argument_copies(&[args[0], args[1], rets.first().copied().unwrap_or(none)]);
        let mut i = self.inst([print::vprintf; 3], Kind::Event, Class::Control);
        i.e = e;
        self.emit(i).map(|_| ())
    }

    fn assertfail(&mut self, args: &[(LocalPlace, u32)]) -> Result<()> {
        let e = self.argument_copies(args);
        let mut i = self.inst([print::assert_failed; 3], Kind::Event, Class::Control);
        i.e = e;
        self.emit(i).map(|_| ())
    }

    fn heap(
        &mut self,
        now: &Now<'_, 'a>,
        allocate: bool,
        rets: &[(LocalPlace, u32)],
        args: &[(LocalPlace, u32)],
    ) -> Result<()> {
        let _ = (allocate, rets, args);
        Err(now.lacking("memory cannot be allocated by a kernel: pass a buffer to it"))
    }
}

/// The next offset for a variable of this size.
pub(super) fn aligned(at: u32, bytes: u32) -> u32 {
    at.next_multiple_of(bytes.next_power_of_two().clamp(1, 16))
}
