//! Findings and leaks as text, in the style of a compiler.

use super::LaunchFacts;
use crate::finding::{Access, Check, Finding, FindingKind, Location};
use crate::memory::AllocationInfo;
use std::fmt::Write;
use std::io::IsTerminal;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Without colour.
    pub fn plain() -> Style {
        Style { colour: false }
    }

    /// With colour where stderr is a terminal and `NO_COLOR` is not set.
    pub fn of_stderr() -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { colour: wanted && std::io::stderr().is_terminal() }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn frame(self, text: &str) -> String {
        self.paint("1;34", text)
    }
}

fn check_name(check: Check) -> &'static str {
    match check {
        Check::Mem => "mem",
        Check::Init => "init",
        Check::Race => "race",
        Check::Sync => "sync",
    }
}

/// A short name of the problem.
fn kind_text(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::OutOfBounds => "out of bounds",
        FindingKind::Misaligned => "misaligned address",
        FindingKind::UseAfterFree => "use after free",
        FindingKind::Null => "null pointer",
        FindingKind::ReadOnly => "write to read-only memory",
        FindingKind::WildAddress => "address of no memory",
        FindingKind::Uninitialised => "memory never written",
        FindingKind::Race => "data race",
        FindingKind::BarrierDivergence => "divergent barrier",
        FindingKind::BarrierMismatch => "mismatched barriers",
        FindingKind::BarrierAfterExit => "barrier after exit",
        FindingKind::SyncMask => "wrong mask",
        FindingKind::Deadlock => "deadlock",
        FindingKind::Budget => "endless loop",
        FindingKind::Assert => "assertion failed",
        FindingKind::Trap => "trap",
    }
}

fn access_text(access: Access) -> Option<&'static str> {
    match access {
        Access::None => None,
        Access::Read => Some("read"),
        Access::Write => Some("write"),
        Access::Atomic => Some("atomic"),
    }
}

fn place_text(location: Option<&Location>) -> String {
    match location {
        Some(Location { file, line, .. }) if !file.is_empty() && *line > 0 => format!("{file}:{line}"),
        Some(Location { ptx_line, .. }) if *ptx_line > 0 => format!("PTX line {ptx_line}"),
        _ => "unknown place".to_owned(),
    }
}

fn triple([x, y, z]: [u32; 3]) -> String {
    format!("({x},{y},{z})")
}

/// The source line of a location, if its file can be read from here.
fn source_line(location: &Location) -> Option<String> {
    if location.line == 0 {
        return None;
    }
    let text = std::fs::read_to_string(&location.file).ok()?;
    text.lines().nth(location.line as usize - 1).map(str::to_owned)
}

/// An allocation, and where the address lies in relation to it.
fn allocation_text(info: &AllocationInfo, address: u64) -> String {
    let end = info.base.saturating_add(info.size);
    let place = if address < info.base {
        format!("{} before", bytes_text(info.base - address))
    } else if address >= end {
        format!("{} past the end of", bytes_text(address - end))
    } else {
        format!("{} into", bytes_text(address - info.base))
    };
    format!("{address:#x} is {place} {}", describe(info))
}

fn bytes_text(bytes: u64) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

fn describe(info: &AllocationInfo) -> String {
    format!(
        "allocation {} ({}{}, {} at {:#x}, device {})",
        info.serial,
        info.label,
        if info.freed { ", freed" } else { "" },
        bytes_text(info.size),
        info.base,
        info.device,
    )
}

/// What is wrong, in a line: the kind and the access, or where nothing was accessed the sentence
/// of the check without the place, which follows anyway.
fn headline(finding: &Finding) -> String {
    let kind = kind_text(finding.kind);
    if let Some(access) = access_text(finding.access) {
        let bytes = bytes_text(u64::from(finding.bytes));
        let space = format!("{:?}", finding.space).to_lowercase();
        return format!("{kind}: {access} of {bytes} of {space} memory at {:#x}", finding.address);
    }
    let place = format!(" in {} at ", finding.kernel);
    match finding.message.split(&place).next() {
        Some(sentence) if !sentence.is_empty() => sentence.to_owned(),
        _ => kind.to_owned(),
    }
}

/// A finding over several lines.
pub(super) fn finding_text(finding: &Finding, facts: &LaunchFacts, style: Style) -> String {
    let mut text = String::new();
    let title = format!("error[{}]", check_name(finding.check));
    let what = headline(finding);
    // Writing into a string does not fail, here and below.
    let _ = writeln!(text, "warpcheck: {}{}", style.error(&title), style.bold(&format!(": {what}")));
    let place = place_text(finding.location.as_ref());
    let _ = writeln!(text, "  {} {place}", style.frame("-->"));
    let bar = style.frame("|");
    if let Some((location, line)) =
        finding.location.as_ref().and_then(|location| Some((location, source_line(location)?)))
    {
        let number = location.line.to_string();
        let margin = " ".repeat(number.len());
        let _ = writeln!(text, " {margin} {bar}");
        let _ = writeln!(text, " {} {bar} {line}", style.frame(&number));
        let _ = writeln!(text, " {margin} {bar}");
    }
    let mut note = |line: String| {
        let _ = writeln!(text, "  {} {line}", style.frame("="));
    };
    note(format!(
        "kernel {} block {} thread {} of launch {} <<<{}, {}>>>",
        finding.kernel,
        triple(finding.block),
        triple(finding.thread),
        facts.number,
        triple(facts.grid),
        triple(facts.block),
    ));
    if let Some(info) = &finding.allocation {
        note(allocation_text(info, finding.address));
    }
    if let Some(other) = &finding.other {
        let (kernel, running) = match &other.kernel {
            Some(kernel) => (format!("kernel {kernel} "), ", which may still run"),
            None => (String::new(), ""),
        };
        note(format!(
            "against the {} at {} by {kernel}block {} thread {}{running}",
            access_text(other.access).unwrap_or("access"),
            place_text(other.location.as_ref()),
            triple(other.block),
            triple(other.thread),
        ));
    }
    if !finding.instruction.is_empty() {
        let line = finding.location.as_ref().map_or(0, |location| location.ptx_line);
        note(format!("instruction {} (PTX line {line})", finding.instruction));
    }
    if finding.count > 1 {
        note(format!("{} times in this launch", finding.count));
    }
    text.truncate(text.trim_end().len());
    text
}

/// A leak in a line.
pub fn leak_text(info: &AllocationInfo, style: Style) -> String {
    format!("warpcheck: {}: never freed: {}", style.warning("leak"), describe(info))
}
