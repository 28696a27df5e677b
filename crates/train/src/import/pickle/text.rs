//! Texts of a pickle: strings and numbers of protocol 0, names of opcodes.

use super::Value;

/// The number in a line of INT or LONG, as in `01` (True), `7`, `7L`.
pub(super) fn integer(line: &str) -> Value {
    match line.trim_end() {
        "00" => Value::Bool(false),
        "01" => Value::Bool(true),
        line => line.trim_end_matches('L').parse().map_or(Value::Number, Value::Int),
    }
}

/// The bytes of Python 2's `'…'` or `"…"`, with its escapes.
pub(super) fn unescape(line: &str) -> Vec<u8> {
    let line = line.trim_end();
    let quoted = ['\'', '"'].iter().find_map(|&quote| line.strip_prefix(quote)?.strip_suffix(quote));
    let mut bytes = Vec::new();
    let mut rest = quoted.unwrap_or(line).bytes();
    while let Some(byte) = rest.next() {
        let escaped = match byte {
            b'\\' => rest.next(),
            byte => {
                bytes.push(byte);
                continue;
            }
        };
        bytes.push(match escaped {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0) as u8;
                digit() << 4 | digit()
            }
            Some(other) => other,
            None => b'\\',
        });
    }
    bytes
}

/// The text of UNICODE: `\uXXXX` and `\UXXXXXXXX` stand for characters.
pub(super) fn unicode(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        text += &rest[..at];
        rest = &rest[at..];
        let digits = if rest.starts_with("\\u") { 4 } else { 8 };
        let code = rest.get(2..2 + digits).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        let skipped = match code.filter(|_| rest.starts_with("\\u") || rest.starts_with("\\U")) {
            Some(character) => {
                text.push(character);
                2 + digits
            }
            None => {
                text.push('\\');
                1
            }
        };
        rest = &rest[skipped..];
    }
    text + rest
}

/// The names of opcodes that are not read, in Python's `pickletools`.
pub(super) fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        b'P' => "PERSID",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return format!("{opcode:#04x}"),
    };
    name.into()
}
