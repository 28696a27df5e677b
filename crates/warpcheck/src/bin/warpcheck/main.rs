//! `warpcheck`: runs programs with the CPU's CUDA driver in place of the real one.

mod install;
mod library;
mod merge;
mod run;
mod signals;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use warpcheck::profile::Profile;

/// Run and check CUDA programs on a machine without a GPU
#[derive(Debug, Parser)]
#[command(name = "warpcheck", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a program with this driver in place of the real one, all checks and counters on
    Run(Box<run::Run>),
    /// Put the driver into a folder as libcuda.so and libcuda.so.1
    Install(install::Install),
    /// List the devices that can be simulated
    Profiles,
}

/// An error of this program itself, with the next step in its text.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot find libwarpcheck.so; looked at {}\nhint: build it with `cargo build --release -p warpcheck`, or name it with --library", list(.0))]
    NoLibrary(Vec<PathBuf>),
    #[error("cannot {what} {path}: {error}", path = .path.display())]
    File { what: &'static str, path: PathBuf, error: std::io::Error },
    #[error("cannot run {program}: {error}")]
    Start { program: String, error: std::io::Error },
    #[error("{} is another driver's; give --force to replace it", .0.display())]
    Foreign(PathBuf),
    #[error("{0}")]
    Options(#[from] warpcheck::options::OptionError),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Failure {
    /// For `map_err`: what was being done to which file.
    fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure {
        let path = path.to_owned();
        move |error| Failure::File { what, path, error }
    }
}

fn profiles() {
    println!("{:<8}  {:<26}  {:>5}  {:>4}  {:>8}", "name", "device", "sm", "SMs", "memory");
    for name in Profile::names() {
        let Ok(profile) = Profile::by_name(name) else { continue };
        let memory = profile.memory_bytes as f64 / f64::from(1 << 30);
        let (sm, sms) = (profile.sm(), profile.sms);
        println!("{name:<8}  {:<26}  sm_{sm}  {sms:>4}  {memory:>4.1} GiB", profile.name);
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => run.execute(),
        Command::Install(install) => install.execute(),
        Command::Profiles => {
            profiles();
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|failure| {
        eprintln!("warpcheck: error: {failure}");
        ExitCode::from(run::OWN_FAILURE)
    })
}
