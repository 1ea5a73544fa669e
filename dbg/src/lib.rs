//! `dbg.paxfs`: shows, explains, damages and restores everything on a paxfs volume.
//!
//! * [`cli`]: what can be written on the command line and at the prompt, one [`cli::Command`] for both.
//! * [`session`]: the device and volume a command works on, opened leniently: a broken image is what this is for.
//! * [`commands`]: each command in its own file, from its arguments to an [`output::Output`].
//! * [`output`]: the one way results are shown: tables, JSON, YAML.
//! * [`prompt`]: lines instead of arguments.
//! * What commands have in common: [`target`] (a file by path or number), [`files`] (which there are), [`holders`] and
//!   [`sweep`] (who holds which blocks, run by run), [`faults`] (what could not be read), [`when`] (times for people).
//! * What is more than a command: [`export`], [`dump`] (and restore), [`sharing`], [`reach`] (of 2 MiB mappings).
//!
//! **Architecture invariants.** A command prints nothing itself, but for those whose result is bytes (`cat`, `dump -`)
//! or rows without end ([`output::Rows`]). Only commands that say so write to the device. Nothing is decided here about
//! the format: what a path means is said in [`paxfs_format::path`], who owns a block in [`paxfs_format::owners`].

pub mod cli;
pub mod commands;
pub mod decode;
pub mod dump;
pub mod error;
pub mod export;
pub mod faults;
pub mod files;
pub mod holders;
pub mod output;
pub mod prompt;
pub mod reach;
pub mod session;
pub mod sharing;
pub mod sweep;
pub mod target;
pub mod when;

use clap::Parser;
use std::process::ExitCode;

/// What the program calls itself.
pub const PROGRAM: &str = "dbg.paxfs";

/// The whole program: parses the arguments, runs the command or the prompt, prints.
pub fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::exit_with(&error),
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{PROGRAM}: {error}");
            error.exit_code()
        }
    }
}

fn run(arguments: &cli::Arguments) -> Result<(), error::CommandError> {
    if let Some(cli::Command::Restore(restore)) = &arguments.command {
        return commands::restore::make(&arguments.device, restore)?.print(arguments.format.chosen());
    }
    let mut session = session::Session::open(&arguments.device, &arguments.view)?;
    match &arguments.command {
        Some(command) => {
            let format = arguments.format.chosen();
            commands::run(&mut session, command, format)?.print(format)
        }
        None => prompt::run(&mut session, arguments.format.chosen()),
    }
}
