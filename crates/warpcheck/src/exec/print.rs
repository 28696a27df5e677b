//! `printf` and failed assertions.

use super::{ExecContext, call::local_at, lanes::lanes, memory::resolve_at};
use crate::{
    check,
    finding::{Access, StateSpace},
    program::{Inst, LocalCopy},
};

/// Longest format or `%s` text, in bytes.
const LONGEST: usize = 1 << 16;

/// Reads bytes at a generic address of one lane.
fn peek(cx: &mut ExecContext<'_>, lane: usize, address: u64, out: &mut [u8]) -> bool {
    let mut addresses = [0; 32];
    for (k, o) in out.iter_mut().enumerate() {
        addresses[lane] = address.wrapping_add(k as u64);
        let r = resolve_at(cx, StateSpace::Generic, addresses, 1 << lane, 1, Access::Read);
        if r.ok == 0 {
            return false;
        }
        // SAFETY: resolved for one byte.
        *o = unsafe { r.host[lane].read() };
    }
    true
}

/// A string up to its zero.
fn text(cx: &mut ExecContext<'_>, lane: usize, address: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut byte = [0];
    while out.len() < LONGEST {
        if !peek(cx, lane, address.wrapping_add(out.len() as u64), &mut byte) {
            return None;
        }
        if byte[0] == 0 {
            return Some(out);
        }
        out.push(byte[0]);
    }
    Some(out)
}

/// Reads an argument of the call: `from` in the copy says where it lies in local memory.
unsafe fn argument(cx: &ExecContext<'_>, op: LocalCopy, lane: usize) -> u64 {
    // SAFETY: checked against the lane's part.
    unsafe {
        let at = local_at(cx, op.from, lane);
        let bytes = op.bytes.min(8);
        if at.checked_add(bytes).is_none_or(|e| e > cx.local_bytes) {
            return 0;
        }
        let mut raw = [0u8; 8];
        let p = cx.local.add(lane * cx.local_bytes as usize + at as usize);
        std::ptr::copy(p, raw.as_mut_ptr(), bytes as usize);
        u64::from_le_bytes(raw)
    }
}

/// `vprintf(format, arguments)`: copies `e` and `e + 1` say where the two pointers lie, `e + 2` where the result goes.
pub(crate) unsafe fn vprintf(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let ops = [0, 1, 2].map(|k| cx.program.copies[i.e as usize + k]);
    for lane in lanes(m) {
        // SAFETY: places of the lowered program.
        let (format, arguments) = unsafe { (argument(cx, ops[0], lane), argument(cx, ops[1], lane)) };
        let Some(format) = text(cx, lane, format) else { continue };
        let (line, count) = print(cx, lane, &format, arguments);
        cx.printed.push_str(&String::from_utf8_lossy(&line));
        if ops[2].bytes != 0 {
            // SAFETY: as above.
            unsafe {
                let at = local_at(cx, ops[2].to, lane);
                if at.checked_add(4).is_some_and(|e| e <= cx.local_bytes) {
                    let p = cx.local.add(lane * cx.local_bytes as usize + at as usize);
                    p.cast::<u32>().write_unaligned(count);
                    check::memory::local_written(cx, lane, at, 4);
                }
            }
        }
    }
}

/// A conversion of a format.
#[derive(Debug, Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
    short: u32,
}

/// The argument buffer of a `printf`, as far as the conversions have read it.
struct Arguments {
    lane: usize,
    at: u64,
    count: u32,
}

impl Arguments {
    fn next(&mut self, cx: &mut ExecContext<'_>, bytes: u64) -> u64 {
        // An address that wraps around is invalid.
        self.at = self.at.checked_next_multiple_of(bytes).unwrap_or(0);
        let mut raw = [0u8; 8];
        peek(cx, self.lane, self.at, &mut raw[..bytes as usize]);
        self.at = self.at.wrapping_add(bytes);
        self.count += 1;
        u64::from_le_bytes(raw)
    }
}

type Format<'f> = std::iter::Peekable<std::iter::Copied<std::slice::Iter<'f, u8>>>;

/// The text of a format with its arguments, and how many arguments it took.
fn print(cx: &mut ExecContext<'_>, lane: usize, format: &[u8], arguments: u64) -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    let mut arguments = Arguments { lane, at: arguments, count: 0 };
    let mut f = format.iter().copied().peekable();
    while let Some(c) = f.next() {
        if c != b'%' {
            out.push(c);
            continue;
        }
        if f.peek() == Some(&b'%') {
            f.next();
            out.push(b'%');
            continue;
        }
        let mut s = spec(cx, &mut f, &mut arguments);
        let Some(c) = f.next() else { break };
        let Some(body) = conversion(cx, &mut s, c, &mut arguments) else {
            out.push(b'%');
            out.push(c);
            continue;
        };
        let pad = s.width.saturating_sub(body.chars().count());
        if s.left {
            out.extend_from_slice(body.as_bytes());
            out.resize(out.len() + pad, b' ');
        } else {
            out.resize(out.len() + pad, b' ');
            out.extend_from_slice(body.as_bytes());
        }
    }
    (out, arguments.count)
}

/// Flags, width, precision and length of a conversion.
fn spec(cx: &mut ExecContext<'_>, f: &mut Format<'_>, arguments: &mut Arguments) -> Spec {
    let mut s = Spec::default();
    while let Some(&c) = f.peek() {
        match c {
            b'-' => s.left = true,
            b'+' => s.plus = true,
            b' ' => s.space = true,
            b'#' => s.alternate = true,
            b'0' => s.zero = true,
            _ => break,
        }
        f.next();
    }
    if f.peek() == Some(&b'*') {
        f.next();
        let w = arguments.next(cx, 4) as i32;
        s.left |= w < 0;
        s.width = (w.unsigned_abs() as usize).min(4096);
    }
    while let Some(&c @ b'0'..=b'9') = f.peek() {
        s.width = (s.width * 10 + usize::from(c - b'0')).min(4096);
        f.next();
    }
    if f.peek() == Some(&b'.') {
        f.next();
        let mut p = 0;
        if f.peek() == Some(&b'*') {
            f.next();
            p = (arguments.next(cx, 4) as u32 as usize).min(4096);
        }
        while let Some(&c @ b'0'..=b'9') = f.peek() {
            p = (p * 10 + usize::from(c - b'0')).min(4096);
            f.next();
        }
        s.precision = Some(p);
    }
    while let Some(&c) = f.peek() {
        match c {
            b'l' | b'j' | b'z' | b't' | b'L' => s.long = true,
            b'h' => s.short += 1,
            _ => break,
        }
        f.next();
    }
    s
}

/// A converted argument before padding; `None` for a conversion that does not exist.
fn conversion(cx: &mut ExecContext<'_>, s: &mut Spec, c: u8, arguments: &mut Arguments) -> Option<String> {
    Some(match c {
        b'd' | b'i' => {
            let v = if s.long { arguments.next(cx, 8) as i64 } else { i64::from(arguments.next(cx, 4) as i32) };
            let v = match s.short {
                0 => v,
                1 => i64::from(v as i16),
                _ => i64::from(v as i8),
            };
            number(s, v < 0, v.unsigned_abs().to_string())
        }
        b'u' | b'x' | b'X' | b'o' => {
            let v = if s.long { arguments.next(cx, 8) } else { arguments.next(cx, 4) };
            let v = match s.short {
                0 => v,
                1 => v & 0xffff,
                _ => v & 0xff,
            };
            let prefix = if s.alternate && v != 0 { c } else { 0 };
            let digits = match c {
                b'u' => v.to_string(),
                b'x' => format!("{}{v:x}", if prefix != 0 { "0x" } else { "" }),
                b'X' => format!("{}{v:X}", if prefix != 0 { "0X" } else { "" }),
                _ => format!("{}{v:o}", if prefix != 0 { "0" } else { "" }),
            };
            let unsigned = Spec { plus: false, space: false, ..*s };
            number(&unsigned, false, digits)
        }
        b'c' => {
            s.zero = false;
            String::from_utf8_lossy(&[arguments.next(cx, 4) as u8]).into_owned()
        }
        b's' => {
            s.zero = false;
            let address = arguments.next(cx, 8);
            let mut t = text(cx, arguments.lane, address).unwrap_or_default();
            t.truncate(s.precision.unwrap_or(usize::MAX));
            String::from_utf8_lossy(&t).into_owned()
        }
        b'p' => {
            s.zero = false;
            format!("{:#x}", arguments.next(cx, 8))
        }
        b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
            let v = f64::from_bits(arguments.next(cx, 8));
            if !v.is_finite() {
                s.zero = false;
            }
            let t = float(c.to_ascii_lowercase(), v.abs(), s.precision, s.alternate);
            let t = if c.is_ascii_uppercase() { t.to_uppercase() } else { t };
            let negative = v.is_sign_negative() && !v.is_nan();
            let plain = Spec {
                precision: None,
                left: s.left,
                plus: s.plus,
                space: s.space,
                zero: s.zero,
                width: s.width,
                ..Spec::default()
            };
            number(&plain, negative, t)
        }
        _ => return None,
    })
}

/// Sign, zeros and digits.
fn number(s: &Spec, negative: bool, mut digits: String) -> String {
    if let Some(p) = s.precision {
        if p == 0 && digits == "0" {
            digits.clear();
        }
        while digits.len() < p {
            digits.insert(0, '0');
        }
    }
    let sign = match (negative, s.plus, s.space) {
        (true, _, _) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    if s.zero && !s.left && s.precision.is_none() {
        let at = if digits.starts_with("0x") || digits.starts_with("0X") { 2 } else { 0 };
        while digits.len() + sign.len() < s.width {
            digits.insert(at, '0');
        }
    }
    format!("{sign}{digits}")
}

/// A non-negative float as C prints it.
fn float(c: u8, v: f64, precision: Option<usize>, alternate: bool) -> String {
    if v.is_nan() {
        return "nan".into();
    }
    if v.is_infinite() {
        return "inf".into();
    }
    let p = precision.unwrap_or(6);
    match c {
        b'f' => format!("{v:.p$}"),
        b'e' => exponent(v, p),
        b'a' => hexadecimal(v, precision),
        _ => {
            let p = p.max(1);
            let e = exponent(v, p - 1);
            let x: i32 = e.rsplit_once('e').and_then(|(_, x)| x.parse().ok()).unwrap_or(0);
            let trim = |t: String| {
                if alternate || !t.contains('.') {
                    return t;
                }
                t.trim_end_matches('0').trim_end_matches('.').to_owned()
            };
            if x < -4 || x >= p as i32 {
                let (mantissa, x) = e.split_once('e').unwrap_or((&e, "+00"));
                format!("{}e{x}", trim(mantissa.to_owned()))
            } else {
                let digits = (p as i32 - 1 - x).max(0) as usize;
                trim(format!("{v:.digits$}"))
            }
        }
    }
}

fn exponent(v: f64, p: usize) -> String {
    let t = format!("{v:.p$e}");
    let (mantissa, x) = t.split_once('e').unwrap_or((&t, "0"));
    let x: i32 = x.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if x < 0 { '-' } else { '+' }, x.abs())
}

fn hexadecimal(v: f64, precision: Option<usize>) -> String {
    let bits = v.to_bits();
    let (mut x, mut fraction) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
    let mut lead = 1;
    if x == 0 {
        lead = 0;
        x = if fraction == 0 { 1023 } else { 1 };
    }
    if let Some(p) = precision
        && p < 13
    {
        let drop = 4 * (13 - p as u32);
        let whole = (lead << 52) | fraction;
        let half = 1u64 << (drop - 1);
        let mut kept = whole >> drop;
        let rest = whole & ((1 << drop) - 1);
        if rest > half || rest == half && kept & 1 == 1 {
            kept += 1;
        }
        let t = kept << drop;
        lead = t >> 52;
        fraction = t & ((1 << 52) - 1);
    }
    let mut digits = format!("{fraction:013x}");
    match precision {
        Some(p) => digits.truncate(p),
        None => digits.truncate(digits.trim_end_matches('0').len()),
    }
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x{lead}{point}{digits}p{:+}", x - 1023)
}

/// `__assertfail(message, file, line, function, size)`: copies from `e` on say where the arguments lie.
pub(crate) unsafe fn assert_failed(cx: &mut ExecContext<'_>, i: &Inst, m: u32) {
    let ops = [0, 1, 2, 3].map(|k| cx.program.copies[i.e as usize + k]);
    for lane in lanes(m) {
        // SAFETY: places of the lowered program.
        let values = ops.map(|op| unsafe { argument(cx, op, lane) });
        let mut word =
            |k: usize| text(cx, lane, values[k]).map_or_else(String::new, |t| String::from_utf8_lossy(&t).into_owned());
        let (message, file, function) = (word(0), word(1), word(3));
        let (block, thread) = (cx.block, cx.thread(lane as u32));
        let line = format!(
            "{file}:{}: {function}: block: [{},{},{}], thread: [{},{},{}] Assertion `{message}` failed.\n",
            values[2] as u32, block[0], block[1], block[2], thread[0], thread[1], thread[2]
        );
        cx.printed.push_str(&line);
        check::sync::assertion(cx, lane as u32, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_c() {
        assert_eq!(float(b'f', 1.5, None, false), "1.500000");
        assert_eq!(float(b'e', 12345.678, Some(2), false), "1.23e+04");
        assert_eq!(float(b'g', 0.0001, None, false), "0.0001");
        assert_eq!(float(b'g', 0.00001, None, false), "1e-05");
        assert_eq!(float(b'g', 123456789.0, None, false), "1.23457e+08");
        assert_eq!(float(b'a', 1.0, None, false), "0x1p+0");
        assert_eq!(float(b'a', 0.1, Some(3), false), "0x1.99ap-4");
        let s = Spec { zero: true, width: 6, ..Spec::default() };
        assert_eq!(number(&s, true, "12".into()), "-00012");
    }
}
