//! `mkfs.paxfs`.

fn main() -> std::process::ExitCode {
    paxfs_mkfs::run::main(std::env::args_os())
}
