//! The command line. Man page and completions are made from it.

use crate::error::Error;
use crate::options::Features;
use clap::{ArgAction, Args, CommandFactory, Parser};
use std::path::PathBuf;

/// Exit status of a wrong command line.
pub const EXIT_USAGE: u8 = 16;

/// Make a paxfs file system
///
/// Makes a paxfs file system on DEVICE: a regular file, a block device, or a devdax device. It is empty, or filled from a
/// directory (-d) or a recipe (-p) while it is made.
///
/// A DEVICE that does not exist is made as a sparse file of SIZE bytes. One that is mounted, in use or locked is refused;
/// so is one that holds anything known (a file system, swap, a partition table, encryption, a volume manager), unless -f
/// says otherwise. Nothing is ever asked.
///
/// Nothing looks like a file system before all of it is there: when mkfs.paxfs fails or is interrupted, a file it made is
/// removed again, and another device holds no file system.
#[derive(Debug, Parser)]
#[command(
    name = "mkfs.paxfs",
    version,
    disable_version_flag = true,
    after_help = "Exit status: 0 made; 1 refused or failed, nothing was made; 16 wrong usage.\n\n\
        SOURCE_DATE_EPOCH (seconds) is the time of making, and no time of a file will be later. With it and -U the same \
        input gives the same bytes."
)]
pub struct Cli {
    /// Overwrite what is on the device
    #[arg(short, long)]
    pub force: bool,

    /// Print the geometry; write nothing. DEVICE need not exist if SIZE is given
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,

    /// Print the summary as JSON
    #[arg(short = 'J', long)]
    pub json: bool,

    /// Keep the old blocks of a regular file allocated, instead of freeing them all first
    #[arg(short = 'K', long)]
    pub keep: bool,

    /// What the volume is to be.
    #[command(flatten)]
    pub volume: Volume,

    /// Fill it with the contents of this directory, without leaving its file system
    #[arg(short, long, value_name = "DIR", conflicts_with = "recipe")]
    pub directory: Option<PathBuf>,

    /// Fill it as this recipe says (YAML)
    #[arg(short = 'p', long, value_name = "SPEC.yaml")]
    pub recipe: Option<PathBuf>,

    /// Share equal contents of files from -d, compared byte by byte
    #[arg(short, long, requires = "directory")]
    pub share: bool,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    pub version: Option<bool>,

    /// The device
    pub device: PathBuf,

    /// Bytes of the volume, or with one of k M G T P E; the whole device without it
    #[arg(value_parser = crate::size::parse)]
    pub size: Option<u64>,
}

/// What the volume is to be.
#[derive(Debug, Args)]
pub struct Volume {
    /// The volume's name, at most 64 bytes
    #[arg(short = 'L', long)]
    pub label: Option<String>,

    /// The volume's UUID; a random one without it
    #[arg(short = 'U', long)]
    pub uuid: Option<uuid::Uuid>,

    /// Turn features on, or off with ^ before the name: rmap (on), reflink (on, needs rmap), csum (off)
    #[arg(short = 'O', long, value_name = "FEATURES", value_parser = features)]
    pub features: Vec<String>,

    /// Groups; about so many are made
    #[arg(short = 'g', long)]
    pub groups: Option<u64>,
}

/// A list of features that exist.
fn features(list: &str) -> Result<String, Error> {
    Features::default().with(list).map(|_| list.to_owned())
}

/// The command, for man page and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }
}
