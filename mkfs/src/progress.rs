//! Progress on a terminal, and what is said about single files.

use crate::size::human;
use crate::source::Watcher;
use indicatif::{ProgressBar, ProgressDrawTarget};
use paxfs_format::names::printable;

/// Says on stderr how it goes: progress on a terminal only, faults always.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Nothing shown yet; with `quiet` nothing but faults ever is.
    pub fn new(quiet: bool) -> Self {
        // Hidden by itself when stderr is no terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Progress { bar: ProgressBar::with_draw_target(None, target), quiet }
    }

    /// Takes it off the terminal.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Watcher for Progress {
    fn fault(&mut self, path: &[u8], why: &str) {
        self.bar.suspend(|| eprintln!("mkfs.paxfs: {}: {why}", printable(path)));
    }

    fn note(&mut self, path: &[u8], what: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("mkfs.paxfs: note: {} {what}", printable(path)));
        }
    }

    fn progress(&mut self, entries: u64, bytes: u64) {
        let bytes = if bytes > 0 { format!(", {}", human(bytes)) } else { String::new() };
        self.bar.set_message(format!("{entries} entries{bytes}"));
        self.bar.tick();
    }
}
