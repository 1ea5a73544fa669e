//! Tasks of the project that cargo has no command for: `cargo xtask TASK`.
//!
//! * What users get: [`man`], [`completions`], put together by [`dist`] for [`install`] and [`deb`].
//! * What the tools do: [`demo`] shows it, [`accept`] and [`verify`] prove it on real files, [`peers`] measures it side by side with
//!   other file systems' tools, [`age`] how a volume fares in long use,
//!   [`mapped`] what loads and stores cost; [`mount`] runs ordinary programs on a mounted volume.
//! * What they withstand: [`fuzz`]. What the engine withstands: [`proofs`]. All of it on real media: [`guest`].
//! * Underneath: [`tools`] (which tools there are), [`cargo`] (building them), [`toolbox`] (having them under the names
//!   that users type), [`shell`] (commands shown with what they print).
//!
//! Nothing of the format is known here: all that is said of a volume comes from the tools, by their command line.

mod accept;
mod age;
mod cargo;
mod completions;
mod deb;
mod demo;
mod dist;
mod fuzz;
mod guest;
mod install;
mod man;
mod mapped;
mod mount;
mod page;
mod peers;
mod proofs;
mod shell;
mod toolbox;
mod tools;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the project
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show the main job from end to end: make an image, check it, damage it, ask who owns a block
    Demo(demo::Arguments),
    /// Prove it on real files: into a volume, out again, and every answer about it held against them
    Accept(accept::Arguments),
    /// Hold what `owner` says of a volume against the directory that it was made of
    VerifyBlocks(verify::Arguments),
    /// Measure paxfs side by side with xfsprogs, e2fsprogs and btrfs-progs
    Peers(peers::Arguments),
    /// Use a volume hard for long, and say how its free space lies then
    Age(age::Arguments),
    /// Measure mapped files: what a fault costs, what is mapped by 2 MiB, how long a snapshot stops those who store
    Mapped(mapped::Arguments),
    /// Run ordinary programs on a mounted volume, and check it after each
    Mount(mount::Arguments),
    /// Fuzz a target, or all, for a time
    Fuzz(fuzz::Arguments),
    /// Damage small volumes, a field or some bytes each time, and have them checked
    Damage(fuzz::DamageArguments),
    /// Kill a process that writes to an image, again and again, and check what it leaves
    Kill(proofs::KillArguments),
    /// Run tools and engine on emulated persistent memory in a QEMU guest, beside XFS with -o dax=always
    Guest(guest::Arguments),
    /// Run the engine's test of threads under ThreadSanitizer (needs a nightly toolchain)
    Tsan(proofs::TsanArguments),
    /// One process of a campaign
    #[command(hide = true)]
    FuzzWorker(fuzz::worker::Arguments),
    /// Write the man pages
    Man(man::Arguments),
    /// Write the completions of bash, zsh and fish
    Completions(completions::Arguments),
    /// Lay out everything as it is installed, in a directory
    Dist(dist::Arguments),
    /// Build and install the tools under their dotted names, with man pages and completions
    Install(install::Arguments),
    /// Build the Debian package (needs cargo-deb)
    Deb(deb::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Accept(arguments) => accept::run(&arguments),
        Task::VerifyBlocks(arguments) => verify::run(&arguments),
        Task::Peers(arguments) => peers::run(&arguments),
        Task::Age(arguments) => age::run(&arguments),
        Task::Mapped(arguments) => mapped::run(&arguments),
        Task::Mount(arguments) => mount::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Damage(arguments) => fuzz::damage(&arguments),
        Task::Kill(arguments) => proofs::kill(&arguments),
        Task::Guest(arguments) => guest::run(&arguments),
        Task::Tsan(arguments) => proofs::tsan(&arguments),
        Task::FuzzWorker(arguments) => fuzz::worker::run(&arguments),
        Task::Man(arguments) => man::run(&arguments),
        Task::Completions(arguments) => completions::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Install(arguments) => install::run(&arguments),
        Task::Deb(arguments) => deb::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
