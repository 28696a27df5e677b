//! Statements and operands.

use super::*;

impl<'a> Parser<'a> {
    /// Statements up to the closing brace, which is taken.
    pub(super) fn block(&mut self, depth: usize) -> Result_<Vec<Stmt<'a>>> {
        if depth > DEEPEST {
            return Err(Error::new(self.line(), "blocks are nested too deep"));
        }
        let mut out = Vec::new();
        loop {
            let line = self.line();
            match self.peek() {
                Kind::Mark(b'}') => {
                    self.advance();
                    return Ok(out);
                }
                Kind::Mark(b'{') => {
                    self.advance();
                    out.push(Stmt::Block(self.block(depth + 1)?));
                }
                Kind::Mark(b';') => {
                    self.advance();
                }
                Kind::Dot("loc") => {
                    let loc = self.loc()?;
                    out.push(loc);
                }
                Kind::Dot("reg") => self.registers(&mut out)?,
                Kind::Dot("shared" | "local" | "param" | "global" | "const") => {
                    self.variables(false, &mut |v| out.push(Stmt::Var(v)))?;
                }
                Kind::Dot("extern") => {
                    self.advance();
                    self.variables(true, &mut |v| out.push(Stmt::Var(v)))?;
                }
                Kind::Dot("pragma") => {
                    while !self.take(b';') {
                        if self.advance() == Kind::End {
                            return self.fail("`;`");
                        }
                    }
                }
                Kind::Word(w) if self.ahead(1) == Kind::Mark(b':') => {
                    self.advance();
                    self.advance();
                    self.labelled(w, line, &mut out)?;
                }
                Kind::Word(_) | Kind::Mark(b'@') => {
                    let i = self.instruction()?;
                    out.push(Stmt::Instr(i));
                }
                Kind::End => return self.fail("`}`"),
                _ => return self.fail("an instruction"),
            }
        }
    }

    fn labelled(&mut self, name: &'a str, line: u32, out: &mut Vec<Stmt<'a>>) -> Result_<()> {
        match self.peek() {
            Kind::Dot("callprototype") => {
                self.advance();
                if self.take(b'(') {
                    self.parameters()?;
                }
                self.word()?;
                if self.take(b'(') {
                    self.parameters()?;
                }
                while let Kind::Dot("noreturn") = self.peek() {
                    self.advance();
                }
                self.expect(b';')?;
                out.push(Stmt::Prototype);
            }
            Kind::Dot("branchtargets" | "calltargets") => {
                self.advance();
                let mut labels = vec![self.word()?];
                while self.take(b',') {
                    labels.push(self.word()?);
                }
                self.expect(b';')?;
                out.push(Stmt::Targets { name, labels });
            }
            _ => out.push(Stmt::Label(name, line)),
        }
        Ok(())
    }

    fn registers(&mut self, out: &mut Vec<Stmt<'a>>) -> Result_<()> {
        self.advance();
        if let Kind::Dot("v2" | "v4") = self.peek() {
            return Err(Error::new(self.line(), "vector registers are not supported"));
        }
        let ty = self.ty()?;
        loop {
            let line = self.line();
            let name = self.word()?;
            let mut count = None;
            if self.take(b'<') {
                count = Some(self.int32()?);
                self.expect(b'>')?;
            }
            out.push(Stmt::Reg { line, ty, name, count });
            if self.take(b';') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn instruction(&mut self) -> Result_<Instr<'a>> {
        let mut guard = None;
        if self.take(b'@') {
            let negated = self.take(b'!');
            guard = Some((self.word()?, negated));
        }
        let line = self.line();
        let op = self.word()?;
        let mut mods = Vec::new();
        while let Kind::Dot(d) = self.peek() {
            self.advance();
            mods.push(d);
        }
        let mut operands = Vec::new();
        if is_foreign(op, &mods) {
            // Only their names are read: lowering refuses them, and what they are addressed by has a syntax of its own.
            while !self.take(b';') {
                if self.advance() == Kind::End {
                    return self.fail("`;`");
                }
            }
            return Ok(Instr { line, guard, op, mods, operands });
        }
        while !self.take(b';') {
            if !operands.is_empty() {
                self.expect(b',')?;
            }
            operands.push(self.operand(0)?);
            // `call f, (…)` apart, an instruction has few operands.
            if operands.len() > 64 {
                return Err(Error::new(line, "too many operands"));
            }
        }
        Ok(Instr { line, guard, op, mods, operands })
    }

    fn operand(&mut self, depth: usize) -> Result_<Operand<'a>> {
        if depth > 2 {
            return Err(Error::new(self.line(), "operands are nested too deep"));
        }
        let first = match self.peek() {
            Kind::Mark(b'{') => {
                self.advance();
                Operand::Vector(self.operands_until(b'}', depth)?)
            }
            Kind::Mark(b'(') => {
                self.advance();
                Operand::List(self.operands_until(b')', depth)?)
            }
            Kind::Mark(b'[') => {
                self.advance();
                self.address()?
            }
            Kind::Mark(b'!') => {
                self.advance();
                Operand::Not(self.word()?)
            }
            Kind::Mark(b'-') => {
                self.advance();
                match self.advance() {
                    Kind::Int(i) => Operand::Int(i.wrapping_neg()),
                    Kind::F64(b) => Operand::F64(b ^ 1 << 63),
                    Kind::F32(b) => Operand::F32(b ^ 1 << 31),
                    _ => return self.fail("a number after `-`"),
                }
            }
            Kind::Int(i) => {
                self.advance();
                Operand::Int(i)
            }
            Kind::F32(b) => {
                self.advance();
                Operand::F32(b)
            }
            Kind::F64(b) => {
                self.advance();
                Operand::F64(b)
            }
            Kind::Word("_") => {
                self.advance();
                Operand::Sink
            }
            Kind::Word(w) => {
                self.advance();
                // Special registers have components: `%tid.x`.
                if let Kind::Dot(part @ ("x" | "y" | "z" | "w")) = self.peek() {
                    self.advance();
                    return component(w, part)
                        .map(Operand::Name)
                        .ok_or_else(|| Error::new(self.line(), format!("`{w}` has no component `{part}`")));
                }
                if matches!(self.peek(), Kind::Mark(b'+' | b'-')) {
                    Operand::Sum(w, self.offset()?)
                } else {
                    Operand::Name(w)
                }
            }
            _ => return self.fail("an operand"),
        };
        if self.take(b'|') {
            let second = self.operand(depth + 1)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn operands_until(&mut self, close: u8, depth: usize) -> Result_<Vec<Operand<'a>>> {
        let mut out = Vec::new();
        while !self.take(close) {
            if !out.is_empty() {
                self.expect(b',')?;
            }
            out.push(self.operand(depth + 1)?);
            if out.len() > 4096 {
                return Err(Error::new(self.line(), "too many operands"));
            }
        }
        Ok(out)
    }

    fn address(&mut self) -> Result_<Operand<'a>> {
        let out = match self.peek() {
            Kind::Word(w) => {
                self.advance();
                let offset = self.offset()?;
                Operand::Address(Some(w), offset)
            }
            _ => Operand::Address(None, self.int()? as i64),
        };
        self.expect(b']')?;
        Ok(out)
    }
}

/// Instructions on textures, surfaces and tensors in memory.
fn is_foreign(op: &str, mods: &[&str]) -> bool {
    match op {
        "tex" | "tld4" | "txq" | "istypep" | "suld" | "sust" | "sured" | "suq" | "wgmma" | "tcgen05" => true,
        "cp" | "prefetch" => mods.contains(&"tensor"),
        _ => false,
    }
}

/// The name of a special register's component.
fn component(register: &str, part: &str) -> Option<&'static str> {
    Some(match (register, part) {
        ("%tid", "x") => "%tid.x",
        ("%tid", "y") => "%tid.y",
        ("%tid", "z") => "%tid.z",
        ("%ntid", "x") => "%ntid.x",
        ("%ntid", "y") => "%ntid.y",
        ("%ntid", "z") => "%ntid.z",
        ("%ctaid", "x") => "%ctaid.x",
        ("%ctaid", "y") => "%ctaid.y",
        ("%ctaid", "z") => "%ctaid.z",
        ("%nctaid", "x") => "%nctaid.x",
        ("%nctaid", "y") => "%nctaid.y",
        ("%nctaid", "z") => "%nctaid.z",
        ("%clusterid", "x") => "%ctaid.x",
        ("%clusterid", "y") => "%ctaid.y",
        ("%clusterid", "z") => "%ctaid.z",
        ("%nclusterid", "x") => "%nctaid.x",
        ("%nclusterid", "y") => "%nctaid.y",
        ("%nclusterid", "z") => "%nctaid.z",
        ("%cluster_ctaid", _) => "%zero",
        ("%cluster_nctaid", _) => "%one",
        _ => return None,
    })
}
