//! Which tools there are.

use clap::Command;

/// One of the programs that paxfs consists of.
#[derive(Debug)]
pub struct Tool {
    /// What it calls itself, and what it is installed as.
    pub name: &'static str,
    /// What cargo calls it, which cannot name a binary with a dot.
    pub binary: &'static str,
    /// The package that it is in.
    pub package: &'static str,
    /// Its command line.
    pub command: fn() -> Command,
    /// Pages of the manual to read next: of section 8, or of 5 with that behind a dot.
    pub see_also: &'static [&'static str],
}

/// All of them.
pub const TOOLS: [Tool; 4] = [
    Tool {
        name: "mkfs.paxfs",
        binary: "mkfs-paxfs",
        package: "paxfs-mkfs",
        command: paxfs_mkfs::cli::command,
        see_also: &["fsck.paxfs", "dbg.paxfs", "mkfs"],
    },
    Tool {
        name: "fsck.paxfs",
        binary: "fsck-paxfs",
        package: "paxfs-fsck",
        command: paxfs_fsck::cli::command,
        see_also: &["mkfs.paxfs", "dbg.paxfs", "fsck"],
    },
    Tool {
        name: "dbg.paxfs",
        binary: "dbg-paxfs",
        package: "paxfs-dbg",
        command: paxfs_dbg::cli::command,
        see_also: &["mkfs.paxfs", "fsck.paxfs"],
    },
    Tool {
        name: "mount.paxfs",
        binary: "mount-paxfs",
        package: "paxfs-mount",
        command: paxfs_mount::cli::command,
        see_also: &["mkfs.paxfs", "fsck.paxfs", "mount", "fstab.5"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_call_themselves_as_they_are_installed() {
        for tool in &TOOLS {
            assert_eq!((tool.command)().get_name(), tool.name);
            assert_eq!(tool.name.replace('.', "-"), tool.binary);
        }
    }
}
