//! Progress on the screen: a bar on a terminal, otherwise plain lines, and one line per epoch on standard output.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::metrics::Record;
use super::trainer::{Observer, Step};
use crate::print::{notice, say};

/// Time between two lines of progress without a terminal.
const PLAIN: Duration = Duration::from_secs(30);
/// Time between two updates of the bar.
const REDRAW: Duration = Duration::from_millis(100);

/// Shows the progress of a run on standard error and its epochs on standard output.
pub struct Screen {
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
    step: Option<Step>,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// A bar if standard error is a terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, shown: None, step: None }
    }

    /// Prints a line above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// Removes the bar.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn due(&mut self, pause: Duration) -> bool {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= pause);
        if due {
            self.shown = Some(Instant::now());
        }
        due
    }

    fn width() -> usize {
        console::Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns))
    }
}

impl Observer for Screen {
    fn step(&mut self, step: &Step) {
        let first = self.step.replace(*step).is_none_or(|last| last.epoch != step.epoch);
        if self.bar.is_some() {
            if self.due(REDRAW) || step.done == step.steps {
                let line = bar_line(step, Self::width().saturating_sub(1));
                self.bar.iter().for_each(|bar| bar.set_message(line.clone()));
            }
        } else if first {
            self.shown = Some(Instant::now());
        } else if step.done < step.steps && self.due(PLAIN) {
            notice(&plain_line(step));
        }
    }

    fn test(&mut self, done: usize, images: usize) {
        if self.bar.is_some() && (self.due(REDRAW) || done == images) {
            let epoch = self.step.map_or(String::new(), |step| format!("Epoch {}/{} ", step.epoch, step.epochs));
            let line = format!("{epoch}evaluating {done}/{images}");
            let line: String = line.chars().take(Self::width().saturating_sub(1)).collect();
            self.bar.iter().for_each(|bar| bar.set_message(line.clone()));
        }
    }

    fn note(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| notice(line)),
            None => notice(line),
        }
    }

    fn epoch(&mut self, record: &Record, best: bool) {
        self.say(&epoch_line(record, best));
        self.shown = None;
    }
}

/// The line a PyTorch user expects, and the test.
pub fn epoch_line(record: &Record, best: bool) -> String {
    let Record { epoch, lr, train_loss, train_acc, images_per_s, seconds, .. } = record;
    let judged = |name, loss: Option<f64>, accuracy: Option<f64>| match (loss, accuracy) {
        (Some(loss), Some(accuracy)) => format!(", {name} Loss={loss:.4}, {name} Acc={:.2}%", accuracy * 100.0),
        _ => String::new(),
    };
    format!(
        "Epoch {epoch}: Loss={train_loss:.4}, Acc={:.2}%{}{}, lr={}, {images_per_s:.0} img/s, {}{}",
        train_acc * 100.0,
        judged("Val", record.val_loss, record.val_acc),
        judged("Test", record.test_loss, record.test_acc),
        short(*lr),
        duration(*seconds),
        if best { " (best)" } else { "" }
    )
}

/// Four significant digits without trailing zeros.
fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    if rounded != 0.0 && rounded.abs() < 1e-4 { format!("{rounded:e}") } else { format!("{rounded}") }
}

/// Minutes and seconds, with hours where there are any.
fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

fn plain_line(step: &Step) -> String {
    format!(
        "epoch {}/{}, step {}/{}: loss {:.4}, acc {:.2}%, {:.0} img/s, {} left",
        step.epoch,
        step.epochs,
        step.done,
        step.steps,
        step.loss,
        step.accuracy * 100.0,
        step.images_per_s,
        duration(step.epoch_left)
    )
}

/// One line of at most `width` characters; a narrow one keeps the most important parts.
fn bar_line(step: &Step, width: usize) -> String {
    let (loss, accuracy) = (format!("loss {:.4}", step.loss), format!("acc {:.2}%", step.accuracy * 100.0));
    let (rate, left) = (format!("{:.0} img/s", step.images_per_s), format!("{} left", duration(step.epoch_left)));
    let count = format!("{}/{}", step.done, step.steps);
    let epoch = format!("Epoch {}/{}", step.epoch, step.epochs);
    let run = format!("(run {})", duration(step.run_left));
    // In order of falling width; the first that fits is taken, and the bar fills the rest.
    let parts: [&[&str]; 6] = [
        &[&epoch, "", &count, &loss, &accuracy, &rate, &left, &run],
        &[&epoch, "", &count, &loss, &accuracy, &rate, &left],
        &[&epoch, &count, &loss, &accuracy, &rate, &left],
        &[&count, &loss, &accuracy, &left],
        &[&count, &loss, &left],
        &[&count, &loss],
    ];
    for parts in parts {
        let bar = if parts.contains(&"") { MINIMAL_BAR } else { 0 };
        let length: usize = parts.iter().map(|part| part.len() + 1).sum::<usize>() - 1 + bar;
        if length <= width {
            let bar = bar_of((MINIMAL_BAR + width - length).min(MAXIMAL_BAR), step.done, step.steps);
            return parts
                .iter()
                .map(|part| if part.is_empty() { bar.as_str() } else { part })
                .collect::<Vec<_>>()
                .join(" ");
        }
    }
    loss.chars().take(width).collect()
}

const MINIMAL_BAR: usize = 10;
const MAXIMAL_BAR: usize = 40;

fn bar_of(width: usize, done: usize, steps: usize) -> String {
    let inner = width.saturating_sub(2);
    let full = inner * done.min(steps) / steps.max(1);
    format!("[{}{}]", "=".repeat(full), " ".repeat(inner - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        epoch: 2,
        epochs: 100,
        done: 120,
        steps: 391,
        loss: 1.57912,
        accuracy: 0.42345,
        images_per_s: 512.3,
        epoch_left: 67.8,
        run_left: 9967.8,
    };

    #[test]
    fn the_bar_fits_any_terminal() {
        assert_eq!(
            bar_line(&STEP, 110),
            "Epoch 2/100 [=========                      ] 120/391 loss 1.5791 acc 42.34% 512 img/s 1:08 left (run 2:46:08)"
        );
        assert_eq!(bar_line(&STEP, 40), "120/391 loss 1.5791 acc 42.34% 1:08 left");
        for width in 0..200 {
            let line = bar_line(&STEP, width);
            assert!(line.len() <= width, "{width}: {line}");
            assert!(width < 11 || line.contains("loss 1.5791"), "{width}: {line}");
        }
        assert_eq!(bar_of(12, 391, 391), "[==========]");
    }

    #[test]
    fn the_line_of_an_epoch() {
        let record = Record {
            epoch: 1,
            step: 391,
            lr: 0.01,
            train_loss: 2.00823,
            train_acc: 0.23304,
            test_loss: Some(1.68),
            test_acc: Some(0.3826),
            test_balanced_acc: Some(0.38),
            test_macro_f1: Some(0.37),
            val_loss: None,
            val_acc: None,
            val_balanced_acc: None,
            val_macro_f1: None,
            images_per_s: 512.4,
            seconds: 103.2,
            dataset: "cifar10".into(),
            scaling: None,
        };
        assert_eq!(
            epoch_line(&record, true),
            "Epoch 1: Loss=2.0082, Acc=23.30%, Test Loss=1.6800, Test Acc=38.26%, lr=0.01, 512 img/s, 1:43 (best)"
        );
        let held_out = Record { val_loss: Some(1.5), val_acc: Some(0.4), ..record };
        assert!(
            epoch_line(&held_out, false).contains("Acc=23.30%, Val Loss=1.5000, Val Acc=40.00%, Test Loss=1.6800,")
        );
        let line = epoch_line(&Record { test_loss: None, test_acc: None, ..held_out }, false);
        assert!(line.contains("Val Acc=40.00%, lr=0.01") && !line.contains("Test"), "{line}");
    }

    #[test]
    fn numbers() {
        assert_eq!([0.01, 0.00012346, 1e-5, 1.5e-7, 0.0].map(short), ["0.01", "0.0001235", "1e-5", "1.5e-7", "0"]);
        assert_eq!([0.4, 59.6, 3599.0, 3600.0].map(duration), ["0:00", "1:00", "59:59", "1:00:00"]);
        assert_eq!(plain_line(&STEP), "epoch 2/100, step 120/391: loss 1.5791, acc 42.34%, 512 img/s, 1:08 left");
    }
}
