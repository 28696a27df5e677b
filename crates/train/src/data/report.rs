//! Progress and messages while a data set is opened.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::print::visible_lines;

/// A message or the progress while a data set is opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One line of information.
    Note(String),
    /// A warning of one or more lines.
    Warning(String),
    /// Progress of a download.
    Progress {
        /// The file.
        what: String,
        /// Bytes so far, including those of earlier attempts.
        done: u64,
        /// Total bytes.
        total: u64,
        /// Current bytes per second; 0 if not known yet.
        rate: f64,
    },
}

/// The receiver of events: a shared function.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Event) + Send + Sync>);

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    /// Sends events to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Reporter(Arc::new(sink))
    }

    /// Drops all events.
    pub fn silent() -> Self {
        Reporter::new(|_| ())
    }

    /// Writes to standard error: progress in place on a terminal, otherwise one line every ten seconds.
    pub fn stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let state = Mutex::new((false, None::<Instant>));
        Reporter::new(move |event| {
            let mut state = state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (open_line, last) = &mut *state;
            let mut text = String::new();
            match event {
                Event::Progress { what, done, total, rate } => {
                    let finished = done >= total;
                    let pause = Duration::from_millis(if terminal { 100 } else { 10_000 });
                    if !finished && last.is_some_and(|last| last.elapsed() < pause) {
                        return;
                    }
                    *last = Some(Instant::now());
                    let line = progress_line(&what, done, total, rate);
                    text = if terminal { format!("\r\x1b[K{line}") } else { format!("{line}\n") };
                    *open_line = terminal && !finished;
                    if terminal && finished {
                        text.push('\n');
                    }
                }
                Event::Note(note) => {
                    text.push_str(if std::mem::take(open_line) { "\n" } else { "" });
                    text += &format!("{}\n", visible_lines(&note));
                }
                Event::Warning(warning) => {
                    text.push_str(if std::mem::take(open_line) { "\n" } else { "" });
                    text += &framed(&visible_lines(&warning), terminal);
                }
            }
            // If standard error is closed, there is nowhere to report it.
            let _ = std::io::stderr().write_all(text.as_bytes());
        })
    }

    /// Reports `event`.
    pub fn tell(&self, event: Event) {
        (self.0)(event);
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.tell(Event::Note(text.into()));
    }
}

/// A warning between two rules, yellow on a terminal.
fn framed(warning: &str, terminal: bool) -> String {
    let width = warning.lines().map(|line| line.chars().count()).max().unwrap_or(0).max(7);
    let bar = "=".repeat(width.min(100));
    let (on, off) = if terminal { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
    format!("{on}{bar}\nWARNING\n{warning}\n{bar}{off}\n")
}

fn progress_line(what: &str, done: u64, total: u64, rate: f64) -> String {
    let percent = 100.0 * done as f64 / total.max(1) as f64;
    let mut line = format!("{what}: {:.1} of {:.1} MB ({percent:.0} %)", done as f64 / 1e6, total as f64 / 1e6);
    if rate > 0.0 && done < total {
        let left = ((total - done) as f64 / rate) as u64;
        line += &format!(", {:.0} kB/s, {}:{:02} left", rate / 1e3, left / 60, left % 60);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_rate_and_time_left() {
        assert_eq!(
            progress_line("archive", 20_000_000, 170_000_000, 50_000.0),
            "archive: 20.0 of 170.0 MB (12 %), 50 kB/s, 50:00 left"
        );
        assert_eq!(progress_line("archive", 10, 10, 50_000.0), "archive: 0.0 of 0.0 MB (100 %)");
    }

    #[test]
    fn warnings_are_framed() {
        assert_eq!(framed("a longer line\nb", false), "=============\nWARNING\na longer line\nb\n=============\n");
    }
}
