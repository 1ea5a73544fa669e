//! Running a program and measuring it from outside.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use wait4::Wait4;

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From its start to its end.
    pub wall: Duration,
    /// Its peak resident set in bytes, pages of mapped files included; none when it had no more than this program, as
    /// which it began.
    pub resident: Option<u64>,
}

/// How often the anonymous memory of a process is looked at.
const SAMPLING: Duration = Duration::from_millis(1);

/// Runs a command to its end; its exit status must be one of `accepted`.
pub fn run(command: &mut Command, accepted: &[i32]) -> Result<Sample> {
    let mut messages = tempfile::tempfile()?;
    let started = Instant::now();
    let mut child = spawn(command, &messages)?;
    let used = child.wait4().context("wait4")?;
    let wall = started.elapsed();
    accept(command, used.status, accepted, &mut messages)?;
    let resident = Some(used.rusage.maxrss).filter(|&peak| peak > own_peak());
    Ok(Sample { wall, resident })
}

/// Runs a command to its end; the most anonymous memory it was seen to have, in bytes.
///
/// The resident set of a program that maps its device has the device's pages, which are not its own; anonymous memory
/// is what it really takes. It is looked at once a millisecond: a peak that is shorter may be missed.
pub fn anonymous_peak(command: &mut Command, accepted: &[i32]) -> Result<u64> {
    let mut messages = tempfile::tempfile()?;
    let mut child = spawn(command, &messages)?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(anonymous(&child).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(SAMPLING);
    };
    accept(command, status, accepted, &mut messages)?;
    Ok(peak)
}

fn spawn(command: &mut Command, messages: &fs::File) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages.try_clone()?);
    command.spawn().with_context(|| format!("{}", command.get_program().display()))
}

fn accept(command: &Command, status: ExitStatus, accepted: &[i32], messages: &mut fs::File) -> Result<()> {
    if status.code().is_some_and(|code| accepted.contains(&code)) {
        return Ok(());
    }
    let mut text = String::new();
    messages.rewind()?;
    messages.take(4096).read_to_string(&mut text).unwrap_or_default();
    bail!("{command:?}: {status}\n{}", text.trim_end())
}

/// Anonymous memory of a process that runs.
fn anonymous(child: &Child) -> Option<u64> {
    memory(&child.id().to_string(), "RssAnon:")
}

/// Peak of this program's own resident set, with some pages to spare.
pub fn own_peak() -> u64 {
    memory("self", "VmHWM:").unwrap_or(0).saturating_add(256 << 10)
}

/// A line of a process's status, in bytes.
fn memory(process: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
