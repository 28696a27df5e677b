//! The command line: one file per subcommand.

mod advice;
mod augmentation;
mod bench;
mod complete;
mod data;
mod dataset;
mod device;
mod doctor;
mod eval;
mod export;
mod gradcheck;
mod habit;
mod help;
pub mod hint;
mod import;
mod job;
mod model;
mod output;
mod predict;
mod report;
mod serve;
mod train;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use crate::data::DataError;
use crate::print::{cut, notice, visible, visible_lines};
use crate::run;
use crate::run::stop;

/// Train AlexNet with hand-written CUDA and CPU kernels, evaluate it and use it
#[derive(Debug, Parser)]
#[command(name = "alexnet", version, about, long_about = None, arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Args>),
    Eval(eval::Args),
    Predict(predict::Args),
    Export(export::Args),
    Import(import::Args),
    Bench(bench::Args),
    Report(report::Args),
    Serve(serve::Args),
    Data(data::Args),
    Doctor(doctor::Args),
    Gradcheck(gradcheck::Args),
    Completions(complete::Completions),
    Man(complete::Man),
}

/// Runs the program. Exit code: 0 on success, 1 on an error, 2 on wrong usage, 130 if interrupted.
pub fn main() -> ExitCode {
    // Without the handler such a write ends the process.
    let _ = stop::survive_file_limit();
    let short = std::env::args_os().any(|argument| argument == "-h");
    let definition = help::definition(short);
    let matches = match definition.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let unreadable = std::env::args_os().find(|argument| argument.to_str().is_none());
            if let (clap::error::ErrorKind::InvalidUtf8, Some(argument)) = (error.kind(), unreadable) {
                notice(&format!(
                    "error: `{}` is not UTF-8\nhint: settings are kept in a text file: make a link with a plain name, \
                     `ln -s`, and give that",
                    crate::data::folder::text(&argument)
                ));
                return ExitCode::from(2);
            }
            let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            let error = habit::with_tip(error, &definition, &words);
            let code = ExitCode::from(error.exit_code() as u8);
            let printed = if error.use_stderr() && !job::speaks() { Ok(()) } else { error.print() };
            if error.use_stderr() {
                job::let_pass();
            }
            return match printed {
                Err(lost) if lost.kind() != std::io::ErrorKind::BrokenPipe => {
                    notice(&format!("error: cannot write the result: {lost}"));
                    ExitCode::FAILURE
                }
                _ => code,
            };
        }
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Gradcheck(args) => gradcheck::run(&args),
        Command::Completions(args) => complete::completions(&args),
        Command::Man(args) => complete::man(&args),
    };
    result.unwrap_or_else(|error| {
        if matches!(error.downcast_ref(), Some(run::Error::Closed)) {
            return ExitCode::SUCCESS;
        }
        let code = if is_usage(&error) { 2 } else { 1 };
        let other = matches!(error.downcast_ref(), Some(run::Error::OtherRank));
        job::report(message(&error).trim_end(), code, other);
        ExitCode::from(code)
    })
}

/// `error: …` with its causes, and `hint: …` if there is one.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|error| shown(error, &error.to_string())) {
        // Many errors already include their cause's text.
        if !text.contains(&cause) {
            text += if text.is_empty() { "error: " } else { ": " };
            text += &cause;
        }
    }
    text.push('\n');
    if let Some(hint) = error.chain().find_map(hint::of) {
        text += &format!("hint: {}\n", cut(&visible(&hint), LONGEST));
    }
    text
}

/// Most columns of an error or hint: files may hold names of any length.
const LONGEST: usize = 4096;

/// The text of an error without what would steer the terminal. Only the texts that this program writes in several lines
/// keep these: a name may hold the end of a line.
fn shown(error: &(dyn std::error::Error + 'static), text: &str) -> String {
    let lines = matches!(error.downcast_ref(), Some(run::Error::Config { .. }))
        || matches!(error.downcast_ref(), Some(run::Error::Loading(DataError::Fetch { .. })))
        || matches!(error.downcast_ref(), Some(DataError::Fetch { .. }));
    cut(&if lines { visible_lines(text) } else { visible(text) }, LONGEST)
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<run::Error>().is_some_and(run::Error::is_usage)
        || error.downcast_ref::<hint::Hinted>().is_some_and(|error| error.usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        help::definition(false).debug_assert();
    }

    #[test]
    fn causes_are_said_once() {
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = run::Error::io("write", std::path::Path::new("/x"))(io);
        let text = message(&error.into());
        assert_eq!(text.matches("no storage space").count(), 1, "{text}");
        assert!(
            text.starts_with("error: cannot write /x: ") && text.contains("\nhint: free some disk space"),
            "{text}"
        );
        let text = message(&anyhow::anyhow!("inner").context("outer"));
        assert_eq!(text, "error: outer: inner\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal_or_pretend_to_be_a_message() {
        let path = std::path::Path::new("a\u{1b}[2J\nerror: b");
        let error = run::Error::io("read", path)(std::io::Error::from(std::io::ErrorKind::NotFound));
        assert!(message(&error.into()).starts_with("error: cannot read a\\u{1b}[2J\\nerror: b: "));
        let text = message(&hint::failure("x".repeat(1 << 20), "y\nz"));
        assert!(text.len() < 5_000 && text.ends_with("\nhint: y\\nz\n"), "{text}");
        let error = run::Config::parse("lr = 1\nx = \"\u{1b}\"", std::path::Path::new("c")).unwrap_err();
        let text = message(&error.into());
        assert!(text.lines().count() > 3 && !text.contains('\u{1b}'), "{text}");
    }
}
