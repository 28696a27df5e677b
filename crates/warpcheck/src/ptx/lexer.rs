//! Text to tokens.

use super::Error;

/// A token and the line it starts on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) line: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind<'a> {
    /// A name: a mnemonic, a register, a symbol, a label.
    Word(&'a str),
    /// A dot and what follows: a directive, a modifier, a type.
    Dot(&'a str),
    /// An integer; wraps as 64 bits do.
    Int(u64),
    /// A float given as a decimal, or by its bits as f64.
    F64(u64),
    /// A float given by its bits as f32.
    F32(u32),
    /// Text between quotes.
    Text(&'a str),
    /// Any other character.
    Mark(u8),
    /// The end.
    End,
}

fn word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%')
}

/// Splits the text into tokens; fails at the first invalid character.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Error> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut out = Vec::with_capacity(text.len() / 4);
    loop {
        let token = lexer.next()?;
        out.push(token);
        if token.kind == Kind::End {
            return Ok(out);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blank(&mut self) -> Result<(), Error> {
        loop {
            match self.peek(0) {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    while self.at < self.bytes.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                b'/' if self.peek(1) == b'*' => {
                    let start = self.line;
                    self.at += 2;
                    while !(self.peek(0) == b'*' && self.peek(1) == b'/') {
                        if self.at >= self.bytes.len() {
                            return Err(Error::new(start, "a comment is not closed"));
                        }
                        if self.peek(0) == b'\n' {
                            self.line = self.line.saturating_add(1);
                        }
                        self.at += 1;
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn take(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.at < self.bytes.len() && accept(self.bytes[self.at]) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn next(&mut self) -> Result<Token<'a>, Error> {
        self.skip_blank()?;
        let line = self.line;
        let token = |kind| Ok(Token { kind, line });
        if self.at >= self.bytes.len() {
            return token(Kind::End);
        }
        let c = self.peek(0);
        if c.is_ascii_digit() {
            return token(self.number(line)?);
        }
        if word(c) {
            return token(Kind::Word(self.take(word)));
        }
        if c == b'.' && (word(self.peek(1))) {
            self.at += 1;
            let start = self.at;
            self.take(word);
            while self.peek(0) == b':' && self.peek(1) == b':' && word(self.peek(2)) {
                self.at += 2;
                self.take(word);
            }
            return token(Kind::Dot(&self.text[start..self.at]));
        }
        if c == b'"' {
            self.at += 1;
            let text = self.take(|c| c != b'"' && c != b'\n');
            if self.peek(0) != b'"' {
                return Err(Error::new(line, "a string is not closed"));
            }
            self.at += 1;
            return token(Kind::Text(text));
        }
        if c.is_ascii_graphic() {
            self.at += 1;
            return token(Kind::Mark(c));
        }
        Err(Error::new(line, format!("unexpected byte {c:#04x}")))
    }

    fn number(&mut self, line: u32) -> Result<Kind<'a>, Error> {
        let bad = |text: &str| Error::new(line, format!("`{text}` is not a number"));
        let hex = |text: &str, digits: usize| {
            if text.len() == digits { u64::from_str_radix(text, 16).ok() } else { None }
        };
        let start = self.at;
        let alnum = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let body = self.take(alnum);
        // `0f` and `0d` open a float given by its bits, hexadecimal digits to the end.
        match body.as_bytes() {
            [b'0', b'f' | b'F', ..] => {
                let bits = hex(&body[2..], 8).ok_or_else(|| bad(body))?;
                return Ok(Kind::F32(bits as u32));
            }
            [b'0', b'd' | b'D', ..] => {
                return hex(&body[2..], 16).map(Kind::F64).ok_or_else(|| bad(body));
            }
            _ => {}
        }
        let decimal = body.bytes().all(|c| c.is_ascii_digit());
        let exponent = body.len() > 1
            && matches!(body.as_bytes()[body.len() - 1], b'e' | b'E')
            && body[..body.len() - 1].bytes().all(|c| c.is_ascii_digit());
        if (decimal && self.peek(0) == b'.' && self.peek(1).is_ascii_digit())
            || (exponent && matches!(self.peek(0), b'+' | b'-'))
        {
            if self.peek(0) == b'.' {
                self.at += 1;
                self.take(alnum);
            }
            if matches!(self.bytes[self.at - 1], b'e' | b'E') && matches!(self.peek(0), b'+' | b'-') {
                self.at += 1;
                self.take(|c| c.is_ascii_digit());
            }
            let text = &self.text[start..self.at];
            let value: f64 = text.parse().map_err(|_| bad(text))?;
            return Ok(Kind::F64(value.to_bits()));
        }
        let digits = body.trim_end_matches(['U', 'u']);
        let (digits, radix) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
            [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
            [b'0', _, ..] => (&digits[1..], 8),
            _ => (digits, 10),
        };
        u64::from_str_radix(digits, radix).map(Kind::Int).map_err(|_| bad(body))
    }
}
