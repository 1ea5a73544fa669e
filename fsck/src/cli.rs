//! The command line.

use clap::{ArgAction, CommandFactory, Parser};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Check and repair a paxfs volume
///
/// Checks everything: the superblock and its copies, the journal, every node of every tree, space, inodes, directories,
/// and checksums of data. Each thing that is wrong is one finding, with a stable code, the path of the field, and the
/// files it hits.
///
/// A repair is planned whole, carried out in memory, and checked there; only if that check finds nothing any more is it
/// written, as one step: killed at any time, the volume is as before, or repaired. -n prints what -y would do, action by
/// action, with what would be lost.
#[derive(Debug, Clone, Parser)]
#[command(name = "fsck.paxfs", version, disable_version_flag = true, after_help = AFTER)]
pub struct Cli {
    /// Same as -p
    #[arg(short = 'a', conflicts_with_all = ["preen", "no", "yes"])]
    pub automatic: bool,
    /// Answer at once when the volume is clean; else replay the journal, check, and repair if that loses nothing
    #[arg(short = 'p', conflicts_with_all = ["no", "yes"])]
    pub preen: bool,
    /// Change nothing: print what is found, as after the replay of the journal, and what -y would do about it
    #[arg(short = 'n', conflicts_with = "yes")]
    pub no: bool,
    /// Repair everything, without questions
    #[arg(short = 'y')]
    pub yes: bool,
    /// Check in full even when the volume is clean; with --undo, put back even what was changed since
    #[arg(short = 'f')]
    pub force: bool,
    /// Say what was checked, pass by pass
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// Say what each pass cost: time, processor time, anonymous memory, bytes read
    #[arg(short = 't', action = ArgAction::Count)]
    pub timing: u8,
    /// Report in JSON, one object a line, the last of them the summary
    #[arg(short = 'J')]
    pub json: bool,
    /// Write progress to this file descriptor, as "pass done total device" lines; 0 for a bar on the terminal
    #[arg(short = 'C', value_name = "FD", allow_hyphen_values = true)]
    pub progress: Option<i32>,
    /// Use the copy of the superblock in this group
    #[arg(short = 'b', value_name = "GROUP")]
    pub superblock: Option<u32>,
    /// Write an undo file for a repair (not in this release)
    #[arg(short = 'z', value_name = "UNDO")]
    pub undo: Option<PathBuf>,
    /// Put back what a repair changed that wrote this undo file, byte for byte; with -f also when the volume was changed since
    #[arg(long = "undo", value_name = "FILE", conflicts_with_all = ["automatic", "preen", "no", "yes", "undo", "superblock"])]
    pub put_back: Option<PathBuf>,
    /// Say what a finding's code means, or "all" of them
    #[arg(long, value_name = "CODE", exclusive = false)]
    pub explain: Option<String>,
    /// Print the version
    #[arg(short = 'V', long = "version", action = ArgAction::Version)]
    #[allow(dead_code, reason = "the parser prints it and exits")]
    version: Option<bool>,
    /// The volume: a file, a block device, or a devdax device
    #[arg(required_unless_present = "explain")]
    pub device: Option<PathBuf>,
}

const AFTER: &str =
    "Without -a, -p, -n or -y it asks on a terminal, once for each structure that something is wrong with; without a
terminal, or with -J, the volume is checked as with -n: nothing is changed, and nothing is asked.

Exit status: 0 clean, 1 corrected, 4 something is left uncorrected, 8 the check could not be done,
16 wrong usage, 32 interrupted; or a sum of these.";

/// The command, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Arguments as the parser takes them: `-C` alone, which util-linux fsck passes on, means `-C 0`.
pub fn arguments(raw: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut raw = raw.into_iter().peekable();
    let mut options = true;
    while let Some(argument) = raw.next() {
        options &= argument != "--";
        let alone = options && argument == "-C";
        let has_number = raw.peek().is_some_and(|next| is_number(next));
        arguments.push(if alone && !has_number { OsString::from("-C0") } else { argument });
    }
    arguments
}

fn is_number(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|text| text.parse::<i32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(arguments(line.split(' ').map(OsString::from)))
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_fsck_passes_on_is_taken() {
        assert_eq!(parse("fsck.paxfs -a -C0 /dev/x").unwrap().progress, Some(0));
        assert_eq!(parse("fsck.paxfs -a -C 5 /dev/x").unwrap().progress, Some(5));
        assert_eq!(parse("fsck.paxfs -C -5 /dev/x").unwrap().progress, Some(-5));
        let cli = parse("fsck.paxfs -fp -C /dev/x").unwrap();
        assert_eq!((cli.progress, cli.force, cli.preen), (Some(0), true, true));
        assert_eq!(cli.device, Some(PathBuf::from("/dev/x")));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "fsck.paxfs -n -y x",
            "fsck.paxfs -p -n x",
            "fsck.paxfs -a -y x",
            "fsck.paxfs",
            "fsck.paxfs -Q x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("fsck.paxfs --explain all").is_ok());
    }
}
