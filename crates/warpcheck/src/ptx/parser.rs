//! Tokens to a syntax tree.

use super::{
    Error,
    lexer::{Kind, Token, tokens},
    syntax::*,
};

/// Maximum nesting of blocks.
const DEEPEST: usize = 64;

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> Result<Unit<'_>, Error> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0 };
    parser.unit()
}

pub(super) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

type Result_<T> = Result<T, Error>;

fn show(kind: Kind<'_>) -> String {
    match kind {
        Kind::Word(w) => format!("`{w}`"),
        Kind::Dot(d) => format!("`.{d}`"),
        Kind::Int(i) => format!("`{i}`"),
        Kind::F32(b) => format!("`0f{b:08X}`"),
        Kind::F64(b) => format!("`0d{b:016X}`"),
        Kind::Text(t) => format!("\"{t}\""),
        Kind::Mark(c) => format!("`{}`", c as char),
        Kind::End => "the end of the text".to_owned(),
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Kind<'a> {
        self.ahead(0)
    }

    fn ahead(&self, n: usize) -> Kind<'a> {
        self.tokens.get(self.at + n).map_or(Kind::End, |t| t.kind)
    }

    fn line(&self) -> u32 {
        self.tokens[self.at.min(self.tokens.len() - 1)].line
    }

    fn advance(&mut self) -> Kind<'a> {
        let kind = self.peek();
        if self.at < self.tokens.len() - 1 {
            self.at += 1;
        }
        kind
    }

    fn fail<T>(&self, expected: &str) -> Result_<T> {
        Err(Error::new(self.line(), format!("expected {expected}, found {}", show(self.peek()))))
    }

    fn take(&mut self, mark: u8) -> bool {
        let found = self.peek() == Kind::Mark(mark);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, mark: u8) -> Result_<()> {
        if self.take(mark) { Ok(()) } else { self.fail(&format!("`{}`", mark as char)) }
    }

    fn word(&mut self) -> Result_<&'a str> {
        match self.peek() {
            Kind::Word(w) => {
                self.advance();
                Ok(w)
            }
            _ => self.fail("a name"),
        }
    }

    fn int(&mut self) -> Result_<u64> {
        let negative = self.take(b'-');
        match self.peek() {
            Kind::Int(i) => {
                self.advance();
                Ok(if negative { i.wrapping_neg() } else { i })
            }
            _ => self.fail("an integer"),
        }
    }

    fn int32(&mut self) -> Result_<u32> {
        let line = self.line();
        let i = self.int()?;
        u32::try_from(i).map_err(|_| Error::new(line, format!("{i} is out of range")))
    }

    fn ty(&mut self) -> Result_<Ty> {
        if let Kind::Dot(d) = self.peek()
            && let Some(ty) = Ty::parse(d)
        {
            self.advance();
            return Ok(ty);
        }
        self.fail("a type")
    }

    fn unit(&mut self) -> Result_<Unit<'a>> {
        let mut unit = Unit::default();
        loop {
            match self.peek() {
                Kind::End => break,
                Kind::Dot("version") => {
                    self.advance();
                    self.version(&mut unit)?;
                }
                Kind::Dot("target") => {
                    unit.target_line = self.line();
                    self.advance();
                    let line = self.line();
                    let word = self.word()?;
                    let digits = word.strip_prefix("sm_").or(word.strip_prefix("compute_"));
                    let digits = digits.map(|d| d.trim_end_matches(['a', 'f']));
                    unit.target = digits
                        .and_then(|d| d.parse().ok())
                        .ok_or_else(|| Error::new(line, format!("unknown target `{word}`")))?;
                    while self.take(b',') {
                        self.word()?;
                    }
                }
                Kind::Dot("address_size") => {
                    self.advance();
                    let line = self.line();
                    if self.int()? != 64 {
                        return Err(Error::new(line, "only 64-bit addresses are supported"));
                    }
                }
                Kind::Dot("file") => {
                    self.advance();
                    let number = self.int32()?;
                    let Kind::Text(name) = self.peek() else {
                        return self.fail("a file name");
                    };
                    self.advance();
                    while self.take(b',') {
                        self.int()?;
                    }
                    unit.files.insert(number, name);
                }
                Kind::Dot("section") => self.section()?,
                Kind::Dot("pragma") => {
                    self.advance();
                    while !self.take(b';') {
                        if self.advance() == Kind::End {
                            return self.fail("`;`");
                        }
                    }
                }
                Kind::Dot("loc") => {
                    self.loc()?;
                }
                Kind::Dot(
                    "visible" | "extern" | "weak" | "common" | "entry" | "func" | "global" | "const" | "shared" | "tex"
                    | "alias",
                ) => self.declaration(&mut unit)?,
                Kind::Mark(b';') => {
                    self.advance();
                }
                _ => return self.fail("a directive"),
            }
        }
        if unit.version == 0 {
            return Err(Error::new(1, "there is no `.version`: this is not PTX"));
        }
        if unit.target == 0 {
            return Err(Error::new(1, "there is no `.target`"));
        }
        Ok(unit)
    }

    fn version(&mut self, unit: &mut Unit<'a>) -> Result_<()> {
        let line = self.line();
        let bad = || Error::new(line, "`.version` wants major.minor");
        match self.advance() {
            Kind::F64(bits) => {
                let v = f64::from_bits(bits);
                if !(1.0..100.0).contains(&v) {
                    return Err(bad());
                }
                unit.version = (v * 10.0).round() as u32;
                Ok(())
            }
            Kind::Int(major @ 1..100) => {
                unit.version = major as u32 * 10;
                Ok(())
            }
            _ => Err(bad()),
        }
    }

    /// Debug sections are not read.
    fn section(&mut self) -> Result_<()> {
        let start = self.line();
        while self.peek() != Kind::Mark(b'{') {
            if self.advance() == Kind::End {
                return Err(Error::new(start, "a section has no body"));
            }
        }
        let mut depth = 0usize;
        loop {
            match self.advance() {
                Kind::Mark(b'{') => depth += 1,
                Kind::Mark(b'}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                Kind::End => return Err(Error::new(start, "a section is not closed")),
                _ => {}
            }
        }
    }

    fn loc(&mut self) -> Result_<Stmt<'a>> {
        self.advance();
        let file = self.int32()?;
        let line = self.int32()?;
        self.int()?;
        while self.take(b',') {
            match self.advance() {
                Kind::Word("function_name") => {
                    self.word()?;
                    if self.take(b'+') {
                        self.int()?;
                    }
                }
                Kind::Word("inlined_at") => {
                    self.int()?;
                    self.int()?;
                    self.int()?;
                }
                _ => return self.fail("`function_name` or `inlined_at`"),
            }
        }
        Ok(Stmt::Loc { file, line })
    }

    fn declaration(&mut self, unit: &mut Unit<'a>) -> Result_<()> {
        let mut external = false;
        loop {
            match self.peek() {
                Kind::Dot("visible" | "weak" | "common") => {
                    self.advance();
                }
                Kind::Dot("extern") => {
                    external = true;
                    self.advance();
                }
                Kind::Dot("entry") => {
                    self.advance();
                    let f = self.function(true)?;
                    unit.functions.push(f);
                    return Ok(());
                }
                Kind::Dot("func") => {
                    self.advance();
                    let f = self.function(false)?;
                    unit.functions.push(f);
                    return Ok(());
                }
                // References to textures, surfaces and samplers: what reads them is refused.
                Kind::Dot("tex") | Kind::Dot("global")
                    if self.peek() == Kind::Dot("tex")
                        || matches!(self.ahead(1), Kind::Dot("texref" | "surfref" | "samplerref")) =>
                {
                    while !self.take(b';') {
                        if self.advance() == Kind::End {
                            return self.fail("`;`");
                        }
                    }
                    return Ok(());
                }
                Kind::Dot("global" | "const" | "shared") => {
                    self.variables(external, &mut |v| unit.variables.push(v))?;
                    return Ok(());
                }
                _ => return self.fail("`.entry`, `.func` or a variable"),
            }
        }
    }

    fn function(&mut self, entry: bool) -> Result_<Function<'a>> {
        let mut rets = Vec::new();
        if !entry && self.take(b'(') {
            rets = self.parameters()?;
        }
        let line = self.line();
        let name = self.word()?;
        let mut f = Function {
            line,
            entry,
            name,
            rets,
            params: Vec::new(),
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            max_registers: None,
            body: None,
            end: line,
        };
        if self.take(b'(') {
            f.params = self.parameters()?;
        }
        loop {
            match self.peek() {
                Kind::Dot("maxntid") => {
                    self.advance();
                    f.max_threads = Some(self.triple()?);
                }
                Kind::Dot("reqntid") => {
                    self.advance();
                    f.required_threads = Some(self.triple()?);
                }
                Kind::Dot("minnctapersm") => {
                    self.advance();
                    f.min_blocks = Some(self.int32()?);
                }
                Kind::Dot("maxnreg") => {
                    self.advance();
                    f.max_registers = Some(self.int32()?);
                }
                Kind::Dot("maxnctapersm" | "maxclusterrank") => {
                    self.advance();
                    self.int()?;
                }
                Kind::Dot("noreturn" | "blocksareclusters") => {
                    self.advance();
                }
                Kind::Dot("pragma") => {
                    self.advance();
                    while !self.take(b';') {
                        if self.advance() == Kind::End {
                            return self.fail("`;`");
                        }
                    }
                }
                Kind::Mark(b';') => {
                    self.advance();
                    return Ok(f);
                }
                Kind::Mark(b'{') => break,
                _ => return self.fail("a body"),
            }
        }
        self.expect(b'{')?;
        f.body = Some(self.block(0)?);
        f.end = self.tokens[self.at.saturating_sub(1)].line;
        Ok(f)
    }

    fn triple(&mut self) -> Result_<[u32; 3]> {
        let mut out = [1; 3];
        for (i, o) in out.iter_mut().enumerate() {
            if i > 0 && !self.take(b',') {
                break;
            }
            *o = self.int32()?;
        }
        Ok(out)
    }
}

mod body;
#[cfg(test)]
mod tests;
mod variable;
