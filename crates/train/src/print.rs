//! Printing: lines to standard output and standard error, and text in columns of a terminal.

use std::io::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Prints a line to standard output. A reader that went away does not end a run.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line to standard error, where nobody may be listening either.
pub fn notice(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
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
    format!("{text}{:1$}", "", width.saturating_sub(columns(text)))
}

/// Blanks, and `text` that ends at column `width`.
pub fn pad_start(text: &str, width: usize) -> String {
    format!("{:1$}{text}", "", width.saturating_sub(columns(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
