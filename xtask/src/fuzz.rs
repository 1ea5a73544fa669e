//! Fuzzing on stable Rust: the targets of the crate `paxfs-fuzz` under inputs made without feedback, by processes that are
//! watched ([`watch`]), so that a panic, an abort, a hang and a hunger for memory are all found and can be repeated.
//!
//! The number of an input and the seed give the input; nothing else has to be kept. For guided fuzzing there is cargo-fuzz:
//! see `fuzz/README.md`.

mod watch;
pub mod worker;

use anyhow::{Context, Result, bail, ensure};
use paxfs_fuzz::generate::{DAMAGE, TARGETS, Target};
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use watch::{Bounds, Campaign};

/// What to fuzz.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// image_check, journal_replay, field_path, recipe, engine, damage, or all
    target: String,
    /// How long, for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
    /// Run this input of the seed alone, here and unwatched, and say what it is
    #[arg(long, value_name = "NUMBER")]
    only: Option<u64>,
    /// Run the input in this file alone, here and unwatched
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    input: Option<PathBuf>,
    /// Write inputs that show the way to this directory, for cargo-fuzz
    #[arg(long, value_name = "DIR", conflicts_with_all = ["only", "input"])]
    corpus: Option<PathBuf>,
}

/// How much to damage.
#[derive(Debug, clap::Args)]
pub struct DamageArguments {
    /// Damages, each of a volume that was intact before
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    #[command(flatten)]
    common: Common,
}

/// What both have.
#[derive(Debug, clap::Args)]
struct Common {
    /// What all inputs follow from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Processes at a time [default: one for each core]
    #[arg(long)]
    jobs: Option<u64>,
    /// Seconds that one input may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    /// MiB of address space for a process
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u64,
}

impl Common {
    fn campaign(&self, target: Target) -> Campaign {
        let cores = available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1));
        Campaign {
            target,
            seed: self.seed,
            jobs: self.jobs.unwrap_or(cores).max(1),
            timeout: Duration::from_secs(self.timeout),
            memory_mib: self.memory,
        }
    }
}

/// Fuzzes for a time.
pub fn run(arguments: &Arguments) -> Result<()> {
    let targets = match arguments.target.as_str() {
        "all" => TARGETS.to_vec(),
        name => vec![Target::named(name).with_context(|| format!("no target `{name}`"))?],
    };
    let mut failed = Vec::new();
    for target in targets {
        if let Some(directory) = &arguments.corpus {
            write_corpus(&target, &directory.join(target.name))?;
        } else if let Some(number) = arguments.only {
            alone(&target, &target.input(arguments.common.seed, number))?;
        } else if let Some(path) = &arguments.input {
            alone(&target, &std::fs::read(path).with_context(|| format!("{}", path.display()))?)?;
        } else {
            let bounds = Bounds { count: u64::MAX, seconds: arguments.seconds };
            if let Err(error) = arguments.common.campaign(target).hold(&bounds) {
                failed.push(format!("{error:#}"));
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Damages a number of times.
pub fn damage(arguments: &DamageArguments) -> Result<()> {
    let bounds = Bounds { count: arguments.count, seconds: u64::MAX };
    arguments.common.campaign(DAMAGE).hold(&bounds)
}

/// One input, here.
fn alone(target: &Target, input: &[u8]) -> Result<()> {
    eprintln!("{}: {} bytes", target.name, input.len());
    if [DAMAGE.name, "image_check", "engine"].contains(&target.name) {
        for line in paxfs_fuzz::image_of(input).1 {
            eprintln!("  {line}");
        }
    } else {
        eprintln!("{}", input.escape_ascii());
    }
    let started = Instant::now();
    (target.run)(input);
    eprintln!("{:.3} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn write_corpus(target: &Target, directory: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let seeds = (target.seeds)();
    if seeds.is_empty() {
        // Inputs of these are damages: any bytes are.
        for number in 0..64 {
            std::fs::write(directory.join(number.to_string()), target.input(0, number))?;
        }
    }
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), seed)?;
    }
    if !directory.is_dir() {
        bail!("{}: no directory", directory.display());
    }
    Ok(())
}
