//! Watching the processes that go through inputs: one that ends badly or takes too long is reported with its input, and
//! followed by another that goes on behind.

use crate::fuzz::worker::Progress;
use anyhow::{Context, Result, ensure};
use paxfs_fuzz::generate::Target;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Failures after which it ends: more would tell nothing new.
const FAILURES_MAX: usize = 10;
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Lines of what a process said that are shown when it ends badly.
const LINES_MAX: usize = 30;

/// A target under many inputs.
#[derive(Debug)]
pub struct Campaign {
    /// The target.
    pub target: Target,
    /// What all inputs follow from.
    pub seed: u64,
    /// Processes at a time.
    pub jobs: u64,
    /// What one input may take.
    pub timeout: Duration,
    /// Address space of a process.
    pub memory_mib: u64,
}

/// When it ends.
#[derive(Debug)]
pub struct Bounds {
    /// Inputs.
    pub count: u64,
    /// Time.
    pub seconds: u64,
}

/// A process and what is known of it.
struct Worker {
    child: Child,
    progress: PathBuf,
    messages: PathBuf,
    last: Progress,
    changed: Instant,
}

/// What came out, over all processes.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    slowest: (u64, u64),
    peak_kib: u64,
    failures: usize,
}

impl Tally {
    fn add(&mut self, progress: &Progress) {
        self.done += progress.done;
        self.slowest = self.slowest.max((progress.slowest_us, progress.slowest));
        self.peak_kib = self.peak_kib.max(progress.peak_kib);
    }
}

impl Campaign {
    /// Runs it; fails if any input did.
    pub fn hold(&self, bounds: &Bounds) -> Result<()> {
        let directory = tempfile::Builder::new().prefix("paxfs-fuzz.").tempdir()?;
        let started = Instant::now();
        let mut tally = Tally::default();
        let mut workers = Vec::new();
        for job in 0..self.jobs {
            workers.push(self.start(directory.path(), job, bounds, bounds.seconds)?);
        }
        while !workers.is_empty() {
            thread::sleep(LOOK);
            let mut left = Vec::new();
            for mut worker in workers {
                let how = match self.look(&mut worker)? {
                    State::Runs => {
                        left.push(worker);
                        continue;
                    }
                    State::Done => None,
                    State::Failed(how) => Some(how),
                };
                tally.add(&worker.last);
                let Some(how) = how else { continue };
                tally.failures += 1;
                self.report(&worker, &how)?;
                let rest = bounds.seconds.saturating_sub(started.elapsed().as_secs());
                if let Some(next) = worker.last.number.checked_add(self.jobs)
                    && tally.failures < FAILURES_MAX
                {
                    left.push(self.start(directory.path(), next, bounds, rest)?);
                }
            }
            workers = left;
        }
        let (slowest_us, slowest) = tally.slowest;
        println!(
            "{}: {} inputs of seed {} in {:.1} s; the slowest, {slowest}, took {} ms; peak {} MiB; {} failed",
            self.target.name,
            tally.done,
            self.seed,
            started.elapsed().as_secs_f64(),
            slowest_us / 1000,
            tally.peak_kib / 1024,
            tally.failures
        );
        ensure!(tally.failures == 0, "{}: {} inputs failed", self.target.name, tally.failures);
        Ok(())
    }

    fn start(&self, directory: &Path, first: u64, bounds: &Bounds, seconds: u64) -> Result<Worker> {
        let progress = directory.join(format!("progress-{first}"));
        let messages = directory.join(format!("messages-{first}"));
        let mut command = Command::new(env::current_exe()?);
        command.args(["fuzz-worker", self.target.name]).arg("--progress").arg(&progress);
        let numbers = [
            ("--seed", self.seed),
            ("--first", first),
            ("--step", self.jobs),
            ("--end", bounds.count),
            ("--seconds", seconds),
            ("--memory", self.memory_mib),
        ];
        for (name, value) in numbers {
            command.arg(name).arg(value.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&messages)?);
        let child = command.env("NO_COLOR", "1").spawn().context("a worker")?;
        Ok(Worker { child, progress, messages, last: Progress::default(), changed: Instant::now() })
    }

    fn look(&self, worker: &mut Worker) -> Result<State> {
        let ended = worker.child.try_wait()?;
        let now = Progress::read(&worker.progress);
        if (now.done, now.number) != (worker.last.done, worker.last.number) {
            worker.changed = Instant::now();
        }
        worker.last = now;
        Ok(match ended {
            Some(status) if status.success() => State::Done,
            Some(status) => State::Failed(status.to_string()),
            None if worker.changed.elapsed() > self.timeout => {
                worker.child.kill()?;
                worker.child.wait()?;
                State::Failed(format!("still running after {} s", self.timeout.as_secs()))
            }
            None => State::Runs,
        })
    }

    /// Says which input failed and how, and keeps it.
    fn report(&self, worker: &Worker, how: &str) -> Result<()> {
        let number = worker.last.number;
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/artifacts").join(self.target.name);
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{}-{number}", self.seed));
        fs::write(&path, self.target.input(self.seed, number))?;
        let said = fs::read(&worker.messages).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        println!("{}: input {number} of seed {}: {how}", self.target.name, self.seed);
        for line in lines.iter().skip(lines.len().saturating_sub(LINES_MAX)) {
            println!("  {line}");
        }
        println!("  again: cargo xtask fuzz {} --seed {} --only {number}", self.target.name, self.seed);
        Ok(())
    }
}

/// How a worker is.
enum State {
    Runs,
    Done,
    Failed(String),
}
