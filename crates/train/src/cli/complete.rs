//! `alexnet completions` and `alexnet man`, from the definitions of the flags.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, output};
use crate::run::Error;
use crate::run::progress::say;

/// Print what a shell needs to complete commands and flags
///
/// bash: alexnet completions bash > ~/.local/share/bash-completion/completions/alexnet
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages: alexnet.1, and one for each command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The folder to write to; it is made if it is not there. `man -l DIR/alexnet.1` shows a page
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Write over pages that exist
    #[arg(long)]
    force: bool,
}

/// Prints the completions.
pub fn completions(args: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "alexnet", &mut script);
    match std::io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes the pages.
pub fn man(args: &Man) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder).map_err(Error::io("create", &args.folder))?;
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Gives the commands their full names, `alexnet train`.
    cli.build();
    let commands: Vec<clap::Command> =
        std::iter::once(cli.clone()).chain(cli.get_subcommands().cloned().collect::<Vec<_>>()).collect();
    for command in &commands {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).replace(' ', "-");
        let path = args.folder.join(format!("{name}.1"));
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).map_err(Error::io("write", &path))?;
        output::write(&path, &page, args.force)?;
    }
    say(&format!("wrote {} pages to {}", commands.len(), args.folder.display()));
    Ok(ExitCode::SUCCESS)
}
