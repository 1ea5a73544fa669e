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
    bin_name = crate::PROGRAM,
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
#[command(no_binary_name = true, name = "", help_template = "{subcommands}\n  quit       End")]
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
    /// Who owns a block, a range of blocks, a byte, or the blocks of a list of media errors
    Owner(commands::owner::Arguments),
    /// Show what a path names: a structure, a record, a field
    Show(commands::show::Arguments),
    /// Show the groups, or the header of one
    Group(commands::group::Arguments),
    /// Show the records of a tree, or its nodes
    Tree(commands::tree::Arguments),
    /// Show an inode
    Inode(commands::inode::Arguments),
    /// Show a block in hexadecimal and as what it is
    Block(commands::block::Arguments),
    /// Compare the metadata of two volumes, field by field
    Diff(commands::diff::Arguments),
    /// Store a value in a field
    Set(commands::set::Arguments),
    /// Damage a field
    Fuzz(commands::fuzz::Arguments),
    /// List a directory
    Ls(commands::ls::Arguments),
    /// Print all paths of an inode
    Path(commands::path::Arguments),
    /// Print the contents of a file
    Cat(commands::cat::Arguments),
    /// Bring the whole tree out into a directory
    Export(commands::export::Arguments),
    /// List the extents of a file
    Extents(commands::extents::Arguments),
    /// Show a histogram of free space
    Freesp(commands::freesp::Arguments),
    /// Show the journal, and what a replay would do
    Journal(commands::journal::Arguments),
    /// Show how much of each file a 2 MiB mapping can reach, and why not
    Huge(commands::huge::Arguments),
    /// Show who shares blocks with whom
    Sharing(commands::sharing::Arguments),
    /// Account for every byte of the volume
    Space(commands::space::Arguments),
    /// Write all metadata to a file
    Dump(commands::dump::Arguments),
    /// Make a device from a dump
    Restore(commands::restore::Arguments),
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
