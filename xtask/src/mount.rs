//! Ordinary programs on a mounted volume: each on a new one, which is unmounted and checked afterwards.
//!
//! * [`volume`]: made, mounted, unmounted, checked; [`programs`]: what is run, as shell scripts; [`kills`]: the process that
//!   serves it is killed; [`sharing`]: a copy that shares; [`figures`]: what it costs, beside ext4 on a loop device.
//!
//! A machine without FUSE skips all of it, with a word; a program that is not there is skipped by itself. Those that are
//! crates (`fsx`, `pjdfstest`) are built in cargo's target directory.

mod figures;
mod kills;
mod programs;
mod sharing;
mod volume;

use crate::cargo::{Workspace, cargo};
use crate::toolbox::{self, Toolbox};
use anyhow::{Context, Result, ensure};
use programs::{PROGRAMS, Program};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;
use volume::Volume;

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only those whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Seconds of each stressor of stress-ng
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Operations of fsx
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    operations: u64,
    /// Times that the process that serves the volume is killed
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    kills: u64,
    /// A little of everything: a second of each stressor, 5000 operations, 3 kills, no figures
    #[arg(long)]
    short: bool,
    /// Measure only: throughput beside ext4 on a loop device
    #[arg(long, conflicts_with_all = ["only", "short"])]
    figures: bool,
    /// Where images are; a tmpfs with 4 GiB, or all of it takes as long as the disk does
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    dir: PathBuf,
}

/// How much of each.
#[derive(Debug, Clone, Copy)]
struct Amounts {
    seconds: u64,
    operations: u64,
    kills: u64,
}

/// A place to work in, and the tools.
#[derive(Debug)]
struct Place {
    workspace: Workspace,
    toolbox: Toolbox,
    directory: TempDir,
    /// Programs that are crates.
    crates: PathBuf,
    amounts: Amounts,
}

impl Place {
    /// A new volume of so many bytes, mounted.
    fn volume(&self, name: &str, size: &str) -> Result<Volume<'_>> {
        Volume::new(self, name, size)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Crates that are programs, and their versions.
const CRATES: [(&str, &str); 2] = [("fsx", "0.3.2"), ("pjdfstest", "0.2.2")];

/// Runs all of it.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Err(why) = paxfs_mount::fuse::check() {
        println!("skipped: {why}");
        return Ok(());
    }
    let workspace = Workspace::find()?;
    let toolbox = Toolbox::build(&workspace)?;
    let crates = workspace.target.join("mount-programs");
    let amounts = match arguments.short {
        true => Amounts { seconds: 1, operations: 5000, kills: 3 },
        false => {
            Amounts { seconds: arguments.seconds, operations: arguments.operations, kills: arguments.kills }
        }
    };
    let directory = tempfile::Builder::new().prefix("paxfs-mount.").tempdir_in(&arguments.dir)?;
    let place = Place { workspace, toolbox, directory, crates, amounts };
    if arguments.figures {
        return figures::run(&place);
    }
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| name.contains(only));
    for program in PROGRAMS.iter().filter(|program| wanted(program.name)) {
        step(program.name, || run_program(&place, program))?;
    }
    if wanted("sharing") {
        step("sharing", || sharing::run(&place))?;
    }
    if wanted("kills") {
        step("kills", || kills::run(&place))?;
    }
    if !arguments.short && arguments.only.is_none() {
        figures::run(&place)?;
    }
    println!("\nAll as it should be.");
    Ok(())
}

/// What came of a step: words for who reads, or why it was skipped.
enum Outcome {
    Done(String),
    Skipped(String),
}

fn step(name: &str, run: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let started = Instant::now();
    let outcome = run().with_context(|| name.to_owned())?;
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Outcome::Done(words) => println!("{name:12} {seconds:7.1} s  {words}"),
        Outcome::Skipped(why) => println!("{name:12} skipped: {why}"),
    }
    Ok(())
}

/// Runs a program on a new volume.
fn run_program(place: &Place, program: &Program) -> Result<Outcome> {
    for needed in program.needs {
        if CRATES.iter().any(|(name, _)| name == needed) {
            if let Err(why) = install(place, needed) {
                return Ok(Outcome::Skipped(format!("{why:#}")));
            }
        } else if toolbox::find(needed).is_none() {
            return Ok(Outcome::Skipped(format!("{needed} is not installed")));
        }
    }
    let volume = place.volume(program.name, program.size)?;
    let words = volume.script(program.script)?;
    volume.end()?;
    Ok(Outcome::Done(words))
}

/// Builds a crate that is a program, once.
fn install(place: &Place, name: &str) -> Result<()> {
    let version = CRATES.iter().find(|(known, _)| *known == name).map(|(_, version)| *version);
    let version = version.with_context(|| format!("no version of {name}"))?;
    if place.crates.join("bin").join(name).exists() {
        return Ok(());
    }
    println!("{name} {version} is built");
    let mut command = cargo();
    command.args(["install", "--quiet", "--locked", name, "--version", version, "--root"]).arg(&place.crates);
    command.arg("--target-dir").arg(place.crates.join("build"));
    let status = command.status().context("cargo cannot be run")?;
    ensure!(status.success(), "{name} could not be built");
    Ok(())
}
