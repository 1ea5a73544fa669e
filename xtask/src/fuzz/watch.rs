//! Watching the processes that go through inputs: one that ends badly or takes too long is reported with its input, and
//! followed by another that goes on behind.

use crate::fuzz::worker::Progress;
use anyhow::{Context, Result, ensure};
use paxfs_fuzz::generate::Target;
use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The numbers of signals, the same on every Linux.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// Failures after which it ends: more would tell nothing new.
const FAILURES_MAX: usize = 10;
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that processes may have said, before it is forgotten: the tools say much about broken volumes.
const MESSAGES_MAX: u64 = 1 << 20;
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
    first: u64,
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
                let state = self.look(&mut worker)?;
                if let State::Runs = state {
                    left.push(worker);
                    continue;
                }
                tally.add(&worker.last);
                let number = worker.last.number;
                let next = match state {
                    State::Runs | State::Done => continue,
                    // Somebody else did that, or the kernel for want of memory: the input has another chance.
                    State::Killed if worker.first != number => number,
                    State::Killed => self.failed(&worker, "killed", &mut tally)?,
                    State::Failed(how) => self.failed(&worker, &how, &mut tally)?,
                };
                let rest = bounds.seconds.saturating_sub(started.elapsed().as_secs());
                if tally.failures < FAILURES_MAX {
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

    /// Counts and reports a failure; the number to go on with.
    fn failed(&self, worker: &Worker, how: &str, tally: &mut Tally) -> Result<u64> {
        tally.failures += 1;
        self.report(worker, how)?;
        Ok(worker.last.number.saturating_add(self.jobs))
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
        // Appending, so that it can be emptied from here.
        let log = OpenOptions::new().create(true).append(true).open(&messages)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.env("NO_COLOR", "1").spawn().context("a worker")?;
        Ok(Worker { child, first, progress, messages, last: Progress::default(), changed: Instant::now() })
    }

    fn look(&self, worker: &mut Worker) -> Result<State> {
        let ended = worker.child.try_wait()?;
        let now = Progress::read(&worker.progress);
        if (now.done, now.number) != (worker.last.done, worker.last.number) {
            worker.changed = Instant::now();
        }
        worker.last = now;
        if fs::metadata(&worker.messages).is_ok_and(|messages| messages.len() > MESSAGES_MAX) {
            OpenOptions::new().write(true).open(&worker.messages)?.set_len(0)?;
        }
        Ok(match ended {
            Some(status) if status.success() => State::Done,
            Some(status) if [Some(SIGKILL), Some(SIGTERM)].contains(&status.signal()) => State::Killed,
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
    /// By a signal that no program sends itself.
    Killed,
    Failed(String),
}
