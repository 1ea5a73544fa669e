//! The program `dbg.paxfs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    paxfs_dbg::main()
}
