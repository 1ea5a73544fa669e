//! What a pass costs: time, processor, memory, bytes read.

use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::time::Instant;

/// What one pass cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Time from its first job to its last, in seconds. Passes overlap where they can.
    pub wall_seconds: f64,
    /// Time of all processors, in seconds.
    pub cpu_seconds: f64,
    /// Anonymous memory of the process when it ended, in bytes. The mapped device is not in it.
    pub anonymous_bytes: u64,
    /// Bytes of the volume that it looked at.
    pub read_bytes: u64,
}

/// Processor time that this thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Anonymous memory of this process, in bytes.
pub fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// A stretch of work by one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    begin: Instant,
    cpu: Duration,
}

/// When work on a pass began and ended, and the processor time between.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    span: Option<(Instant, Instant)>,
    cpu: Duration,
    pub read_bytes: u64,
}

impl Stretch {
    pub fn begin() -> Self {
        Stretch { begin: Instant::now(), cpu: thread_time() }
    }
}

impl Clock {
    /// Adds a stretch that ends now.
    pub fn add(&mut self, stretch: Stretch) {
        let end = Instant::now();
        self.cpu = self.cpu.saturating_add(thread_time().saturating_sub(stretch.cpu));
        self.widen(stretch.begin, end);
    }

    fn widen(&mut self, begin: Instant, end: Instant) {
        let (first, last) = self.span.unwrap_or((begin, end));
        self.span = Some((first.min(begin), last.max(end)));
    }

    /// Adds what another thread did.
    pub fn merge(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.read_bytes = self.read_bytes.saturating_add(other.read_bytes);
        if let Some((begin, end)) = other.span {
            self.widen(begin, end);
        }
    }

    /// The usage, with the anonymous memory that was measured.
    pub fn usage(&self, anonymous_bytes: u64) -> Usage {
        let wall = self.span.map_or(Duration::ZERO, |(begin, end)| end.saturating_duration_since(begin));
        Usage {
            wall_seconds: wall.as_secs_f64(),
            cpu_seconds: self.cpu.as_secs_f64(),
            anonymous_bytes,
            read_bytes: self.read_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        assert!(anonymous_bytes() > 4096);
        let mut clock = Clock::default();
        let stretch = Stretch::begin();
        std::hint::black_box((0..1_000_000u64).fold(0, |a: u64, b| a.wrapping_mul(31).wrapping_add(b)));
        clock.add(stretch);
        assert!(clock.usage(0).cpu_seconds > 0.0);
    }
}
