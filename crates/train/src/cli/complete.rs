//! `alexnet completions` and `alexnet man`, generated from the definitions of the flags.

use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::Shell;

use super::{help, output};
use crate::run::Error;

/// Print a shell completion script
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages, one per command
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Folder to write to; it is created if missing
    ///
    /// `man -l DIR/alexnet.1` shows a page.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Overwrite existing pages
    #[arg(long)]
    force: bool,
}

/// Prints the completions.
pub fn completions(args: &Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::definition(false), "alexnet", &mut script);
    output::print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the pages.
pub fn man(args: &Man) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder).map_err(Error::io("create", &args.folder))?;
    let mut cli = help::definition(false).disable_help_subcommand(true);
    // Sets the full names, such as `alexnet train`.
    cli.build();
    let mut commands = vec![&cli];
    let mut written = 0;
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|sub| sub.get_name() != "help"));
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).replace(' ', "-");
        let path = args.folder.join(format!("{name}.1"));
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).map_err(Error::io("write", &path))?;
        output::write(&path, &page, args.force)?;
        written += 1;
    }
    output::line(&format!("wrote {written} pages to {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
