//! The command line, as `mount(8)` gives it to its helpers. Man page and completions are made from it.

use clap::{ArgAction, CommandFactory, Parser};
use std::path::PathBuf;

/// Exit status of a wrong command line.
pub const EXIT_USAGE: u8 = 1;
/// Exit status when the volume could not be mounted.
pub const EXIT_FAILED: u8 = 32;

/// Mount a paxfs volume
///
/// Makes the volume on DEVICE (a regular file, a block device, or a devdax device) the files below DIRECTORY, for every
/// program. `mount -t paxfs DEVICE DIRECTORY` does it, and a line in /etc/fstab.
///
/// The volume is served by a process, through FUSE. It goes to the background as soon as the mount stands, and ends when
/// the file system is unmounted, or by SIGTERM; then the volume is clean. `umount` may return before that: who wants to use
/// the device at once waits for its lock, as `flock DEVICE true` does. Killed at any time, it leaves a volume that the
/// next mount recovers, and `fsck.paxfs -p` as well.
///
/// `cp`, and any program that calls copy_file_range(2), shares blocks inside a mount instead of copying them.
#[derive(Debug, Parser)]
#[command(name = "mount.paxfs", version, disable_version_flag = true, after_help = AFTER)]
pub struct Cli {
    /// Options, separated by commas; may be given more than once
    #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append)]
    pub options: Vec<String>,

    /// Stay in the foreground, and say on stderr what there is to say
    #[arg(short = 'F', long)]
    pub foreground: bool,

    /// Look at the options, and mount nothing
    #[arg(short = 'f')]
    pub fake: bool,

    /// Ignore options that nobody knows
    #[arg(short = 's')]
    pub sloppy: bool,

    /// Say what is mounted, and how
    #[arg(short = 'v')]
    pub verbose: bool,

    /// For `mount(8)`: there is no file for it to leave alone
    #[arg(short = 'n', hide = true)]
    pub no_mtab: bool,

    /// For `mount(8)`: the type of the file system
    #[arg(short = 't', hide = true, value_name = "TYPE")]
    pub kind: Option<String>,

    /// The one that stays: it says on its standard output when the mount stands
    #[arg(long, hide = true)]
    pub daemon: bool,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    pub version: Option<bool>,

    /// The volume
    pub device: PathBuf,

    /// Where its files are to be
    pub directory: PathBuf,
}

const AFTER: &str = "Options of paxfs:\n\n\
  ro  Nothing is written: not to files, not to the device. What a crash left is recovered in memory.\n\n\
  dax=inode|always|never  Which files the engine would let be mapped directly: those with the flag (inode, as \
  without the option), all, none. Nobody maps files of the engine through a mount; but files of which one is DAX and \
  the other is not do not share blocks.\n\n\
  commit=SECONDS  How long a change may wait for its commit when nobody asks for it [5]; 0 for as long as it likes.\n\n\
  allow_other  Other users may use it, too, as far as permissions go. So it is anyway when root mounts it.\n\n\
  threads=NUMBER  Requests that are worked on at a time [twice the processors, 4 to 16].\n\n\
Options of all file systems: rw, dev, nodev, suid, nosuid, exec, noexec, sync. Times of access are never \
recorded: noatime, nodiratime and relatime change nothing, strictatime and dirsync are refused. Others of fstab(5) are ignored.\n\n\
Exit status: 0 mounted; 1 wrong usage; 32 not mounted. In the foreground, 0 when it was unmounted and the volume is \
clean.";

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

    #[test]
    fn what_mount_passes_is_understood() {
        let arguments = ["mount.paxfs", "image", "/mnt", "-n", "-v", "-o", "rw,noexec", "-t", "paxfs"];
        let cli = Cli::try_parse_from(arguments).unwrap();
        assert_eq!((cli.options, cli.no_mtab, cli.sloppy), (vec!["rw,noexec".to_owned()], true, false));
    }
}
