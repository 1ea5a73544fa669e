//! `mount.paxfs`.

fn main() -> std::process::ExitCode {
    paxfs_mount::run::main(std::env::args_os())
}
