//! A process that goes through inputs, and leaves behind how far it came for the one that watches it.

use anyhow::{Context, Result};
use paxfs_fuzz::generate::Target;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which inputs.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The target
    pub target: String,
    /// The seed
    #[arg(long)]
    pub seed: u64,
    /// The first number
    #[arg(long)]
    pub first: u64,
    /// From one number to the next
    #[arg(long)]
    pub step: u64,
    /// End before this number
    #[arg(long)]
    pub end: u64,
    /// End after this time
    #[arg(long)]
    pub seconds: u64,
    /// MiB of address space
    #[arg(long)]
    pub memory: u64,
    /// Where to leave how far it came
    #[arg(long)]
    pub progress: PathBuf,
}

/// How far a worker came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Inputs that ended.
    pub done: u64,
    /// The input that runs, or ran last.
    pub number: u64,
    /// The slowest so far.
    pub slowest: u64,
    /// How long that took, in microseconds.
    pub slowest_us: u64,
    /// Peak of the resident set in KiB.
    pub peak_kib: u64,
}

impl Progress {
    /// As the worker left it.
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let (words, _) = bytes.as_chunks::<8>();
        let word = |i: usize| words.get(i).map_or(0, |word| u64::from_le_bytes(*word));
        Progress { done: word(0), number: word(1), slowest: word(2), slowest_us: word(3), peak_kib: word(4) }
    }

    fn write(&self, file: &File) -> Result<()> {
        let words = [self.done, self.number, self.slowest, self.slowest_us, self.peak_kib];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file.write_all_at(&bytes, 0).context("progress")
    }
}

/// How often the peak of memory is looked at, in inputs.
const PEAK_EVERY: u64 = 256;

/// Goes through them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let target =
        Target::named(&arguments.target).with_context(|| format!("no target `{}`", arguments.target))?;
    let bytes = arguments.memory.saturating_mul(1 << 20);
    setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })
        .context("address space")?;
    // Nobody would stop it if the one that watches it was gone.
    set_parent_process_death_signal(Some(Signal::KILL)).context("death signal")?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("core dumps")?;
    // Made once; not to be charged to the first input.
    paxfs_fuzz::samples::samples();
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&arguments.progress)?;
    let end = Instant::now().checked_add(Duration::from_secs(arguments.seconds));
    let mut progress = Progress { number: arguments.first, ..Progress::default() };
    while progress.number < arguments.end && end.is_none_or(|end| Instant::now() < end) {
        progress.write(&file)?;
        let input = target.input(arguments.seed, progress.number);
        let started = Instant::now();
        (target.run)(&input);
        let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if took > progress.slowest_us {
            (progress.slowest, progress.slowest_us) = (progress.number, took);
        }
        progress.done += 1;
        if progress.done % PEAK_EVERY == 1 {
            progress.peak_kib = peak_kib();
        }
        let Some(next) = progress.number.checked_add(arguments.step) else { break };
        progress.number = next;
    }
    progress.peak_kib = peak_kib();
    progress.write(&file)
}

/// Peak of this process's resident set.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}
