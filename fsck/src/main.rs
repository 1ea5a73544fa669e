//! fsck.paxfs: checks a paxfs volume.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(paxfs_fsck::run::run(std::env::args_os()).code())
}
