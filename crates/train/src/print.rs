//! Printing: lines to standard output and standard error, and text in columns of a terminal.

use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether this process prints nothing: of several ranks the first one speaks.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From here on [`say`] and [`notice`] print nothing.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Prints text to standard output. A reader that went away does not end a run.
pub fn say(text: &str) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    let _ = writeln!(std::io::stdout().lock(), "{}", visible_lines(text));
}

/// Prints text to standard error, where nobody may be listening either.
pub fn notice(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        fail(text);
    }
}

/// The same for what ends the process, which also a quiet one prints.
pub fn fail(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", visible_lines(text));
}

/// Whether a character tells the terminal something instead of being seen: control characters, such as ESC, ends of lines,
/// and marks that turn the direction of the text around them.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hides) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.into()
}

/// A name from outside, of a file or a class, in text for people: on one line, and what would steer the terminal is
/// escaped, such as `\n` and `\u{1b}`.
pub fn visible(name: &str) -> Cow<'_, str> {
    escape(name, steers)
}

/// The same of text for people, whose lines stay.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| steers(c) && c != '\n')
}

/// Rows as CSV (RFC 4180, but for LF at the end of a line).
pub fn csv(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    for row in rows {
        // Neither writing to memory nor text fails.
        let _ = writer.write_record(row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// Columns of the terminal on standard output; none if it is a file or a pipe.
pub fn terminal() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
}

/// Columns that `text` takes on a terminal: two per wide character, such as 橙.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// The columns of the widest text.
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(columns).max().unwrap_or(0)
}

/// As much of the start of `text` as fits `most` columns.
pub fn prefix(text: &str, most: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > most
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// `text` in `most` columns at most; `…` stands for what is cut off at its end.
pub fn cut(text: &str, most: usize) -> String {
    if columns(text) <= most { text.into() } else { format!("{}…", prefix(text, most.saturating_sub(1))) }
}

/// The same, cut off at its start: of a path the file's name stays.
pub fn cut_start(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.into();
    }
    let fits = |&(at, _): &(usize, char)| columns(&text[at..]) < most;
    format!("…{}", text.char_indices().find(fits).map_or("", |(at, _)| &text[at..]))
}

/// `text`, and blanks up to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Blanks, and `text` that ends at column `width`.
pub fn pad_start(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let name = "a\u{1b}[31mred\n\r\t\u{7f}\u{9b}2J\u{202e}gnp.exe\u{2066}\u{2028}";
        let escaped = r"a\u{1b}[31mred\n\r\t\u{7f}\u{9b}2J\u{202e}gnp.exe\u{2066}\u{2028}";
        assert_eq!(visible(name), escaped);
        assert_eq!(visible_lines(name), escaped.replace(r"\n", "\n"));
        // Letters that are written from right to left, and joined emoji, are no marks.
        for name in ["橙子 é ö", "שלום", "👩\u{200d}🔬", r"C:\new"] {
            assert!(matches!(visible(name), Cow::Borrowed(text) if text == name));
        }
        assert_eq!((pad("", 70_000).len(), pad_start("x", 70_000).len()), (70_000, 70_000));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!((columns("橙子"), columns("apfel"), widest(["a", "橙子"])), (4, 5, 4));
        assert_eq!(
            (pad("橙子", 6), pad_start("橙子", 6), pad("apfel", 3)),
            ("橙子  ".into(), "  橙子".into(), "apfel".into())
        );
        assert_eq!((prefix("橙子", 3), prefix("ab", 5), prefix("é", 0)), ("橙", "ab", ""));
        for text in ["a/long/path/of 橙子.png", "short", "", "橙子橙子橙子"] {
            for most in 1..20 {
                for cut in [cut(text, most), cut_start(text, most)] {
                    assert!(columns(&cut) <= most && (cut == text) == (columns(text) <= most), "{text} {most}: {cut}");
                }
            }
        }
        assert_eq!((cut("abcdef", 4), cut_start("abcdef", 4)), ("abc…".into(), "…def".into()));
    }
}
