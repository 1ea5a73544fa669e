//! What can be written on the command line and at the prompt.

use crate::commands;
use crate::output::Format;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows, explains, damages and restores everything on a paxfs volume
///
/// Reads leniently: a broken image is what it is for. Without a command there is a prompt, with history and completion;
/// when standard input is no terminal, commands are read from it line by line.
#[derive(Debug, Parser)]
#[command(
    name = crate::PROGRAM,
    version,
    subcommand_help_heading = "Commands",
    subcommand_value_name = "COMMAND",
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done, 1 failed, 16 wrong usage."
)]
pub struct Arguments {
    /// How results are printed.
    #[command(flatten)]
    pub format: FormatArguments,

    /// What of the device is shown.
    #[command(flatten)]
    pub view: View,

    /// The device: a regular file, a block device or a devdax device
    pub device: PathBuf,

    /// What to do; the prompt without.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How results are printed.
#[derive(Debug, Clone, Default, Args)]
pub struct FormatArguments {
    /// Print JSON
    #[arg(short = 'J', long, global = true, conflicts_with = "yaml")]
    pub json: bool,

    /// Print YAML
    #[arg(short = 'Y', long, global = true)]
    pub yaml: bool,
}

impl FormatArguments {
    /// The format asked for.
    pub fn chosen(&self) -> Format {
        match (self.json, self.yaml) {
            (true, _) => Format::Json,
            (_, true) => Format::Yaml,
            _ => Format::Text,
        }
    }
}

/// What of the device is shown.
#[derive(Debug, Clone, Default, Args)]
pub struct View {
    /// Believe the superblock copy at the head of this group
    #[arg(short = 'b', long, value_name = "GROUP")]
    pub group: Option<u32>,

    /// Show the volume as it is once the journal is replayed (in memory only)
    #[arg(short = 'r', long)]
    pub replayed: bool,
}

/// A line of the prompt.
#[derive(Debug, Parser)]
#[command(multicall = true, disable_help_subcommand = false, help_template = "{subcommands}")]
pub struct Line {
    /// How the result of this line is printed.
    #[command(flatten)]
    pub format: FormatArguments,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with a volume.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the superblock, or a copy of it
    Sb(commands::sb::Arguments),
}

/// The command as clap knows it, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Prints clap's message; exit status 16 unless help or the version was asked for.
pub fn exit_with(error: &clap::Error) -> ExitCode {
    // When even that cannot be printed, the status still says it.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(16) } else { ExitCode::SUCCESS }
}
