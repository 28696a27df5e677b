//! Variables, their initial values, and parameters.

use super::{
    super::{Error, lexer::Kind, syntax::*},
    Parser, Result_,
};

impl<'a> Parser<'a> {
    /// `.space [.align n] .type name[count] [= init] {, name…};`
    pub(super) fn variables(&mut self, external: bool, out: &mut dyn FnMut(Variable<'a>)) -> Result_<()> {
        let space = match self.advance() {
            Kind::Dot("global") => VarSpace::Global,
            Kind::Dot("const") => VarSpace::Const,
            Kind::Dot("shared") => VarSpace::Shared,
            Kind::Dot("local") => VarSpace::Local,
            Kind::Dot("param") => VarSpace::Param,
            _ => return self.fail("a state space"),
        };
        let mut v = self.variable(space, external)?;
        loop {
            if self.take(b'=') {
                v.init = self.initialiser(&v)?;
            }
            let (ty, align) = (v.ty, v.align);
            out(v);
            if self.take(b';') {
                return Ok(());
            }
            self.expect(b',')?;
            v = self.declarator(space, ty, align, external)?;
        }
    }

    /// The part after the state space: alignment, type, name, length.
    pub(super) fn variable(&mut self, space: VarSpace, external: bool) -> Result_<Variable<'a>> {
        let mut align = 0;
        let mut elements = 1;
        let ty = loop {
            match self.peek() {
                Kind::Dot("align") => {
                    self.advance();
                    let line = self.line();
                    align = self.int32()?;
                    if !align.is_power_of_two() || align > 1 << 16 {
                        return Err(Error::new(line, format!("alignment {align} is not a power of two")));
                    }
                }
                Kind::Dot("v2") => {
                    elements = 2;
                    self.advance();
                }
                Kind::Dot("v4") => {
                    elements = 4;
                    self.advance();
                }
                Kind::Dot("ptr") => self.pointer()?,
                Kind::Dot("attribute" | "managed") => {
                    self.advance();
                    if self.take(b'(') {
                        while !self.take(b')') {
                            if self.advance() == Kind::End {
                                return self.fail("`)`");
                            }
                        }
                    }
                }
                Kind::Dot("param" | "reg" | "const" | "global") if space == VarSpace::Param => {
                    self.advance();
                }
                _ => break self.ty()?,
            }
        };
        // `.ptr` may also follow the type.
        if self.peek() == Kind::Dot("ptr") {
            self.pointer()?;
        }
        let mut v = self.declarator(space, ty, align, external)?;
        if elements > 1 {
            v.count = v.count.map(|c| c.saturating_mul(elements));
            v.align = v.align.max(ty.bytes() * elements as u32);
        }
        Ok(v)
    }

    /// `.ptr .global .align 4` describes what a parameter points to.
    fn pointer(&mut self) -> Result_<()> {
        self.advance();
        while let Kind::Dot("global" | "shared" | "const" | "local" | "generic") = self.peek() {
            self.advance();
        }
        if self.peek() == Kind::Dot("align") {
            self.advance();
            self.int()?;
        }
        Ok(())
    }

    fn declarator(&mut self, space: VarSpace, ty: Ty, align: u32, external: bool) -> Result_<Variable<'a>> {
        let line = self.line();
        let name = self.word()?;
        let mut count = Some(1u64);
        while self.take(b'[') {
            if self.take(b']') {
                count = None;
                continue;
            }
            let n = self.int()?;
            count = count.map(|c| c.saturating_mul(n));
            self.expect(b']')?;
        }
        Ok(Variable { line, space, align, ty, name, count, init: Vec::new(), external, register: false })
    }

    fn initialiser(&mut self, v: &Variable<'a>) -> Result_<Vec<Init<'a>>> {
        let mut out = Vec::new();
        let mut depth = 0usize;
        let start = self.line();
        loop {
            if self.take(b'{') {
                depth += 1;
                if depth > 8 {
                    return Err(Error::new(start, "an initialiser is nested too deep"));
                }
                continue;
            }
            if self.take(b'}') {
                depth = depth.checked_sub(1).ok_or_else(|| Error::new(start, "`}` without `{`"))?;
            } else {
                out.push(self.initial_value()?);
                if out.len() as u64 > v.count.unwrap_or(u64::MAX) {
                    return Err(Error::new(self.line(), format!("`{}` has too many initial values", v.name)));
                }
            }
            while self.peek() == Kind::Mark(b'}') && depth > 0 {
                self.advance();
                depth -= 1;
            }
            if depth == 0 {
                return Ok(out);
            }
            self.expect(b',')?;
        }
    }

    fn initial_value(&mut self) -> Result_<Init<'a>> {
        match self.peek() {
            Kind::F32(b) => {
                self.advance();
                Ok(Init::F32(b))
            }
            Kind::F64(b) => {
                self.advance();
                Ok(Init::F64(b))
            }
            Kind::Word("generic") if self.ahead(1) == Kind::Mark(b'(') => {
                self.advance();
                self.advance();
                let symbol = self.word()?;
                let mut offset = self.offset()?;
                self.expect(b')')?;
                offset = offset.wrapping_add(self.offset()?);
                Ok(Init::Address { symbol, offset })
            }
            Kind::Word(symbol) => {
                self.advance();
                let offset = self.offset()?;
                Ok(Init::Address { symbol, offset })
            }
            _ => Ok(Init::Int(self.int()?)),
        }
    }

    /// `+ n`, `- n`, `+ -n` or nothing.
    pub(super) fn offset(&mut self) -> Result_<i64> {
        if self.take(b'+') || self.peek() == Kind::Mark(b'-') { Ok(self.int()? as i64) } else { Ok(0) }
    }

    pub(super) fn parameters(&mut self) -> Result_<Vec<Variable<'a>>> {
        let mut out = Vec::new();
        if self.take(b')') {
            return Ok(out);
        }
        loop {
            let register = match self.advance() {
                Kind::Dot("param") => false,
                Kind::Dot("reg") => true,
                _ => return self.fail("`.param`"),
            };
            let mut v = self.variable(VarSpace::Param, false)?;
            v.register = register;
            out.push(v);
            if self.take(b')') {
                return Ok(out);
            }
            self.expect(b',')?;
        }
    }
}
